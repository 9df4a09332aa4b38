"""What points of accuracy against budget say: where more stops to pay, and which no other point beats.

No stage itself; plain numbers in, plain numbers out.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log2
from typing import Any


def knee(points: Sequence[Mapping[str, Any]], gain: float) -> dict[str, Any] | None:
    """The smallest budget from which on doubling it buys at most `gain` each time; None where that is not reached.

    Between two budgets accuracy is taken to rise evenly with the budget's logarithm. Every later doubling must be
    as poor too: where nothing is right yet, doubling buys nothing either. The last budget has no doubling to show, and
    a curve on which nothing is ever right has no knee.
    """
    known = [
        (each["budget"], each["accuracy"]["value"])
        for each in points
        if each["budget"] > 0 and each["accuracy"]["value"] is not None
    ]
    if not any(value for _, value in known):
        return None
    gains = [
        (later - value) / _doublings(budget, twice) for (budget, value), (twice, later) in pairwise(known)
    ]
    flat = len(gains)
    while flat > 0 and gains[flat - 1] <= gain:
        flat -= 1
    if flat == len(gains):
        return None
    budget, value = known[flat]
    return {"budget": budget, "accuracy": value}


def _doublings(budget: int, later: int) -> float:
    return log2(later / budget)


def front(curves: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other one beats at the same cost or less, by rising cost; without those of unknown cost."""
    every = [
        {
            "model": model,
            "budget": each["budget"],
            "cost": each["cost"],
            "accuracy": each["accuracy"]["value"],
        }
        for model, curve in curves.items()
        for each in curve["points"]
        if each["cost"] is not None and each["accuracy"]["value"] is not None
    ]
    found: list[dict[str, Any]] = []
    for each in sorted(every, key=lambda point: (point["cost"], -point["accuracy"])):
        if not found or each["accuracy"] > found[-1]["accuracy"]:
            found.append(each)
    return found
