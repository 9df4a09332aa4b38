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
    interval,
    length,
    paired_interval,
    pass_at_k,
    pass_at_k_each,
    pass_at_k_mean,
    predicted,
    ratio_interval,
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


values = st.lists(st.integers(0, 16).map(lambda count: count / 16), min_size=1, max_size=40)


@given(values, st.integers(0, 3))
def test_interval_holds_the_mean_and_stays_in_its_bounds(values: list[float], seed: int) -> None:
    found = interval(values, seed=seed)
    assert found.value == pytest.approx(np.mean(values))
    assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1
    assert found.low < found.high
    assert found == interval(values, seed=seed)


def test_interval_of_equal_values_is_clopper_pearson() -> None:
    # 1 - 0.025^(1/30), the exact upper bound for 0 of 30; 0.3 is the mean of three values with rounding.
    assert interval([0.0] * 30) == (0, 0, pytest.approx(0.11570, abs=1e-5))
    assert interval([1.0] * 30) == (1, pytest.approx(0.88430, abs=1e-5), 1)
    assert interval([0.1] * 3).low > 0 and interval([0.1] * 3).high < 1
    assert interval([24.0] * 5, bounds=None) == (24, 24, 24)
    assert paired_interval([1] * 30, [1] * 30) == (
        0,
        pytest.approx(-0.1157, abs=1e-4),
        pytest.approx(0.1157, abs=1e-4),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "no problems"), ([0.5, math.nan], "finite"), ([0.5, 24.0], "outside")],
)
def test_interval_refuses(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interval(values)


def test_interval_is_wider_at_a_higher_level_and_with_fewer_problems() -> None:
    values = np.random.default_rng(0).beta(0.5, 0.5, 400)
    wide, normal, few = interval(values, level=0.99), interval(values), interval(values[:30])
    assert wide.low < normal.low < normal.high < wide.high
    assert few.high - few.low > 2 * (normal.high - normal.low)
    tokens = interval(values * 1000, bounds=None)
    assert tokens.low / 1000 == pytest.approx(normal.low) and tokens.high / 1000 == pytest.approx(normal.high)


def test_interval_agrees_with_the_normal_one_where_there_are_many_problems() -> None:
    values = np.random.default_rng(0).random(20_000)
    found, error = interval(values), values.std(ddof=1) / math.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_interval_leans_to_the_long_tail() -> None:
    found = interval([0.0] * 27 + [0.1, 0.5, 1.0])
    assert found.high - found.value > 1.3 * (found.value - found.low)


def test_paired_interval_is_narrower_than_single_ones_and_refuses_other_problems() -> None:
    random = np.random.default_rng(0)
    hard = random.beta(0.5, 0.5, 60)
    a, b = np.clip(hard + random.normal(0.05, 0.02, 60), 0, 1), hard
    found = paired_interval(a, b)
    assert found.low > 0
    assert found.high - found.low < 0.2 * (interval(a).high - interval(a).low)
    with pytest.raises(ValueError, match="same problems"):
        paired_interval(a, b[:-1])


def test_ratio_interval_of_gamma() -> None:
    random = np.random.default_rng(0)
    base = random.beta(1, 4, 100)
    rl = base + 0.7 * (0.9 - base) + random.normal(0, 0.05, 100)
    found = ratio_interval(rl - base, 0.9 - base)
    assert found is not None
    assert found.value == pytest.approx(((rl - base).mean()) / (0.9 - base).mean())
    assert 0.6 < found.low < 0.7 < found.high < 0.8
    # Joint resampling: what moves both parts must cancel.
    assert ratio_interval(0.5 * base, base) == (
        0.5,
        pytest.approx(0.4819, abs=1e-3),
        pytest.approx(0.518, abs=1e-3),
    )


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [
        ([0.0, 0.0], [0.0, 0.0]),  # no gap
        ([0.1, 0.1], [-0.1, -0.1]),
        ([0.0, 0.0, 0.1], [0.0, 0.0, 0.2]),  # a gap that one problem holds up
        ([0.1, -0.1, 0.1, -0.1], [0.5, -0.4, 0.4, -0.4]),  # a gap that may well be zero
    ],
)
def test_ratio_without_a_gap_is_none(numerators: list[float], denominators: list[float]) -> None:
    assert ratio_interval(numerators, denominators) is None


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2, 8), (0.3, 0.1)])
def test_coverage_with_30_problems(a: float, b: float) -> None:
    # scripts/simulate_intervals.py measures it finely; 300 rounds tell a broken interval from a sound one.
    random = np.random.default_rng(0)
    hits = 0
    for turn in range(300):
        found = interval(random.binomial(8, random.beta(a, b, 30)) / 8, seed=turn)
        hits += found.low <= a / (a + b) <= found.high
    assert 0.92 <= hits / 300 <= 0.99


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
