"""Measure the code verifier: what passes, what a wrong program gets, and what the sandbox costs.

    DISTILLKIT_DATA=... python scripts/bench_code.py [problems]

Speed is measured three ways in one run, round by round in turn: the verifier in its sandbox, the same verifier and
checker in plain processes (`sandbox: none`), and the usual way, one `python -c` with answer and tests in one process
(no checker, no isolation). `problems` (all by default) shortens it. Run it on an idle machine.
"""

import ast
import collections
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distillkit.sandbox import interpreter, probe
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.code import Code, checker, codec
from distillkit.verifiers.code.grader import same_text

DATA = Path(os.environ.get("DISTILLKIT_DATA", "data")) / "code"
WORKERS = len(os.sched_getaffinity(0))
ROUNDS = 5
Row = dict[str, Any]

ALWAYS_EQUAL = """
class Anything:
    def __eq__(self, other): return True
    def __ne__(self, other): return True
    def __bool__(self): return True
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __iter__(self): return iter([])
    def __len__(self): return 1
    def __getattr__(self, name): return self
    def __call__(self, *args, **named): return self
"""
FORGER = """
import os
for descriptor in range(3, 30):
    for text in (b'{"tests":1,"ran":1,"passed":1,"failed":null,"cause":"","error":""}', b'{"ended":"ok"}'):
        try: os.write(descriptor, len(text).to_bytes(4, "big") + text)
        except OSError: pass
print("OK", "1", "True", sep="\\n")
"""
PATCHER = """
import builtins, json, sys, os
class Quiet(AssertionError):
    def __new__(cls, *args): os._exit(0)
builtins.AssertionError = Quiet
builtins.all = builtins.any = builtins.isinstance = lambda *args: True
json.dumps = lambda *args, **named: '{"value": true, "changed": []}'
sys.excepthook = lambda *args: os._exit(0)
"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"{probe()}; {WORKERS} workers\n")
    leetcode = [json.loads(line) for line in (DATA / "leetcode.jsonl").open()][:count]
    humaneval = [json.loads(line) for line in (DATA / "HumanEval.jsonl").open()][:count]
    with Code(workers=WORKERS) as verifier:
        print("| programs | n | pass | reasons |\n|---|---|---|---|")
        right = [(row["solutions"], row["tests"]) for row in leetcode]
        report("LeetCode, reference solutions", verifier, right)
        gold = [{name: row[name] for name in ("test", "entry_point", "prompt")} for row in humaneval]
        whole = [row["prompt"] + row["canonical_solution"] for row in humaneval]
        report("HumanEval, canonical solutions", verifier, zip(whole, gold, strict=True))
        bodies = [row["canonical_solution"] for row in humaneval]
        report("HumanEval, canonical bodies alone", verifier, zip(bodies, gold, strict=True))
        report_contests(verifier)
        wrong = [case for kind in (LEETCODE_WRONG, HUMANEVAL_WRONG) for case in kind]
        rows = {"LeetCode": leetcode, "HumanEval": humaneval}
        results = [
            result
            for data, name, make in wrong
            for result in report(f"{data}, {name}", verifier, make(rows[data]))
        ]
        passed = sum(result.score == 1.0 for result in results)
        print(f"| **all wrong programs** | {len(results)} | **{passed / len(results):.2%}** | |")
        report("LeetCode, one constant changed", verifier, mutated(leetcode))
    measure_speed(leetcode, humaneval)


def report(name: str, verifier: Code, cases: Iterable[tuple[str, Any]]) -> list[Verdict]:
    """Grade the programs and print a row of the table."""
    verdicts = verifier.grade_all([trace(code, tests) for code, tests in cases])
    reasons = collections.Counter(verdict.reason for verdict in verdicts)
    share = sum(verdict.score == 1.0 for verdict in verdicts) / max(1, len(verdicts))
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    print(f"| {name} | {len(verdicts)} | {share:.2%} | {told} |", flush=True)
    return verdicts


def trace(code: str, tests: Any) -> Trace:
    response = f"The program:\n```python\n{code}\n```\n"
    return Trace("bench", [], response, "", response, reference=tests, finish_reason="stop")


def report_contests(verifier: Code) -> None:
    """There are no solutions to these: how many test sets can be read, and that printing nothing passes none."""
    rows = [json.loads(line) for line in (DATA / "code_contests.jsonl").open()]
    read = verifier.check_references([row["tests"] for row in rows])
    print(
        f"| CodeContests, test sets that can be read | {len(rows)} | {read.count(None) / len(rows):.2%} | |"
    )
    report("CodeContests, empty program", verifier, [("pass", row["tests"]) for row in rows])
    several = [row["tests"] for row in rows if len(set(row["tests"]["outputs"])) > 1]
    first = [(f"print({tests['outputs'][0]!r}, end='')", tests) for tests in several]
    report("CodeContests with several outputs, prints the first", verifier, first)


def method(row: Row) -> str:
    return re.search(r"check\(Solution\(\)\.(\w+)\)", row["tests"]["functional"])[1]


def standing_in(row: Row, body: str, before: str = "") -> str:
    """A program with the right class and method that does `body`."""
    return f"{before}\nclass Solution:\n    def {method(row)}(self, *args, **named):\n        {body}\n"


def foreign(rows: list[Row]) -> list[tuple[str, Any]]:
    """Another problem's solution under this problem's name, given the same arguments by position."""
    cases = []
    for row, other in zip(rows, rows[7:] + rows[:7], strict=True):
        body = f"return Other().{method(other)}(*args, *named.values())"
        source = re.sub(r"\bSolution\b", "Other", other["solutions"])
        cases.append((standing_in(row, body, source), row["tests"]))
    return cases


def returning(body: str, before: str = "") -> Callable[[list[Row]], list[tuple[str, Any]]]:
    return lambda rows: [(standing_in(row, body, before), row["tests"]) for row in rows]


def function(body: str, before: str = "") -> Callable[[list[Row]], list[tuple[str, Any]]]:
    def make(rows: list[Row]) -> list[tuple[str, Any]]:
        return [
            (f"{before}\ndef {row['entry_point']}(*args, **named):\n    {body}\n", gold(row)) for row in rows
        ]

    return make


def gold(row: Row) -> Row:
    return {name: row[name] for name in ("test", "entry_point", "prompt")}


def swapped(rows: list[Row]) -> list[tuple[str, Any]]:
    cases = []
    for row, other in zip(rows, rows[7:] + rows[:7], strict=True):
        source = other["prompt"] + other["canonical_solution"]
        cases.append((f"{source}\n{row['entry_point']} = {other['entry_point']}\n", gold(row)))
    return cases


_BODIES = [
    ("always-equal object", "return Anything()", ALWAYS_EQUAL),
    ("list of always-equal objects", "return [Anything()] * 2", ALWAYS_EQUAL),
    ("early exit, sys.exit(0)", "import sys; sys.exit(0)", ""),
    ("early exit, os._exit(0)", "import os; os._exit(0)", ""),
    ("early exit at import", "return None", "import os; os._exit(0)"),
    ("raises StopIteration", "raise StopIteration", ""),
    ("raises AssertionError", "raise AssertionError", ""),
    ("patches builtins and json", "return True", PATCHER),
    ("forges messages", "return None", FORGER),
    ("returns its arguments", "return args or list(named.values())", ""),
]
LEETCODE_WRONG = [
    ("LeetCode", "another problem's solution", foreign),
    *[
        ("LeetCode", f"returns {value}", returning(f"return {value}"))
        for value in ("0", "True", "[]", "''", "None")
    ],
    *[("LeetCode", name, returning(body, before)) for name, body, before in _BODIES],
]
HUMANEVAL_WRONG = [
    ("HumanEval", "another problem's solution", swapped),
    *[
        ("HumanEval", f"returns {value}", function(f"return {value}"))
        for value in ("0", "True", "[]", "''", "None")
    ],
    *[("HumanEval", name, function(body, before)) for name, body, before in _BODIES],
]


def mutated(rows: list[Row]) -> list[tuple[str, Any]]:
    """Reference solutions with one integer made larger by one; some of these are still right."""
    cases = []
    for at, row in enumerate(rows):
        tree = ast.parse(row["solutions"])
        numbers = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int]
        if numbers:
            random.Random(at).choice(numbers).value += 1
            cases.append((ast.unparse(tree), row["tests"]))
    return cases


def measure_speed(leetcode: list[Row], humaneval: list[Row]) -> None:
    """Executions/s of programs with asserts (one execution has all of them), and of programs on stdin (one each)."""
    cases = [(row["solutions"], row["tests"]) for row in leetcode[:120]]
    cases += [(row["prompt"] + row["canonical_solution"], gold(row)) for row in humaneval[:120]]
    boxed, plain = Code(workers=WORKERS), Code(workers=WORKERS, sandbox="none")
    compare(
        "asserts",
        len(cases),
        {
            "sandbox: bubblewrap": lambda: check(boxed, cases),
            "sandbox: none, same checker": lambda: check(plain, cases),
            "python -c, no checker": lambda: run_plainly(cases),
        },
    )
    boxed.close()
    plain.close()
    boxed, plain = (
        Code(workers=WORKERS, score="fraction", sandbox=level) for level in ("bubblewrap", "none")
    )
    contests = [json.loads(line)["tests"] for line in (DATA / "code_contests.jsonl").open()][: len(leetcode)]
    compare(
        "stdin",
        sum(len(tests["inputs"]) for tests in contests),
        {
            "sandbox: bubblewrap": lambda: run_tests(boxed, contests),
            "sandbox: none, same checker": lambda: run_tests(plain, contests),
            "one plain process per test": lambda: run_each(contests),
        },
    )
    boxed.close()
    plain.close()


def compare(title: str, count: int, ways: dict[str, Callable[[], None]]) -> None:
    """Print executions/s of each way, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    base = statistics.median(seconds["sandbox: none, same checker"])
    print(f"\n| {title}, {count} executions | executions/s, median of {ROUNDS} | ratio |\n|---|---|---|")
    for name, each in seconds.items():
        low, high, middle = count / max(each), count / min(each), statistics.median(each)
        print(
            f"| {name} | {count / middle:.1f} ({low:.1f} to {high:.1f}) | {base / middle:.2f} |", flush=True
        )


