"""A user's own grader: what it gets, what it may return, and what its failures cost."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distillkit.errors import MissingError, RecipeError
from distillkit.spec import digest, identity
from distillkit.trace import BLAMELESS, REASONS, Trace, Verdict
from distillkit.verifiers import Python
from distillkit.verifiers.grader import scored

CODE = '''
import sys
import time

def grade(row):
    """Obeys the answer."""
    return {
        "right": True,
        "wrong": False,
        "half": 0.5,
        "skip": None,
        "told": {"score": 0.0, "reason": "ambiguous"},
        "untold": {"score": 1},
        "odd": "yes",
        "high": 1.5,
    }.get(row["answer"]) if row["answer"] not in ("raise", "loop", "exit") else act(row["answer"])

def act(what):
    if what == "raise":
        raise ZeroDivisionError("by me")
    if what == "exit":
        sys.exit(3)
    while True:
        pass

def see(row):
    print("talk")
    assert row["reference"] == {"tests": ["a"]}
    assert row["prompt"] == "ask"
    assert row["completion"] == "<think>x</think>free text"
    assert row["extra"] == {"level": 3}
    assert "telemetry" not in row
    return row["answer"] == "free text"
'''


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[Callable[..., Python]]:
    file = tmp_path / "my_verifier.py"
    file.write_text(CODE)
    made: list[Python] = []

    def make(**fields: object) -> Python:
        made.append(Python.model_validate({"file": str(file), "cpu_s": 0.5, "workers": 1} | fields))
        return made[-1]

    yield make
    for each in made:
        each.close()


def trace(answer: str, finish_reason: str = "stop") -> Trace:
    response = rf"\boxed{{{answer}}}"
    return Trace("p", [], response, "", response, finish_reason=finish_reason)


def test_what_it_returns_becomes_the_verdict(
    verifier: Callable[..., Python], caplog: pytest.LogCaptureFixture
) -> None:
    expected = {
        "right": Verdict(1.0, "correct", "right"),
        "wrong": Verdict(0.0, "wrong", "wrong"),
        "half": Verdict(0.5, "partial", "half"),
        "raise": Verdict(None, "grader_crashed", "raise"),
        "skip": Verdict(None, "judge_unavailable", "skip"),
        "loop": Verdict(None, "grader_timeout", "loop"),
        "told": Verdict(0.0, "ambiguous", "told"),
        "exit": Verdict(None, "grader_crashed", "exit"),
        "untold": Verdict(1.0, "correct", "untold"),
        "odd": Verdict(None, "grader_crashed", "odd"),
        "high": Verdict(None, "grader_crashed", "high"),
    }
    with caplog.at_level(logging.WARNING):
        found = verifier().grade_all([trace(answer) for answer in expected])
    assert found == list(expected.values())
    assert "failed on 5 of 11 rows: ZeroDivisionError: by me (my_verifier.py:" in caplog.text


def test_it_sees_the_trace_but_not_its_telemetry(verifier: Callable[..., Python]) -> None:
    seen = Trace(
        "p",
        [{"role": "user", "content": "ask"}],
        "<think>x</think>free text",
        "x",
        "free text",
        reference={"tests": ["a"]},
        finish_reason="stop",
        extra={"level": 3},
        telemetry={"latency_s": 2.5},
    )
    assert verifier(function="see").grade(seen) == Verdict(1.0, "correct", "free text")


def test_the_common_rules_hold_without_a_call(verifier: Callable[..., Python]) -> None:
    truncated, silent = verifier().grade_all([trace("raise", "length"), Trace("p", [], "", "", " ")])
    assert truncated.reason == "truncated"
    assert silent.reason == "no_answer"


def test_probe_says_what_is_wrong(verifier: Callable[..., Python], tmp_path: Path) -> None:
    assert verifier().probe(trace("half")) == Verdict(0.5, "partial", "half")
    with pytest.raises(
        RecipeError,
        match=r"my_verifier\.py: grade\(\) failed on problem p: TypeError: returned str; return a number",
    ):
        verifier().probe(trace("odd"))
    with pytest.raises(RecipeError, match=r"must lie in \[0, 1\]"):
        verifier().probe(trace("high"))
    with pytest.raises(RecipeError, match=r"my_verifier\.py: no function 'gade' in it"):
        verifier(function="gade").probe(trace("half"))
    with pytest.raises(MissingError, match=r"nowhere\.py: cannot be read"):
        verifier(file=str(tmp_path / "nowhere.py")).probe(trace("half"))
    broken = tmp_path / "broken.py"
    broken.write_text("def grade(row:\n")
    with pytest.raises(RecipeError, match=r"broken\.py.*SyntaxError|SyntaxError.*broken\.py"):
        verifier(file=str(broken)).probe(trace("half"))


def test_check_looks_at_the_file_without_running_it(verifier: Callable[..., Python], tmp_path: Path) -> None:
    assert verifier().check() == []
    with pytest.raises(MissingError, match=r"nowhere\.py: no such file \(looked for in "):
        verifier(file=str(tmp_path / "nowhere.py")).check()
    with pytest.raises(RecipeError, match=r"my_verifier\.py: defines no function 'gade'"):
        verifier(function="gade").check()
    file, mark = tmp_path / "other.py", tmp_path / "mark"
    file.write_text(f"open({str(mark)!r}, 'w')\nfrom operator import truth as grade\n")
    assert verifier(file=str(file)).check() == []
    assert not mark.exists()
    file.write_text("def grade(row:\n")
    with pytest.raises(RecipeError, match=r"other\.py: not Python"):
        verifier(file=str(file)).check()


def test_an_edited_file_is_another_verifier(verifier: Callable[..., Python]) -> None:
    first = verifier()
    before, _ = digest(identity(first)), first.grade(trace("half"))
    Path(first.file).write_text(CODE.replace('"half": 0.5', '"half": 0.25'))
    assert digest(identity(first)) != before
    assert first.grade(trace("half")).score == 0.25


def test_it_is_foreign_code_and_does_not_vote(verifier: Callable[..., Python]) -> None:
    [phrase] = verifier().foreign()
    assert phrase.startswith("runs grade() of ") and phrase.endswith("my_verifier.py")
    assert not Python.votes


@pytest.mark.parametrize(
    "returned",
    [
        "1",
        [1],
        1.01,
        -0.01,
        float("nan"),
        1j,
        {},
        {"reason": "wrong"},
        {"score": 1, "why": "x"},
        {"score": 1, "reason": "wrong"},
        {"score": 0.5, "reason": "correct"},
        {"score": None, "reason": "correct"},
        {"score": 1, "reason": "fine"},
        {"score": None, "reason": "failed"},
    ],
)
def test_what_is_no_score_is_refused(returned: object) -> None:
    with pytest.raises((TypeError, ValueError), match="returned"):
        scored(returned)


@pytest.mark.parametrize("reason", sorted(REASONS.keys() - BLAMELESS))
def test_every_reason_that_is_a_graders_can_be_given(reason: str) -> None:
    score = 0.5 if reason == "partial" else REASONS[reason]
    assert scored({"score": score, "reason": reason}) == (score, reason)
    assert json.dumps(scored(score))
