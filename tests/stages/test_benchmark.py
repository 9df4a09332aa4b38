"""Built-in benchmarks as problems: every layout is asked as its file says, and its own solution is judged right."""

import base64
import json
import os
import pickle
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillkit import benchmarks
from distillkit.stages.benchmark import Reading, lettered, unpacked
from distillkit.trace import Problem, Trace
from distillkit.verifiers.base import trial

DATA = os.environ.get("DISTILLKIT_DATA")


def asked(name: str, row: dict[str, Any], instructed: bool = True) -> Problem:
    found = Reading(name, benchmarks.named(name), instructed).problem(row)
    assert isinstance(found, Problem)
    return found


def answered(problem: Problem, response: str) -> Trace:
    return replace(trial(problem), response=response, completion=response, reasoning="")


def packed(tests: list[dict[str, Any]]) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def needs_sandbox() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")


def test_a_math_benchmark_asks_for_a_box() -> None:
    row = {"problem": "What is 2 + 2?", "answer": "4"}
    problem = asked("math500", row)
    assert problem.prompt == (
        "What is 2 + 2?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert asked("math500", row, instructed=False).prompt == "What is 2 + 2?"
    assert (problem.reference, problem.domain, problem.split) == ("4", "math", "heldout")
    with benchmarks.named("math500").verifier as judge:
        assert judge.grade(trial(problem)).reason == "correct"


def test_golds_are_read_out_of_their_layouts() -> None:
    assert asked("gsm8k", {"question": "q", "answer": "so 1,000\n#### 1,000"}).reference == "1,000"
    assert (
        asked("olympiadbench", {"question": "q", "final_answer": ["$\\frac{1}{2}$"]}).reference
        == "$\\frac{1}{2}$"
    )
    assert asked("aime25", {"problem": "q", "answer": 70.0}).reference == "70"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "q", "answer": None}, "no_reference"),
        ({"problem": "q", "answer": ""}, "no_reference"),
        ({"problem": "  ", "answer": "1"}, "no_prompt"),
        ({"problem": "q", "answer": float("nan")}, "no_reference"),
        ({"problem": "\ud800", "answer": "1"}, "unreadable"),
    ],
)
def test_a_row_that_cannot_be_scored_has_its_reason(row: dict[str, Any], reason: str) -> None:
    assert Reading("aime24", benchmarks.named("aime24")).problem(row) == reason


QUESTION = {
    "Question": "Which is a noble gas? {choices}",
    "Correct Answer": " Neon\n",
    "Incorrect Answer 1": "Iron",
    "Incorrect Answer 2": "Gold",
    "Incorrect Answer 3": "Lead",
}


def test_choices_are_shuffled_by_their_seed() -> None:
    problem = asked("gpqa_diamond", QUESTION)
    options = problem.reference["options"]
    assert sorted(options.values()) == ["Gold", "Iron", "Lead", "Neon"]
    assert options[problem.reference["answer"]] == "Neon"
    assert problem.prompt.startswith(
        "Which is a noble gas? {choices}\n\nA) "
    )  # what is filled in stays as it is
    assert asked("gpqa_diamond", QUESTION) == problem
    assert len({lettered("a", ["b", "c", "d"], seed, "?")["answer"] for seed in range(40)}) == 4
    judge = benchmarks.named("gpqa_diamond").verifier
    right = problem.reference["answer"]
    assert judge.grade(answered(problem, f"So \\boxed{{{right}}}")).reason == "correct"
    wrong = next(letter for letter in options if letter != right)
    assert judge.grade(answered(problem, f"So \\boxed{{{wrong}}}")).reason == "wrong"


def test_livecodebench_is_unpacked_without_running_a_pickle() -> None:
    case = {"input": "2 3", "output": "5", "testtype": "stdin"}
    row = {
        "question_content": "Add two numbers.",
        "public_test_cases": json.dumps([case]),
        "private_test_cases": packed([{"input": "4 4", "output": "8", "testtype": "stdin"}]),
        "metadata": "{}",
        "starter_code": "",
    }
    problem = asked("livecodebench", row)
    assert [test["output"] for test in problem.reference["test_cases"]] == ["5", "8"]
    needs_sandbox()
    program = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
    with benchmarks.named("livecodebench").verifier as judge:
        verdict = judge.grade(answered(problem, program))
        assert (verdict.reason, verdict.detail["tests"]) == ("correct", 2)
        assert judge.grade(answered(problem, program.replace("+", "-"))).reason == "wrong"


class Evil:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/distillkit-was-unpickled"),)


@pytest.mark.parametrize(
    "private",
    ["!", "AAAA", packed([])[:-9], base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode(), '["'],
)
def test_broken_and_hostile_tests_are_no_gold(private: str) -> None:
    marker = Path("/tmp/distillkit-was-unpickled")
    assert unpacked({"public": "[]", "private": private, "metadata": "{}"}) is None
    assert not marker.exists()


def test_functions_are_named_for_the_verifier() -> None:
    tests = json.dumps([{"input": "[1, 2]", "output": "3", "testtype": "functional"}])
    found = unpacked({"public": tests, "private": None, "metadata": json.dumps({"func_name": "total"})})
    assert found is not None and found["fn_name"] == "total"


def test_a_task_of_mbpp_shows_its_asserts() -> None:
    row = {
        "text": "Double it.",
        "test_list": ["assert twice(2) == 4", "assert twice(0) == 0"],
        "test_setup_code": "",
    }
    problem = asked("mbpp", row)
    assert "assert twice(2) == 4\nassert twice(0) == 0" in problem.prompt
    needs_sandbox()
    with benchmarks.named("mbpp").verifier as judge:
        assert (
            judge.grade(answered(problem, "```python\ndef twice(x): return 2 * x\n```")).reason == "correct"
        )


@pytest.mark.skipif(DATA is None, reason="DISTILLKIT_DATA names no folder of real data")
def test_real_solutions_of_humaneval_pass() -> None:
    needs_sandbox()
    lines = (Path(DATA or "") / "code" / "HumanEval.jsonl").read_text("utf-8").splitlines()[:8]
    rows = [json.loads(line) for line in lines]
    with benchmarks.named("humaneval").verifier as judge:
        for row in rows:
            solution = f"```python\n{row['prompt']}{row['canonical_solution']}\n```"
            assert judge.grade(answered(asked("humaneval", row), solution)).reason == "correct"
