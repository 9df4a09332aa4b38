"""stats.py: every estimator against brute force, worked examples and measured coverage."""

import math
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit import stats
from distillkit.stats import (
    advantages,
    band,
    cluster,
    cons_at_k,
    elicitation_gap,
    expected_pass_at_k,
    length,
    pass_at_k,
    pass_at_k_each,
    pass_at_k_mean,
    predicted,
    signal_share,
)


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [(8, 4, 2, 0.786), (8, 4, 4, 0.986), (8, 4, 8, 1.0), (64, 12, 1, 0.1875), (64, 12, 16, 0.9788)],
)
def test_pass_at_k_worked_examples(n: int, c: int, k: int, value: float) -> None:
    assert round(pass_at_k(n, c, k), 4 if n == 64 else 3) == value


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one() -> None:
    for n in range(1, 13):
        for c in range(n + 1):
            for k in range(1, n + 1):
                hits = sum(min(subset) < c for subset in combinations(range(n), k))
                assert pass_at_k(n, c, k) == pytest.approx(hits / comb(n, k), rel=1e-14, abs=0)


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [
        (10**6, 3, 400_000),
        (10**6, 1, 1),
        (10**6, 500, 700),
        (10**6, 999_990, 5),
        (100_000, 20, 3),
        (3000, 900, 40),
    ],
)
def test_pass_at_k_is_exact_for_large_n(n: int, c: int, k: int) -> None:
    miss = Fraction(1)
    for i in range(min(c, k)):
        miss *= Fraction(n - max(c, k) - i, n - i)
    assert pass_at_k(n, c, k) == pytest.approx(float(1 - miss), rel=1e-13, abs=0)


@pytest.mark.parametrize(("n", "c", "k"), [(8, 4, 9), (8, 9, 1), (8, -1, 1), (8, 4, 0), (0, 0, 1)])
def test_pass_at_k_refuses_what_is_not_defined(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="needs 0 <= c <= n"):
        pass_at_k(n, c, k)
    with pytest.raises(ValueError, match="needs 0 <= c <= n"):
        pass_at_k_each([c, 0], [n, 8], k)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_grows_with_k_and_c(ncK: tuple[int, int, int]) -> None:
    n, c, k = ncK
    value = pass_at_k(n, c, k)
    assert 0 <= value <= 1
    assert pass_at_k(n, c, 1) == c / n
    assert k == n or value <= pass_at_k(n, c, k + 1) + 1e-15
    assert c == n or value <= pass_at_k(n, c + 1, k) + 1e-15


def test_pass_at_k_of_many_problems() -> None:
    random = np.random.default_rng(0)
    n = random.integers(4, 20, (50, 3))
    counts = random.integers(0, n + 1)
    expected = [
        [pass_at_k(int(a), int(b), 4) for a, b in zip(*row, strict=True)]
        for row in zip(n, counts, strict=True)
    ]
    assert pass_at_k_each(counts, n, 4).tolist() == expected
    assert pass_at_k_mean(counts, n, 4) == pytest.approx(np.mean(expected))
    assert pass_at_k_mean(random.integers(0, 65, 200_000), 64, 16) == pytest.approx(0.941, abs=0.002)
    with pytest.raises(ValueError, match="no problems"):
        pass_at_k_mean([], 8, 1)


def vote(votes: list[int | None], correct: set[int]) -> Fraction:
    """The rule itself: the share of right clusters among those with the most votes."""
    counts = {number: votes.count(number) for number in votes if number is not None}
    winners = [number for number, count in counts.items() if count == max(counts.values())]
    return Fraction(len(correct & set(winners)), max(len(winners), 1))


votes = st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=12)


@given(votes, st.sets(st.integers(0, 4), max_size=3), st.data())
def test_cons_at_k_is_the_mean_over_all_subsets(
    votes: list[int | None], correct: set[int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(votes)))
    each = [vote(list(subset), correct) for subset in combinations(votes, k)]
    assert cons_at_k(votes, correct, k) == pytest.approx(float(sum(each) / len(each)), abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 24, 39, 40])
