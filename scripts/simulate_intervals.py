"""Measures how often the 95 % intervals of distillkit.stats hold the truth, for Beta-distributed problems.

    python scripts/simulate_intervals.py [--rounds 2000] [--seed 0]

The truth is the mean of the Beta distribution (for the pair and the ratio, of the transformed rates), so that
both the choice of problems and the samples' noise are in it. `interval` quotes the result in its docstring.
"""

import argparse

import numpy as np

from distillkit.interval import Interval, interval, paired_interval, ratio_interval
from distillkit.scoring import Estimate, over_sets

RATES = {
    "spread (0.5, 0.5)": (0.5, 0.5),  # a model that masters half of the problems
    "middle (5, 5)": (5.0, 5.0),
    "low (2, 8)": (2.0, 8.0),
    "mostly solved (0.3, 0.1)": (0.3, 0.1),
    "skewed (0.3, 2.7)": (0.3, 2.7),  # mean 0.1
    "very skewed (0.1, 1.9)": (0.1, 1.9),  # mean 0.05: a weak model on AIME
    "a few failures (0.4, 0.02)": (0.4, 0.02),  # mean 0.95
}
GAMMA = 0.7
EXAMS = {
    "two of 30": [("skewed (0.3, 2.7)", 30, 64), ("spread (0.5, 0.5)", 30, 64)],
    "30, 40, 500": [
        ("skewed (0.3, 2.7)", 30, 64),
        ("spread (0.5, 0.5)", 40, 32),
        ("mostly solved (0.3, 0.1)", 500, 4),
    ],
    "four of 200": [(name, 200, 4) for name in list(RATES)[:4]],
    "three of 30, mostly solved": [("mostly solved (0.3, 0.1)", 30, 16)] * 3,
}
"""Several benchmarks of (shape, problems, samples), of which the mean is told, each of equal weight."""


def coverage(
    kind: str, rates: tuple[float, float], problems: int, samples: int, rounds: int, seed: int
) -> float:
    """Share of rounds whose interval holds the truth; a missing ratio counts as a miss."""
    random = np.random.default_rng(seed)
    mean = rates[0] / sum(rates)
    hits = 0
    for turn in range(rounds):
        base = random.beta(*rates, problems)
        better = base + GAMMA * (1 - base)
        seen, seen_better = (random.binomial(samples, rate) / samples for rate in (base, better))
        found: Interval | None
        if kind == "mean":
            found, truth = interval(seen, seed=turn), mean
        elif kind == "pair":
            found, truth = paired_interval(seen_better, seen, seed=turn), GAMMA * (1 - mean)
        else:
            found, truth = ratio_interval(seen_better - seen, 1 - seen), GAMMA
        hits += found is not None and found.low <= truth <= found.high
    return hits / rounds


def coverage_over_sets(exams: list[tuple[str, int, int]], rounds: int, seed: int) -> tuple[float, float]:
    """The same of the mean over benchmarks: of one model, and of the paired difference of two."""
    random = np.random.default_rng(seed)
    means = [RATES[name][0] / sum(RATES[name]) for name, _, _ in exams]
    level = sum(means) / len(means)
    lead = GAMMA * (1 - level)
    hits = [0, 0]
    for turn in range(rounds):
        single, paired = [], []
        for name, problems, samples in exams:
            base = random.beta(*RATES[name], problems)
            better = base + GAMMA * (1 - base)
            seen, seen_better = (random.binomial(samples, rate) / samples for rate in (base, better))
            one, two = interval(seen, seed=turn), paired_interval(seen_better, seen, seed=turn)
            single.append(Estimate.of(one, problems, problems * samples))
            paired.append(Estimate.of(two, problems, problems * samples))
        for at, (found, truth) in enumerate(((over_sets(single), level), (over_sets(paired), lead))):
            assert found.low is not None and found.high is not None
            hits[at] += found.low <= truth <= found.high
    return hits[0] / rounds, hits[1] / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sizes = [(problems, samples) for problems in (200, 100, 30) for samples in (4, 64)]
    print(f"{'':34}" + "".join(f"{problems:>5} x {samples:<3}" for problems, samples in sizes))
    for kind in ("mean", "pair", "ratio"):
        for name, rates in RATES.items():
            shares = [coverage(kind, rates, *size, options.rounds, options.seed) for size in sizes]
            print(f"{kind + ', ' + name:34}" + "".join(f"{share:>11.3f}" for share in shares), flush=True)
    print(f"{'mean over benchmarks':34}{'one model':>11}{'difference':>12}")
    for name, exams in EXAMS.items():
        single, paired = coverage_over_sets(exams, options.rounds, options.seed)
        print(f"{name:34}{single:>11.3f}{paired:>12.3f}", flush=True)


if __name__ == "__main__":
    main()
