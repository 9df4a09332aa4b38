r"""Measure the math verifier against labels, against TRL's `accuracy_reward`, and against hostile answers.

Needs the folder of real samples in DISTILLKIT_DATA (gsm8k/model_solutions.jsonl, math/qwen_samples.jsonl,
math/train.jsonl, benchmarks/*.jsonl). Parts: agreement, golds, pairs, throughput, hostile, mixed; all of them
when none is named. Both sides of a comparison run in one call. Run it on an idle machine.

    DISTILLKIT_DATA=... python scripts/bench_verify.py throughput hostile
    DISTILLKIT_DATA=... python scripts/bench_verify.py --rows 1000 mixed
"""

import argparse
import json
import os
import random
import re
import resource
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from distillkit import text
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Math
from distillkit.verifiers.math.decision import decide
from distillkit.verifiers.math.text import readable

ROOT = Path(__file__).parent.parent
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
Row = tuple[str, str, bool]
"""Gold, response, and whether it is labelled correct."""


def lines(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def gsm8k(data: Path) -> list[Row]:
    """600 problems x 4 solutions that end in "A: <answer>"."""
    return [
        (row["ground_truth"].rsplit("A:")[-1].strip(), row[model]["solution"], row[model]["is_correct"])
        for row in lines(data / "gsm8k/model_solutions.jsonl")
        for model in MODELS
    ]


def qwen(data: Path) -> list[Row]:
    """60 MATH problems x 8 solutions."""
    return [
        (row["gold"], response, bool(score))
        for row in lines(data / "math/qwen_samples.jsonl")
        for response, score in zip(row["responses"], row["scores"], strict=True)
    ]


def trace(gold: str, response: str) -> Trace:
    return Trace("p", [], response, "", response, reference=gold, finish_reason="stop")


def graded(verifier: Math, rows: Sequence[Row]) -> list[Verdict]:
    return verifier.grade_all([trace(gold, response) for gold, response, _ in rows])


def trl_rewards(rows: Sequence[Row]) -> list[float | None]:
    """What TRL gives the same rows, in this process."""
    from trl.rewards import accuracy_reward

    completions = [[{"role": "assistant", "content": response}] for _, response, _ in rows]
    return accuracy_reward(completions, [gold for gold, _, _ in rows])  # type: ignore[no-any-return]


def boxed(rows: Sequence[Row], gold_too: bool) -> list[Row]:
    """The rows as TRL reads them best: the answer in a box at the end of the response."""
    found = []
    for gold, response, label in rows:
        answer = text.final_answer(response) or text.final_answer(response, "A:")
        tail = "" if text.last_boxed(response) else rf" \boxed{{{answer}}}"
        found.append((rf"\boxed{{{gold}}}" if gold_too else gold, response + tail, label))
    return found


def agreement(data: Path, _: argparse.Namespace) -> None:
    table("agreement with the labels", ["rows", "distillkit", "TRL, bare gold", "TRL, boxed gold"])
    for name, rows, verifier in (
        ("GSM8K solutions", gsm8k(data), Math(marker="A:")),
        ("MATH samples", qwen(data), Math()),
    ):
        ours = [verdict.score == 1.0 for verdict in graded(verifier, rows)]
        shares = [
            [reward == 1.0 for reward in trl_rewards(boxed(rows, gold_too))] for gold_too in (False, True)
        ]
        labels = [label for _, _, label in rows]
        line(name, len(rows), *(agreed(each, labels) for each in (ours, *shares)))
    verifier.close()


def agreed(found: Sequence[bool], labels: Sequence[bool]) -> str:
    same = sum(a == b for a, b in zip(found, labels, strict=True))
    return f"{same}/{len(labels)} = {same / len(labels):.2%}"


def golds(data: Path, _: argparse.Namespace) -> None:
    """Share of real golds that verify against themselves."""
    table("golds that verify against themselves", ["golds", "share", "not"])
    verifier = Math()
    for path in [data / "math/train.jsonl", *sorted((data / "benchmarks").glob("*.jsonl"))]:
        answers = [
            row["answer"] if "answer" in row else text.last_boxed(row["solution"]) for row in lines(path)
        ]
        reasons = [v.reason for v in verifier.grade_all([trace(a, rf"\boxed{{{a}}}") for a in answers])]
        bad = [answer for answer, reason in zip(answers, reasons, strict=True) if reason != "correct"]
        line(path.name, len(answers), f"{1 - len(bad) / len(answers):.2%}", "; ".join(map(str, bad))[:200])
    verifier.close()


def pairs(_: Path, __: argparse.Namespace) -> None:
    """The labelled pairs of tests/data, by category, beside math-verify alone (both sides boxed)."""
    from math_verify import parse, verify

    rows = lines(ROOT / "tests/data/math_pairs.jsonl")
    verifier = Math()
    ours = [
        v.score == 1.0
        for v in verifier.grade_all([trace(row["gold"], rf"\boxed{{{row['answer']}}}") for row in rows])
    ]
    theirs = [
        verify(parse(rf"\boxed{{{row['gold']}}}"), parse(rf"\boxed{{{row['answer']}}}")) for row in rows
    ]
    verifier.close()
    table("labelled pairs", ["pairs", "distillkit", "false positives", "math-verify", "false positives"])
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        for name in (row["category"], f"[{row['split']}]", "[all]"):
            groups[name].append(index)
    for name, members in groups.items():
        cells = []
        for found in (ours, theirs):
            right = sum(found[i] == rows[i]["equal"] for i in members)
            cells += [f"{right / len(members):.3f}", sum(found[i] and not rows[i]["equal"] for i in members)]
        line(name, len(members), *cells)


def throughput(data: Path, options: argparse.Namespace) -> None:
    """Rows per second; memos are cold on both sides, golds are boxed for TRL so that it does the full work."""
    import trl.rewards  # noqa: F401 - the import is on nobody's time

    table(
        f"rows/s, {options.workers} workers against one process",
        ["rows", "TRL", "distillkit, start included", "warm workers", "ratio"],
    )
    for name, rows, marker in (("GSM8K solutions", gsm8k(data), "A:"), ("MATH samples", qwen(data), None)):
        ready = boxed(rows, gold_too=True)
        theirs = seconds(lambda ready=ready: trl_rewards(ready))  # type: ignore[misc]
        cold = Math(marker=marker, workers=options.workers)
        start = seconds(lambda: graded(cold, rows))  # type: ignore[misc]  # noqa: B023
        cold.close()
        forget()
        warm = Math(marker=marker, workers=options.workers)
        warm.grade_all([trace(rf"\int x^{n} dx", rf"\boxed{{\int y^{n} dy}}") for n in range(64)])
        ours = seconds(lambda: graded(warm, rows))  # type: ignore[misc]  # noqa: B023
        warm.close()
        n = len(rows)
        line(name, n, f"{n / theirs:.0f}", f"{n / start:.0f}", f"{n / ours:.0f}", f"{theirs / ours:.1f} x")


def forget() -> None:
    """Empty the memos, so that a second measurement starts as cold as the first."""
    from distillkit.verifiers import math
    from distillkit.verifiers.math import decision as math_decision
    from distillkit.verifiers.math import exact as math_exact
    from distillkit.verifiers.math import text as math_text

    math._memo.clear()
    for cached in (math_text._readable, math_exact.value, math_decision._squeezed, math_decision._sequence):
        cached.cache_clear()  # type: ignore[attr-defined]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def hostile_answers() -> dict[str, str]:
    return {
        "tower 10^10^10": r"10^{10^{10}}",
        "tower of 2": r"2^{2^{2^{2^{2^{2}}}}}",
        "5^(5^(5^(5^5)))": r"5^(5^(5^(5^5)))",
        "3^20000000": r"3^{20000000}",
        "10^7 factorial": r"10^7!",
        "giant factorial": r"(10^{9})!",
        "binomial": r"\binom{1000000}{500000}",
        "sum to 1e8": r"\sum_{k=1}^{100000000} \frac{1}{k^2}",
        "product to 1e7": r"\prod_{k=1}^{10000000} (1+\frac{1}{k^2})",
        "hard integral": r"\int_0^1 \frac{\sin(x^3) e^{x^2}}{\ln(1+x^5)} dx",
        "nested fractions x 50": r"\frac{1}{1+" * 50 + "x" + "}" * 50,
        "nested fractions x 150": r"\frac{1}{1+" * 150 + "x" + "}" * 150,
        "nested roots": r"\sqrt{x+" * 60 + "1" + "}" * 60,
        "parentheses x 900": "(" * 900 + "1" + ")" * 900,
        "big polynomial": r"(a+b+c+d+e)^{40}",
        "symbolic determinant": r"\det\begin{pmatrix}"
        + r"\\".join("&".join(f"x_{{{i}{j}}}" for j in range(9)) for i in range(9))
        + r"\end{pmatrix}",
        "1 MB of 1+": "1+" * 500_000 + "1",
        "1 MB of digits": "9" * 1_000_000,
        "1 MB of letters": "a" * 1_000_000,
        "1 MB of braces": "{" * 1_000_000,
        "1 MB of spaces": " " * 1_000_000 + "1 + x",
        "1 MB of \\boxed{": r"\boxed{" * 140_000,
        "2 kB of \\frac": r"\frac" * 400,
        "2 kB of 9^": "9^" * 990 + "9",
        "1.9 kB of commas": "1," * 950 + "2",
        "long exponent": "1e" + "9" * 30,
    }


def hostile(_: Path, options: argparse.Namespace) -> None:
    """Seconds for each hostile answer alone; CPU seconds decide, the wall follows on an idle machine."""
    verifier = Math(cpu_s=options.cpu_s, workers=1)
    verifier.grade(trace(r"\int x dx", r"\boxed{\int y dy}"))
    table(f"hostile answers, deadline {options.cpu_s:g} s", ["seconds", "CPU seconds", "verdict"])
    worst = worst_cpu = 0.0
    for name, answer in hostile_answers().items():
        started, used = time.perf_counter(), cpu_seconds()
        verdict = verifier.grade(trace(r"\frac{x}{7}", f"<answer>{answer}</answer>"))
        took, used = time.perf_counter() - started, cpu_seconds() - used
        worst, worst_cpu = max(worst, took), max(worst_cpu, used)
        line(name, f"{took:.2f}", f"{used:.2f}", verdict.reason)
    print(
        f"\nslowest against the deadline: {worst - options.cpu_s:+.2f} s, CPU {worst_cpu - options.cpu_s:+.2f} s"
    )
    verifier.close()


def cpu_seconds() -> float:
    """CPU time of this process and all its descendants, the dead ones included."""
    total = 0
    for pid in descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(ticks) for ticks in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def mixed(data: Path, options: argparse.Namespace) -> None:
    """Many real rows, one in twenty hostile: every row keeps its own verdict, memory stays bounded."""
    base = qwen(data) + [(gold, rf"\boxed{{{gold}}}", True) for gold, _, _ in qwen(data)]
    rng = random.Random(17)
    evil = list(hostile_answers().values())
    verifier = Math(cpu_s=options.cpu_s, workers=options.workers)
    expected = {row: verdict.reason for row, verdict in zip(base, graded(verifier, base), strict=True)}
    rows, wanted = [], []
    for at in range(options.rows):
        if at % 20 == 7:
            answer = rng.choice(evil)  # a gold of its own, so that no memo spares the work
            rows.append((rf"\frac{{x}}{{{at + 7}}}", f"<answer>{answer}</answer>", False))
            wanted.append("")
        else:
            rows.append(rng.choice(base))
            wanted.append(expected[rows[-1]])
    peak = Peak()
    started = time.perf_counter()
    with peak:
        found = graded(verifier, rows)
    took = time.perf_counter() - started
    verifier.close()
    shifted = sum(bool(w) and verdict.reason != w for verdict, w in zip(found, wanted, strict=True))
    evil_reasons = Counter(v.reason for v, w in zip(found, wanted, strict=True) if not w)
    table(
        f"{options.rows} mixed rows, 5 % hostile",
        ["rows", "verdicts", "not as alone", "seconds", "peak MiB, all processes"],
    )
    line("mixed", len(rows), len(found), shifted, f"{took:.0f}", f"{peak.mib:.0f}")
    print(f"\nhostile rows: {dict(evil_reasons)}")
    print(f"peak of this process alone: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


class Peak:
    """Peak proportional set size of this process and its descendants, sampled while a block runs."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.mib = max(self.mib, sum(map(resident_mib, descendants(os.getpid()))))


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in path.read_text().split():
                yield from descendants(int(child))
        except OSError:
            continue


def resident_mib(pid: int) -> float:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def undecided(data: Path, _: argparse.Namespace) -> None:
    """How many pairs of the real samples are left for sympy."""
    table("pairs left for sympy", ["distinct pairs", "left"])
    for name, rows, marker in (("GSM8K solutions", gsm8k(data), "A:"), ("MATH samples", qwen(data), None)):
        distinct = {
            (readable(gold), readable(text.final_answer(response, marker))) for gold, response, _ in rows
        }
        left = [(g, a) for g, a in distinct if g and a and not isinstance(decide(g, a), bool)]
        line(name, len(distinct), len(left))


def table(title: str, columns: Sequence[str]) -> None:
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")


def line(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


PARTS = {part.__name__: part for part in (agreement, golds, pairs, undecided, throughput, hostile, mixed)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="left out: all")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the mixed part")
    parser.add_argument("--cpu-s", type=float, default=3.0, help="deadline in CPU seconds")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    data = Path(os.environ["DISTILLKIT_DATA"])
    print(f"{os.cpu_count()} CPUs, {options.workers} workers, load {os.getloadavg()[0]:.1f}")
    for name in options.parts or PARTS:
        PARTS[name](data, options)


if __name__ == "__main__":
    main()
