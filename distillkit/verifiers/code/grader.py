"""Between candidate and tests: what a grading worker does with one program and its tests.

The candidate's box is told inputs only. Outputs are compared here; a script of asserts runs in a second box, which
stays warm for the next candidate (it holds tests, never an answer), and calls are carried from one to the other.
"""

import ast
import json
import marshal
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from distillkit.sandbox import Box, BoxError, Level, Limits
from distillkit.verifiers.code import codec, layout
from distillkit.verifiers.code.layout import Asserts, Cases
from distillkit.verifiers.code.packages import files_of

Result = dict[str, Any]
"""reason, passed, ran, tests, failed (index of the first that failed), error (one line), wall (not in time)."""


@dataclass
class Tally:
    """What came of the tests so far."""

    tests: int
    ran: int = 0
    passed: int = 0
    failed: int | None = None
    reason: str = ""
    error: str = ""

    def add(self, reason: str, error: str = "") -> None:
        """Count one test; the first that is not "correct" names the reason."""
        self.ran += 1
        if reason == "correct":
            self.passed += 1
        elif self.failed is None:
            self.failed, self.reason, self.error = self.ran - 1, reason, error


class WallError(Exception):
    """The wall clock ran out: nothing can be said about the candidate."""


@dataclass
class Grader:
    """Grades in this process, one candidate at a time."""

    level: Level
    packages: list[str]
    cpu_s: int
    memory_mib: int
    wall_s: float
    stop: bool
    tolerance: float | None
    _checker: Box | None = field(default=None, init=False)
    _spare: Box | None = field(default=None, init=False)
    _over: float = field(default=0.0, init=False)

    def __call__(self, item: dict[str, Any]) -> Result:
        """The result for {"code": text, "tests": layout.as_json(...)}."""
        tests = layout.of_json(item["tests"])
        count = 20 if isinstance(tests, Asserts) else len(tests.inputs)
        self._over = time.monotonic() + self.wall_s * (
            2 + count / 10
        )  # not wall_s of sleep in each of many tests
        try:
            if isinstance(tests, Asserts):
                tally = self._asserts(item["code"], tests)
            else:
                tally = self._cases(item["code"], tests)
        except WallError:
            return {"wall": True}
        return {
            name: tally.__dict__[name] for name in ("tests", "ran", "passed", "failed", "reason", "error")
        }

    def _cases(self, code: str, cases: Cases) -> Tally:
        tally = Tally(len(cases.inputs))
        one = self._call_once if cases.function else self._run_once
        wrapped = all(isinstance(each, list) and len(each) == 1 for each in cases.outputs)  # APPS
        box: Box | None = None
        try:
            for given, expected in zip(cases.inputs, cases.outputs, strict=True):
                box = box if box is not None and not box.ended else self._candidate(code)
                options = [expected, *(expected if wrapped and cases.function else [])]
                tally.add(*one(box, given, options, cases.function or ""))
                if self.stop and tally.failed is not None:
                    break
        finally:
            if box is not None:
                box.close()
        return tally

    def _candidate(self, code: str) -> Box:
        """A box with the candidate in it; the next one starts meanwhile, for its start is mostly waiting."""
        box = self._spare if self._spare is not None and not self._spare.ended else self._new_box()
        job = {"source": code, "cpu_s": self.cpu_s, "warm": self.packages}
        with suppress(BoxError):  # the first answer that it owes will say so
            box.send(marshal.dumps(job), self._deadline())
        self._spare = self._new_box()
        return box

    def _new_box(self) -> Box:
        """The CPU limit of each test is set inside; this one is for compiling."""
        limits = Limits(cpu_s=self.cpu_s + 10, memory_mib=self.memory_mib)
        return Box(_modules("codec", "runner"), limits, self.level, files_of(tuple(self.packages)))

    def _deadline(self) -> float:
        return min(time.monotonic() + self.wall_s, self._over)

    def _run_once(self, box: Box, given: str, expected: list[str], _: str) -> tuple[str, str]:
        try:
            box.send(b"s" + given.encode("utf-8", "replace"), self._deadline())
            head, error, printed = box.receive(self._deadline()).split(b"\n", 2)
        except BoxError as ended:
            return _of_box(ended)
        except ValueError:
            box.close()
            return "crashed", "it spoke out of turn"
        outcome = head.decode("ascii", "replace")
        if outcome != "ok":
            return _of_outcome(outcome, error.decode("utf-8", "replace"))
        right = same_text(printed.decode("utf-8", "replace"), expected[0], self.tolerance)
        return ("correct", "") if right else ("wrong", "")

    def _call_once(self, box: Box, given: list[Any], expected: list[Any], function: str) -> tuple[str, str]:
        call: dict[str, Any] = {
            "on": None,
            "name": function,
            "args": [_sent(each) for each in given],
            "named": {"dict": []},
        }
        try:
            reply = self._start_calls(box)
            if not reply.get("raised"):
                reply = self._ask(box, call)
            if "ended" in reply:
                return _of_outcome(str(reply["ended"]), "")
            self._end_calls(box)
        except BoxError as ended:
            return _of_box(ended)
        except (ValueError, RecursionError):
            box.close()
            return "crashed", "it spoke out of turn"
        if reply.get("raised"):
            return _of_outcome("error", str(reply["raised"]))
        value = _received(reply.get("value"))
        right = any(same_value(value, each, self.tolerance) for each in expected)
        return ("correct", "") if right else ("wrong", "")

    def _start_calls(self, box: Box) -> dict[str, Any]:
        box.send(b"c", self._deadline())
        return _object(box.receive(self._deadline()))

    def _ask(self, box: Box, call: dict[str, Any]) -> dict[str, Any]:
        box.send(json.dumps(call).encode(), self._deadline())
        return _object(box.receive(self._deadline()))

    def _end_calls(self, box: Box) -> None:
        box.send(b"null", self._deadline())
        box.receive(self._deadline())

    def _asserts(self, code: str, tests: Asserts) -> Tally:
        source = f"{tests.prompt}\n{code}" if tests.prompt else code
        with self._candidate(source) as box:
            try:
                reply = self._start_calls(box)
            except BoxError as ended:
                return _failed_at_once(tests.script, *_of_box(ended))
            except (ValueError, RecursionError):
                return _failed_at_once(tests.script, "crashed", "it spoke out of turn")
            if "ended" in reply or reply.get("raised"):
                return _failed_at_once(
                    tests.script, *_of_outcome(str(reply.get("ended", "error")), str(reply.get("raised", "")))
                )
            return self._check(box, tests)

    def _check(self, box: Box, tests: Asserts) -> Tally:
        """Carry calls from the tests' box to the candidate's until the tests have come to an end."""
        fate = ("crashed", "it ended in the middle of a call")
        verdict: dict[str, Any] = {}
        try:
            checker = self._warm_checker()
            checker.send(json.dumps(self._job(tests)).encode(), self._deadline())
            while "ended" not in (message := _object(checker.receive(self._deadline()))):
                if "call" not in message:
                    verdict = message
                    continue
                reply: dict[str, Any]
                try:
                    reply = self._ask(box, message["call"])
                    if "ended" in reply:
                        fate = _of_outcome(str(reply["ended"]), fate[1])
                        box.close()
                except BoxError as ended:
                    reply, fate = {"ended": "box"}, _of_box(ended)
                except (ValueError, RecursionError):
                    reply, fate = {"raised": "ValueError: it spoke out of turn"}, fate
                checker.send(json.dumps(reply).encode(), self._deadline())
        except (BoxError, WallError, ValueError, RecursionError) as error:
            self._end_checker()  # it waits for an answer that will not come
            if isinstance(error, WallError) or (isinstance(error, BoxError) and error.cause == "wall"):
                raise WallError from None
            return _failed_at_once(tests.script, "grader_crashed", "the tests broke their sandbox")
        if not verdict:
            return _failed_at_once(
                tests.script, "grader_timeout" if message["ended"] == "cpu" else "grader_crashed", ""
            )
        return _tally(verdict, fate)

    def _job(self, tests: Asserts) -> dict[str, Any]:
        given = {"script": tests.script, "prompt": tests.prompt, "entry_points": list(tests.entry_points)}
        return given | {"stop": self.stop, "cpu_s": 2 * self.cpu_s}

    def _warm_checker(self) -> Box:
        if self._checker is None or self._checker.ended:
            modules = _modules("codec", "runner", "checker")
            limits = Limits(cpu_s=24 * 3600, memory_mib=self.memory_mib)
            self._checker = Box(modules, limits, self.level, files_of(tuple(self.packages)))
        return self._checker

    def _end_checker(self) -> None:
        if self._checker is not None:
            self._checker.close()
            self._checker = None


