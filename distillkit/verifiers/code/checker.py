"""The tests' side, inside a sandbox of its own: runs a test script whose candidate lives in another process.

Every name that the script uses and does not define is a stand-in that sends calls out and gets plain data back; so
expected values and comparisons never share a process with the code under test. Each `assert` is one test.
"""

import ast
import builtins
import json
import os
import resource
import sys
from collections import deque
from typing import Any

from distillkit.verifiers.code import codec, runner

_RAISED = {
    name: getattr(builtins, name)
    for name in "ValueError TypeError KeyError IndexError ZeroDivisionError AttributeError NotImplementedError "
    "RuntimeError OverflowError ArithmeticError LookupError AssertionError RecursionError NameError Exception".split()
}
"""Exceptions of a candidate that reach a test as they are. Not StopIteration: it would end a test's loop early."""


def main() -> None:
    """Serve until the pipe ends: one script per frame, each in a process forked from this one."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.set_int_max_str_digits(codec.MAX_DIGITS)
    while True:
        job = json.loads(runner._read(requests))
        child = os.fork()
        if not child:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"]))
            Script(job, requests, answers).run()
            os._exit(0)
        runner._write(answers, json.dumps({"ended": runner._wait(child, job["cpu_s"])}).encode())


class Ended(BaseException):
    """The candidate's process is gone; nothing of the script may go on as if it had answered."""


class CandidateError(Exception):
    """The candidate raised what is none of the usual exceptions, or gave what is no plain data."""


