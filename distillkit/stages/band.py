"""Which problems of a training a screening puts within its reach: neither solved already nor out of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distillkit.artifact import Artifact
from distillkit.errors import RecipeError
from distillkit.trace import Problem


@dataclass(frozen=True)
class Band:
    """Pass rates of a screening, and the range [low, high] of them that is trained on; without one, all are."""

    limits: tuple[float, float] | None = None
    rates: dict[str, float | None] = field(default_factory=dict)
    """Problem id -> pass rate; a problem without one is kept."""

    @classmethod
    def of(cls, limits: tuple[float, float] | None, screenings: Iterable[Artifact]) -> "Band":
        """The band over what screenings say."""
        rates = {row["id"]: row["pass_rate"] for each in screenings for row in each.rows("problems")}
        return cls(limits, rates)

    def rejects(self, problem: Problem) -> str | None:
        """Why a problem is left out, None where it is not."""
        rate = self.rates.get(problem.id)
        if self.limits is None or rate is None or self.limits[0] <= rate <= self.limits[1]:
            return None
        return "below_band" if rate < self.limits[0] else "above_band"


def check_limits(limits: tuple[float, float] | None, stage: str) -> None:
    """Raises RecipeError for a range that is none."""
    if limits is not None and not 0 <= limits[0] <= limits[1] <= 1:
        raise RecipeError(f"stages.{stage}.band: {list(limits)}: give [low, high] within 0 to 1")


def objections(screenings: Sequence[Artifact]) -> list[str]:
    """What screenings say that advise against a training, one line each."""
    return [
        f"screening {each.stage} advises against this training: {'; '.join(each.manifest.summary['reasons'])}"
        for each in screenings
        if not each.manifest.summary["go"]
    ]