def grader(*settings: Any) -> Callable[[dict[str, Any]], Result]:
    """What a worker serves; the settings are the fields of Grader, in order."""
    sys.set_int_max_str_digits(codec.MAX_DIGITS)
    return Grader(*settings)


@cache
def _modules(*names: str) -> tuple[tuple[str, CodeType], ...]:
    """Modules beside this one as code, for a box: it holds nothing of this package otherwise."""
    full = [f"distillkit.verifiers.code.{name}" for name in names]
    texts = [Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in names]
    return tuple((name, compile(text, name, "exec")) for name, text in zip(full, texts, strict=True))


def _of_box(ended: BoxError) -> tuple[str, str]:
    if ended.cause == "wall":
        raise WallError from None
    return "crashed", "out of memory" if ended.cause == "memory" else "its process ended"


def _of_outcome(outcome: str, error: str) -> tuple[str, str]:
    """Reason and error of a test whose process did not end well."""
    if outcome == "cpu":
        return "out_of_time", "out of CPU time"
    if error.startswith("denied "):
        return "sandbox_denied", error.removeprefix("denied ")
    return "crashed", error or "its process ended"


def _failed_at_once(script: str, reason: str, error: str) -> Tally:
    """No test ran."""
    count = sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(script)))
    return Tally(count, failed=0, reason=reason, error=error)


