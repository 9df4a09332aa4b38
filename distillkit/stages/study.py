"""Several models looked at closely on one set of problems: the head that budget_curve and probe share.

No stage itself. Both sample as evaluate does, so that what an evaluation with the same settings has paid for is not
sampled again, and both let a model go on from a text of ours.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from distillkit.artifact import Model
from distillkit.sampling import draw
from distillkit.scoring import settings, warn_failed
from distillkit.stages.base import PROBLEMS, Job, Wire
from distillkit.stages.forcing import Forcing
from distillkit.stages.scored import ProblemSet, Scored
from distillkit.trace import Trace


class Study(Scored):
    """Models, one set of problems, and how an answer is forced."""

    problems: Annotated[str | None, Wire((PROBLEMS,), heldout=True, instead="benchmarks")] = None
    """A problems stage. Left out: the one of `benchmarks`, else the nearest held-out problems."""
    n: int = Field(4, ge=1)
    """Samples per problem, of a built-in benchmark too."""
    force: Forcing = Forcing()
    """How an answer is forced where the thinking was cut."""

    @model_validator(mode="after")
    def _check_sets(self) -> Self:
        names = self.set_names()
        if len(names) > 1:
            raise ValueError(
                f"problems: one set of problems makes one curve, here are {', '.join(names)}; "
                "write a stage for each"
            )
        return self

    @property
    def cap(self) -> int:
        """Most tokens of a completion."""
        return self.parameters.max_tokens

    def samples(self, name: str) -> int:
        return self.use(name).n or self.n

    def given(self, job: Job) -> ProblemSet:
        """The set of problems that comes in."""
        [found] = self.sets(job)
        return found

    def draw(self, model: Model, given: ProblemSet, job: Job) -> list[Trace]:
        """What a model says to the problems, by trace id."""
        drawn = draw(
            given.sampling,
            model,
            given.problems,
            given.n,
            job.seed,
            job.store,
            job.progress,
            job.warn,
            job.replicas,
        )
        traces = sorted(drawn, key=lambda trace: trace.id)
        warn_failed(traces, job.warn)
        return traces

    def settings(self, given: ProblemSet) -> dict[str, Any]:
        """What the numbers depend on besides the models."""
        named = {"benchmark": given.name} if self.benchmarks else {}
        told = {"n": given.n, "answer": self.force.opening(given.sampling)}
        return settings(given.sampling, given.verifiers, given.domains) | given.facts | named | told
