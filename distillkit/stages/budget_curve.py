"""Accuracy against thinking budget: what a model is worth where it may think for no more than so many tokens.

Thinking is sampled once; where it is longer than a budget it is cut there and the answer forced, and a
completion that ended earlier counts as it is. So all budgets see the same thoughts.

Source: s1, arXiv:2501.19393 (budget forcing); operations of a token: Kaplan et al., arXiv:2001.08361,
section 2.1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Model, Row
from distillkit.errors import RecipeError
from distillkit.sampling.resume import require_continuing
from distillkit.scoring import Judged, by_problem, pass_at, verdict_schema
from distillkit.stages.base import Job, write_shards
from distillkit.stages.book import Book
from distillkit.stages.forcing import offsets_tokenizer, thoughts
from distillkit.stages.frontier import front, knee
from distillkit.stages.outlook import size_of
from distillkit.stages.scored import ProblemSet
from distillkit.stages.study import Study
from distillkit.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

    from distillkit.stages.forcing import Thinking

UNCUT = None
"""The budget of a completion as it was sampled."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One completion under one budget."""

    budget: int | None
    trace: Trace
    tokens: int | None
    """Generated: thinking up to the budget, and the answer; None where the engine does not count them."""
    forced: bool


class BudgetCurve(Study):
    """Models and problems in; accuracy under each thinking budget out.

    Tables: `completions` (traces; those whose answer was forced have a `parent_id`), `verdicts` (by trace id)
    and `points` (one row per completion and budget). Summary: `curves` {model: points, uncut, knee}, `front`,
    `tokens` (generated for it, whenever that was) and `settings`.
    """

    kind: Literal["budget_curve"] = "budget_curve"
    budgets: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Most tokens of thinking, best each twice the one before; 0 answers without any."""
    knee_gain: float = Field(0.02, ge=0, le=1)
    """Doubling the budget is worth no more than this at the knee of a curve, and behind it."""

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        if self.budgets != sorted(set(self.budgets)):
            raise ValueError("budgets: write each once, the smallest first")
        if self.budgets[-1] > self.cap:
            raise ValueError(
                f"budgets: {self.budgets[-1]} is more than max_tokens ({self.cap}), where thinking ends anyway"
            )
        return self

    def check(self, recipe_folder: Path) -> None:
        super().check(recipe_folder)
        require_continuing(self)
        for name in self.benchmarks:
            judge = self.judge_of(name)
            if judge is not None and not judge.votes:
                raise RecipeError(
                    f"benchmarks.{name}: {judge.kind} judges whole texts, and a forced answer is one line; take a "
                    "benchmark whose answers are numbers, letters or formulas"
                )

    @property
    def worth(self) -> float:
        """Tokens of all that a sample leads to, in completions of half the cap: every budget has an answer forced."""
        return 1 + len(self.budgets) * self.force.max_tokens / (self.cap / 2)

    def run(self, job: Job) -> None:
        given = self.given(job)
        book = Book()
        points: dict[str, Row] = {}
        curves: dict[str, Any] = {}
        for model in job.models("models"):
            answered = self._answered(model, given, job)
            traces = list({each.trace.id: each.trace for each in answered}.values())
            verdicts = self.judge(traces, given.verifiers)
            book.add(traces, verdicts, model=model.name)
            judged = {each.id: each for each in verdicts}
            curves[model.name] = self._curve(model, answered, judged)
            for each in answered:
                row = _point_row(model, each, judged[each.trace.id])
                points.setdefault(row["id"], row)
        book.write(job, verdict_schema("model"))
        write_shards(job, list(points.values()), point_schema(), "points")
        book.tell(job)
        job.out.summary = self._summary(curves, given) | {"tokens": book.tokens}

    def _answered(self, model: Model, given: ProblemSet, job: Job) -> list[Answered]:
        """Every completion as it was sampled, and under each budget."""
        traces, sampling = self.draw(model, given, job), given.sampling
        thinking = thoughts(traces, offsets_tokenizer(sampling, model))
        cut = [
            (budget, each)
            for budget in self.budgets
            for each in thinking.values()
            if each.goes_beyond(budget)
        ]
        starts = [self.force.force(each, budget, sampling) for budget, each in cut]
        forced = self.force.answers(sampling, model, starts, job)
        found = []
        for trace in traces:
            known = None if trace.finish_reason == "error" else trace.completion_tokens
            found.append(Answered(UNCUT, trace, known, False))
            if trace.id in thinking:
                found += self._under_budgets(thinking[trace.id], forced)
        return found

    def _under_budgets(self, thinking: "Thinking", forced: Mapping[str, Trace]) -> Iterator[Answered]:
        for budget in self.budgets:
            answer = forced.get(f"{thinking.trace.id}@{budget}")
            if answer is None:
                yield Answered(budget, thinking.trace, thinking.trace.completion_tokens, False)
            else:
                added = None if answer.finish_reason == "error" else answer.completion_tokens
                spent = None if added is None else min(budget, thinking.tokens) + added
                yield Answered(budget, answer, spent, True)

    def _curve(
        self, model: Model, answered: Sequence[Answered], judged: Mapping[str, Judged]
    ) -> dict[str, Any]:
        size = size_of(model)
        active = None if size is None else size.active

        def point(budget: int | None) -> dict[str, Any]:
            part = [each for each in answered if each.budget == budget]
            verdicts = [judged[each.trace.id] for each in part]
            given = [each for each in verdicts if each.reason != "failed"]
            counted = [each.tokens for each in part if each.tokens is not None]
            tokens = fmean(counted) if counted else None
            return {
                "accuracy": pass_at(by_problem(verdicts), 1).as_json(),
                "mean_tokens": None if tokens is None else round(tokens, 3),
                "cost": None if active is None or tokens is None else round(2 * active * tokens),
                "forced": round(fmean(each.forced for each in part), 6) if part else 0.0,
                "no_answer": round(fmean(each.answer is None for each in given), 6) if given else 0.0,
            }

        points = [{"budget": budget, **point(budget)} for budget in self.budgets]
        return {
            "active_parameters": active,
            "points": points,
            "uncut": point(UNCUT),
            "knee": knee(points, self.knee_gain),
        }

    def _summary(self, curves: dict[str, Any], given: ProblemSet) -> dict[str, Any]:
        found = front(curves)
        on_it = {(each["model"], each["budget"]) for each in found}
        for model, curve in curves.items():
            for each in curve["points"]:
                each["front"] = (model, each["budget"]) in on_it
        told = {"close": self.force.close, "answer_tokens": self.force.max_tokens}
        return {
            "curves": curves,
            "front": found,
            "knee_gain": self.knee_gain,
            "settings": self.settings(given) | told,
        }


def _point_row(model: Model, each: Answered, judged: Judged) -> Row:
    name = "uncut" if each.budget is UNCUT else str(each.budget)
    # The problem's id first: all rows of a problem are in one shard.
    source = each.trace.parent_id if each.forced else each.trace.id
    return {
        "id": f"{source}/{name}",
        "model": model.name,
        "trace_id": each.trace.id,
        "budget": each.budget,
        "forced": each.forced,
        "tokens": each.tokens,
        "score": judged.score,
    }


def point_schema() -> "pa.Schema":
    """Arrow schema of the points table; budget is null where nothing was cut, its id ends in the budget."""
    import pyarrow as pa

    return pa.schema(
        [
            *((name, pa.string()) for name in ("id", "model", "trace_id")),
            ("budget", pa.int32()),
            ("forced", pa.bool_()),
            ("tokens", pa.int32()),
            ("score", pa.float64()),
        ]
    )
