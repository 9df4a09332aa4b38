"""Exact equality of text and numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distillkit.trace import Trace
from distillkit.verifiers import Exact


def verdict(verifier: Exact, gold: object, answer: str) -> str:
    response = f"<answer>{answer}</answer>"
    return verifier.grade(Trace("p", [], response, "", response, reference=gold, finish_reason="stop")).reason


@pytest.mark.parametrize(
    ("verifier", "gold", "answer", "reason"),
    [
        (Exact(), "New  York", " New\nYork ", "correct"),
        (Exact(), "42", "４２", "correct"),  # full-width digits
        (Exact(), "Paris", "paris", "wrong"),
        (Exact(ignore_case=True), "Paris", "PARIS", "correct"),
        (Exact(ignore_case=True), "Straße", "STRASSE", "correct"),
        (Exact(), "x²", "x2", "wrong"),
        (Exact(), "7", "7.0", "wrong"),
        (Exact(tolerance=0), "7", "7.0", "correct"),
        (Exact(tolerance=0), 1200, "1,200", "correct"),
        (Exact(tolerance=0), "1200", "1,2,00", "wrong"),
        (Exact(tolerance=0), "3e8", "300000000", "correct"),
        (Exact(tolerance=0), "7", "7 apples", "wrong"),
        (Exact(tolerance=0), "seven", "seven", "correct"),
        (
            Exact(tolerance=0.01),
            "0.30",
            "0.31",
            "correct",
        ),  # the bound belongs to it; 0.31 - 0.30 > 0.01 in binary
        (Exact(tolerance=0.01), "0.30", "0.3101", "wrong"),
        (Exact(tolerance=0.01, relative=True), "-200", "-202", "correct"),
        (Exact(tolerance=0.01, relative=True), "-200", "-202.1", "wrong"),
        (Exact(tolerance=0.01, relative=True), "0", "0.001", "wrong"),
        (Exact(tolerance=1), "5", "nan", "wrong"),
        (Exact(tolerance=1), "5", "1e999999999", "wrong"),
        (Exact(tolerance=1), "9" * 399 + "8", "9" * 400, "correct"),
        (Exact(tolerance=0), "9" * 399 + "8", "9" * 400, "wrong"),
        (Exact(tolerance=1), "5", "9" * 1_000_000, "wrong"),
        (Exact(), "\u200b", "7", "unparseable_gold"),
    ],
)
def test_verdicts(verifier: Exact, gold: object, answer: str, reason: str) -> None:
    assert verdict(verifier, gold, answer) == reason


@given(st.text(), st.text())
def test_same_is_symmetric_and_reflexive(a: str, b: str) -> None:
    for verifier in (Exact(), Exact(ignore_case=True, tolerance=0.1, relative=True)):
        assert verifier.same(a, a)
        assert verifier.same(a, b) == verifier.same(b, a)


@given(st.decimals(-1000, 1000, places=3), st.decimals(-1000, 1000, places=3))
def test_tolerance_is_the_difference_of_the_decimals(x: Decimal, y: Decimal) -> None:
    assert Exact(tolerance=0.5).same(str(x), str(y)) == (abs(x - y) <= Decimal("0.5"))


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_a_senseless_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValidationError):
        Exact(tolerance=tolerance)
