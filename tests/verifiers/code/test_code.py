"""Programs judged by their tests: what passes, what does not, what cannot cheat, and which reason is given."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.errors import MissingError
from distillkit.spec import digest, identity
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.code import Code, last_program
from distillkit.verifiers.code import codec as code_codec
from distillkit.verifiers.code.grader import same_text, same_value

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
DATA = Path(os.environ.get("DISTILLKIT_DATA", "/nonexistent")) / "code"

ADD = {"inputs": ["1 2\n", "3 4\n", "5 6\n"], "outputs": ["3\n", "7\n", "11\n"]}
TWICE = {"fn_name": "twice", "inputs": [[1], [[2]], ["x"]], "outputs": [2, [2, 2], "xx"]}
FIRST = {
    "functional": "def check(candidate):\n    assert candidate(a=[3, 4]) == 3\n    assert candidate(a=[5]) == 5\n\ncheck(Solution().first)"
}


def trace(program: str, reference: Any, finish_reason: str = "stop") -> Trace:
    response = f"Here it is.\n\n```python\n{program}\n```\nDone."
    return Trace("p", [], response, "", response, reference=reference, finish_reason=finish_reason)


@pytest.fixture(scope="module")
def code() -> Iterator[Code]:
    with Code(workers=2, cpu_s=1) as verifier:
        yield verifier


def graded(verifier: Code, cases: list[tuple[str, Any]]) -> list[str]:
    return [verdict.reason for verdict in verifier.grade_all([trace(*case) for case in cases])]


STDIN = "a, b = map(int, input().split())\nprint(a + b)"
LAYOUTS: list[tuple[Any, str, str]] = [
    (ADD, STDIN, "print(3)"),
    (json.dumps(ADD), STDIN, "print(3)"),
    ({"tests": ADD}, STDIN, "print(3)"),
    ({"tests": json.dumps(ADD)}, STDIN, "print(3)"),
    ([{"input": "1 2", "output": "3"}, {"input": "2 2", "output": "4"}], STDIN, "print(3)"),
    ({"inputs": [["1 2", "3 4"]], "outputs": [["3", "7"]]}, "for _ in '12':\n    print(sum(map(int, input().split())))", STDIN),
    ({"language": "python", "test_cases": [{"type": "stdin_stdout", "input": "1 2", "output": "3"}]}, STDIN, "print(4)"),
    ({"test_cases": [{"type": "function_call", "fn_name": "f", "input": [2], "output": 4}]}, "def f(x): return 2 * x", "def f(x): return x"),
    ([{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional", "metadata": {"func_name": "f"}}], "class Solution:\n    def f(self, a: List[int], b):\n        return [x + b for x in a]", "class Solution:\n    def f(self, a, b): return a"),
    (TWICE, "def twice(x): return x * 2", "def twice(x): return x"),
    ({"fn_name": "pair", "inputs": [[1], [2]], "outputs": [[[1, 1]], [[2, 2]]]}, "def pair(x): return x, x", "def pair(x): return x"),
    ({"fn_name": "table", "inputs": [[1]], "outputs": [{"1": [True, None]}]}, "def table(x): return {x: (True, None)}", "def table(x): return {x: (1, None)}"),
    ({"tests": ["assert double(2) == 4", "assert double([1]) == [1, 1]"]}, "def double(x): return x + x", "def double(x): return 4"),
    ({"test_list": ["assert area(Box(2, 3)) == 6"], "test_setup_code": ""}, "class Box:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef area(b): return b.a * b.b", "class Box:\n    def __init__(self, *_): pass\ndef area(b): return 5"),
    ({"prompt": "def half(n):\n    return n / 2\n\ndef f(x):\n    '''Twice.'''\n", "test": "def check(candidate):\n    for n in range(5):\n        assert half(candidate(n)) == n\n", "entry_point": "f"}, "    return 2 * x", "def f(x): return half(x)"),
    ({"prompt": "Write f, please.", "test": "def check(candidate):\n    assert abs(candidate(2) - 1.4142) < 1e-3", "entry_point": "f"}, "import math\ndef f(x): return math.sqrt(x)", "def f(x): return x"),
    (FIRST, "class Solution:\n    def first(self, a): return a[0]", "class Solution:\n    def first(self, a): return 3"),
    ({"functional": "def check(candidate):\n    assert is_same_list(candidate(head = list_node([1,2,3])), list_node([3,2,1]))\n    assert is_same_list(candidate(head = list_node([])), list_node([]))\n\ncheck(Solution().reverse)"}, "class Solution:\n    def reverse(self, head: Optional[ListNode]) -> Optional[ListNode]:\n        last = None\n        while head:\n            head.next, last, head = last, head, head.next\n        return last", "class Solution:\n    def reverse(self, head): return head"),
    ({"functional": "def check(candidate):\n    assert is_same_tree(candidate(root = tree_node([1,2,None,3])), tree_node([1,None,2,None,3]))\n\ncheck(Solution().mirror)"}, "class TreeNode:\n    def __init__(self, x):\n        self.val, self.left, self.right = x, None, None\nclass Solution:\n    def mirror(self, root):\n        if root: root.left, root.right = self.mirror(root.right), self.mirror(root.left)\n        return root", "class Solution:\n    def mirror(self, root): return root"),
]  # fmt: skip


def test_every_layout_is_read_and_judged(code: Code) -> None:
    assert code.check_references([layout for layout, _, _ in LAYOUTS]) == [None] * len(LAYOUTS)
    right = graded(code, [(program, layout) for layout, program, _ in LAYOUTS])
    wrong = code.grade_all([trace(program, layout) for layout, _, program in LAYOUTS])
    assert right == ["correct"] * len(LAYOUTS)
    assert [verdict.score for verdict in wrong] == [0.0] * len(LAYOUTS)
    assert {verdict.reason for verdict in wrong} <= {"wrong", "crashed"}


CHEATS = {
    "always equal": "class Any:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return True\n    def __hash__(self): return 0\nclass Solution:\n    def first(self, a): return Any()",
    "a list that is always equal": "class L(list):\n    def __eq__(self, o): return True\nclass Solution:\n    def first(self, a): return L([1])",
    "an int that is always equal": "class I(int):\n    def __eq__(self, o): return True\nclass Solution:\n    def first(self, a): return I(1)",
    "exit in the call": "class Solution:\n    def first(self, a):\n        import sys; sys.exit(0)",
    "hard exit in the call": "class Solution:\n    def first(self, a):\n        import os; os._exit(0)",
    "hard exit at once": "import os\nos._exit(0)",
    "stop iteration": "class Solution:\n    def first(self, a): raise StopIteration",
    "patched builtins": "import builtins, json\nbuiltins.AssertionError = Warning\njson.dumps = lambda *a, **k: '{\"value\": 3, \"changed\": []}'\nclass Solution:\n    def first(self, a): return 0",
    "forged frames": "import os\nclass Solution:\n    def first(self, a):\n        for fd in range(3, 30):\n            for t in (b'{\"tests\":2,\"ran\":2,\"passed\":2,\"failed\":null,\"cause\":\"\",\"error\":\"\"}', b'{\"ended\":\"ok\"}'):\n                try: os.write(fd, len(t).to_bytes(4, 'big') + t)\n                except OSError: pass\n        return 0",
    "reads the tests": "import os, sys, gc\nclass Solution:\n    def first(self, a):\n        seen = [o for o in gc.get_objects() if isinstance(o, (str, dict)) and 'assert' in str(o)[:5000]]\n        return 3 if any('== 3' in str(o) for o in seen) else -1",
    "kills its keeper": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nclass Solution:\n    def first(self, a): return 3",
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_passes(code: Code, name: str) -> None:
    verdict = code.grade(trace(CHEATS[name], FIRST))
    assert verdict.score == 0.0
    assert verdict.reason in ("wrong", "crashed")


def test_functions_and_output_cannot_cheat_either(code: Code) -> None:
    anything = "class A:\n    def __eq__(self, o): return True\n    def __str__(self): return '3'\n"
    cases = [
        (anything + "def twice(x): return A()", TWICE),
        ("def twice(x): raise SystemExit(0)", TWICE),
        ("import os\ndef twice(x): os._exit(0)", TWICE),
        ("def other(x): return x", TWICE),
        ("import sys\nsys.exit(0)", ADD),
        ("print('3')\nprint('7')\nprint('11')", ADD),
        ("print('3')", ADD),
        (STDIN + "\nprint('more')", ADD),
        ("print(input())", ADD),
        ("raise ValueError", ADD),
        ("print(3", ADD),
        ("import os\nos.close(1)", ADD),
        ("\0", ADD),
        ("(" * 5000, ADD),
    ]
    reasons = graded(code, cases)
    assert "correct" not in reasons
    assert set(reasons) == {"wrong", "crashed"}


def test_the_printing_of_programs_is_theirs_to_choose(code: Code) -> None:
    programs = [
        "import sys\nfor line in sys.stdin:\n    print(sum(map(int, line.split())))",
        "import sys\na, b = sys.stdin.buffer.read().split()\nsys.stdout.buffer.write(b'%d' % (int(a) + int(b)))",
        "print(sum(map(int, open(0).read().split())), end='')",
        "print(sum(map(int, open('/dev/stdin').read().split())))",
        "import os\nos.write(1, str(sum(map(int, input().split()))).encode())",
        "import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef f():\n    print(sum(map(int, input().split())))\nthreading.Thread(target=f).start()",
        "import atexit\natexit.register(lambda: print(sum(map(int, input().split()))))",
        "import sys\nprint(sum(map(int, input().split())))\nsys.exit()",
        "if __name__ == '__main__':\n    print(sum(map(int, input().split())))",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    a: int\nprint(sum(P(int(x)).a for x in input().split()))",
        "import sys\nprint('  ', sum(map(int, input().split())), '  ')\nprint('debug', file=sys.stderr)",
    ]  # fmt: skip
    assert graded(code, [(program, ADD) for program in programs]) == ["correct"] * len(programs)


def test_each_reason_is_told_apart(code: Code) -> None:
    expected = {
        "print(input())": "wrong",
        "1 / 0": "crashed",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)": "crashed",
        "x = bytearray(10**10)": "crashed",
        "while True: pass": "out_of_time",
        "open('/usr/x', 'w')": "sandbox_denied",
        "import socket\nsocket.create_connection(('10.0.0.1', 80))": "sandbox_denied",
        "import pydantic": "sandbox_denied",
        "while True: print('x' * 10**6)": "sandbox_denied",
    }
    verdicts = code.grade_all([trace(program, ADD) for program in expected])
    assert [verdict.reason for verdict in verdicts] == list(expected.values())
    assert {verdict.score for verdict in verdicts} == {0.0}
    assert {verdict.telemetry["sandbox"] for verdict in verdicts} == {"bubblewrap"}
    assert verdicts[1].telemetry["error"] == "ZeroDivisionError: division by zero"
    assert verdicts[0].detail == {"tests": 3, "ran": 1, "passed": 0, "failed": 0}


def test_reasons_of_calls_and_asserts(code: Code) -> None:
    body = "class Solution:\n    def first(self, a):\n        {}"
    expected = {
        "return 0": "wrong",
        "return len(a) / 0": "crashed",
        "return None.x": "crashed",
        "while True: pass": "out_of_time",
        "import torch": "sandbox_denied",
        "open('/usr/x', 'w')": "sandbox_denied",
    }
    for layout in (FIRST, {"fn_name": "first", "inputs": [[[1]]], "outputs": [1]}):
        assert graded(code, [(body.format(line), layout) for line in expected]) == list(expected.values())


def test_fraction_scores_the_share_and_names_the_first_failure(code: Code) -> None:
    with Code(workers=1, cpu_s=1, score="fraction") as fraction:
        half = "n = sum(map(int, input().split()))\nprint(n if n != 7 else 1 / 0)"
        some = "class Solution:\n    def first(self, a): return 5"
        dies = "import os\nn = sum(map(int, input().split()))\nif n == 3: os.kill(os.getpid(), 9)\nprint(n)"
        listed = {"tests": ["assert f(1) == 1", "assert f(2) == 3", "assert f(3) == 3"]}
        found = fraction.grade_all(
            [
                trace(half, ADD),
                trace(some, FIRST),
                trace(dies, ADD),
                trace("def f(x): return x", listed),
                trace(STDIN, ADD),
                trace("print()", ADD),
            ]
        )
    assert [(verdict.reason, verdict.score) for verdict in found] == [
        ("partial", pytest.approx(2 / 3)),
        ("partial", 0.5),
        ("partial", pytest.approx(2 / 3)),
        ("partial", pytest.approx(2 / 3)),
        ("correct", 1.0),
        ("wrong", 0.0),
    ]
    assert found[0].detail == {"tests": 3, "ran": 3, "passed": 2, "failed": 1, "first": "crashed"}
    assert found[3].detail == {"tests": 3, "ran": 3, "passed": 2, "failed": 1, "first": "wrong"}
    stopped = code.grade(trace(half, ADD))
    assert (stopped.reason, stopped.detail) == ("crashed", {"tests": 3, "ran": 2, "passed": 1, "failed": 1})


def test_values_keep_their_kind_between_the_processes(code: Code) -> None:
    tests = [
        "assert f((1, 2)) == (1, 2)",
        "assert f([1, (2, {3})]) == [1, (2, {3})]",
        "assert f((1, 2)) != [1, 2]",
        "assert f({1: 'a', (2, 3): b'x'}) == {1: 'a', (2, 3): b'x'}",
        "assert f(1.5) == 1.5 and f(float('inf')) == inf and f(10**5000) == 10**5000",
        "assert f('\\ud800\\u00e9') == '\\ud800\\u00e9'",
        "assert f(None) is None and f(True) is True",
        "assert list(g(3)) == [0, 1, 2]",
        "a = [3, 1, 2]\nsort(a)\nassert a == [1, 2, 3]",
        "s = Stack()\ns.push(4)\ns.push(5)\nassert s.pop() == 5 and s.pop() == 4",
        "try:\n    fail(1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no 1'",
        "assert math.isclose(f(0.1) + f(0.2), 0.3)",
    ]
    program = """
