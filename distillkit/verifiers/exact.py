"""Equality of normalised text, or of numbers within a declared tolerance: fast and free of surprises."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException
from typing import Annotated, Any, Literal

from pydantic import Field

from distillkit import text
from distillkit.trace import Verdict
from distillkit.verifiers.base import NO_ANSWER_IN_IT, Answered, Verifier, gold_answer

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d{1,4})?", re.ASCII)
_CONTEXT = Context(prec=60)


class Exact(Verifier):
    """Correct when the answer is the gold, white space and full-width forms aside."""

    kind: Literal["exact"] = "exact"
    ignore_case: bool = False
    """Whether Paris and paris are one answer."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Largest difference of two equal numbers (with 0, 7 and 7.0 are equal); left out: compare as text."""
    relative: bool = False
    """Whether the tolerance is a share of the gold's size: 0.01 is one percent."""

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        return [self._verdict(gold_answer(trace.reference), answer) for trace, answer in answered]

    def _verdict(self, gold: str | None, answer: str) -> Verdict:
        if gold is None or not self._fold(gold):
            return Verdict.of("unparseable_gold", answer)
        return Verdict.of("correct" if self._equal(gold, answer) else "wrong", answer)

    def same(self, a: str, b: str) -> bool:
        return self._equal(a, b) or self._equal(b, a)

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        return [self._reject(gold_answer(reference)) for reference in references]

    def _reject(self, gold: str | None) -> str | None:
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
