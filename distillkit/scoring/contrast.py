"""Models against each other on the same problems: paired differences, reach beyond the base, and by difficulty.

A problem that is hard for both cancels out of a paired difference: its interval is far narrower than two single ones.

Source: whether RL reaches beyond its base's pass@k, Yue et al. 2025, arXiv:2504.13837.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import stdev
from typing import Any

from distillkit.artifact import Row
from distillkit.interval import paired_interval
from distillkit.scoring.judged import Group, outcome
from distillkit.scoring.metric import Estimate, counts_of, metrics, over_sets, pass_at
from distillkit.stats import BANDS, band, pass_at_k

BY_BAND = {
    "pass@1": "pass@1",
    "tokens": "mean_tokens",
    "right_tokens": "mean_right_tokens",
    "wrong_tokens": "mean_wrong_tokens",
    "truncated": "truncated",
}
"""What is told of each band -> its metric."""


def difference(before: Sequence[Group], after: Sequence[Group], k: int = 1) -> Estimate:
    """pass@k of `after` minus that of `before`, paired over the problems that have k judged samples in both."""
    first, second = _rates(before, k), _rates(after, k)
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return Estimate(None, None, None, 0, 0)
    ours, theirs = ([rates[each][0] for each in shared] for rates in (second, first))
    found = paired_interval(ours, theirs)
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    error = stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None
    return Estimate.of(found, len(shared), sum(first[each][1] + second[each][1] for each in shared), error)


def _rates(groups: Sequence[Group], k: int) -> dict[str, tuple[float, int]]:
    """Problem -> pass@k and the samples behind it, where there are k of them."""
    found = {}
    for group in groups:
        for n, correct in zip(*counts_of([group], k), strict=True):
            found[group[0].problem_id] = pass_at_k(n, correct, k), n
    return found


def differences(models: Mapping[str, Sequence[Group]]) -> list[Row]:
    """pass@1 of each model minus that of each one before it: [{model, base, metric, value, low, high, ...}]."""
    return [
        {"model": later, "base": earlier, "metric": "pass@1", **found.as_json()}
        for earlier, later in combinations(models, 2)
        if (found := difference(models[earlier], models[later])).value is not None
    ]


def reach(base: Sequence[Group], trained: Sequence[Group], k: int) -> dict[str, Any] | None:
    """Whether training reached beyond what the base can do in k tries, or only turned k tries into one.

    {k, before, after: pass@k of each, pass@1 of the trained, difference: paired, gained, lost: problems that only
    one of the two ever solved, problems, above}. `above`: the interval of the difference lies above 0. None where the
    two have no problem with k judged samples in common.
    """
    change = difference(base, trained, k)
    if change.value is None:
        return None
    solved = [{g[0].problem_id: outcome(g)["correct"] > 0 for g in groups} for groups in (base, trained)]
    shared = solved[0].keys() & solved[1].keys()
    return {
        "k": k,
        "before": pass_at(base, k).as_json(),
        "after": pass_at(trained, k).as_json(),
        "pass@1": pass_at(trained, 1).as_json(),
        "difference": change.as_json(),
        "gained": sum(solved[1][each] and not solved[0][each] for each in shared),
        "lost": sum(solved[0][each] and not solved[1][each] for each in shared),
        "problems": len(shared),
        "above": change.low is not None and change.low > 0,
    }


def bands(base: Sequence[Group], model: Sequence[Group]) -> list[Row]:
    """A model's accuracy and lengths by how hard the problems are for the base: one row per band that has problems.

    [{band, problems, pass@1, tokens, right_tokens, wrong_tokens, truncated}], estimates; null where nothing counts.
    """
    rates = {group[0].problem_id: outcome(group)["pass_rate"] for group in base}
    found = []
    for name in BANDS:
        inside = [g for g in model if (rate := rates.get(g[0].problem_id)) is not None and band(rate) == name]
        if inside:
            told = metrics(inside, [], {}, votes=False)
            figures = {
                key: told[metric].as_json() if metric in told else None for key, metric in BY_BAND.items()
            }
            found.append({"band": name, "problems": len(inside), **figures})
    return found


def best(scores: Mapping[str, Sequence[Sequence[Group]]]) -> dict[str, Any] | None:
    """Which of several models to keep: model -> its groups, benchmark by benchmark, in one order.

    {model, metric, value, low, high, n, samples, error: pass@1 averaged over benchmarks, benchmarks: how many,
    runner_up, difference: paired, averaged alike, clear: whether its interval lies above 0}. The first of equals wins.
    None for one model alone, or where one has nothing judged. The best of many has had luck too: its value is that of
    a new evaluation only where it is clear of the next.
    """
    means = {model: over_sets([pass_at(groups, 1) for groups in sets]) for model, sets in scores.items()}
    values = {model: mean.value for model, mean in means.items() if mean.value is not None}
    if len(values) < max(2, len(scores)):
        return None
    first, second, *_ = sorted(values, key=lambda model: -values[model])
    pairs = zip(scores[second], scores[first], strict=True)
    gap = over_sets([difference(before, after) for before, after in pairs])
    return {
        "model": first,
        "metric": "pass@1",
        **means[first].as_json(),
        "benchmarks": len(scores[first]),
        "runner_up": second,
        "difference": gap.as_json(),
        "clear": gap.low is not None and gap.low > 0,
    }
