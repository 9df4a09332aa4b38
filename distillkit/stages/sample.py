"""Sample traces of problems from a teacher: n of each, or until enough of them are right."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Row, shard_of
from distillkit.errors import RecipeError, StageError
from distillkit.sampling import Ask, Continuation, Drawn, Plan, Sampling, Until, drawn
from distillkit.sampling.jury import judge_of
from distillkit.sampling.outcome import Outcome
from distillkit.sampling.plan import able
from distillkit.spec import EXECUTION
from distillkit.stages.base import PROBLEMS, TRACES, WEIGHTS, Job, Stage, Wire, require_rows
from distillkit.store import Writer
from distillkit.trace import to_row, trace_schema

if TYPE_CHECKING:
    import pyarrow as pa

NOTES = "outcomes.jsonl"


class Sample(Stage, Sampling):
    """Problems and a model in; n traces of each problem out, whatever their completions are worth.

    Tables: `rows` (the traces) and, with `until`, `problems` (see `problem_schema`). Summary: traces, tokens and
    finish_reasons; with `until` also asked, right and stopped {enough | hopeless | all: problems}.
    """

    MAKES: ClassVar[str] = TRACES
    DRAWS: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    kind: Literal["sample"] = "sample"
    input: Annotated[str | None, Wire((PROBLEMS,))] = None
    """Problems to sample for; left out, the nearest earlier ones."""
    model: Annotated[str | None, Wire((WEIGHTS,), default="none", external=True)] = None
    """The teacher: a stage, org/name[@rev] on the Hub, ./folder, or toy:base; none for an endpoint with its own."""
    n: int = Field(1, ge=1)
    """Samples per problem; with `until` at most."""
    until: Until | None = None
    """Judge while sampling, and stop asking for a problem once it has enough, or has shown itself hopeless."""
    continue_truncated: Continuation | None = None
    """Let a completion that max_tokens cut go on once; left out, it stays cut."""
    max_failed: Annotated[float, EXECUTION, Field(ge=0, le=1)] = 0.05
    """Largest share of completions that may fail for a cause that may pass (a server that was down); above it the
    stage stops, and running it again asks for those alone."""

    @model_validator(mode="after")
    def _check_until(self) -> Self:
        if self.until is not None:
            for key, value in (("correct", self.until.correct), ("give_up_after", self.until.give_up_after)):
                if value is not None and value > self.n:
                    raise ValueError(f"until.{key}: {value} is more than n ({self.n}); raise n or lower it")
        return self

    @property
    def judges(self) -> bool:
        return self.until is not None

    def check(self, recipe_folder: Path) -> None:
        if self.temperature == 0 and self.n > 1:
            raise RecipeError(
                f"stages.{self.name}: temperature 0 gives the same text {self.n} times; write n: 1 or a temperature"
            )
        if self.engine is not None:
            able(self, has_model=self.model is not None, continued=self.continue_truncated)

    def foreign(self) -> list[str]:
        return self.engine.foreign() if self.engine is not None else []

    def run(self, job: Job) -> None:
        problems = job.problems()
        require_rows(len(problems), f"{self.name}: input", "give it problems")
        for domain in sorted({problem.domain for problem in problems} if self.judges else set()):
            judge_of(domain, job.verifiers)
        model = next(iter(job.models()), None)
        plan = Plan.of(self, model, problems, self.n, job.seed, self.until, self.continue_truncated)
        try:
            with drawn(
                plan,
                model,
                job.store,
                job.progress,
                job.warn,
                verifiers=job.verifiers,
                replicas=job.replicas,
                notes=job.out.scratch / NOTES,
            ) as found:
                self._require_answers(found, job)
                _write(job, found)
        finally:
            for verifier in job.verifiers.values():
                verifier.close()
        if plan.template.jinja is not None:
            job.out.add_text("template.jinja", plan.template.jinja)
        job.out.rows_in = len(problems)
        job.out.summary, cost = summarise(job.out)
        if found.outcomes is not None:
            job.out.summary |= _stopped(found.outcomes)
        job.out.telemetry["tokens"] = found.facts["tokens"]
        job.out.telemetry["tokens_per_second"] = found.facts.get("tokens_per_s")
        if cost:
            job.out.telemetry["cost"] = round(cost, 6)

    def _require_answers(self, found: Drawn, job: Job) -> None:
        if not found.failed:
            return
        why = next(iter(found.failed.values())).error
        told = f"{len(found.failed):,} of {found.asked:,} completions failed ({why})"
        if len(found.failed) > self.max_failed * found.asked:
            raise StageError(
                f"{self.name}: {told}, max_failed is {self.max_failed:g}; run again to ask for these alone, or raise it"
            )
        job.warn(f"{told}; they are rows that say so")


def _write(job: Job, found: Drawn) -> None:
    """Traces and outcomes, shard by shard; those that an interrupted run wrote stay, unless it lacked something."""
    shards: list[list[Ask]] = [[] for _ in range(job.shards)]
    for ask in found.plan.asks:
        shards[shard_of(ask.problem.id, job.shards)].append(ask)
    for shard, asks in enumerate(shards):
        if found.sampled or not job.out.has(shard):
            asks.sort(key=lambda ask: f"{ask.problem.id}/")  # as the ids of their traces sort
            job.out.stream(shard, (to_row(trace) for trace in found.traces(asks)), trace_schema())
        if found.outcomes is not None:
            rows = _problem_rows(asks, found.outcomes)
            job.out.write(shard, rows, problem_schema(), "problems")


def summarise(out: Writer) -> tuple[dict[str, Any], float]:
    """Counts over all traces, and what they cost, read from what was written: so they are the same after a resume."""
    traces, prompt, completion, cost = 0, 0, 0, 0.0
    reasons: Counter[str] = Counter()
    for row in _columns(out, ["finish_reason", "prompt_tokens", "completion_tokens", "telemetry"]):
        traces += 1
        prompt += row["prompt_tokens"] or 0
        completion += row["completion_tokens"] or 0
        reasons[row["finish_reason"]] += 1
        if '"cost"' in row["telemetry"]:
            cost += _cost(json.loads(row["telemetry"]))
    summary = {
        "traces": traces,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "finish_reasons": dict(sorted(reasons.items())),
    }
    return summary, cost


def _cost(telemetry: Mapping[str, Any]) -> float:
    return float(telemetry.get("cost", 0)) + float(telemetry.get("continued", {}).get("cost", 0))


def _columns(out: Writer, names: Sequence[str]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for shard in out.tables()["rows"]:
        with pq.ParquetFile(out.path / shard.file) as file:
            for batch in file.iter_batches(4096, columns=list(names)):
                yield from batch.to_pylist()


def _problem_rows(asks: Sequence[Ask], outcomes: Mapping[str, Outcome]) -> list[Row]:
    return [{"id": ask.problem.id, **outcomes[ask.problem.id]._asdict()} for ask in asks]


def _stopped(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    return {
        "asked": sum(each.n for each in outcomes.values()),
        "right": sum(each.correct for each in outcomes.values()),
        "stopped": dict(sorted(Counter(each.stopped for each in outcomes.values()).items())),
    }


def problem_schema() -> "pa.Schema":
    """Arrow schema of the problems table; its id is the problem's.

    n: samples asked; correct: right ones among them; stopped: enough | hopeless | all (n were asked).
    """
    import pyarrow as pa

    return pa.schema(
        [("id", pa.string()), ("n", pa.int32()), ("correct", pa.int32()), ("stopped", pa.string())]
    )
