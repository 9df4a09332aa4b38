"""Multiple choice: letters and texts in the option set, hedging, and golds that do not fit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.trace import Trace
from distillkit.verifiers import Choice

CITIES = {"A": "Paris", "B": "Rome", "C": "New York", "D": "A small town"}
NUMBERS = {"A": "12", "B": "13", "C": "42", "D": r"$\frac{1}{2}$"}


def verdict(reference: Any, response: str, **fields: Any) -> str:
    trace = Trace("p", [], response, "", response, reference=reference, finish_reason="stop")
    return Choice(**fields).grade(trace).reason


@pytest.mark.parametrize(
    "answer",
    "C|c|(C)|C.|C)|[C]|\\text{C}|\\textbf{(C)}|\\mathrm{C}|C) 42|(C) 42|C: 42|C. 42|\\textbf{(C) } 42|\\text{(C)}\\ 42|42|$42$"
    "|\\text{42}|42.|Option C|option (C)|The correct answer is C|answer: C|C - 42|C) about 42|**C**".split(
        "|"
    ),
)
def test_the_letter_or_the_text_or_both(answer: str) -> None:
    assert verdict({"answer": "C", "options": NUMBERS}, rf"so \boxed{{{answer}}}.") == "correct"
    assert verdict({"answer": "42", "options": NUMBERS}, rf"so \boxed{{{answer}}}.") == "correct"
    assert verdict({"answer": "B", "options": NUMBERS}, rf"so \boxed{{{answer}}}.") == "wrong"


@pytest.mark.parametrize(
    "answer", ["A or B", "A, B", "A and C", "(A) (B)", "either A or B", r"\text{A or B}", "C) 13"]
)
def test_two_options_named_are_ambiguous(answer: str) -> None:
    for gold in NUMBERS:
        assert verdict({"answer": gold, "options": NUMBERS}, rf"\boxed{{{answer}}}") == "ambiguous"


@pytest.mark.parametrize("answer", ["E", "43", "none of these", "420", "4 2", "Z) 42 and more"])
def test_what_is_outside_of_the_set_is_wrong(answer: str) -> None:
    assert verdict({"answer": "C", "options": NUMBERS}, f"<answer>{answer}</answer>") == "wrong"


def test_an_article_is_no_option() -> None:
    assert verdict({"answer": "D", "options": CITIES}, r"\boxed{A small town}") == "correct"
    assert verdict({"answer": "A", "options": CITIES}, r"\boxed{A small town}") == "wrong"
    assert verdict({"answer": "A", "options": CITIES}, r"\boxed{A large village}") == "wrong"


def test_letters_of_an_anagram_are_no_product() -> None:
    assert verdict({"answer": "B", "options": {"A": "ABCD", "B": "BADC"}}, r"\boxed{BADC}") == "correct"
    assert verdict({"answer": "B", "options": {"A": "ABCD", "B": "BADC"}}, r"\boxed{ABCD}") == "wrong"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("Long thoughts.\nThe answer is (C).", "correct"),
        ("A is wrong, B is wrong.\n**Answer: C) 42**", "correct"),
        ("C", "correct"),
        ("First the answer is A. No, the answer is C", "correct"),
        ("It could be A.\nOr B.\nWho knows.", "no_answer"),
        ("I think it is A or C.", "ambiguous"),
    ],
)
def test_where_the_answer_stands_without_a_box(response: str, reason: str) -> None:
    assert verdict({"answer": "C", "options": NUMBERS}, response) == reason


def test_a_declared_marker_is_the_only_place() -> None:
    assert verdict("B", "answer is C\nFinal: B", marker="Final:") == "correct"
    assert verdict("B", "answer is B", marker="Final:") == "no_answer"


def test_references() -> None:
    listed = {"answer": "Rome", "options": ["Paris", "Rome"]}
    assert verdict(listed, r"\boxed{B}") == "correct"
    assert verdict({"answer": "b", "options": ["A) Paris", "B) Rome"]}, r"\boxed{Rome}") == "correct"
    assert verdict("(B)", r"\boxed{B}") == "correct"
    bad = ["AC", "the second", {"answer": "E", "options": CITIES}, {"options": CITIES}, None, True]
    bad += [
        {"answer": "A", "options": ["one"]},
        {"answer": "A", "options": "AB"},
        {"answer": "A", "options": {"1": "x", "2": "y"}},
    ]
    bad += [{"answer": "7", "options": ["7", "7"]}, "K"]
    complaints = Choice().check_references([*bad, "B", listed])
    assert all(complaints[:-2]) and complaints[-2:] == [None, None]
    assert [verdict(reference, r"\boxed{A}") for reference in bad] == ["unparseable_gold"] * len(bad)
    assert Choice(letters=11).check_reference("K") is None


def test_same() -> None:
    assert Choice().same("(B)", "B) 13") and Choice().same("Rome", r"\text{rome}")
    assert not Choice().same("A", "B") and not Choice().same("A or B", "B")


@given(st.text(max_size=80), st.sampled_from("ABCD"))
def test_any_text_gets_a_verdict(answer: str, gold: str) -> None:
    reason = verdict({"answer": gold, "options": NUMBERS}, f"<answer>{answer}</answer>")
    assert reason in ("correct", "wrong", "ambiguous", "no_answer")


@given(st.permutations(["alpha", "beta", "gamma", "delta"]), st.integers(0, 3))
def test_the_letter_and_the_text_agree(options: list[str], right: int) -> None:
    reference = {"answer": "ABCD"[right], "options": options}
    for index, option in enumerate(options):
        expected = "correct" if index == right else "wrong"
        assert verdict(reference, rf"\boxed{{{option}}}") == expected
        assert verdict(reference, rf"\boxed{{{'ABCD'[index]}) {option}}}") == expected
