"""Sample traces of problems from a teacher."""

from collections import Counter
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distillkit.sampling import Sampling, draw
from distillkit.stages.base import PROBLEMS, TRACES, WEIGHTS, Job, Stage, Wire, require_rows, write_shards
from distillkit.trace import to_row, trace_schema


class Sample(Stage, Sampling):
    """Problems and a model in; n traces of each problem out."""

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

    def run(self, job: Job) -> None:
        problems = job.problems()
        require_rows(len(problems), f"{self.name}: input", "give it problems")
        [model] = job.models()
        traces = list(draw(self, model, problems, self.n, job.seed, job.store, job.progress))
        job.out.rows_in = len(problems)
        write_shards(job, [to_row(trace) for trace in traces], trace_schema())
        job.out.summary = {
            "tokens": sum(trace.completion_tokens or 0 for trace in traces),
            "finish_reasons": dict(Counter(trace.finish_reason for trace in traces)),
        }
