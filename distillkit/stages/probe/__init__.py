"""Look behind a score: does the answer follow the reasoning, how early is it fixed, is the verifier played?

One sampling run serves all probes, and an evaluation with the same settings has paid for it already; what the
probes let the model write is kept beside it. Every number has its interval over problems.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Model
from distillkit.sampling.resume import require_continuing
from distillkit.scoring import Judged, verdict_schema
from distillkit.stages.base import Job
from distillkit.stages.book import Book
from distillkit.stages.forcing import offsets_tokenizer, thoughts
from distillkit.stages.probe.case import Case, Finding
from distillkit.stages.probe.collapse import Collapse
from distillkit.stages.probe.early_answer import EarlyAnswer
from distillkit.stages.probe.faithfulness import CONTROLS, Faithfulness
from distillkit.stages.probe.gaming import Gaming
from distillkit.stages.scored import ProblemSet
from distillkit.stages.study import Study
from distillkit.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

Name = Literal["faithfulness", "early_answer", "gaming", "collapse"]
RESUMING = frozenset({"faithfulness", "early_answer"})
"""Probes that let the model go on from another text."""


class Probe(Study):
    """Models and problems in; what the probes find out.

    Tables: `completions` (traces; what a probe made the model write has a `parent_id`) and `verdicts` (by trace id,
    with `probe` and `variant`, null for the traces as they were sampled). Summary: `probes` {name: {model:
    numbers}}, `warnings`, `tokens` (generated for it, whenever that was) and `settings`.
    """

    kind: Literal["probe"] = "probe"
    probes: list[Name] = Field(["faithfulness", "early_answer", "gaming", "collapse"], min_length=1)
    """What to look for."""
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
        if "collapse" in self.probes and self.samples(self.set_names()[0]) < 2:
            raise ValueError("n: collapse compares the samples of a problem; write n: 2 or more")
        return self

    def check(self, recipe_folder: Path) -> None:
        super().check(recipe_folder)
        if RESUMING.intersection(self.probes):
            require_continuing(self)

    @property
    def worth(self) -> float:
        """Tokens of all that a sample leads to, in completions of half the cap; one that is resumed is half done."""
        found = 1.0
        if "faithfulness" in self.probes:
            found += (len(self.faithfulness.edits) + len(CONTROLS)) / 2
        if "early_answer" in self.probes:
            found += (self.early_answer.cuts + 1) * self.force.max_tokens / (self.cap / 2)
        return found

    def run(self, job: Job) -> None:
        given = self.given(job)
        curves = {each.stage: _curves(each.path) for each in job.artifacts("models")}
        book = Book()
        found: dict[str, dict[str, Any]] = {name: {} for name in self.probes}
        warnings: list[dict[str, str]] = []
        for model in job.models("models"):
            case = self._case(model, given, job, curves.get(model.name))
            known = [case.judged[trace.id] for trace in case.traces]
            book.add(case.traces, known, model=model.name, probe=None, variant=None)
            for name in self.probes:
                finding = self._probe(name, case)
                found[name][model.name] = finding.summary
                warnings += finding.warnings
                for each in finding.others:
                    book.add([each.trace], [each.judged], model=model.name, probe=name, variant=each.variant)
        book.write(job, probe_schema())
        book.tell(job)
        job.out.summary = {
            "probes": found,
            "warnings": warnings,
            "tokens": book.tokens,
            "settings": self.settings(given),
        }
        for warning in warnings:
            job.warn(warning["text"])

    def _case(
        self, model: Model, given: ProblemSet, job: Job, curves: dict[str, list[float | None]] | None
    ) -> Case:
        def judge(some: Sequence[Trace]) -> list[Judged]:
            return self.judge(some, given.verifiers)

        traces = self.draw(model, given, job)
        thinking = {}
        if RESUMING.intersection(self.probes):
            thinking = dict(thoughts(traces, offsets_tokenizer(given.sampling, model)))
        judged = {each.id: each for each in judge(traces)}
        return Case(given, model, traces, judged, judge, thinking, self.force, job, curves)

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


def _curves(folder: Path) -> dict[str, list[float | None]] | None:
    file = folder / "curves.json"
    if not file.exists():
        return None
    found: dict[str, list[float | None]] = json.loads(file.read_text("utf-8"))
    return found


def probe_schema() -> "pa.Schema":
    """Arrow schema of the verdicts table: that of every stage that scores, with model, probe and variant."""
    return verdict_schema("model", "probe", "variant")
