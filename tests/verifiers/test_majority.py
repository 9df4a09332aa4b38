"""Majority labels: who votes, what wins, and that nothing is made up where nobody leads."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from distillkit.spec import identity
from distillkit.trace import Trace
from distillkit.verifiers import AnyVerifier, Exact, Majority, Math


def trace(problem: str, answer: str, index: int = 0, **fields: Any) -> Trace:
    response = rf"\boxed{{{answer}}}" if answer else "?"
    fields = {"finish_reason": "stop", "origin": "o"} | fields
    return Trace(problem, [], response, "", response, index=index, **fields)


def reasons(answers: list[str], **fields: Any) -> list[str]:
    found = Majority(of=Exact(), **fields).grade_all(
        [trace("p", answer, n) for n, answer in enumerate(answers)]
    )
    return [each.reason for each in found]


def test_the_answer_of_most_traces_is_taken_for_right() -> None:
    assert reasons(["7", "8", "7", "", "7"]) == ["correct", "wrong", "correct", "no_answer", "correct"]
    [right, wrong] = Majority(of=Exact()).grade_all([trace("p", a, n) for n, a in enumerate("77778")])[3:]
    assert (right.score, right.detail) == (1.0, {"majority": True, "gold": "7", "votes": 4, "of": 5})
    assert (wrong.score, wrong.answer, wrong.detail["gold"]) == (0.0, "8", "7")


@pytest.mark.parametrize(
    ("answers", "fields"),
    [
        (["7"], {}),
        (["7", "8"], {}),
        (["7", "7", "8", "8"], {}),
        (["7", "7", "8", "9"], {}),  # half is no majority
        (["7", "7", "8"], {"min_votes": 3}),
        (["7", "7", "7", "8"], {"min_share": 0.75}),
        (["7", "7", "8", "8", "9"], {"min_share": 0.3}),  # a tie among the first
    ],
)
def test_without_a_lead_there_is_no_label(answers: list[str], fields: dict[str, Any]) -> None:
    assert set(reasons(answers, **fields)) == {"no_majority"}
    verdict = Majority(of=Exact(), **fields).grade(trace("p", "7"))
    assert verdict.score is None and verdict.detail["majority"] and verdict.detail["gold"] is None


def test_a_plurality_may_do() -> None:
    assert reasons(["7", "7", "8", "9"], min_share=0.4) == ["correct", "correct", "wrong", "wrong"]
    assert reasons(["", ""]) == ["no_answer", "no_answer"]


def test_truncated_and_failed_traces_do_not_vote() -> None:
    rows = [
        trace("p", "7"),
        trace("p", "7", 1),
        *(trace("p", "8", n, finish_reason="length") for n in range(2, 6)),
        trace("p", "", 6, finish_reason="error"),
    ]
    found = [each.reason for each in Majority(of=Exact()).grade_all(rows)]
    assert found == ["correct", "correct", *["truncated"] * 4, "failed"]


def test_problems_do_not_mix_and_one_with_a_gold_is_judged_by_it() -> None:
    rows = [
        trace("p", "7"), trace("q", "8"), trace("p", "7", 1), trace("q", "8", 1), trace("q", "7", 2),
        *(trace("g", "9", n, reference="5") for n in range(3)), trace("g", "5", 4, reference="5"),
    ]  # fmt: skip
    found = Majority(of=Exact()).grade_all(rows)
    assert [each.score for each in found] == [1, 1, 1, 1, 0, 0, 0, 0, 1]
    assert all("majority" not in each.detail for each in found[5:])


def test_answers_are_clustered_by_the_verifier_it_is_made_of() -> None:
    with Majority(of=Math(workers=1)) as verifier:
        rows = [trace("p", a, n) for n, a in enumerate([r"\frac{1}{2}", "0.5", "2", r"\frac{2}{4}"])]
        assert [each.score for each in verifier.grade_all(rows)] == [1.0, 1.0, 0.0, 1.0]


def test_references_may_be_missing_but_not_bad() -> None:
    verifier = Majority(of=Exact())
    bad = verifier.check_references([None, "7", {"tests": []}, None])
    assert [each is None for each in bad] == [True, True, False, True]
    assert verifier.votes and not verifier.alone and not verifier.learned
    assert identity(verifier) != identity(Majority(of=Exact(ignore_case=True)))


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ({"kind": "format"}, "cannot tell whether two answers are the same"),
        ({"kind": "majority", "of": {"kind": "exact"}}, "a majority of majorities"),
    ],
)
def test_what_makes_no_sense_is_refused(of: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyVerifier).validate_python({"kind": "majority", "of": of})
