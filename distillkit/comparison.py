"""Two models on the same problems: what differs, paired, over one run or over several seeds.

A problem that is hard for both cancels out, so the interval is far narrower than two single ones. Over seeds, the
pass rates of a problem are averaged first: the same problem under another seed is no new problem.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from distillkit.artifact import Artifact
from distillkit.interval import paired_interval

Rates = dict[tuple[str, str], dict[str, list[float]]]
"""(model, benchmark) -> problem -> pass rate of each seed."""


def differences(evaluations: Sequence[Artifact]) -> list[dict[str, Any]]:
    """pass@1 of every model minus that of the base, on problems that both answered.

    evaluations: artifacts of one evaluate stage, one per seed.
    Returns [{stage, model, base, benchmark, value, low, high, n, seeds}]; n problems.
    """
    if not evaluations:
        return []
    declared = evaluations[0].manifest.declared
    models = declared.get("models", [])
    base = declared.get("base") or next(iter(models), None)
    rates = _rates(evaluations)
    found = []
    for (model, benchmark), trained in rates.items():
        before = rates.get((base, benchmark), {}) if base else {}
        shared = sorted(set(trained) & set(before))
        if model == base or not shared:
            continue
        interval = paired_interval([fmean(trained[p]) for p in shared], [fmean(before[p]) for p in shared])
        found.append(
            {
                "stage": evaluations[0].stage,
                "model": model,
                "base": base,
                "benchmark": benchmark,
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "n": len(shared),
                "seeds": len(evaluations),
            }
        )
    return sorted(found, key=lambda each: (each["benchmark"], models.index(each["model"])))


def difference_text(difference: dict[str, Any]) -> str:
    """The difference in words."""
    value, low, high = (f"{difference[key]:+.3f}" for key in ("value", "low", "high"))
    seeds = f", {difference['seeds']} seeds" if difference["seeds"] > 1 else ""
    return (
        f"pass@1 of {difference['model']} against {difference['base']} on {difference['benchmark']}: "
        f"{value} [{low}, {high}], paired over {difference['n']:,} problems{seeds}"
    )


def _rates(evaluations: Sequence[Artifact]) -> Rates:
    rates: Rates = defaultdict(lambda: defaultdict(list))
    for artifact in evaluations:
        for row in artifact.rows("problems", ["problem_id", "benchmark", "model", "pass_rate"]):
            if row["pass_rate"] is not None:
                rates[row["model"], row["benchmark"]][row["problem_id"]].append(row["pass_rate"])
    return rates
