"""Rules that hold for every verifier."""

import pytest

from distillkit.trace import BLAMELESS, REASONS, Problem, Trace, Verdict
from distillkit.verifiers import AnyOf, Exact, Judge, Math, RewardModel, Verifier
from distillkit.verifiers.base import gold_answer, learned_by, trial

VERIFIERS = [Exact(), Exact(marker="A:"), Math(), Math(marker="A:")]


def trace(response: str, reference: object = "7", finish_reason: str = "stop") -> Trace:
    return Trace("p", [], response, "", response, reference=reference, finish_reason=finish_reason)


def stated(answer: str, verifier: Verifier) -> str:
    """A response that states the answer the way the verifier expects it."""
    return f"so\n{verifier.marker} {answer}\n" if verifier.marker else f"so \\boxed{{{answer}}}."


@pytest.mark.parametrize("verifier", VERIFIERS, ids=repr)
def test_each_reason_has_its_score(verifier: Verifier) -> None:
    right, wrong = stated("7", verifier), stated("8", verifier)
    rows = [
        trace(right),
        trace(wrong),
        trace(right, finish_reason="length"),
        trace("it is 7"),
        trace(""),
        trace(right, reference={"tests": []}),
        trace(right, reference={"answer": 7}),
        trace(right, finish_reason="unknown"),
        trace("", finish_reason="error"),
    ]
    assert verifier.grade_all(rows) == [
        Verdict(1.0, "correct", "7"),
        Verdict(0.0, "wrong", "8"),
        Verdict(0.0, "truncated", None),
        Verdict(0.0, "no_answer", None),
        Verdict(0.0, "no_answer", None),
        Verdict(None, "unparseable_gold", "7"),
        Verdict(1.0, "correct", "7"),
        Verdict(1.0, "correct", "7"),
        Verdict(None, "failed", None),
    ]
    assert [verifier.grade(row) for row in rows] == verifier.grade_all(rows)


@pytest.mark.parametrize("verifier", VERIFIERS, ids=repr)
def test_only_the_response_is_read(verifier: Verifier) -> None:
    """An answer that was right for a moment in the reasoning is none."""
    right, wrong = stated("7", verifier), stated("8", verifier)
    changed = Trace("p", [], right + wrong, right, wrong, reference="7", finish_reason="stop")
    assert verifier.grade(changed).reason == "wrong"
    silent = Trace("p", [], right, right, "", reference="7", finish_reason="stop")
    assert verifier.grade(silent).reason == "no_answer"


@pytest.mark.parametrize("verifier", VERIFIERS, ids=repr)
def test_references_are_refused_with_a_reason(verifier: Verifier) -> None:
    for reference in ("7", 7, 7.5, {"answer": "7"}):
        assert verifier.check_reference(reference) is None
    for reference in (None, True, [], {"tests": []}, "", " \n"):
        assert "no answer in it" in str(verifier.check_reference(reference))
    assert verifier.check_references([]) == []


def test_gold_answer() -> None:
    assert gold_answer({"answer": {"answer": " 5 "}}) == "5"
    assert gold_answer(False) is None


def test_the_blameless_reasons_have_no_score() -> None:
    assert {REASONS[reason] for reason in BLAMELESS} == {None}


def test_a_trial_states_the_gold_of_its_problem() -> None:
    problem = Problem(
        [{"role": "user", "content": "3 + 4?"}], reference={"answer": 7}, domain="sums", extra={"a": 1}
    )
    tried = trial(problem)
    assert Exact().grade(tried).reason == "correct"
    assert (tried.problem_id, tried.domain, tried.prompt, tried.extra) == (
        problem.id,
        "sums",
        "3 + 4?",
        {"a": 1},
    )
    assert trial(Problem([], reference={"tests": []})).finish_reason == "stop"


def test_what_a_model_judges_is_said() -> None:
    judge = Judge.model_validate(
        {"engine": {"kind": "endpoint", "base_urls": ["http://127.0.0.1:9/v1"], "served_model": "m"}}
    )
    verifiers = {"math": Exact(), "essay": judge, "both": AnyOf(of=[Exact(), judge])}
    assert learned_by(verifiers, ["math", "unknown"]) == {}
    assert learned_by(verifiers, verifiers) == {
        "learned": True,
        "judges": {"both": "any_of", "essay": "judge"},
    }
    assert RewardModel(model="org/name").learned
