from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from distillkit.training.order import by_rate, in_order


def steps(order: list[int], size: int) -> list[list[int]]:
    return [order[at : at + size] for at in range(0, len(order), size)]


@given(st.integers(1, 20), st.integers(0, 90), st.integers(0, 5), st.integers(1, 25))
def test_every_pass_has_every_row_once_and_goes_its_own_way(
    rows: int, needed: int, seed: int, step: int
) -> None:
    order = in_order(rows, needed, seed, step)
    assert len(order) == needed
    for each in steps(order, rows):
        assert len(set(each)) == len(each)
    assert order == in_order(rows, needed + 7, seed, step)[:needed]
    if step <= rows:
        assert all(len(set(each)) == len(each) for each in steps(order, step))


def test_a_later_pass_is_shuffled_anew() -> None:
    order = in_order(30, 60, 1)
    assert sorted(order[:30]) == sorted(order[30:]) == list(range(30))
    assert order[:30] != order[30:]


def test_only_a_step_that_would_ask_a_prompt_twice_is_changed() -> None:
    free, kept = in_order(10, 40, 0), in_order(10, 40, 0, 4)
    twice = [len(set(each)) < len(each) for each in steps(free, 4)]
    assert any(twice)
    assert kept[:8] == free[:8]
    assert not any(len(set(each)) < len(each) for each in steps(kept, 4))
    assert in_order(12, 60, 2, 4) == in_order(12, 60, 2)  # whole passes have nothing to mend


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30),
    st.integers(0, 120),
    st.integers(0, 3),
    st.integers(1, 12),
)
def test_easy_prompts_come_first_and_none_twice_in_a_step(
    rates: list[float], needed: int, seed: int, step: int
) -> None:
    order = in_order(len(rates), needed, seed, step)
    found = by_rate(order, rates, step)
    assert Counter(found) == Counter(order)
    if step > len(rates):
        return
    assert all(len(set(each)) == len(each) for each in steps(found, step))
    counts = Counter(rates)
    if all(count >= step for count in counts.values()):
        assert [rates[row] for row in found] == sorted((rates[row] for row in order), reverse=True)


def test_prompts_of_one_rate_are_gone_over_in_shuffled_passes() -> None:
    rates = [0.5] * 8 + [0.1] * 8
    found = by_rate(in_order(16, 48, 1, 4), rates, 4)
    for half, rows in ((found[:24], range(8)), (found[24:], range(8, 16))):
        passes = steps(half, 8)
        assert [sorted(each) for each in passes] == [list(rows)] * 3
        assert len(set(map(tuple, passes))) == 3


def test_rates_of_few_prompts_are_taken_together() -> None:
    """A step of the two hardest prompts alone would ask each of them twice."""
    found = by_rate(in_order(6, 24, 0, 4), [0.9, 0.8, 0.7, 0.6, 0.1, 0.0], 4)
    assert all(len(set(each)) == 4 for each in steps(found, 4))
    rates = [0.9] * 4 + [0.5] * 4 + [0.1] * 4
    easy = by_rate(in_order(12, 24, 0, 4), rates, 4)
    assert [rates[row] for row in easy] == sorted((rates[row] for row in easy), reverse=True)
