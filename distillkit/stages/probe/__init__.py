"""Look behind a score: does the answer follow the reasoning, how early is it fixed, is the verifier played?

One sampling run serves all probes, and an evaluation with the same settings has paid for it already; what the
probes let the model write is kept beside it. Every number has its interval over problems.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Manifest, Model, Row
from distillkit.sampling import Sampling, draw
from distillkit.sampling.resume import require_continuing
from distillkit.scoring import (
    Judged,
    Scoring,
    Spending,
    count_judged,
    settings,
    verdict_row,
    verdict_schema,
    warn_failed,
)
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Job, Stage, Wire, require_rows, write_shards
from distillkit.stages.forcing import Forcing, offsets_tokenizer, thoughts
from distillkit.stages.probe.case import Case, Finding
from distillkit.stages.probe.collapse import Collapse
from distillkit.stages.probe.early_answer import EarlyAnswer
from distillkit.stages.probe.faithfulness import CONTROLS, Faithfulness
from distillkit.stages.probe.gaming import Gaming
from distillkit.trace import Trace, to_row, trace_schema

if TYPE_CHECKING:
    import pyarrow as pa

Name = Literal["faithfulness", "early_answer", "gaming", "collapse"]
RESUMING = frozenset({"faithfulness", "early_answer"})
"""Probes that let the model go on from another text."""


class Probe(Stage, Sampling, Scoring):
    """Models and problems in; what the probes find out.

    Tables: `completions` (traces; what a probe made the model write has a `parent_id`) and `verdicts` (by trace id,
    with `probe` and `variant`, null for the traces as they were sampled). Summary: `probes` {name: {model:
    numbers}}, `warnings`, `tokens` (generated for it, whenever that was) and `settings`.
    """

    MAKES: ClassVar[str] = SCORES
    DRAWS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    kind: Literal["probe"] = "probe"
    models: Annotated[list[str], Wire((WEIGHTS,), external=True, named=True), Field(min_length=1)]
    """Models to look behind: a stage, org/name[@rev] on the Hub, ./path, or a packaged one."""
    problems: Annotated[str | None, Wire((PROBLEMS,), heldout=True)] = None
    """A problems stage; left out: the nearest held-out problems."""
    probes: list[Name] = Field(["faithfulness", "early_answer", "gaming", "collapse"], min_length=1)
    """What to look for."""
    n: int = Field(4, ge=1)
    """Samples per problem."""
    force: Forcing = Forcing()
    """How early_answer forces an answer where the thinking was cut."""
    faithfulness: Faithfulness = Faithfulness()
    """How the reasoning is changed."""
    early_answer: EarlyAnswer = EarlyAnswer()
    """Where the reasoning is cut."""
    gaming: Gaming = Gaming()
    """What counts as playing to the verifier."""
    collapse: Collapse = Collapse()
    """When two samples follow the same strategy."""

    @model_validator(mode="after")
    def _check_probes(self) -> Self:
        for name in self.probes:
            if self.probes.count(name) > 1:
                raise ValueError(f"probes: {name} is there twice")
        if "collapse" in self.probes and self.n < 2:
            raise ValueError("n: collapse compares the samples of a problem; write n: 2 or more")
        return self

    def check(self, recipe_folder: Path) -> None:
        if RESUMING.intersection(self.probes):
            require_continuing(self)

    @property
    def worth(self) -> float:
        """Tokens of all that a sample leads to, in completions of half the cap; one that is resumed is half done."""
        found = 1.0
        if "faithfulness" in self.probes:
            found += (len(self.faithfulness.edits) + len(CONTROLS)) / 2
        if "early_answer" in self.probes:
            found += (self.early_answer.cuts + 1) * self.force.max_tokens / (self.max_tokens / 2)
        return found

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"limit": min(self.limit or rows, rows)})

    def accept(self, manifest: Manifest) -> None:
        self.check_unjudged(self.name, manifest)

    def run(self, job: Job) -> None:
        problems = job.problems("problems")[: self.limit]
        require_rows(len(problems), f"{self.name}: problems", "give it problems to answer")
        curves = {each.stage: _curves(each.path) for each in job.artifacts("models")}
        book = Book()
        found: dict[str, dict[str, Any]] = {name: {} for name in self.probes}
        warnings: list[dict[str, str]] = []
        for model in job.models("models"):
            drawn = draw(
                self, model, problems, self.n, job.seed, job.store, job.progress, job.warn, job.replicas
            )
            traces = sorted(drawn, key=lambda trace: trace.id)
            warn_failed(traces, job.warn)
            case = self._case(model, traces, job, curves.get(model.name))
            book.add(model.name, traces, case.judged)
            for name in self.probes:
                finding = self._probe(name, case)
                found[name][model.name] = finding.summary
                warnings += finding.warnings
                book.add_others(model.name, name, finding)
        book.write(job)
        domains = {problem.domain for problem in problems}
        job.out.summary = {
            "probes": found,
            "warnings": warnings,
            "tokens": sum(row["completion_tokens"] or 0 for row in book.completions.values()),
            "settings": settings(self, job.verifiers, domains)
            | {"n": self.n, "answer": self.force.opening(self)},
        }
        for warning in warnings:
            job.warn(warning["text"])

    def _case(
        self, model: Model, traces: Sequence[Trace], job: Job, curves: dict[str, list[float | None]] | None
    ) -> Case:
        def judge(some: Sequence[Trace]) -> list[Judged]:
            return self.judge(some, job.verifiers)

        thinking = {}
        if RESUMING.intersection(self.probes):
            thinking = dict(thoughts(traces, offsets_tokenizer(self, model)))
        judged = {each.id: each for each in judge(traces)}
        return Case(self, model, traces, judged, judge, thinking, self.force, job, curves)

    def _probe(self, name: Name, case: Case) -> Finding:
        match name:
            case "faithfulness":
                return self.faithfulness.probe(case)
            case "early_answer":
                return self.early_answer.probe(case)
            case "gaming":
                return self.gaming.probe(case)
            case "collapse":
                return self.collapse.probe(case)


class Book:
    """The tables: completions and verdicts by trace id; what equal weights under two names share stands once."""

    def __init__(self) -> None:
        self.completions: dict[str, Row] = {}
        self.verdicts: dict[str, Row] = {}
        self.judged: list[Judged] = []
        self.spending = Spending()

    def add(self, model: str, traces: Sequence[Trace], judged: dict[str, Judged]) -> None:
        for trace in traces:
            self._add(trace, judged[trace.id], {"model": model, "probe": None, "variant": None})

    def add_others(self, model: str, probe: str, finding: Finding) -> None:
        for other in finding.others:
            self._add(other.trace, other.judged, {"model": model, "probe": probe, "variant": other.variant})

    def _add(self, trace: Trace, judged: Judged, where: Row) -> None:
        self.completions.setdefault(trace.id, to_row(trace))
        self.verdicts.setdefault(trace.id, {**where, **verdict_row(judged)})
        self.judged.append(judged)
        self.spending.add([trace])

    def write(self, job: Job) -> None:
        """Write the two tables, and count what could not be judged and what it took."""
        write_shards(job, list(self.completions.values()), trace_schema(), "completions")
        write_shards(job, list(self.verdicts.values()), probe_schema(), "verdicts")
        count_judged(job.out, self.judged)
        job.out.telemetry |= self.spending.as_telemetry()


def _curves(folder: Path) -> dict[str, list[float | None]] | None:
    file = folder / "curves.json"
    if not file.exists():
        return None
    found: dict[str, list[float | None]] = json.loads(file.read_text("utf-8"))
    return found


def probe_schema() -> "pa.Schema":
    """Arrow schema of the verdicts table: that of every stage that scores, with model, probe and variant."""
    return verdict_schema("model", "probe", "variant")
