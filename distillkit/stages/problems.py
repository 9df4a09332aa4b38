"""Problems from the toy world, reasoning-gym, a file, the Hub, or a function of the user's, as rows of one shape.

Everything starts here, so what is wrong with a source is found here: a column that is not there stops the
recipe, a row without a prompt or a gold answer is counted with its reason and left out.
"""

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from distillkit.artifact import Row
from distillkit.errors import StageError
from distillkit.stages.base import PROBLEMS, Job, Wire, write_shards
from distillkit.stages.columns import Columns, messages_of
from distillkit.stages.intake import Intake
from distillkit.stages.leaks import BenchmarkFile, Guard, Named, seek
from distillkit.stages.shape import Shape
from distillkit.stages.source import BLOCK_ROWS, Found, Puzzle
from distillkit.stages.sourced import MAPPED, SourcedStage
from distillkit.toy import chat
from distillkit.toy.problems import check_terms, generate
from distillkit.trace import Problem, problem_schema, to_row


class Problems(SourcedStage):
    """Questions with gold answers; exactly one of toy, logic, file, hub and python says where from."""

    MAKES: ClassVar[str] = PROBLEMS
    SOURCES: ClassVar[tuple[str, ...]] = ("toy", "logic", *MAPPED)
    BELONGS: ClassVar[dict[str, tuple[str, ...]]] = {
        "terms": ("toy",),
        **dict.fromkeys(("columns", "reference_pattern", "shuffle", "where"), MAPPED),
    }

    kind: Literal["problems"] = "problems"
    toy: Literal["chain", "chat"] | None = None
    """Family of the toy world, sums of digits or short talk; needs `limit`."""
    terms: tuple[int, int] = (3, 8)
    """Fewest and most terms of a toy chain."""
    logic: Puzzle | None = None
    """A task of reasoning-gym; needs `limit`."""
    columns: Columns = Columns()
    reference_pattern: str | None = None
    r"""Regular expression whose one group is the answer in a text reference (the last match counts), e.g.
    '#### (.+)' for GSM8K."""
    where: dict[str, Annotated[list[str | int | float | bool], Field(min_length=1)]] = {}
    """Column -> its values that are taken, e.g. {level: [3, 4, 5]}; other rows are left out as `other_<column>`."""
    domain: str | None = None
    """Names the verifier; left out: the toy family's own, logic for a task of reasoning-gym, else math."""
    decontaminate: Annotated[
        list[Named], Wire((PROBLEMS,), default="none", external=True, heldout=True, named=True)
    ] = []
    """Benchmarks whose problems are left out, before anything is paid for them: earlier problems stages, built-in
    names, or files as {file: mine.jsonl, columns: {prompt: question}}. The reason is `leaked`; leaks.jsonl of the
    artifact has them."""
    split: Literal["train", "heldout"] = "train"
    """heldout: for evaluation only, refused wherever a model learns."""

    @field_validator("reference_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(
                    f"needs exactly one group around the answer, as in '#### (.+)'; has {groups}"
                )
        return pattern

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        if self.toy == "chat" and self.terms != type(self).model_fields["terms"].default:
            raise ValueError("terms: has no meaning with toy: chat, only with toy: chain")
        if (self.toy or self.logic) and self.limit is None:
            raise ValueError(f"{'toy' if self.toy else 'logic'}: needs limit:, how many problems to make")
        if self.reference_pattern is not None and not isinstance(self.columns.reference, str):
            raise ValueError(
                "reference_pattern: has no meaning where columns.reference names several columns"
            )
        return self

    def check(self, recipe_folder: Path) -> None:
        for each in self.decontaminate:
            if isinstance(each, BenchmarkFile):
                each.check()
        super().check(recipe_folder)
        check_terms(self.terms)
        if self.logic is not None:
            self.logic.check()

    def run(self, job: Job) -> None:
        guard = Guard(seek(job, "decontaminate", self.decontaminate)) if self.decontaminate else None
        intake = self._made(guard) if self.toy is not None else self._read(job, guard)
        if guard is not None:
            job.out.add_text("leaks.jsonl", guard.report())
        if self.logic is not None and len(intake.kept) < (self.limit or 0):
            job.warn(
                f"{self.name}: only {len(intake.kept)} of {self.limit} different problems of {self.origin}"
            )
        problems = list(intake.kept.values())
        job.out.rows_in = intake.read
        job.out.counts = {"rejected": dict(intake.rejected)}
        job.out.telemetry["rejected_examples"] = intake.examples
        if unreadable := intake.rejected["unreadable"]:
            job.warn(
                f"{self.name}: {unreadable} unreadable rows left out, e.g. {intake.examples['unreadable']}"
            )
        if not problems:
            raise StageError(
                f"{self.name}: no problem left of {intake.read} rows of {self.origin}{intake.why()}"
            )
        write_shards(job, [to_row(problem) for problem in problems], problem_schema())

    def _made(self, guard: Guard | None) -> Intake[Problem]:
        intake, count = Intake[Problem](), self.limit or 0
        made = (
            chat.generate(count, self.seed, self.split)
            if self.toy == "chat"
            else generate(count, self.seed, self.split, self.terms)
        )
        for number, problem in enumerate(made, 1):
            named = replace(problem, domain=self.domain or problem.domain)
            where = f"toy:{number}"
            intake.take(where, guard.admit(where, named) if guard else named)
        return intake

    def _read(self, job: Job, guard: Guard | None) -> Intake[Problem]:
        """Rows of the source until it ends or, where the first ones will do, until the limit is met."""
        intake, names, limit = Intake[Problem](), dict[str, None](), self.limit
        with closing(self._rows()) as rows:
            for where, row in rows:
                names.update(dict.fromkeys(row or ()))
                found = self._problem(row)
                intake.take(where, guard.admit(where, found) if guard else found)
                if intake.read % BLOCK_ROWS == 0:
                    job.progress(intake.read, 0, unit="rows", kept=len(intake.kept))
                if limit is not None and not self.shuffle and len(intake.kept) == limit:
                    return intake
                if limit is not None and len(intake.kept) > 2 * limit:
                    intake.sample(limit, self.seed)
        if names and self.logic is None:
            self._choose(list(names))
        if limit is not None:
            intake.sample(limit, self.seed)
        return intake

    def _rows(self) -> Generator[Found, None, None]:
        if self.logic is not None:
            yield from self.logic.rows(self.seed, self.limit or 0, self.split)
        else:
            yield from self.mapped_rows(self._choose)

    def _choose(self, names: list[str]) -> list[str]:
        return self.columns.among(names, self._where, self.where)

    @property
    def origin(self) -> str:
        return f"reasoning-gym/{self.logic.task}" if self.logic is not None else super().origin

    @property
    def _where(self) -> str:
        return f"stages.{self.name}: {self.origin}"

    def _problem(self, row: Row | None) -> Problem | str:
        """The problem in a row, or the reason why there is none."""
        if row is None:
            return "unreadable"
        if self.logic is not None:
            return self._puzzle(self.logic, row)
        domain = self.domain or "math"
        shape = Shape(self.columns, self.origin, self.reference_pattern, domain, self.split, self.where)
        return shape.problem(row)

    def _puzzle(self, logic: Puzzle, row: Row) -> Problem:
        return Problem(
            messages_of(row["question"]),
            logic.reference(row),
            domain=self.domain or "logic",
            source=self.origin,
            split=self.split,
            language="en",
            extra={"task": logic.task},
        )
