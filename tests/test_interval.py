"""Intervals: exact cases, coverage in simulation, what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distillkit.interval import interval, paired_interval, ratio_interval

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
    # What moves both parts of a problem must cancel.
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


@given(rows=st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=10, max_size=10))
def test_a_ratio_is_inside_where_its_residuals_cannot_be_told_from_zero(
    rows: list[tuple[float, float]],
) -> None:
    """Against Student's t test of each ratio by itself, and of the gap."""
    above, below = np.array(rows).T
    bound = 2.262157  # of 9 degrees of freedom

    def t_of(values: Any) -> float:
        error = values.std(ddof=1) / len(rows) ** 0.5
        return float(abs(values.mean()) / error) if error > 0 else math.inf

    found = ratio_interval(above, below)
    told = t_of(below)
    assume(abs(told - bound) > 0.02 * bound and below.mean() > 1e-3)
    assert (found is not None) == (told > bound)
    assume(found is not None and np.abs(above - found.value * below).max() > 1e-6)
    width = found.high - found.low
    for ratio in (found.low, found.high):
        assert t_of(above - ratio * below) == pytest.approx(bound, rel=0.02)
    assert t_of(above - (found.low - width) * below) > bound
    assert t_of(above - (found.high + width) * below) > bound
    assert found.low <= found.value <= found.high


def test_a_ratio_needs_its_problems_in_pairs() -> None:
    with pytest.raises(ValueError, match="same problems"):
        ratio_interval([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="no problems"):
        ratio_interval([], [])
    assert ratio_interval([0.1], [0.2]) is None  # one problem tells no spread


@pytest.mark.parametrize(("a", "b"), [(0.1, 1.9), (0.5, 0.5), (0.3, 0.1)])
@pytest.mark.parametrize("problems", [30, 200])
def test_coverage_of_gamma(a: float, b: float, problems: int) -> None:
    # scripts/simulate_gap.py measures it finely; bases that are mostly solved or split are the hard ones.
    random = np.random.default_rng(0)
    hits, rounds = 0, 1000
    for _ in range(rounds):
        chance = random.beta(a, b, problems)
        gap = 1 - (1 - chance) ** 16 - chance
        seen = random.binomial(16, chance) / 16
        gain = random.binomial(32, chance + 0.7 * gap) / 32 - seen
        found = ratio_interval(gain, 1 - (1 - chance) ** 16 - seen)
        hits += found is not None and found.low <= 0.7 <= found.high
    assert 0.925 <= hits / rounds <= 0.975


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2, 8), (0.3, 0.1)])
def test_coverage_with_30_problems(a: float, b: float) -> None:
    # scripts/simulate_intervals.py measures it finely; 300 rounds tell a broken interval from a sound one.
    random = np.random.default_rng(0)
    hits = 0
    for turn in range(300):
        found = interval(random.binomial(8, random.beta(a, b, 30)) / 8, seed=turn)
        hits += found.low <= a / (a + b) <= found.high
    assert 0.92 <= hits / 300 <= 0.99


def test_counting_equal_rows_gives_the_interval_of_drawing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = np.random.default_rng(3).binomial(8, np.random.default_rng(4).beta(0.3, 0.9, 12_000)) / 8
    gains = np.minimum(rates * 0.5, 0.3)
    counted = interval(rates), paired_interval(rates, gains)
    monkeypatch.setattr("distillkit.interval.MANY", 10**9)
    drawn = interval(rates), paired_interval(rates, gains)
    for one, other in zip(counted, drawn, strict=True):
        assert one != other
        assert one == pytest.approx(other, abs=(other.high - other.low) / 20)