SUMMER = "import sys\nprint(sum(map(len, sys.stdin.read().split())))"


def run_tests(verifier: Code, contests: list[Row]) -> None:
    verdicts = verifier.grade_all([trace(SUMMER, tests) for tests in contests])
    assert all(verdict.detail["ran"] == verdict.detail["tests"] for verdict in verdicts)


def run_each(contests: list[Row]) -> None:
    """A process for each test, its output compared by the same function."""

    def run(case: tuple[str, str]) -> bool:
        command = [str(interpreter()), "-sSPB", "-c", SUMMER]
        done = subprocess.run(command, input=case[0], capture_output=True, text=True, timeout=60, check=False)
        return same_text(done.stdout, case[1], None)

    pairs = [pair for tests in contests for pair in zip(tests["inputs"], tests["outputs"], strict=True)]
    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(run, pairs))


def check(verifier: Code, cases: list[tuple[str, Any]]) -> None:
    verdicts = verifier.grade_all([trace(code, tests) for code, tests in cases])
    assert all(verdict.reason in ("correct", "sandbox_denied") for verdict in verdicts)


def run_plainly(cases: list[tuple[str, Any]]) -> None:
    """Answer and tests in one process, as most harnesses do it."""
    helpers = "from math import *\nfrom typing import *\nfrom collections import *\nfrom itertools import *\n"
    helpers += "from functools import *\nfrom heapq import *\nfrom bisect import *\nfrom operator import *\n"
    nodes = Path(codec.__file__).read_text().partition("class ListNode")
    functions = Path(checker.__file__).read_text()
    nodes_text = nodes[1] + nodes[2]
    tools = functions[functions.index("def list_node") : functions.index("_HELPERS = {")].replace(
        "codec.", ""
    )

    def run(case: tuple[str, Any]) -> None:
        code, tests = case
        script = tests.get("functional") or f"{tests['test']}\ncheck({tests['entry_point']})"
        source = helpers + nodes_text + tools + code + "\n" + script
        command = [str(interpreter()), "-sSPB", "-c", source]
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(run, cases))


if __name__ == "__main__":
    main()
