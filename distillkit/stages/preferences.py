"""Preference pairs: which of two answers people, or a verifier, like better. A reward model learns from them.

Rules can judge a sum, but not whether an answer is helpful or harmless; the last RL stage of the method pays for that
by reward models, and those learn from pairs.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 2.3.4 (reward models for helpfulness and harmlessness).
"""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Artifact
from distillkit.errors import RecipeError, StageError
from distillkit.reader import View
from distillkit.stages.base import LABELS, PAIRS, SELECTION, TRACES, Job, Wire, write_shards
from distillkit.stages.pairing import FIRST, Comparison, Gathered, PairColumns
from distillkit.stages.selection import require_fields
from distillkit.stages.source import BLOCK_ROWS
from distillkit.stages.sourced import MAPPED, SourcedStage
from distillkit.toy import chat
from distillkit.trace import Pair, pair_schema, to_row


class Preferences(SourcedStage):
    """Pairs of answers; exactly one of toy, file, hub, python and input says where from.

    Rows: `pair_schema`. Summary: pairs, prompts, and `longer`, the share of pairs whose chosen answer is the longer
    one: what a reward model can learn instead of what it is meant to.
    """

    MAKES: ClassVar[str] = PAIRS
    SOURCES: ClassVar[tuple[str, ...]] = ("toy", *MAPPED, "input")
    BELONGS: ClassVar[dict[str, tuple[str, ...]]] = {
        "columns": MAPPED,
        **dict.fromkeys(("prefer", "min_margin", "labels"), ("input",)),
    }

    kind: Literal["preferences"] = "preferences"
    toy: Literal["helpful", "harmless"] | None = None
    """What the chat family of the toy world is compared by; needs `limit`."""
    input: Annotated[str | list[str] | None, Wire((SELECTION, TRACES), default="none")] = None
    """Traces or selections whose answers to a problem are compared: of one stage, or of several."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = []
    """Stages whose labels `prefer` reads; left out: all earlier ones over the same text."""
    prefer: str = "score"
    """The label whose higher value is better; `first`: any answer of the first input is better than any of the
    others."""
    min_margin: float = Field(0.0, ge=0)
    """Least difference of that label within a pair."""
    columns: PairColumns = PairColumns()
    domain: str = "chat"
    """Domain of rows that do not say theirs."""
    per_prompt: int = Field(1, ge=1)
    """Most pairs of one prompt; further ones are left out as `same_prompt`."""
    max_characters: int = Field(200_000, ge=1)
    """A longer pair (prompt and longer answer) is left out as `too_long`."""

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        if self.toy is not None and self.limit is None:
            raise ValueError("toy: needs limit:, how many pairs to make")
        if self.prefer == FIRST and len(self.inputs) < 2:
            raise ValueError("prefer: first compares inputs; name two of them: input: [better, worse]")
        return self

    @property
    def inputs(self) -> list[str]:
        """Names of the stages whose answers are compared."""
        return [self.input] if isinstance(self.input, str) else self.input or []

    def rule_fields(self) -> list[str]:
        # Of several texts each has labels of its own under the same names, so only the run can tell.
        return [self.prefer] if len(self.inputs) == 1 else []

    def check(self, recipe_folder: Path) -> None:
        super().check(recipe_folder)
        if len(set(self.inputs)) < len(self.inputs):
            raise RecipeError(f"stages.{self.name}.input: names a stage twice; compare it with another one")

    def run(self, job: Job) -> None:
        gathered = self.gathered(job)
        pairs = list(gathered.kept.values())
        job.out.rows_in = gathered.read
        job.out.counts = {"rejected": dict(gathered.rejected)} if gathered.rejected else {}
        job.out.telemetry["rejected_examples"] = gathered.examples
        if not pairs:
            raise StageError(
                f"{self.name}: no pair in {gathered.read:,} rows of {self.origin}{gathered.why()}"
            )
        if unreadable := gathered.rejected["unreadable"]:
            job.warn(f"{unreadable:,} unreadable rows left out, e.g. {gathered.examples['unreadable']}")
        write_shards(job, [to_row(pair) for pair in pairs], pair_schema())
        job.out.summary = {
            "pairs": len(pairs),
            "prompts": len({pair.problem_id for pair in pairs}),
            "longer": sum(len(pair.chosen) > len(pair.rejected) for pair in pairs) / len(pairs),
        }

    def gathered(self, job: Job) -> Gathered:
        """All pairs of the source until it ends or, where the first ones will do, until the limit is met."""
        gathered = Gathered(per_prompt=self.per_prompt)
        with closing(self.found(job)) as pairs:
            for where, found in pairs:
                gathered.take(where, found)
                if gathered.read % BLOCK_ROWS == 0:
                    job.progress(gathered.read, 0, unit="rows", kept=len(gathered.kept))
                if len(gathered.kept) == self.limit and not self.shuffle:
                    return gathered
        if self.limit is not None:
            gathered.sample(self.limit, self.seed)
        return gathered

    def found(self, job: Job) -> Generator[tuple[str, Pair | str], None, None]:
        """Every pair of the source, or the reason why a row is none, with the place where it stands."""
        if self.toy is not None:
            made = chat.pairs(self.limit or 0, self.seed, "train", self.toy)
            for number, (problem, chosen, rejected) in enumerate(made, 1):
                pair = Pair(problem.messages, chosen, rejected, problem.domain, "toy", problem_id=problem.id)
                yield f"toy:{number}", pair
        elif self.input:
            comparison = Comparison(self.prefer, self.min_margin, self.per_prompt)
            yield from comparison.pairs(self.views(job))
        else:
            names = dict[str, None]()
            for where, row in self.mapped_rows(self.choose):
                names.update(dict.fromkeys(row or ()))
                yield where, self.columns.read(row, self.domain, self.origin, self.max_characters)
            if names:
                self.columns.among(names, f"stages.{self.name}: {self.origin}")

    def choose(self, names: list[str]) -> list[str]:
        """The columns to read; raises RecipeError where one is missing."""
        return self.columns.among(names, f"stages.{self.name}: {self.origin}")

    def views(self, job: Job) -> list[View]:
        """The inputs in their order, each with the labels over its own text."""
        labels = [(each, _texts(job, each)) for each in job.artifacts("labels")]
        views = []
        for artifact in job.artifacts("input"):
            own = {text.path.name for text in View.of(job.store, artifact).texts}
            view = View.of(job.store, artifact, [label for label, texts in labels if texts & own])
            if self.prefer != FIRST:
                require_fields(view, [self.prefer], self.name)
            views.append(view)
        if len({view.shards for view in views}) > 1:
            raise StageError(
                f"{self.name}: its inputs have different numbers of shards; run all with one `shards:`"
            )
        return views

    @property
    def origin(self) -> str:
        if self.toy is not None or self.input:
            return " and ".join(self.inputs) or "toy"
        return super().origin


def _texts(job: Job, label: Artifact) -> set[str]:
    """The texts that a label artifact lies over."""
    ends = label.manifest.inputs["input"]
    return {
        text.path.name for end in ends for text in View.of(job.store, job.store.open(end["artifact"])).texts
    }
