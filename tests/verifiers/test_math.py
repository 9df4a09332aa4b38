"""Mathematical equality: golds, misses that are known elsewhere, and answers made to break the grader."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.pool import _shared
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Math
from distillkit.verifiers.math import MAX_CHARS, readable

DATA = os.environ.get("DISTILLKIT_DATA", "")
QUICK = Math(cpu_s=0.4, workers=2)
needs_data = pytest.mark.skipif(not DATA, reason="DISTILLKIT_DATA names no folder with the real samples")


def trace(gold: object, response: str) -> Trace:
    return Trace("p", [], response, "", response, reference=gold, finish_reason="stop")


def verdicts(verifier: Math, pairs: list[tuple[str, str]]) -> list[Verdict]:
    return verifier.grade_all([trace(gold, rf"so \boxed{{{answer}}}.") for gold, answer in pairs])


@pytest.fixture(scope="module")
def math() -> Iterator[Math]:
    with Math(workers=2) as verifier:
        yield verifier


EQUAL = [
    ("7", "7"),
    ("007", "7"),
    ("7", "+7"),
    ("1000", "1,000"),
    ("1000", r"1\,000"),
    ("1000", "1{,}000"),
    ("1000", r"1,\!000"),
    ("1000000", "1 000 000"),
    ("42", "42."),
    ("42", "$42$"),
    ("42", r"\(42\)"),
    ("42", r"\$42"),
    ("5", "５"),
    ("-4", "−4"),
    ("120000", "1.2e5"),
    ("0.00012", "1.2e-4"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    (r"\dfrac{1}{2}", "0.5"),
    (r"\frac12", r"\tfrac{1}{2}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("1,2", "2,1"),
    ("(1,2)", "(1, 2)"),
    ("x=5", "5"),
    ("5", "x=5"),
    (r"30^\circ.", "30"),
    (r"\text{Evelyn}", r"\text{Evelyn}"),
    (r"\dfrac{1}{29,\!322,\!216}", r"\frac{1}{29322216}"),
    (r"the length is \boxed{12}", "12"),
]
DIFFERENT = [
    ("7", "8"),
    ("1234567", "1234568"),
    ("12 and 15", "12"),
    ("(1,2)", "(2,1)"),
    ("x=5", "y=5"),
    (r"2\sqrt{2}", "2"),
    (r"\frac{1}{3}", "0.33"),
    (r"\text{Evelyn}", r"\text{Ada}"),
    ("7", "7, 8"),
]


def test_known_pairs(math: Math) -> None:
    for pairs, reason in ((EQUAL, "correct"), (DIFFERENT, "wrong")):
        found = verdicts(math, pairs)
        assert {pair: v.reason for pair, v in zip(pairs, found, strict=True)} == dict.fromkeys(pairs, reason)


def test_the_last_box_alone_counts(math: Math) -> None:
    assert math.grade(trace("4", r"First \boxed{3}, then \boxed{4}")).reason == "correct"
    assert math.grade(trace("3", r"First \boxed{3}, then \boxed{4}")).reason == "wrong"


def test_an_answer_cannot_open_a_box_of_its_own(math: Math) -> None:
    response = r"<answer>8} \boxed{7</answer>"
    assert math.grade(trace("7", response)) == Verdict(0.0, "wrong", r"8} \boxed{7")


@pytest.mark.parametrize("gold", ["42 (see", r"\frac{1}{", "+", r"\begin{foo}", "9" * (MAX_CHARS + 1)])
def test_a_gold_that_cannot_be_read_judges_nobody(math: Math, gold: str) -> None:
    same, other = verdicts(math, [(gold, "7"), (gold, "8")])
    assert same.reason == other.reason == "unparseable_gold"
    assert same.score is None
    assert "cannot read" in str(math.check_reference(gold))


HOSTILE = [
    r"10^{10^{10}}",
    r"3^{20000000}",
    r"10^7!",
    r"\binom{1000000}{500000}",
    r"\sum_{k=1}^{100000000} \frac{1}{k^2}",
]
BULKY = [
    "1+" * 500_000 + "1",
    "a" * 1_000_000,
    "9" * 1_000_000,
    " " * 1_000_000 + "1 + x",
    r"\frac{1}{" * 300 + "1" + "}" * 300,
]


def test_answers_that_break_the_grader_cost_themselves_only() -> None:
    """Golds that are no integers, so that all goes through the workers; neighbours keep their verdicts."""
    pairs = []
    for answer in HOSTILE + BULKY:
        pairs += [
            (r"\frac{1}{7}", answer),
            (r"\frac{1}{7}", r"\frac{2}{14}"),
            (r"\frac{1}{7}", r"\frac{1}{8}"),
        ]
    found = [verdict.reason for verdict in verdicts(QUICK, pairs)]
    assert found[1::3] == ["correct"] * 10
    assert found[2::3] == ["wrong"] * 10
    assert found[0::3] == ["grader_timeout"] * 5 + ["wrong"] * 5
    QUICK.close()


def test_a_gold_that_breaks_the_grader_alone_is_unparseable() -> None:
    verdict, plain = verdicts(QUICK, [(r"\binom{1000000}{500000}", "7"), ("7", "7")])
    assert verdict == Verdict(None, "unparseable_gold", "7")
    assert plain.reason == "correct"
    assert QUICK.check_reference(r"\binom{1000000}{500000}") is not None
    QUICK.close()


def test_long_answers_are_kept_short() -> None:
    [verdict] = verdicts(QUICK, [("7", "9" * 1_000_000)])
    assert verdict.answer == "9" * MAX_CHARS


def test_integers_and_equal_text_start_no_worker() -> None:
    """And import no sympy: a recipe whose answers are integers never pays for it."""
    code = r"""
