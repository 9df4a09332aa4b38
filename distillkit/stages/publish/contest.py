"""Which of several trainings is published: the one that scored best, and whether that is sure.

A training's last step is not always its best, and a method's best run is not known before it is scored.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from distillkit.artifact import Artifact
from distillkit.errors import RecipeError, StageError
from distillkit.scoring import Estimate, over_sets
from distillkit.stages.base import WEIGHTS


class Contest(NamedTuple):
    """How several trainings did."""

    winner: Artifact
    rates: dict[str, Estimate]
    """Stage -> pass@1, averaged over benchmarks; empty where one alone stood."""
    runner_up: str | None = None
    lead: Estimate | None = None
    """Of the winner over the runner-up, paired over problems and averaged over benchmarks; None where not told."""

    @property
    def clear(self) -> bool:
        """Whether the lead is more than luck."""
        return self.lead is not None and self.lead.low is not None and self.lead.low > 0

    def summary(self) -> dict[str, Any]:
        """{best, rates: {stage: pass@1}, runner_up, lead: estimate or null, clear}; empty for one alone."""
        if self.runner_up is None:
            return {}
        return {
            "best": self.winner.stage,
            "rates": {stage: rate.value for stage, rate in self.rates.items()},
            "runner_up": self.runner_up,
            "lead": self.lead.as_json() if self.lead else None,
            "clear": self.clear,
        }

    def doubt(self) -> str | None:
        """That the winner may owe it to luck, in words; None where it does not, or nobody else stood."""
        if self.runner_up is None or self.clear:
            return None
        by = "by no more than can be told"
        if self.lead is not None and self.lead.low is not None:
            by = f"by {self.lead.value:+.3f} [{self.lead.low:+.3f}, {self.lead.high:+.3f}]"
        return (
            f"{self.winner.stage} is published, ahead of {self.runner_up} {by}: the two are not to be told apart; "
            "more problems would tell"
        )


def contest(candidates: Sequence[Artifact], scores: Sequence[Artifact], stage: str) -> Contest:
    """The candidate with the highest pass@1, averaged over benchmarks; the first of equals, and one alone, wins.

    Raises:
        RecipeError: candidates that are no weights, or nothing that scores them.
        StageError: one that was not scored.
    """
    if len(candidates) == 1:
        return Contest(candidates[0], {})
    if any(each.type != WEIGHTS for each in candidates):
        raise RecipeError(
            f"stages.{stage}.input: only weights compete; publish rows one by one, or mix them first"
        )
    [evaluation] = scores
    names = {model["content"]: model["name"] for model in evaluation.manifest.inputs.get("models", [])}
    told = evaluation.manifest.summary
    rates: dict[str, Estimate] = {}
    for each in candidates:
        rates[each.stage] = _rate(told.get("scores", {}).get(names.get(each.content), {}))
        if rates[each.stage].value is None:
            raise StageError(
                f"{stage}: {each.stage} is not scored by {evaluation.stage}; add it to its models"
            )
    first, second, *_ = sorted(candidates, key=lambda each: -(rates[each.stage].value or 0.0))
    lead = _lead(told.get("differences") or [], names[first.content], names[second.content])
    return Contest(first, rates, second.stage, lead)


def _rate(metrics: Mapping[str, Mapping[str, Any]]) -> Estimate:
    """pass@1 of a model, averaged over benchmarks; without a value where it has none."""
    return over_sets(
        [Estimate.read(row) for name, row in metrics.items() if name.rpartition("/")[2] == "pass@1"]
    )


def _lead(differences: Sequence[Mapping[str, Any]], first: str, second: str) -> Estimate | None:
    """pass@1 of one model minus that of another, averaged over benchmarks; None where an evaluation tells none."""
    found = []
    for row in differences:
        if (row["model"], row["base"]) == (first, second):
            found.append(Estimate.read(row))
        elif (row["model"], row["base"]) == (second, first):
            found.append(Estimate.read(row).negated())
    return over_sets(found) if found else None
