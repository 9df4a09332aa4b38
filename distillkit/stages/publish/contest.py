"""Which of several trainings is published: the one that scored best.

A training's last step is not always its best, and a method's best run is not known before it is scored.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from distillkit.artifact import Artifact
from distillkit.errors import RecipeError, StageError
from distillkit.stages.base import WEIGHTS


def winner(
    candidates: Sequence[Artifact], scores: Sequence[Artifact], stage: str
) -> tuple[Artifact, dict[str, float]]:
    """The candidate with the highest pass@1, averaged over benchmarks, and that of each, by stage.

    The first of equals wins; a single candidate needs no scores.

    Raises:
        RecipeError: candidates that are no weights, or nothing that scores them.
        StageError: one that was not scored.
    """
    if len(candidates) == 1:
        return candidates[0], {}
    if any(each.type != WEIGHTS for each in candidates):
        raise RecipeError(
            f"stages.{stage}.input: only weights compete; publish rows one by one, or mix them first"
        )
    rates: dict[str, float] = {}
    for evaluation in scores:
        rates |= _rates(evaluation)
    for each in candidates:
        if each.content not in rates:
            raise StageError(
                f"{stage}: {each.stage} is not scored by {', '.join(e.stage for e in scores)}; add it to its models"
            )
    best = max(candidates, key=lambda each: rates[each.content])
    return best, {each.stage: round(rates[each.content], 6) for each in candidates}


def _rates(evaluation: Artifact) -> dict[str, float]:
    """Content of weights -> their pass@1 in an evaluation."""
    found = {}
    for model in evaluation.manifest.inputs.get("models", []):
        told = evaluation.manifest.summary.get("scores", {}).get(model["name"], {})
        values = _pass_rates(told)
        if values:
            found[model["content"]] = fmean(values)
    return found


def _pass_rates(metrics: Mapping[str, Mapping[str, Any]]) -> list[float]:
    every = [score["value"] for name, score in metrics.items() if name.rpartition("/")[2] == "pass@1"]
    return [value for value in every if value is not None]