class Script:
    """One run of a test script; `ran`, `passed` and the first `failed` count its asserts."""

    def __init__(self, job: dict[str, Any], requests: int, answers: int) -> None:
        self._job, self._requests, self._answers = job, requests, answers
        self.ran = self.passed = self.calls = 0
        self.failed: int | None = None
        self.cause, self.error = "", ""
        self._raised: list[tuple[BaseException, str]] = []

    def run(self) -> None:
        """Run it and say what came of it."""
        count = 0
        try:
            tree = ast.parse(self._job["script"])
            names = _names(self._job["prompt"]) | {"ListNode": codec.ListNode, "TreeNode": codec.TreeNode}
            names |= {name: value for name, value in _HELPERS.items() if name not in names}
            for name in _undefined(tree, names) | set(self._job["entry_points"]):
                names[name] = _Remote(self, name)
            count = sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
            code = compile(ast.fix_missing_locations(_Wrap().visit(tree)), "<tests>", "exec")
            exec(code, names | {"__name__": "tests", "__test__": self})
        except Ended:
            self._note("ended", "")
        except BaseException as error:  # noqa: BLE001 - a process boundary: a script may raise anything
            if self.failed is None:  # not an assert: a line between them
                self.ran += 1
            self._blame(error)
        counts = {"tests": max(count, self.ran), "ran": self.ran, "passed": self.passed, "calls": self.calls}
        self._say(counts | {"failed": self.failed, "cause": self.cause, "error": self.error})

    def __enter__(self) -> None:
        self.ran += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if error is None:
            self.passed += 1
            return False
        if isinstance(error, Ended):
            return False
        self._blame(error)
        return not self._job["stop"]

    def _blame(self, error: BaseException) -> None:
        cause = "wrong" if isinstance(error, AssertionError) or self.calls else "broken"
        for raised, its_cause in self._raised:
            if error is raised:
                cause = its_cause
        self._note(cause, f"{type(error).__name__}: {error}"[:500])

    def _note(self, cause: str, error: str) -> None:
        if self.failed is None:
            self.failed, self.cause, self.error = max(self.ran - 1, 0), cause, error

    def call(self, on: int | None, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the candidate's process says to a call; raises what it raised."""
        message = {"on": on, "name": name, "args": [codec.encode(each, _stand_in) for each in args]}
        self._say({"call": message | {"named": codec.encode(named, _stand_in)}})
        self.calls += 1
        reply = json.loads(runner._read(self._requests))
        if "ended" in reply:
            raise Ended
        try:
            if "value" in reply:
                for place, new in reply["changed"]:
                    _change(
                        named[place] if isinstance(place, str) else args[place], codec.decode(new, self._make)
                    )
                return codec.decode(reply["value"], self._make)
            said = str(reply["raised"])
        except (TypeError, ValueError, KeyError, IndexError, RecursionError, AttributeError):
            said = "TypeError: it gave what is no plain data"
        raise self._replica(said)

    def _replica(self, said: str) -> Exception:
        name, _, text = said.removeprefix("denied ").partition(": ")
        error: Exception = _RAISED[name](text) if name in _RAISED else CandidateError(said)
        self._raised.append((error, "denied" if said.startswith("denied ") else "crashed"))
        return error

    def _make(self, name: str, content: Any) -> Any:
        if name == "held":
            return _Remote(self, "", int(content))
        return codec.nodes(
            {"ListNode": codec.ListNode, "TreeNode": codec.TreeNode}[name], name, content, self._make
        )

    def _say(self, message: dict[str, Any]) -> None:
        runner._write(self._answers, json.dumps(message).encode())


class _Remote:
    """Stands in for a function, class or object of the candidate. It can be called, and compares to nothing."""

    def __init__(self, script: Script, name: str, held: int | None = None, on: int | None = None) -> None:
        self.__script, self.__name, self.__held, self.__on = script, name, held, on

    def __call__(self, *args: Any, **named: Any) -> Any:
        if self.__held is not None:
            return self.__script.call(self.__held, "__call__", args, named)
        return self.__script.call(self.__on, self.__name, args, named)

    def __getattr__(self, name: str) -> "_Remote":
        if name.startswith("__") or (self.__held is None and self.__on is None):
            raise AttributeError(name)
        return _Remote(self.__script, name, on=self.__held)

    def __reference__(self) -> dict[str, Any]:
        return {"named": self.__name} if self.__held is None else {"held": self.__held}

    def __refuse__(self, *_: object) -> Any:
        raise CandidateError("the answer gave an object that is no plain data")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __contains__ = (
        __refuse__
    )
    __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __abs__ = __float__ = (
        __refuse__
    )
    __int__ = __index__ = __round__ = __hash__ = __refuse__


def _stand_in(value: Any) -> dict[str, Any]:
    if isinstance(value, _Remote):
        return value.__reference__()
    raise TypeError(f"a test gives the answer a {type(value).__name__}, which is no plain data")


def _change(target: Any, new: Any) -> None:
    """Make a list, dict or set what the call made of it."""
    if isinstance(target, list):
        target[:] = new
    else:
        target.clear()
        target.update(new)


class _Wrap(ast.NodeTransformer):
    """Each `assert` inside a `with __test__:`, which counts it and, in fraction mode, goes on after a failure."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        block = ast.With([ast.withitem(ast.Name("__test__", ast.Load()))], [node])
        return ast.copy_location(block, node)


def _undefined(tree: ast.AST, known: dict[str, Any]) -> set[str]:
    """Names that a script reads and nobody defines: those of the candidate."""
    read, bound = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return {name for name in read - bound - known.keys() if name not in builtins.__dict__}


def _names(prompt: str) -> dict[str, Any]:
    """What the problem's own code defines (helpers that its tests call)."""
    names: dict[str, Any] = {"__name__": "prompt"}
    exec(compile(prompt, "<prompt>", "exec"), names)
    return names


def list_node(values: list[Any]) -> Any:
    """The linked list of some values; None for none."""
    head = None
    for value in reversed(values):
        head = codec.ListNode(value, head)
    return head


def is_same_list(a: Any, b: Any) -> bool:
    """Whether two linked lists hold equal values in the same order."""
    while a is not None and b is not None and a.val == b.val:
        a, b = a.next, b.next
    return a is None and b is None


def tree_node(values: list[Any]) -> Any:
    """The binary tree of LeetCode's level order, where None stands for no child."""
    if not values or values[0] is None:
        return None
    rest = iter(values[1:])
    root = codec.TreeNode(values[0])
    waiting = deque([root])
    while waiting:
        node = waiting.popleft()
        for side in ("left", "right"):
            value = next(rest, None)
            if value is not None:
                child = codec.TreeNode(value)
                setattr(node, side, child)
                waiting.append(child)
    return root


def is_same_tree(a: Any, b: Any) -> bool:
    """Whether two binary trees have the same shape and values."""
    waiting = [(a, b)]
    for x, y in waiting:
        if x is None and y is None:
            continue
        if x is None or y is None or x.val != y.val:
            return False
        waiting += [(x.left, y.left), (x.right, y.right)]
    return True


_HELPERS = {
    "list_node": list_node,
    "is_same_list": is_same_list,
    "tree_node": tree_node,
    "is_same_tree": is_same_tree,
    "inf": float("inf"),
    "nan": float("nan"),
    "null": None,
    "true": True,
    "false": False,
    **{
        name: __import__(name)
        for name in ("math", "re", "copy", "random", "itertools", "collections", "typing")
    },
}
