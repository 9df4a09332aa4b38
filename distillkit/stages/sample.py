"""Sample traces of problems from a teacher, n of each."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.errors import RecipeError
from distillkit.sampling import Sampling, draw
from distillkit.stages.base import PROBLEMS, TRACES, WEIGHTS, Job, Stage, Wire, require_rows, write_shards
from distillkit.trace import Trace, to_row, trace_schema


class Sample(Stage, Sampling):
    """Problems and a model in; n traces of each problem out, whatever their completions are worth."""

    MAKES: ClassVar[str] = TRACES
    DRAWS: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    kind: Literal["sample"] = "sample"
    input: Annotated[str | None, Wire((PROBLEMS,))] = None
    """Problems to sample for; left out, the nearest earlier ones."""
    model: Annotated[str, Wire((WEIGHTS,), external=True)]
    """The teacher: a stage, org/name[@rev] on the Hub, ./folder, or toy:base."""
    n: int = Field(1, ge=1)
    """Samples per problem."""

    def check(self, recipe_folder: Path) -> None:
        if self.temperature == 0 and self.n > 1:
            raise RecipeError(
                f"stages.{self.name}: temperature 0 gives the same text {self.n} times; write n: 1 or a temperature"
            )

    def foreign(self) -> list[str]:
        return self.engine.foreign() if self.engine is not None else []

    def run(self, job: Job) -> None:
        problems = job.problems()
        require_rows(len(problems), f"{self.name}: input", "give it problems")
        [model] = job.models()
        told: dict[str, Any] = {}

        def progress(done: int, total: int, **facts: Any) -> None:
            told.update(facts)
            job.progress(done, total, **facts)

        traces = list(draw(self, model, problems, self.n, job.seed, job.store, progress))
        job.out.rows_in = len(problems)
        write_shards(job, [to_row(trace) for trace in traces], trace_schema())
        job.out.summary = summarise(traces)
        job.out.telemetry["tokens"] = told["tokens"]
        job.out.telemetry["tokens_per_second"] = told.get("tokens_per_s")


def summarise(traces: list[Trace]) -> dict[str, Any]:
    """Counts over all traces, those that the store had included."""
    return {
        "traces": len(traces),
        "prompt_tokens": sum(trace.prompt_tokens or 0 for trace in traces),
        "completion_tokens": sum(trace.completion_tokens or 0 for trace in traces),
        "finish_reasons": dict(sorted(Counter(trace.finish_reason for trace in traces).items())),
    }
