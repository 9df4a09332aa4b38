"""Two models of a recipe over several seeds: lengths of wrong answers, means paired by seed, a test, histograms.

distillkit run recipes/dr_grpo_toy.yaml --seeds 1,2,3,4,5
python scripts/compare_seeds.py dr-grpo-toy grpo dr_grpo --base toy:base
"""

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from distillkit.grid import Grid, grid_markdown
from distillkit.run_folder import find_run, load_record
from distillkit.store import Store

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t quantile by degrees of freedom, for two to ten seeds."""
METRICS = ("mean_wrong_tokens", "mean_right_tokens", "mean_tokens", "pass@1", "mixed_language")
BIN = 8
"""Tokens of a bar of the histograms."""


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of a mean by flipping all signs (exact): with 5 seeds it is 0.0625 at the least."""
    observed = abs(sum(differences)) * (1 - 1e-12)
    flips = list(product((1, -1), repeat=len(differences)))
    return sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in flips
    ) / len(flips)


def paired(metric: str, seeds: Sequence[dict[str, dict[str, dict[str, float]]]], a: str, b: str) -> list[str]:
    """A row of the table: both means, and the mean difference b - a over the seeds that have both."""
    values = [
        (scores[a].get(metric, {}).get("value"), scores[b].get(metric, {}).get("value")) for scores in seeds
    ]
    there = [(x, y) for x, y in values if x is not None and y is not None]
    if len(there) < 2:
        return [metric, "", "", f"only {len(there)} seeds have it", ""]
    differences = [y - x for x, y in there]
    mean = statistics.fmean(differences)
    half = T_975[len(there) - 1] * statistics.stdev(differences) / len(there) ** 0.5
    first, second = (statistics.fmean(column) for column in zip(*there, strict=True))
    interval = f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
    return [metric, f"{first:.3f}", f"{second:.3f}", interval, f"{sign_flip(differences):.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run with --seeds, as `distillkit ls` names it")
    parser.add_argument("models", nargs=2, help="the two to compare: the second minus the first")
    parser.add_argument("--base", action="append", default=[], help="models for the histograms only")
    parser.add_argument("--stage", default="scores", help="the evaluate stage")
    parser.add_argument("--store", type=Path, default=Path("store"))
    arguments = parser.parse_args()
    run, store = find_run(arguments.store, arguments.run), Store(arguments.store)
    summaries, bars = [], {name: Counter[int]() for name in (*arguments.base, *arguments.models)}
    for seed in load_record(run).seeds:
        [stage] = [s for s in load_record(run / "seeds" / str(seed)).stages if s["name"] == arguments.stage]
        scores = store.open(stage["artifact"])
        summaries.append(scores.manifest.summary["scores"])
        tokens = {row["id"]: row["completion_tokens"] for row in scores.rows("completions")}
        for row in scores.rows("verdicts"):
            if row["model"] in bars and row["score"] == 0:
                bars[row["model"]][tokens[row["id"]] // BIN] += 1
    a, b = arguments.models
    header = ["metric", a, b, f"{b} - {a}, 95 % interval over seeds", "p (sign flips)"]
    rows = [paired(metric, summaries, a, b) for metric in METRICS]
    print(grid_markdown(Grid(f"{len(summaries)} seeds, paired by seed", header, rows)))
    bins = range(max((max(each, default=0) for each in bars.values()), default=0) + 1)
    shares = [
        [
            f"{BIN * n} to {BIN * n + BIN - 1}",
            *(f"{each[n] / max(1, each.total()):.3f}" for each in bars.values()),
        ]
        for n in bins
    ]
    counts = [["wrong answers", *(str(each.total()) for each in bars.values())]]
    print(
        grid_markdown(Grid("Lengths of wrong answers in tokens, shares", ["tokens", *bars], shares + counts))
    )


if __name__ == "__main__":
    main()