def f(x): return x
def g(n): yield from range(n)
def sort(a): a.sort()
def fail(x): raise ValueError(f'no {x}')
class Stack:
    def __init__(self): self.held = []
    def push(self, x): self.held.append(x)
    def pop(self): return self.held.pop()
"""
    verdict = code.grade(trace(program, {"tests": tests}))
    assert (verdict.reason, verdict.telemetry) == ("correct", {"sandbox": "bubblewrap"})


def test_tests_that_break_by_themselves_say_nothing_of_the_answer(code: Code) -> None:
    program = "def f(x): return x"
    found = code.grade_all(
        [
            trace(program, {"tests": ["import nothing_like_it", "assert f(1) == 1"]}),
            trace(program, {"tests": ["while True: pass", "assert f(1) == 1"]}),
            trace(program, {"tests": ["if False:\n    assert f(1) == 1"]}),
            trace("def f(x): return []", {"tests": ["for each in f(1):\n    assert each == 1"]}),
            trace(program, {"inputs": "1", "outputs": ["1"]}),
            trace(program, None),
            trace(program, {"tests": ["assert f(1) == 1"]}),
        ]
    )
    assert [verdict.reason for verdict in found] == [
        "grader_crashed",
        "grader_timeout",
        "unparseable_gold",
        "wrong",
        "unparseable_gold",
        "unparseable_gold",
        "correct",
    ]
    assert [verdict.score for verdict in found] == [None] * 3 + [0.0, None, None, 1.0]


def test_the_wall_clock_gives_no_score(code: Code) -> None:
    with Code(workers=1, wall_s=0.7) as impatient:
        sleepy, quick = impatient.grade_all(
            [trace("import time\ntime.sleep(60)", ADD), trace("class Solution:\n    def first(self, a):\n        import time; time.sleep(60)", FIRST)]
        )  # fmt: skip
    assert (sleepy.score, sleepy.reason) == (None, "grader_timeout")
    assert (quick.score, quick.reason) == (None, "grader_timeout")
    assert digest(identity(impatient)) == digest(identity(Code()))


def _burn() -> None:
    while True:
        pass


def test_a_loaded_machine_gives_the_same_verdicts() -> None:
    code = Code(workers=2, cpu_s=1)
    burn = "x = 0\nfor i in range(1_000_000): x += i\n"  # a good part of the limit
    cases = [(burn + STDIN, ADD), ("while True: pass", ADD), (STDIN, ADD), ("print(1)", ADD)]
    cases += [(burn + "class Solution:\n    def first(self, a): return a[0]", FIRST)]
    idle = graded(code, cases)
    burners = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(6)]
    for burner in burners:
        burner.start()
    try:
        loaded = graded(code, cases)
    finally:
        for burner in burners:
            burner.kill()
            burner.join()
        code.close()
    assert idle == loaded == ["correct", "out_of_time", "correct", "wrong", "correct"]


def test_packages_are_declared(code: Code) -> None:
    pytest.importorskip("numpy")
    program = "import numpy as np\nprint(np.array([int(x) for x in input().split()]).sum())"
    function = (
        "import numpy as np\ndef twice(x): return np.array([x, x]) if isinstance(x, list) else np.int64(2)"
    )
    with Code(workers=1, packages=["numpy"]) as declared:
        declared.check()
        assert graded(declared, [(program, ADD)]) == ["correct"]
        calls = {"fn_name": "twice", "inputs": [[1], [[2]]], "outputs": [2, [[2], [2]]]}
        assert graded(declared, [(function, calls), ("import pydantic", ADD)]) == [
            "correct",
            "sandbox_denied",
        ]
    assert graded(code, [(program, ADD)]) == ["sandbox_denied"]
    with pytest.raises(MissingError, match="pip install no-such-thing-at-all"):
        Code(packages=["no-such-thing-at-all"]).check()


def test_no_sandbox_is_said_out_loud() -> None:
    assert Code().foreign() == []
    assert Code(sandbox="none").foreign() == ["runs programs of a model with no sandbox"]
    assert digest(identity(Code(sandbox="none"))) != digest(identity(Code()))
    with Code(workers=1, sandbox="none") as plain:
        right, wrong = plain.grade_all(
            [trace(STDIN, ADD), trace("class Solution:\n    def first(self, a): return 0", FIRST)]
        )
    assert right == Verdict(1.0, "correct", STDIN + "\n", {"tests": 3, "ran": 3, "passed": 3, "failed": None}, telemetry={"sandbox": "none"})  # fmt: skip
    assert wrong.reason == "wrong"


def test_common_rules(code: Code) -> None:
    empty = Trace("p", [], "no code", "", "no code", reference=ADD, finish_reason="stop")
    assert code.grade(empty) == Verdict(0.0, "no_answer")
    assert code.grade(trace(STDIN, ADD, "length")).reason == "truncated"
    thought = Trace("p", [], "", f"```python\n{STDIN}\n```", "as above", reference=ADD, finish_reason="stop")
    assert code.grade(thought).reason == "no_answer"
    assert not Code.votes


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\na\n```", "a\n"),
        ("```\na\n```", "a\n"),
        ("```Python3\na\n```\nor\n```py\nb\n```", "b\n"),
        ("```python\na\n```\nprints\n```\n5\n```", "a\n"),
        ("```cpp\na\n```", None),
        ("```python\na\n```\n```python\nb", "a\n"),
        ("```python\na", None),
        ("````python\na\n```\nb\n````", "a\n```\nb\n"),
        ("~~~python\na\n~~~", "a\n"),
        ("1. so:\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n"),
        ("```python\n    return 1\n```", "    return 1\n"),
        ("```python title=x\na\n```", "a\n"),
        ("```python\n'''\n```inner\n'''\n```", "'''\n```inner\n'''\n"),
        ("", None),
    ],
)
def test_the_last_program_is_read(response: str, program: str | None) -> None:
    assert last_program(response) == program


@given(st.text(alphabet="`~py \nab") | st.text())
def test_any_text_can_be_searched_for_a_program(text: str) -> None:
    assert last_program(text) is None or isinstance(last_program(text), str)
    assert last_program("```python\nx = 1\n```\n") == "x = 1\n"


BAD = {
    "not json": "its tests are not JSON",
    "[]": "it holds no test",
    "5": "no JSON object or list but int",
    '{"a": 1}': "unknown layout (keys ['a'])",
    '{"inputs": [], "outputs": []}': "it holds no test",
    '{"inputs": ["1"], "outputs": []}': "no two lists of one length",
    '{"inputs": ["1"], "outputs": [{"a": 1}]}': "one of its tests is a dict where text is due",
    '{"tests": []}': "it holds no test",
    '{"tests": ["f(1)"]}': "it holds no test: there is no assert in it",
    '{"tests": ["assert f(1"]}': "its tests are no Python",
    '{"functional": 3}': "its tests are a int where Python text is due",
    '{"test": "assert True"}': 'needs an "entry_point"',
    '[{"input": "1"}]': 'no list of {"input", "output"}',
    '[{"input": "1", "output": "2", "testtype": "functional"}]': 'add "fn_name"',
    '{"fn_name": "f", "inputs": ["[1"], "outputs": [1]}': "are not JSON",
    '{"fn_name": "f", "inputs": [3], "outputs": [1]}': "are a int; use a list",
}  # fmt: skip


def test_bad_tests_are_told_in_one_line(code: Code) -> None:
    told = code.check_references(list(BAD))
    assert all(
        said is not None and part in said and "\n" not in said
        for said, part in zip(told, BAD.values(), strict=True)
    )
    assert {verdict.reason for verdict in code.grade_all([trace(STDIN, each) for each in BAD])} == {
        "unparseable_gold"
    }


def test_output_is_compared_whole() -> None:
    assert same_text("1 2 \n3\n\n", "1  2\n3", None)
    assert not same_text("1 2", "1 2 3", None)
    assert not same_text("1 2 3", "1 2", None)
    assert not same_text("0.30000000000000004", "0.3", None)
    assert same_text("0.30000000000000004 x", "0.3 x", 1e-6)
    assert not same_text("0.31 x", "0.3 x", 1e-6)
    assert not same_text("nan", "0.3", 1e6)
    assert same_text("1000001", "1000000", 1e-5)
    assert same_value([0.1 + 0.2, {"a": 1}], [0.3, {"a": 1.0}], 1e-9)
    assert not same_value([0.1 + 0.2], [0.3], None)
    assert not same_value([1], [1, 2], None)
    assert not same_value(1, True, None)
    assert not same_value("1", 1, None)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
        | st.sets(st.integers())
        | st.frozensets(st.text())
    ),
)


def refuse(*_: object) -> Any:
    raise TypeError


@given(PLAIN)
def test_plain_values_survive_the_trip(value: Any) -> None:
    sent = json.loads(json.dumps(code_codec.encode(value, refuse)))
    found = code_codec.decode(sent, refuse)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="set DISTILLKIT_DATA to a folder with code/leetcode.jsonl")
def test_reference_solutions_pass() -> None:
    leetcode = [json.loads(line) for line in (DATA / "leetcode.jsonl").open()]
    humaneval = [json.loads(line) for line in (DATA / "HumanEval.jsonl").open()]
    golds = [{key: row[key] for key in ("test", "entry_point", "prompt")} for row in humaneval]
    with Code() as verifier:
        passed = graded(verifier, [(row["solutions"], row["tests"]) for row in leetcode])
        assert passed.count("correct") >= 0.99 * len(leetcode)
        whole = [row["prompt"] + row["canonical_solution"] for row in humaneval]
        assert graded(verifier, list(zip(whole, golds, strict=True))) == ["correct"] * len(humaneval)
