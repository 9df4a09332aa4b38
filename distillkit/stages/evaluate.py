"""Score models on held-out problems: pass@1, pass@k, cons@k, lengths, language mixing, and gamma as realised.

All models answer the same problems with the same settings, every completion is kept, and no number stands
without its interval, its samples and its settings: a score that lacks them cannot be compared with any other.

Source: pass@1 as the mean over n samples, and the majority vote, as in DeepSeek-R1, arXiv:2501.12948v1, 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Manifest, Row
from distillkit.events import Progress
from distillkit.sampling import Sampling, draw
from distillkit.scoring import (
    Group,
    Judged,
    Scoring,
    by_problem,
    count_judged,
    largest_k,
    metrics,
    outcome,
    realised_gamma,
    settings,
    verdict_row,
    verdict_schema,
    warn_failed,
)
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Job, Stage, Wire, require_rows, write_shards
from distillkit.trace import Problem, Trace, problem_of, to_row, trace_schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Benchmark:
    """A set of problems, and how many samples each model gives of each."""

    name: str
    problems: list[Problem]
    n: int

    @property
    def samples(self) -> int:
        return self.n * len(self.problems)


@dataclass
class Answers:
    """What the models answered: groups for the metrics, rows for the tables."""

    groups: dict[tuple[str, str], list[Group]] = field(default_factory=dict)
    """(model, benchmark) -> one group per problem."""
    completions: dict[str, Row] = field(default_factory=dict)
    verdicts: dict[str, Row] = field(default_factory=dict)
    """Both by trace id: what two benchmarks, or two names of equal weights, share stands under the first."""

    @property
    def samples(self) -> int:
        """Completions so far."""
        return sum(len(group) for groups in self.groups.values() for group in groups)

    def add(self, model: str, benchmark: str, traces: list[Trace], judged: list[Judged]) -> None:
        """Take in what a model said to a benchmark, and the verdicts on it."""
        self.groups[model, benchmark] = by_problem(judged)
        for trace, each in zip(traces, judged, strict=True):
            self.completions.setdefault(trace.id, to_row(trace))
            self.verdicts.setdefault(trace.id, {"model": model, "benchmark": benchmark, **verdict_row(each)})

    def write(self, job: Job) -> None:
        """Write the three tables, and count what could not be judged."""
        write_shards(job, list(self.completions.values()), trace_schema(), "completions")
        write_shards(job, list(self.verdicts.values()), verdict_schema("model", "benchmark"), "verdicts")
        write_shards(job, list(self._problems()), problem_schema(), "problems")
        every = [each for groups in self.groups.values() for group in groups for each in group]
        count_judged(job.out, every)

    def _problems(self) -> Iterator[Row]:
        for (model, benchmark), groups in self.groups.items():
            for group in groups:
                problem_id = group[0].problem_id
                where = {"problem_id": problem_id, "benchmark": benchmark, "model": model}
                yield {"id": f"{problem_id}/{benchmark}/{model}", **where, **outcome(group)}


class Evaluate(Stage, Sampling, Scoring):
    """Models and problems in; scores out, with every completion and verdict beside them.

    Tables: `completions` (traces), `verdicts` (by trace id), `problems` (n, correct and pass_rate of each
    problem, benchmark and model). Summary: `scores` {model: {metric: estimate}}, `gamma` (a list, see
    `_gammas`) and `settings`. A metric is named `pass@1`, or `<benchmark>/pass@1` with several benchmarks.
    """

    MAKES: ClassVar[str] = SCORES
    DRAWS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    kind: Literal["evaluate"] = "evaluate"
    models: Annotated[list[str], Wire((WEIGHTS,), external=True, named=True), Field(min_length=1)]
    """Models to compare, scored under their names here: a stage, org/name[@rev] on the Hub, or ./path."""
    problems: Annotated[str | list[str] | None, Wire((PROBLEMS,), heldout=True, named=True)] = None
    """Problems stages, n samples each. Left out: `benchmarks`, else the nearest held-out problems."""
    benchmarks: Annotated[
        dict[str, Annotated[int, Field(ge=1)]], Wire((PROBLEMS,), default="none", heldout=True, named=True)
    ] = Field(default_factory=dict)
    """Further problems stages, each with its own samples per problem."""
    n: int = Field(16, ge=1)
    """Samples per problem."""
    k: list[Annotated[int, Field(ge=2)]] | None = None
    """The k of pass@k and cons@k, none above n. Left out: the largest power of two up to n/2."""
    base: str | None = None
    """Which of the models gamma counts from. Left out: the first."""
    trained: str | None = None
    """Which of the models gamma is of. Left out: each one but the base."""

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        for model in self.models:
            if self.models.count(model) > 1:
                raise ValueError(f"models: {model} is there twice")
        for key, named in (("base", self.base), ("trained", self.trained)):
            if named is not None and named not in self.models:
                raise ValueError(f"{key}: {named} is none of the models ({', '.join(self.models)})")
        if self.trained is not None and self.trained == self._base:
            raise ValueError(f"trained: {self.trained} is the base; name what RL made of it")
        return self

    @model_validator(mode="after")
    def _check_k(self) -> Self:
        most = max([self.n, *self.benchmarks.values()])
        for k in self.k or []:
            if k > most:
                raise ValueError(f"k: {k} needs {k} samples per problem, n is {most}; raise n or lower k")
        return self

    @property
    def _base(self) -> str:
        return self.base or self.models[0]

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"limit": min(self.limit or rows, rows)})

    def accept(self, manifest: Manifest) -> None:
        self.check_unjudged(self.name, manifest)

    def run(self, job: Job) -> None:
        benchmarks = self._benchmarks(job)
        models = job.models("models")
        rounds = [(model, benchmark) for model in models for benchmark in benchmarks]
        total = sum(benchmark.samples for _, benchmark in rounds)
        answers = Answers()
        for model, benchmark in rounds:
            progress = _onward(job.progress, answers.samples, total, model.name)
            drawn = draw(
                self,
                model,
                benchmark.problems,
                benchmark.n,
                job.seed,
                job.store,
                progress,
                job.warn,
                job.replicas,
            )
            traces = sorted(drawn, key=lambda trace: trace.id)
            warn_failed(traces, job.warn)
            answers.add(model.name, benchmark.name, traces, self.judge(traces, job.verifiers))
        answers.write(job)
        job.out.summary = {
            "scores": {model.name: self._scores(model.name, benchmarks, answers, job) for model in models},
            "gamma": [gamma for benchmark in benchmarks for gamma in self._gammas(benchmark, answers)],
            "settings": settings(
                self, job.verifiers, {p.domain for each in benchmarks for p in each.problems}
            )
            | {"n": {each.name: each.n for each in benchmarks}},
        }

    def _benchmarks(self, job: Job) -> list[Benchmark]:
        """What to score on; `problems` that were left out count only where there are no `benchmarks`."""
        named = self.problems is not None or not self.benchmarks
        artifacts = [*(job.artifacts("problems") if named else []), *job.artifacts("benchmarks")]
        found = {}
        for artifact in artifacts:
            problems = sorted((problem_of(row) for row in artifact.rows()), key=lambda problem: problem.id)
            require_rows(len(problems), f"{self.name}: {artifact.stage}", "give it problems to score on")
            n = self.benchmarks.get(artifact.stage, self.n)
            found[artifact.stage] = Benchmark(artifact.stage, problems[: self.limit], n)
        return list(found.values())

    def _scores(self, model: str, benchmarks: list[Benchmark], answers: Answers, job: Job) -> dict[str, Any]:
        return {
            f"{benchmark.name}/{metric}" if len(benchmarks) > 1 else metric: estimate.as_json()
            for benchmark in benchmarks
            for metric, estimate in metrics(
                answers.groups[model, benchmark.name], self._ks(benchmark), job.verifiers
            ).items()
        }

    def _ks(self, benchmark: Benchmark) -> list[int]:
        if self.k is not None:
            return sorted(k for k in set(self.k) if k <= benchmark.n)
        largest = largest_k(benchmark.n)
        return [largest] if largest else []

    def _gammas(self, benchmark: Benchmark, answers: Answers) -> Iterator[dict[str, Any]]:
        """Gamma as realised with the largest k up to n/2: an estimate and its {model, base, benchmark, k}."""
        k = max((k for k in self._ks(benchmark) if 2 * k <= benchmark.n), default=None)
        if k is None:
            return
        before = answers.groups[self._base, benchmark.name]
        for model in [self.trained] if self.trained else [each for each in self.models if each != self._base]:
            found = realised_gamma(before, answers.groups[model, benchmark.name], k)
            yield {"model": model, "base": self._base, "benchmark": benchmark.name, "k": k} | found.as_json()


def _onward(progress: Progress, before: int, whole: int, model: str) -> Progress:
    """The progress of one of several draws, told as part of all of them."""

    def tell(done: int, total: int, **facts: Any) -> None:
        progress(before + done, whole, **{**facts, "model": model})

    return tell


def problem_schema() -> "pa.Schema":
    """Arrow schema of the problems table; its id is problem_id/benchmark/model."""
    import pyarrow as pa

    return pa.schema(
        [
            *((name, pa.string()) for name in ("id", "problem_id", "benchmark", "model")),
            ("n", pa.int32()),
            ("correct", pa.int32()),
            ("pass_rate", pa.float64()),
        ]
    )
