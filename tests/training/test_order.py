from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from distillkit.training.order import in_order


@given(st.integers(1, 20), st.integers(0, 90), st.integers(0, 5))
def test_every_pass_has_every_row_once_and_goes_its_own_way(rows: int, needed: int, seed: int) -> None:
    order = in_order(rows, needed, seed)
    assert len(order) == needed
    counts = Counter(order)
    assert (
        not counts
        or max(counts.values()) - min([*counts.values(), *([0] if len(counts) < rows else [])]) <= 1
    )
    assert order == in_order(rows, needed + 7, seed)[:needed]


def test_a_later_pass_is_shuffled_anew() -> None:
    order = in_order(30, 60, 1)
    assert sorted(order[:30]) == sorted(order[30:]) == list(range(30))
    assert order[:30] != order[30:]
