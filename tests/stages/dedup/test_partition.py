import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distillkit.stages.dedup.partition import Partition, components

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def brute(pairs: list[tuple[int, int]], size: int) -> list[int]:
    first = list(range(size))
    for a, b in pairs:
        x, y = sorted((first[a], first[b]))
        first = [x if each == y else each for each in first]
    return first


@given(PAIRS)
def test_components_are_known_by_their_smallest_row(pairs: list[tuple[int, int]]) -> None:
    assert components(np.array(pairs, np.int64).reshape(-1, 2), 20).tolist() == brute(pairs, 20)


@given(PAIRS)
def test_classes_that_are_joined_are_components(pairs: list[tuple[int, int]]) -> None:
    partition = Partition(20)
    for a, b in pairs:
        partition.join(a, b)
    assert partition.first().tolist() == brute(pairs, 20)


def test_a_long_chain_is_one_component() -> None:
    order = np.random.default_rng(3).permutation(5000)
    assert not components(np.stack([order[:-1], order[1:]], axis=1), 5000).any()
