"""Screens simulated bases: how far off are gap, prediction and gamma, and how often do their intervals hold the truth?

    python scripts/simulate_gap.py [--rounds 1000] [--prompts 200] [--n 128] [--k 64] [--seed 0]

Prompts have Beta-distributed pass rates, so the truth is known in closed form: pass@1 = E p, pass@k = 1 - E (1-p)^k.
RL realises a share GAMMA of each prompt's gap. Both the choice of prompts and the samples' noise are in the figures.
The unbiased estimate (Chen et al. 2021) stands beside the plug-in 1 - (1 - c/n)^k.
"""

import argparse
from dataclasses import dataclass
from math import exp, lgamma

import numpy as np

from distillkit.interval import interval, ratio_interval
from distillkit.stats import pass_at_k_each

RATES = {
    "weak base (0.1, 1.9)": (0.1, 1.9),  # mean 0.05
    "hard prompts (0.3, 2.7)": (0.3, 2.7),  # mean 0.1
    "even (0.5, 0.5)": (0.5, 0.5),
    "middle (5, 5)": (5.0, 5.0),
    "mostly solved (0.3, 0.1)": (0.3, 0.1),
}
GAMMA = 0.7
"""Share of the gap that the simulated RL realises, on every prompt."""
AFTER_SAMPLES = 32
"""Samples per prompt when the trained model is scored."""


@dataclass
class Truth:
    """What an infinite screening would find."""

    pass_at_1: float
    pass_at_k: float

    @classmethod
    def of(cls, a: float, b: float, k: int) -> "Truth":
        """E (1-p)^k of a Beta(a, b) is B(a, b + k) / B(a, b)."""
        missed = exp(lgamma(b + k) + lgamma(a + b) - lgamma(b) - lgamma(a + b + k))
        return cls(a / (a + b), 1 - missed)

    @property
    def gap(self) -> float:
        return self.pass_at_k - self.pass_at_1


def screened(rates: tuple[float, float], prompts: int, n: int, k: int, rounds: int, seed: int) -> list[float]:
    """Mean error of the unbiased and the plug-in gap, of the prediction and of gamma; coverage of each interval."""
    random, truth = np.random.default_rng(seed), Truth.of(*rates, k)
    after = truth.pass_at_1 + GAMMA * truth.gap
    errors: list[list[float]] = []
    hits: list[list[bool]] = []
    for turn in range(rounds):
        chances = random.beta(*rates, prompts)
        right = random.binomial(n, chances)
        rate, reach = right / n, pass_at_k_each(right, n, k)
        plugged = 1 - (1 - rate) ** k - rate
        trained = chances + GAMMA * (1 - (1 - chances) ** k - chances)
        seen = random.binomial(AFTER_SAMPLES, trained) / AFTER_SAMPLES
        gap = interval(reach - rate, seed=turn)
        fate = interval(rate + GAMMA * (reach - rate), seed=turn)
        gamma = ratio_interval(seen - rate, reach - rate)
        errors.append(
            [
                gap.value - truth.gap,
                float(plugged.mean()) - truth.gap,
                fate.value - after,
                gamma.value - GAMMA if gamma else np.nan,
            ]
        )
        hits.append(
            [
                gap.low <= truth.gap <= gap.high,
                fate.low <= after <= fate.high,
                gamma is not None and gamma.low <= GAMMA <= gamma.high,
            ]
        )
    return [*np.nanmean(np.array(errors), axis=0).tolist(), *np.mean(hits, axis=0).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{given.rounds} rounds of {given.prompts} prompts, n {given.n}, k {given.k}, gamma {GAMMA}")
    print(
        f"{'base':28}{'gap':>8} | mean error: {'gap':>8}{'plug-in':>9}{'predicted':>11}{'gamma':>8}"
        f" | coverage: {'gap':>7}{'predicted':>11}{'gamma':>8}"
    )
    for name, rates in RATES.items():
        found = screened(rates, given.prompts, given.n, given.k, given.rounds, given.seed)
        gap, plugged, fate, gamma, *covered = found
        print(
            f"{name:28}{Truth.of(*rates, given.k).gap:8.3f} |             {gap:+8.4f}{plugged:+9.4f}{fate:+11.4f}"
            f"{gamma:+8.4f} |           {covered[0]:7.3f}{covered[1]:11.3f}{covered[2]:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
