"""Equality of normalised text, numbers, lists, sets or JSON: fast and free of surprises."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from distillkit import text
from distillkit.pool import Failure, close_shared, shared
from distillkit.spec import EXECUTION
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import NO_ANSWER_IN_IT, Answered, Verifier, gold_answer
from distillkit.verifiers.exact import json_value
from distillkit.verifiers.grader import CAUSES

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d{1,4})?", re.ASCII)
_CONTEXT = Context(prec=60)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


class Exact(Verifier):
    """Correct when the answer is the gold, white space and full-width forms aside."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    kind: Literal["exact"] = "exact"
    as_: Annotated[Literal["text", "list", "set", "json"], Field(alias="as")] = "text"
    """What an answer is: one text, a list (order counts), a set (order and repetition do not), or a JSON value."""
    separator: Annotated[str, Field(min_length=1)] = ","
    """What parts the items of a list or set that is not written as a JSON array."""
    ignore_case: bool = False
    """Whether Paris and paris are one answer."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Largest difference of two equal numbers (with 0, 7 and 7.0 are equal); left out: compare as text."""
    relative: bool = False
    """Whether the tolerance is a share of the gold's size: 0.01 is one percent."""
    json_schema: dict[str, Any] | None = None
    """JSON Schema (2020-12) that a JSON answer must fit; a reference may bring its own as `schema`."""
    cpu_s: Annotated[float, Field(gt=0)] = 2.0
    """CPU seconds that checking one answer against a schema may take; beyond it the row counts as not judged."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes for schemas; left out: one per CPU."""

    @model_validator(mode="after")
    def _schemas_are_for_json(self) -> "Exact":
        if self.json_schema is not None and self.as_ != "json":
            raise ValueError("json_schema needs `as: json`")
        return self

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer; for JSON also the last code block, or a response that is nothing else."""
        declared = super().answer(trace)
        if declared is not None or self.as_ != "json" or self.marker is not None:
            return declared
        response = trace.response.strip()
        return json_value.unfenced(response) or (response if response[:1] in ("{", "[") else None)

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        if self.as_ == "json":
            return self._judge_json(answered)
        return [self._verdict(trace.reference, answer) for trace, answer in answered]

    def _verdict(self, reference: Any, answer: str) -> Verdict:
        if self._reject(reference) is not None:
            return Verdict.of("unparseable_gold", answer)
        if self.as_ == "text":
            right = self._equal(gold_answer(reference) or "", answer)
        else:
            right = self._equal_items(self._gold_items(reference) or [], self._items(answer))
        return Verdict.of("correct" if right else "wrong", answer)

    def same(self, a: str, b: str) -> bool:
        if self.as_ == "json":
            try:
                return json_value.equal(json_value.parsed(a), json_value.parsed(b), self._equal)
            except json_value.Unreadable:
                return a == b
        if self.as_ != "text":
            first, second = self._items(a), self._items(b)
            return self._equal_items(first, second) or self._equal_items(second, first)
        return self._equal(a, b) or self._equal(b, a)

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        complaints = [self._reject(reference) for reference in references]
        schemas = [self._schema(reference) if self.as_ == "json" else None for reference in references]
        rows = [row for row, schema in enumerate(schemas) if schema is not None and not complaints[row]]
        for row, fate in zip(rows, self._validate([[schemas[row]] for row in rows]), strict=True):
            if fate:
                complaints[row] = f"its schema is none: {fate if isinstance(fate, str) else fate.detail}"
        return complaints

    def close(self) -> None:
        close_shared(json_value.validator)

    def _reject(self, reference: Any) -> str | None:
        """Why a reference is no gold; None if it is one."""
        if self.as_ == "json":
            return self._reject_json(reference)
        if self.as_ != "text":
            return (
                None if self._gold_items(reference) else "no list in it: `answer` must hold one item at least"
            )
        gold = gold_answer(reference)
        if gold is None:
            return NO_ANSWER_IN_IT
        return None if self._fold(gold) else "the answer is blank"

    def _equal(self, gold: str, answer: str) -> bool:
        gold, answer = self._fold(gold), self._fold(answer)
        if gold == answer:
            return True
        if self.tolerance is None or (x := _number(gold)) is None or (y := _number(answer)) is None:
            return False
        bound = Decimal(repr(self.tolerance))
        if self.relative:
            bound = _CONTEXT.multiply(bound, x.copy_abs())
        return _CONTEXT.subtract(x, y).copy_abs() <= bound

    def _fold(self, answer: str) -> str:
        folded = text.normalise(answer)
        return folded.casefold() if self.ignore_case else folded

    def _equal_items(self, gold: Sequence[str], answer: Sequence[str]) -> bool:
        if self.as_ == "list":
            return len(gold) == len(answer) and all(map(self._equal, gold, answer))
        # A set larger than any gold is wrong at once: the comparison below is of each with each.
        if not answer or len(answer) > 10 * len(gold) + 100:
            return False
        return all(any(self._equal(a, b) for b in answer) for a in gold) and all(
            any(self._equal(a, b) for a in gold) for b in answer
        )

    def _gold_items(self, reference: Any) -> list[str] | None:
        gold = reference.get("answer") if isinstance(reference, dict) else reference
        if isinstance(gold, list):
            return [str(item) for item in gold] if gold and all(map(_is_leaf, gold)) else None
        return self._items(gold) if isinstance(gold, str) else None

    def _items(self, written: str) -> list[str]:
        """Items of a JSON array, or the parts between the separators, one pair of brackets aside; none blank."""
        try:
            value = json_value.parsed(written)
        except json_value.Unreadable:
            value = None
        if isinstance(value, list) and all(map(_is_leaf, value)):
            return [str(item) for item in value]
        inner = written.strip().replace("\\{", "{").replace("\\}", "}")
        if len(inner) > 1 and _BRACKETS.get(inner[0]) == inner[-1]:
            inner = inner[1:-1]
        return [item.strip() for item in inner.split(self.separator) if item.strip()]

    def _judge_json(self, answered: Sequence[Answered]) -> list[Verdict]:
        verdicts = [self._compare_json(trace.reference, answer) for trace, answer in answered]
        rows = [
            row
            for row, (trace, _) in enumerate(answered)
            if verdicts[row].reason == "correct" and self._schema(trace.reference) is not None
        ]
        items = [
            [self._schema(answered[row][0].reference), json_value.parsed(answered[row][1])] for row in rows
        ]
        for row, fate in zip(rows, self._validate(items), strict=True):
            if fate:
                verdicts[row] = _misfit(fate, answered[row][1])
        return verdicts

    def _compare_json(self, reference: Any, answer: str) -> Verdict:
        """The verdict before the schema has its say."""
        if self._reject_json(reference) is not None:
            return Verdict.of("unparseable_gold", answer)
        try:
            value = json_value.parsed(answer)
        except json_value.Unreadable as error:
            return Verdict.of("wrong", answer[: json_value.MAX_CHARS], problem=str(error))
        gold = _json_gold(reference)
        right = gold is _NOTHING or json_value.equal(gold, value, self._equal)
        return Verdict.of("correct" if right else "wrong", answer)

    def _schema(self, reference: Any) -> Any:
        own = reference.get("schema") if isinstance(reference, dict) else None
        return self.json_schema if own is None else own

    def _reject_json(self, reference: Any) -> str | None:
        gold, schema = _json_gold(reference), self._schema(reference)
        if gold is _NOTHING and schema is None:
            return "no answer in it: it must be JSON, or an object with `answer` or `schema`"
        return None if schema is None or isinstance(schema, dict | bool) else "its schema is no object"

    def _validate(self, items: Sequence[Any]) -> list[Any]:
        if not items:
            return []
        return shared(json_value.validator, workers=self.workers, cpu_s=self.cpu_s, forks=True).map(items)


_NOTHING = object()


def _json_gold(reference: Any) -> Any:
    """The JSON value that a reference asks for; _NOTHING where it asks for none."""
    if isinstance(reference, dict) and ("answer" in reference or "schema" in reference):
        reference = reference.get("answer", _NOTHING)
    if not isinstance(reference, str):
        return _NOTHING if reference is None else reference
    try:
        return json_value.parsed(reference)
    except json_value.Unreadable:
        return reference  # a gold that is a plain text means the JSON string


def _misfit(fate: Any, answer: str) -> Verdict:
    if isinstance(fate, Failure):
        return Verdict.of(CAUSES[fate.cause], answer)
    if fate.startswith("schema: "):
        return Verdict.of("unparseable_gold", answer, problem=fate)
    return Verdict.of("wrong", answer, problem=fate)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _number(written: str) -> Decimal | None:
    """A plain decimal number, thousands separated by commas or not; None for anything else.

    Decimal, because in binary 0.31 - 0.30 exceeds 0.01.
    """
    if len(written) > 400 or not _NUMBER.fullmatch(written):
        return None
    try:
        return Decimal(written.replace(",", ""))
    except DecimalException:
        return None
