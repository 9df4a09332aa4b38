"""Keep or drop rows by declared rules over their labels; the first rule that fails gives the reason.

Judging costs hours and a threshold costs nothing, so they are two stages: rules move in seconds. Every row keeps all
reasons that speak against it, and what each rule alone drops is counted, so any rule can be ablated.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from distillkit.artifact import Counts
from distillkit.reader import View
from distillkit.rule import PRESETS, Preset, rule_text, verdicts
from distillkit.spec import Strict, digest
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.selection import decided, finish, require_fields, write
from distillkit.store import Writer
from distillkit.values import values_of

Scalar = str | int | float | bool | None


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Values = Annotated[
    tuple[Scalar, ...], BeforeValidator(_as_tuple, json_schema_input_type=Scalar | list[Scalar])
]
"""One value or a list of them; empty where the key was left out, as null is a value."""


class Rule(Strict):
    """One test of one field with the reason to give where it fails, or the name of a list of such rules.

    A null never passes `min` or `max` and has its own reason: `unjudged` for a score, else `unmeasured`.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    # A preset is identified by what its rules say today, so that a changed threshold is a changed rule.
    VERSION: ClassVar[int] = int(digest(PRESETS)[:8], 16)

    preset: Preset | None = None
    field: str = ""
    """A label (`score`, `judged.score`, `measures.language.share`) or a column of the text (`domain`)."""
    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)
    is_: Values = Field((), alias="is")
    """The value is this, or one of these; null tests for null."""
    is_not: Values = ()
    in_: tuple[Scalar, ...] = Field((), alias="in")
    """The value is one of these."""
    not_in: tuple[Scalar, ...] = ()
    reason: str = ""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        lists = [bool(each) for each in (self.is_, self.is_not, self.in_, self.not_in)]
        tests = [self.min is not None or self.max is not None, *lists]
        if self.preset is not None:
            if any(tests) or self.field or self.reason:
                raise ValueError("a preset stands alone: it brings its own fields and reasons")
        elif not self.field or not self.reason:
            raise ValueError("a rule needs field: and reason:")
        elif sum(tests) != 1:
            raise ValueError(
                f"{self.field}: needs exactly one test: min and/or max, is, is_not, in, or not_in"
            )
        elif self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.field}: min {self.min:g} is above max {self.max:g}")
        return self

    @property
    def text(self) -> str:
        """The rule in words."""
        return rule_text(self.model_dump())

    def expanded(self) -> "list[Rule]":
        """The rule itself, or those of its preset."""
        return [self] if self.preset is None else [Rule(**each) for each in PRESETS[self.preset]]

    def failures(self, values: Sequence[Any]) -> list[str | None]:
        """For each value of the field the reason to drop its row, None where it passes; raises RecipeError."""
        return verdicts(self.model_dump(), values)


class Filter(Stage):
    """Makes a selection: every row with `kept`, the reason of the first rule that it fails, and all the others'."""

    VERSION: ClassVar[int] = 2
    MAKES: ClassVar[str] = SELECTION

    kind: Literal["filter"] = "filter"
    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose rows are filtered; left out: the nearest earlier traces or selection."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = []
    """Stages whose labels the rules read; left out: all earlier ones over the same text."""
    rules: list[Rule] = Field(min_length=1)
    """Tested in this order; a row has to pass them all."""
    ablate: bool = False
    """Also count the funnel that there would be without each rule."""

    def rule_fields(self) -> list[str]:
        return list(dict.fromkeys(rule.field for rule in self.expanded()))

    def expanded(self) -> list[Rule]:
        """The rules, those of presets among them."""
        return [each for rule in self.rules for each in rule.expanded()]

    def run(self, job: Job) -> None:
        view = job.view()
        rules = tuple(self.expanded())
        require_fields(view, self.rule_fields(), self.name)
        tasks = [
            _Task(rules, self.ablate, view, shard, job.out)
            for shard in range(view.shards)
            if not job.out.has(shard)
        ]
        for done, _ in enumerate(job.executor.map(_filter_shard, tasks), 1 + view.shards - len(tasks)):
            job.progress(done, view.shards, unit="shards")
        finish(job, [view], self.name)


@dataclass
class Tally:
    """What rules did to rows, as counts of a manifest."""

    rules: Sequence[Rule]
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason of the first rule that a row failed."""
    failed: Counter[str] = field(default_factory=Counter)
    """Every reason that a row has."""
    failed_alone: Counter[str] = field(default_factory=Counter)
    """Reason of rows that failed one rule only."""
    firsts: dict[int, Counter[tuple[str, str | None]]] = field(default_factory=dict)
    """Number of a rule -> (reason that it gave first to a row, reason of the next rule that would drop the row)."""

    def add(self, failed: Sequence[tuple[int, str]]) -> None:
        """Count one row by the rules that it fails, in their order: their numbers and reasons."""
        if not failed:
            return
        (rule, reason), *others = failed
        self.rejected[reason] += 1
        self.failed.update({each for _, each in failed})
        self.failed_alone.update([] if others else [reason])
        following = others[0][1] if others else None
        self.firsts.setdefault(rule, Counter())[reason, following] += 1

    def counts(self, *, ablate: bool) -> Counts:
        """The counts by group; with `ablate` also those that `show.rule.without_each` reads."""
        found = {"rejected": self.rejected, "failed": self.failed, "failed_alone": self.failed_alone}
        found |= {"freed": Counter()} if ablate else {}
        for number, rule in enumerate(self.rules if ablate else []):
            key = f"{number + 1}. {rule.text}"
            dropped, moved = Counter[str](), Counter[str]()
            for (reason, following), n in self.firsts.get(number, {}).items():
                dropped[reason] += n
                if following is not None:
                    moved[following] += n
            found["freed"][key] = dropped.total() - moved.total()
            found |= {f"dropped: {key}": dropped, f"moved: {key}": moved}
        return {group: dict(each) for group, each in found.items()}


@dataclass(frozen=True)
class _Task:
    """One shard to filter: picklable, so that any executor can take it."""

    rules: tuple[Rule, ...]
    ablate: bool
    view: View
    shard: int
    out: Writer


def _filter_shard(task: _Task) -> None:
    values = values_of(task.view, task.shard, [rule.field for rule in task.rules])
    tally, rows = Tally(task.rules), []
    for id, copies, failed in zip(values["id"], values["copies"], failures(task.rules, values), strict=True):
        tally.add(failed)
        rows.append(decided(id, [reason for _, reason in failed], copies))
    write(task.out, task.shard, rows, tally.counts(ablate=task.ablate))


def failures(rules: Sequence[Rule], values: dict[str, list[Any]]) -> list[list[tuple[int, str]]]:
    """For each row the rules that it fails, in order: their numbers and reasons."""
    found: list[list[tuple[int, str]]] = [[] for _ in values["id"]]
    for number, rule in enumerate(rules):
        for row, reason in zip(found, rule.failures(values[rule.field]), strict=True):
            if reason is not None:
                row.append((number, reason))
    return found
