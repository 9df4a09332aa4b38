"""Keep or drop rows by declared rules over their labels; the first rule that fails gives the reason.

Judging costs hours and a threshold costs nothing, so they are two stages: rules move in seconds. Every drop
keeps its reason, and what each rule alone would drop is counted, so any rule can be ablated.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from distillkit.artifact import Row
from distillkit.errors import RecipeError
from distillkit.measures.readability import R1_READABLE
from distillkit.reader import View, look_up
from distillkit.spec import Strict, digest
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.selection import finish, require_fields, selection_schema
from distillkit.store import Writer

PRESETS: dict[str, list[dict[str, Any]]] = {"r1_readable": R1_READABLE}
"""Name -> rules."""
JUDGED = frozenset({"score", "verdicts"})
"""Labels of a verifier: a null there means that it could not judge."""

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

    preset: Literal["r1_readable"] | None = None
    field: str = ""
    """A label (`score`, `judged.score`, `measures.language.share`) or a column of the text (`domain`)."""
    min: float | None = None
    max: float | None = None
    is_: Values = Field((), alias="is")
    """The value is this, or one of these; null tests for null."""
    is_not: Values = ()
    reason: str = ""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        tests = [self.min is not None or self.max is not None, bool(self.is_), bool(self.is_not)]
        if self.preset is not None:
            if any(tests) or self.field or self.reason:
                raise ValueError("a preset stands alone: it brings its own fields and reasons")
        elif not self.field or not self.reason:
            raise ValueError("a rule needs field: and reason:")
        elif sum(tests) != 1:
            raise ValueError(f"{self.field}: needs exactly one test: min and/or max, is, or is_not")
        elif self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.field}: min {self.min:g} is above max {self.max:g}")
        return self

    def expanded(self) -> "list[Rule]":
        """The rule itself, or those of its preset."""
        return [self] if self.preset is None else [Rule(**each) for each in PRESETS[self.preset]]

    def failure(self, row: Row) -> str | None:
        """The reason to drop a row, None where it passes.

        Raises:
            RecipeError: min or max is asked of a value that is no number.
        """
        value = look_up(row, self.field)
        if self.is_ or self.is_not:
            return None if (value in self.is_ if self.is_ else value not in self.is_not) else self.reason
        if value is None or value != value:
            return "unjudged" if JUDGED & set(self.field.split(".")[:2]) else "unmeasured"
        if not isinstance(value, int | float):
            raise RecipeError(f"field {self.field}: min and max need a number; {row['id']} has {value!r:.80}")
        above = self.min is None or value >= self.min
        return None if above and (self.max is None or value <= self.max) else self.reason


class Filter(Stage):
    """Makes a selection: every row with `kept`, and the reason of the first rule that it fails."""

    MAKES: ClassVar[str] = SELECTION

    kind: Literal["filter"] = "filter"
    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose rows are filtered; left out: the nearest earlier traces or selection."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = []
    """Stages whose labels the rules read; left out: all earlier ones over the same text."""
    rules: list[Rule] = Field(min_length=1)
    """Tested in this order; a row has to pass them all."""

    def rule_fields(self) -> list[str]:
        return list(dict.fromkeys(rule.field for rule in self._expanded()))

    def run(self, job: Job) -> None:
        view = job.view()
        rules = tuple(self._expanded())
        require_fields(view, self.rule_fields(), self.name)
        tasks = [_Task(rules, view, shard, job.out) for shard in range(view.shards) if not job.out.has(shard)]
        for done, _ in enumerate(job.executor.map(_filter_shard, tasks), 1 + view.shards - len(tasks)):
            job.progress(done, view.shards, unit="shards")
        finish(job, view, self.name)

    def _expanded(self) -> list[Rule]:
        return [each for rule in self.rules for each in rule.expanded()]


@dataclass(frozen=True)
class _Task:
    """One shard to filter: picklable, so that any executor can take it."""

    rules: tuple[Rule, ...]
    view: View
    shard: int
    out: Writer


def _filter_shard(task: _Task) -> None:
    """Write one shard, and count rows: rejected by a reason, failing it, failing it and no other rule."""
    decided: list[Row] = []
    counts: dict[str, Counter[str]] = {"rejected": Counter(), "failed": Counter(), "failed_alone": Counter()}
    for row in task.view.shard(task.shard):
        failed = [reason for rule in task.rules if (reason := rule.failure(row)) is not None]
        decided.append({"id": row["id"], "kept": not failed, "reason": failed[0] if failed else None})
        counts["rejected"].update(failed[:1])
        counts["failed"].update(set(failed))
        counts["failed_alone"].update(failed if len(failed) == 1 else [])
    plain = {group: dict(each) for group, each in counts.items()}
    task.out.write(task.shard, decided, selection_schema(), counts=plain)