def test_drawn_cons_at_k_agrees_with_the_exact_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    votes = [0] * 9 + [1] * 8 + [2] * 8 + [3] * 2 + [4] + [None] * 12
    exact = cons_at_k(votes, {0, 3}, k)
    monkeypatch.setattr(stats, "EXACT_VOTE_SAMPLES", 0)
    assert cons_at_k(votes, {0, 3}, k, seed=1) == cons_at_k(votes, {0, 3}, k, seed=1)
    assert cons_at_k(votes, {0, 3}, k) == pytest.approx(exact, abs=0.015)


def test_cons_at_k_worked_examples() -> None:
    answers = ["7", "7", "7", "7", "10", "6", "14", None]
    votes = cluster(answers, str.__eq__)
    assert votes == [0, 0, 0, 0, 1, 2, 3, None]
    assert cons_at_k(votes, {0}, 8) == 1.0
    assert cons_at_k([*votes, 3, 3, 3, 3], {0}, 12) == 0.0  # five of 14
    assert cons_at_k([*votes, 3, 3, 3], {0}, 11) == 0.5  # four of each
    assert cons_at_k([None, None], {0}, 1) == 0.0
    for k in (0, 9):
        with pytest.raises(ValueError, match="1 <= k <= n"):
            cons_at_k(votes, {0}, k)


def test_cluster_asks_once_per_string_and_the_first_one_first() -> None:
    asked = []

    def same(first: str, answer: str) -> bool:
        asked.append((first, answer))
        return Fraction(first) == Fraction(answer)

    assert cluster(["1/2", "3", None, "0.5", "3", "2/4", "6/2"], same) == [0, 1, None, 0, 1, 0, 1]
    assert asked == [("1/2", "3"), ("1/2", "0.5"), ("1/2", "2/4"), ("1/2", "6/2"), ("3", "6/2")]


def test_length() -> None:
    assert length([10, 30, None, 100], ["stop", "unknown", "stop", "length"]) == (140 / 3, 10, 1 / 3)
    assert length([], []) == (None, None, None)
    assert length([5], ["unknown"]) == (5, None, None)


def test_advantages_of_a_group_of_eight_with_two_right() -> None:
    found = advantages([1, 1, 0, 0, 0, 0, 0, 0])
    assert [round(value, 2) for value in found] == [1.62] * 2 + [-0.54] * 6
    assert advantages([1, 0, 0, 0], scale=False) == [0.75, -0.25, -0.25, -0.25]
    assert advantages([0.1] * 3) == [0, 0, 0]
    assert advantages([1]) == [0]
    assert advantages([]) == []


@given(st.lists(st.integers(0, 20).map(lambda part: part / 20), min_size=2, max_size=20))
def test_advantages_have_mean_0_and_deviation_1(rewards: list[float]) -> None:
    found = advantages(rewards)
    assert math.fsum(found) == pytest.approx(0, abs=1e-9)
    if max(rewards) > min(rewards):
        assert np.std(found, ddof=1) == pytest.approx(1)


def test_screening_worked_example() -> None:
    counts = [92, 18, 3, 0]
    base, gap = pass_at_k_mean(counts, 128, 1), elicitation_gap(counts, 128, 64)
    assert round(base, 4) == 0.2207
    assert round(pass_at_k_mean(counts, 128, 64), 4) == 0.7195
    assert round(gap, 4) == 0.4988
    assert round(predicted(base, gap, 0.7), 4) == 0.5699
    plugged = float(np.mean([expected_pass_at_k(count / 128, 64) for count in counts]))
    assert round(plugged, 4) == 0.6952
    assert round(plugged - base, 4) == 0.4745
    assert round(predicted(base, plugged - base, 0.7), 4) == 0.5528


def test_bands_cover_all_rates() -> None:
    rates = [0, 0.01, 0.05, 0.3, 0.5, 0.9, 0.95, 1]
    assert [band(rate) for rate in rates] == ["never", "rare", "hard", "hard", "even", "even", "sure", "sure"]
    with pytest.raises(ValueError, match="not in"):
        band(1.5)


@given(st.floats(0, 1), st.integers(1, 64))
def test_signal_share_is_that_of_mixed_groups(rate: float, n: int) -> None:
    mixed = sum(comb(n, c) * rate**c * (1 - rate) ** (n - c) for c in range(1, n))
    assert signal_share(rate, n) == pytest.approx(mixed, abs=1e-9)