def _tally(verdict: dict[str, Any], fate: tuple[str, str]) -> Tally:
    """What the tests' box says; `fate` is the candidate's, where it ended on the way."""
    cause, error = str(verdict["cause"]), str(verdict["error"])
    reason, error = {
        "ended": fate,
        "denied": ("sandbox_denied", error),
        "broken": ("grader_crashed", error),
    }.get(cause, (cause, error))
    tally = Tally(verdict["tests"], verdict["ran"], verdict["passed"], verdict["failed"], reason, error)
    if (
        not tally.ran and tally.failed is None
    ):  # nothing was judged; where calls were made, what they gave is why
        tally.reason = "wrong" if verdict["calls"] else "unparseable_gold"
        tally.error = "no assert of its tests was reached"
    return tally


def _object(frame: bytes) -> dict[str, Any]:
    """The JSON object in a frame; ValueError for anything else."""
    found = json.loads(frame)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _sent(value: Any) -> Any:
    """A JSON value as codec writes it."""
    if isinstance(value, list):
        return [_sent(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[key, _sent(item)] for key, item in value.items()]}
    return value


_NOTHING = object()


def _received(data: Any) -> Any:
    """What a function gave as JSON would hold it: tuples and iterators are lists, keys are text."""
    try:
        return _as_json(codec.decode(data, _refuse))
    except (TypeError, ValueError, KeyError, IndexError, RecursionError):
        return _NOTHING


def _refuse(name: str, content: Any) -> Any:
    if name in codec.LINKS:
        return [_as_json(codec.decode(row[0], _refuse)) for row in content]
    raise TypeError(f"{name} is no JSON")


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(key): _as_json(item) for key, item in value.items()
        }
    if value is None or isinstance(value, str | int | float):
        return value
    return [_as_json(item) for item in value]


def same_value(given: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether two JSON values are equal; numbers within `tolerance` (absolute, or relative above 1) where declared."""
    if isinstance(given, list) and isinstance(expected, list):
        pairs = zip(given, expected, strict=False)
        return len(given) == len(expected) and all(same_value(a, b, tolerance) for a, b in pairs)
    if isinstance(given, dict) and isinstance(expected, dict):
        return given.keys() == expected.keys() and all(
            same_value(given[k], expected[k], tolerance) for k in given
        )
    if _is_number(given) and _is_number(expected):
        return given == expected or _close(float(given), float(expected), tolerance)
    return type(given) is type(expected) and bool(given == expected)


def same_text(printed: str, expected: str, tolerance: float | None) -> bool:
    """Whether all that was printed is the expected text, white space aside; numbers within `tolerance`."""
    given, wanted = printed.split(), expected.split()
    if given == wanted or tolerance is None or len(given) != len(wanted):
        return given == wanted
    return all(
        a == b or (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b) and _close(float(a), float(b), tolerance))
        for a, b in zip(given, wanted, strict=True)
    )


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(given: float, expected: float, tolerance: float | None) -> bool:
    return tolerance is not None and abs(given - expected) <= tolerance * max(1.0, abs(expected))