import sys
from distillkit.pool import _shared
from distillkit.trace import Trace
from distillkit.verifiers import Math
pairs = [("7", r"\boxed{7}"), ("7", r"\boxed{1,007}"), ("8", "no")]
rows = [Trace("p", [], response, "", response, reference=gold) for gold, response in pairs]
print([v.reason for v in Math().grade_all(rows)], len(_shared), "sympy" in sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert out.stdout.strip() == "['correct', 'wrong', 'no_answer'] 0 False"


def test_workers_stay_warm_until_close() -> None:
    verifier = Math(workers=1, cpu_s=3.5)
    assert verdicts(verifier, [(r"\pi", r"\frac{2\pi}{2}")])[0].reason == "correct"
    before = dict(_shared)
    assert verdicts(Math(workers=1, cpu_s=3.5), [(r"\pi", r"\frac{3\pi}{3}")])[0].reason == "correct"
    assert dict(_shared) == before
    verifier.close()
    assert not any("comparer" in key for key in _shared)
    assert verdicts(verifier, [(r"\pi", r"\frac{4\pi}{4}")])[0].reason == "correct"
    verifier.close()


def test_same(math: Math) -> None:
    assert math.same("1,000", r"1\,000")
    assert math.same("x=5", "5") and math.same("5", "x=5")
    assert not math.same("5", "6")
    assert math.same("a}", "a}") and not math.same("a}", "b}")


@given(st.text(max_size=60))
def test_readable_takes_anything_and_gives_balanced_braces(written: str) -> None:
    found = readable(written)
    if found is not None:
        plain = found.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
        assert plain.count("{") == plain.count("}")
        assert found == found.strip() != ""


@given(
    st.integers(-(10**12), 10**12), st.sampled_from(["{}", "${}$", r"\({}\)", "{}.", r"\boxed{{{}}}", " {} "])
)
def test_an_integer_stays_itself(number: int, form: str) -> None:
    assert readable(form.format(number)) == str(number)


@needs_data
def test_real_samples_agree_with_their_labels(math: Math) -> None:
    """GSM8K solutions by their marker, and MATH solutions by their box."""
    traces, labels = [], []
    for line in (Path(DATA) / "gsm8k/model_solutions.jsonl").read_text("utf-8").splitlines()[:150]:
        row = json.loads(line)
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            traces.append(trace(row["ground_truth"].rsplit("A:")[-1], row[model]["solution"]))
            labels.append(row[model]["is_correct"])
    marked = Math(marker="A:", workers=2).grade_all(traces)
    assert [verdict.score == 1.0 for verdict in marked] == labels

    traces, labels = [], []
    for line in (Path(DATA) / "math/qwen_samples.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        traces += [trace(row["gold"], response) for response in row["responses"]]
        labels += row["scores"]
    boxed = math.grade_all(traces)
    assert [verdict.score == 1.0 for verdict in boxed] == labels
    assert Counter(verdict.reason for verdict in boxed) == {
        "correct": 444,
        "wrong": 28,
        "unparseable_gold": 8,
    }


@needs_data
def test_every_gold_of_real_sets_can_be_graded(math: Math) -> None:
    lines = (Path(DATA) / "benchmarks/math500.jsonl").read_text("utf-8").splitlines()
    assert [why for why in math.check_references([json.loads(line)["answer"] for line in lines]) if why] == []
