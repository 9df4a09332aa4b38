"""Mathematical equality: golds, misses that are known elsewhere, and answers made to break the grader."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.pool import _shared
from distillkit.text import split_think
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Math
from distillkit.verifiers.math import _memo
from distillkit.verifiers.math.text import MAX_CHARS, readable

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
    (r"\approx 8.24", "8.24"),
    ("8.24", "≈ 8.24"),
    ("42", r"\Rightarrow 42"),
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


# What math-verify lacks or gets wrong, each with what must differ from it.
RULES = {
    "thin spaces": ([("1000", r"1\,000"), ("1000", r"1\ 000"), ("1000", "1~000")], [("1000", r"1\,00")]),
    "mixed numbers": (
        [(r"\frac{7}{2}", "3 1/2"), (r"\frac{7}{2}", r"3\frac{1}{2}"), (r"-\frac{7}{2}", r"-3 \frac12")],
        [(r"\frac{31}{2}", "3 1/2"), (r"\frac{3}{2}", "3 1/2"), (r"-\frac{5}{2}", r"-3\frac12")],
    ),
    "e-notation": ([("120000", "1.2e5"), (r"1.2\times 10^{-4}", "1.2E-4")], [("120000", "1.2e4")]),
    "a full stop": ([("42", "42."), (r"\sqrt{2}", r"\sqrt{2}.")], [("42", "4.2")]),
    "a decimal comma": ([("1.22", "1,22")], [("1.22", "1,23"), ("1,22", "122")]),
    "millions": (
        [("1000000", "1 million"), ("2.5 million", "2,500,000"), ("3e9", r"3\text{ billion}")],
        [("1000000", "1 billion"), ("1 million", "1")],
    ),
    "repeating decimals": (
        [(r"\frac{1}{3}", r"0.\overline{3}"), (r"\frac16", r"0.1\overline{6}"), ("1", r"0.\bar{9}")],
        [(r"0.\overline{3}", "0.3"), (r"\frac16", r"0.\overline{16}")],
    ),
    "small numbers": ([("0.0000001", "1e-7")], [("0.0000001", "0.0000002"), (r"2\pi", "0.0000002")]),
    "percents": (
        [(r"28\%", "28"), ("28", r"28\%"), (r"50\%", "0.5"), ("1", r"100\%"), (r"7\%", "7 percent")],
        [("1", r"1\%"), (r"0.5\%", "0.5"), (r"50\%", r"5\%"), ("28", "0.28")],
    ),
    "degrees": (
        [(r"90^\circ", "90"), (r"90^\circ", "90 degrees"), (r"\sin 30^\circ", "0.5"), (r"45^{\circ}", "45°")],
        [(r"90^\circ", r"90\text{ radians}"), (r"\frac12", r"\sin 30")],
    ),
    "units": (
        [(r"5\text{ cm}", "5"), ("5", "5 cm"), (r"15\text{ cm}^2", "15 square centimeters"), ("18", "£18")],
        [(r"5\text{ cm}", r"5\text{ m}"), (r"5\text{ cm}^2", r"5\text{ cm}^3"), ("5 cm", "5 m")],
    ),
    "more units": (
        [(r"3\text{ m}", r"300\text{ cm}"), (r"\$18", "18 dollars"), (r"30\text{ km/h}", "30 kmh")],
        [(r"6\pi\text{ m}", r"6\pi\text{ cm}"), (r"\$18", "18 cents"), (r"20^\circ C", r"20^\circ F")],
    ),
    "bases": (
        [("12_7", "12_{7}"), (r"1011_{\text{two}}", "1011_2"), ("12_7", "12"), (r"2A_{16}", r"2A_{16}")],
        [("12_7", "12_8"), ("12_7", "9"), ("12_7", "21_7")],
    ),
    "clock times": (
        [
            ("3:30", "03:30"),
            (r"3:30\text{ p.m.}", "15:30"),
            (r"3:30\text{ p.m.}", "3:30 PM"),
            ("7:45", "7:45 AM"),
        ],
        [("3:30 am", "3:30 pm"), ("10:15", "20:30"), ("12:00", "1:00")],
    ),
    "ratios": ([("1:2", "2:4"), ("7:32", "7 : 32")], [("1:2", "2:1"), ("1:2:3", "1:2:4")]),
    "words": (
        [(r"\text{Even}", "even"), (r"\textbf{(A)}", "A"), ("Monday", r"\text{Monday}"), ("xy", "yx")],
        [("ABCD", "BADC"), ("AC", "CA"), (r"\text{no}", r"\text{on}"), (r"\text{Ada}", r"\text{Eve}")],
    ),
    "points and sets": (
        [("(1,3)", "1,3"), ("1,3", "3 and 1"), (r"\{1,3\}", r"\{3,1\}"), ("(p,q)=(3,2)", "(3,2)")],
        [
            ("(1,3)", "1 and 3"),
            ("(1,3)", r"\{1,3\}"),
            ("(1,3)", "(3,1)"),
            ("[1,3]", "[1,3)"),
            ("(1,3)", "[1,3]"),
        ],
    ),
    "chains": ([("11", "x=5+6=11"), ("11", "x=11")], [("7", "x=1=7"), ("7", "x=7=1"), ("7", "1 = 7")]),
    "intervals": ([("[-2,7]", r"-2 \le x \le 7"), (r"x>1", r"(1,\infty)")], [("[-2,7]", r"-2 < x < 7")]),
    "signs of Unicode": (
        [(r"5\sqrt{3}", "5√3"), (r"4\pi", "4π"), (r"4\pi", "4 pi"), (r"x \le 3", "x ≤ 3")],
        [(r"4\pi", "4p")],
    ),
    "complex numbers": (
        [("-1", "i^2"), ("2i", "(1+i)^2"), ("-i", r"\frac{1}{i}")],
        [("2i", "-2i"), ("1", "i^2")],
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules(math: Math, rule: str) -> None:
    equal, different = RULES[rule]
    found = {
        pair: v.reason for pair, v in zip(equal + different, verdicts(math, equal + different), strict=True)
    }
    assert found == dict.fromkeys(equal, "correct") | dict.fromkeys(different, "wrong")


PAIRS = [
    json.loads(row)
    for row in (Path(__file__).parents[2] / "data/math_pairs.jsonl").read_text("utf-8").splitlines()
]


def test_labelled_pairs(math: Math) -> None:
    """No false positive where a reward must not have one.

    A third of the pairs, "locked", was not looked at while the rules were tuned on "open"; "fresh" ones were
    written after the last rule.
    """
    found = verdicts(math, [(row["gold"], row["answer"]) for row in PAIRS])
    right: dict[str, list[bool]] = defaultdict(list)
    for row, verdict in zip(PAIRS, found, strict=True):
        assert verdict.score is not None, row
        right[row["split"]].append((verdict.score == 1.0) == row["equal"])
        if row["category"] in ("int", "int-sep", "fraction", "choice", "unit"):
            assert not (verdict.score == 1.0 and not row["equal"]), row
    assert len(PAIRS) >= 500
    assert right.keys() == {"open", "locked", "fresh"}
    assert {
        split: sum(each) / len(each) for split, each in right.items() if sum(each) / len(each) < 0.95
    } == {}


@pytest.mark.parametrize(
    "gold",
    [
        "9. Anya needs to climb to the ninth floor",
        "the sum of both numbers is odd",
        r"\text{It is 9 because she climbs} ",
    ],
)
def test_a_gold_in_prose_is_reported(math: Math, gold: str) -> None:
    assert "sentence" in str(math.check_reference(gold))
    [verdict] = verdicts(math, [(gold, gold)])
    assert (verdict.score, verdict.reason) == (None, "unparseable_gold")


@pytest.mark.parametrize(
    "gold", ["12 and 15", r"\text{no real solutions}", r"5\text{ square centimeters}", "x = 1 or x = 2"]
)
def test_a_gold_in_words_is_not_prose(math: Math, gold: str) -> None:
    assert math.check_reference(gold) is None


def test_thinking_is_not_read(math: Math) -> None:
    completion = r"<think>\boxed{8}</think> so \boxed{7}"
    _, response = split_think(completion)
    assert math.grade(trace("7", response)).reason == "correct"
    _, unfinished = split_think(r"<think>it is \boxed{7}")
    assert math.grade(trace("7", unfinished)).reason == "no_answer"


HARD = [
    (r"\sin^2 x+\cos^2 x", "1"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt[4]{9}}"),
    (r"\tan^2(y)+1", r"\sec^2(y)"),
    (r"x^2+y^2=4", r"y^2=4-x^2"),
    (r"\ln 4", r"2\ln 3"),
    (r"\frac{x}{7}", r"10^{10^{10}}"),
    (r"\frac{x}{8}", r"\binom{1000000}{500000}"),
    (r"\frac{x}{9}", "9" * 100_000),
    ("7", "7"),
]


def test_a_loaded_machine_gives_the_same_verdicts() -> None:
    """CPU time decides: beside three busy processes everything takes longer and nothing is judged otherwise."""
    with Math(cpu_s=1.0, workers=2) as verifier:
        idle = [verdict.reason for verdict in verdicts(verifier, HARD)]
        _memo.clear()
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            loaded = [verdict.reason for verdict in verdicts(verifier, HARD)]
        finally:
            for process in busy:
                process.kill()
                process.wait()
    assert loaded == idle
    assert idle[5:] == ["grader_timeout", "grader_timeout", "wrong", "correct"]


def test_any_thread_may_grade(math: Math) -> None:
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        pairs = [(rf"\sin({number}x)", rf"\sin({number} x)"), (rf"\sin({number}x)", rf"\cos({number}x)")]
        found[number] = [verdict.reason for verdict in verdicts(math, pairs)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: ["correct", "wrong"] for number in range(8)}


@pytest.mark.slow
def test_inside_a_ray_worker() -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

    def grade() -> list[str]:
        with Math(workers=1, cpu_s=1.0) as verifier:
            pairs = [(r"\tan^2(y)+1", r"\sec^2(y)"), (r"\frac{x}{7}", r"10^{10^{10}}"), (r"\ln 4", r"2\ln 2")]
            return [verdict.reason for verdict in verdicts(verifier, pairs)]

    try:
        assert ray.get(ray.remote(grade).remote()) == ["correct", "grader_timeout", "correct"]
    finally:
        ray.shutdown()


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


ATTACK = "__import__('pathlib').Path('{}').touch()"


def test_no_text_is_ever_run(math: Math, tmp_path: Path) -> None:
    """sympy's own parser evaluates Python; neither an answer nor a gold may reach it as code."""
    mark = tmp_path / "mark"
    attack = ATTACK.format(mark)
    forms = [
        "{}", "1+{}", "${}$", "={}", r"\approx {}", r"\{{{}, 2\}}", "({}, 2)", r"\text{{{}}}", "f({})", "x_{{{}}}",
        r"\operatorname{{{}}}(x, y)", r"\max({}, 2)", r"\frac{{d}}{{d{}}} x", r"\frac{{d}}{{d\variable{{{}}}}} x",
        r"\begin{{pmatrix}}{}&1\\2&3\end{{pmatrix}}", "the answer is {}", "final answer is 2+{}. I hope",
    ]  # fmt: skip
    attacks = [form.format(attack) for form in forms]
    found = verdicts(math, [("7", each) for each in attacks] + [(each, "7") for each in attacks])
    assert {verdict.score for verdict in found} <= {0.0, None}
    assert not mark.exists()


def test_the_parser_of_sympy_is_disarmed_where_answers_are_read() -> None:
    code = """
from distillkit.verifiers.math.worker import comparer
comparer()
from sympy import parse_expr, sympify
assert str(parse_expr("2*sqrt(x) + Function('f')(3)")) == "2*sqrt(x) + f(3)"
for read in (parse_expr, sympify):
    try:
        read("__import__('os').getpid() + 1")
    except (ValueError, TypeError):
        continue
    raise SystemExit("it ran")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("junk", ["4:30p.. @ 7", r"[1,\infty) @ 7", r"x = 2 @ 7", r"10x \sqrt{21x} @ 7"])
def test_the_last_number_of_junk_is_no_answer(math: Math, junk: str) -> None:
    [verdict] = verdicts(math, [("7", junk)])
    assert verdict.reason == "wrong"


def test_long_answers_are_kept_short() -> None:
    [verdict] = verdicts(QUICK, [("7", "9" * 1_000_000)])
    assert verdict.answer == "9" * MAX_CHARS


def test_integers_and_equal_text_start_no_worker() -> None:
    """And import no sympy: a recipe whose answers are integers never pays for it."""
    code = r"""
import sys
from distillkit.pool import _shared
from distillkit.text import split_think
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
