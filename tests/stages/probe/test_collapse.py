"""Strategies: which texts are one way, and the chance that two samples differ."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.stages.probe.collapse import Collapse, chance_to_differ, skeleton

ADD = "8 + 2 = 0 so 0 - 3 = 7 then 7 + 4 = 1"


def test_numbers_do_not_make_a_strategy() -> None:
    assert skeleton("8 + 12 =  1,000.5 SO") == "# + # = # so"
    assert Collapse().strategies([ADD, ADD.replace("8", "3").replace("7", "9")]) == [0, 0]


def test_other_words_make_another_strategy() -> None:
    other = "Suppose the total were 9; check each digit against the list and cross out what fails."
    assert Collapse().strategies([ADD, other, ADD, other, ""]) == [0, 1, 0, 1, 2]


def test_the_threshold_decides() -> None:
    near = ADD.replace("so", "next")
    assert Collapse(threshold=0.99).strategies([ADD, near]) == [0, 1]
    assert Collapse(threshold=0.3).strategies([ADD, near]) == [0, 0]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12))
def test_the_chance_is_that_of_all_pairs(labels: list[int]) -> None:
    pairs = list(combinations(labels, 2))
    assert chance_to_differ(labels) == pytest.approx(sum(a != b for a, b in pairs) / len(pairs))
