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


def graded(verifier: Exact, reference: object, response: str) -> str:
    trace = Trace("p", [], response, "", response, reference=reference, finish_reason="stop")
    return verifier.grade(trace).reason


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "reason"),
    [
        ("list", ["a", "b"], "a, b", "correct"),
        ("list", ["a", "b"], "[a,b]", "correct"),
        ("list", ["a", "b"], '["a", "b"]', "correct"),
        ("list", "a, b", "(a, b)", "correct"),
        ("list", ["a", "b"], "b, a", "wrong"),
        ("list", ["a", "b"], "a", "wrong"),
        ("list", ["a", "b"], "a, b, c", "wrong"),
        ("list", [1, 2.5], "1.0, 2.50", "correct"),
        ("set", ["a", "b"], "b, a", "correct"),
        ("set", ["a", "b"], r"\{b, a, b\}", "correct"),
        ("set", ["a", "b"], "a, a", "wrong"),
        ("set", ["a", "b"], "a, b, c", "wrong"),
        ("set", [1, 2], "2,1", "correct"),
        ("set", ["a"], ",".join(["a"] * 5000), "wrong"),
        ("set", [], "a", "unparseable_gold"),
        ("list", [["a"]], "a", "unparseable_gold"),
        ("list", 7, "7", "unparseable_gold"),
    ],
)
def test_lists_and_sets(kind: str, gold: object, answer: str, reason: str) -> None:
    verifier = Exact.model_validate({"as": kind, "tolerance": 0})
    for reference in (gold, {"answer": gold}):
        assert graded(verifier, reference, f"<answer>{answer}</answer>") == reason
    assert (verifier.check_reference(gold) is None) == (reason != "unparseable_gold")


def test_another_separator() -> None:
    verifier = Exact.model_validate({"as": "list", "separator": ";"})
    assert graded(verifier, ["1,5", "2"], "<answer>1,5; 2</answer>") == "correct"


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"name": "Ada", "age": 36}', "correct"),
        ('```json\n{"age": 36, "name": "Ada"}\n```', "correct"),
        ('{"name": "Ada", "age": 36.0}', "correct"),
        ('{"name": "Ada", "age": "36"}', "wrong"),
        ('{"name": "Ada"}', "wrong"),
        ('{"name": "Ada", "age": NaN}', "wrong"),
        ('{"name": "Ada", "age": 36', "wrong"),
        ("[" * 100_000, "wrong"),
        ("[" * 100 + "]" * 100, "wrong"),
        ('{"age": ' + "9" * 5000 + "}", "wrong"),
        ('"' + "x" * 300_000 + '"', "wrong"),
    ],
)
def test_json_by_value(answer: str, reason: str) -> None:
    verifier = Exact.model_validate({"as": "json"})
    gold = {"name": "Ada", "age": 36}
    assert graded(verifier, {"answer": gold}, f"<answer>{answer}</answer>") == reason
    assert graded(verifier, '{"name": "Ada", "age": 36}', f"<answer>{answer}</answer>") == reason


def test_json_types_count() -> None:
    verifier = Exact.model_validate({"as": "json", "tolerance": 0.01})
    for gold, answer, reason in (
        (True, "1", "wrong"),
        (1, "true", "wrong"),
        ([1, 2], "[1.005, 2]", "correct"),
        ([1, 2], "[2, 1]", "wrong"),
        ({"a": None}, '{"a": null}', "correct"),
        ({"a": None}, '{"a": 0}', "wrong"),
    ):
        assert graded(verifier, {"answer": gold}, f"<answer>{answer}</answer>") == reason


def test_json_where_no_answer_is_marked() -> None:
    verifier = Exact.model_validate({"as": "json"})
    assert graded(verifier, {"answer": [1]}, "Here it is:\n```json\n[1]\n```\n") == "correct"
    assert graded(verifier, {"answer": [1]}, "[1]") == "correct"
    assert graded(verifier, {"answer": [1]}, "it is [1]") == "no_answer"


def test_a_schema_decides_and_a_bad_one_judges_nobody() -> None:
    verifier = Exact.model_validate({"as": "json", "json_schema": PERSON, "cpu_s": 1.0, "workers": 1})
    with verifier:
        answers = {
            '{"name": "Ada"}': "correct",
            '{"name": "ada"}': "wrong",
            '{"name": "Ada", "age": -1}': "wrong",
            '{"name": "Ada", "extra": 1}': "wrong",
        }
        assert {answer: graded(verifier, {"schema": PERSON}, answer) for answer in answers} == answers
        bad = [
            {"schema": {"type": "nonsense"}},
            {"schema": {"$ref": "http://127.0.0.1:9/remote.json"}},
            {"schema": {"pattern": "("}},
            {"schema": 7},
        ]
        assert [graded(verifier, reference, '"x"') for reference in bad] == ["no_answer"] * 4
        assert [graded(verifier, reference, '<answer>"x"</answer>') for reference in bad] == [
            "unparseable_gold"
        ] * 4
        assert [why is None for why in verifier.check_references([*bad, {"answer": 1}])] == [
            False,
            False,
            False,
            False,
            True,
        ]


def test_a_pattern_that_never_ends_costs_its_row_only() -> None:
    evil = {"schema": {"type": "string", "pattern": "^(a+)+$"}}
    rows = [evil, {"answer": "b"}]
    traces = [
        Trace("p", [], "", "", f'<answer>"{answer}"</answer>', reference=reference, finish_reason="stop")
        for reference, answer in zip(rows, ("a" * 40 + "!", "b"), strict=True)
    ]
    with Exact.model_validate({"as": "json", "cpu_s": 0.5, "workers": 1}) as verifier:
        assert [verdict.reason for verdict in verifier.grade_all(traces)] == ["grader_timeout", "correct"]


def test_a_schema_without_json_is_refused() -> None:
    with pytest.raises(ValidationError, match="as: json"):
        Exact(json_schema=PERSON)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
        max_leaves=8,
    )
)
def test_a_json_value_equals_itself(value: object) -> None:
    import json

    verifier = Exact.model_validate({"as": "json"})
    assert verifier.same(json.dumps(value), json.dumps(value, indent=2))
