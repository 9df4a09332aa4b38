"""Programs judged by running them: in a sandbox, on inputs alone, with the expected results in another process.

What a model can write to be rewarded without solving decides its shape: `__eq__` that is always true, sys.exit(0),
patched builtins, forged output. None of it reaches the place where results are compared.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.pool import Failure, close_shared, shared
from distillkit.sandbox import Level, probe
from distillkit.spec import EXECUTION
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.code import layout
from distillkit.verifiers.code.grader import grader
from distillkit.verifiers.code.packages import files_of

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([\w+#.-]*)")
_PYTHON = {"python", "python3", "py", "py3"}


class Code(Verifier):
    """Correct when the answer's Python program passes all tests of the problem: {kind: code, packages: [numpy]}."""

    votes: ClassVar[bool] = False

    kind: Literal["code"] = "code"
    sandbox: Level = "bubblewrap"
    """Where candidates run; `none` is a plain process that can read your files and tokens, and needs --trust."""
    packages: list[str] = []
    """What candidates may import besides the standard library; by the name that pip knows."""
    score: Literal["all", "fraction"] = "all"
    """all: 1 or 0, and the first failing test ends it; fraction: every test runs, the share that passed."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """How far numbers may be off (absolute, above 1 relative); left out: not at all. Asserts bring their own."""
    cpu_s: Annotated[int, Field(ge=1)] = 6
    """CPU seconds that a program may take for one test (for all asserts of a script together)."""
    memory_mib: Annotated[int, Field(ge=128)] = 1024
    """Memory of a program with all its processes, in MiB."""
    wall_s: Annotated[float | None, Field(gt=0), EXECUTION] = None
    """Backstop on the clock for one test, after which nothing is said of it; left out: 10 + 10 times `cpu_s`."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Programs that run at once; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        """The last complete fenced block marked as Python, else the last without a mark."""
        return last_program(trace.response)

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        suites: list[dict[str, Any] | None] = []
        for trace, _ in answered:
            try:
                suites.append(layout.as_json(layout.read(trace.reference)))
            except ValueError:
                suites.append(None)
        items = [{"code": a, "tests": s} for (_, a), s in zip(answered, suites, strict=True) if s is not None]
        results = iter(self._run(items))
        return [
            Verdict.of("unparseable_gold", answer) if suite is None else self._verdict(next(results), answer)
            for suite, (_, answer) in zip(suites, answered, strict=True)
        ]

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        return [_complaint(reference) for reference in references]

    def check(self) -> list[str]:
        level = probe(self.sandbox)
        files_of(tuple(self.packages))
        return [f"sandbox: {level}"]

    def foreign(self) -> list[str]:
        return ["runs programs of a model with no sandbox"] if self.sandbox == "none" else []

    def close(self) -> None:
        close_shared(grader)

    def _run(self, items: Sequence[dict[str, Any]]) -> list[Any]:
        """Results in order. What met the wall clock is tried once more, alone: the machine may have been busy."""
        if not items:
            return []
        wall_s = self.wall_s or 10.0 + 10 * self.cpu_s
        settings = [
            self.sandbox,
            self.packages,
            self.cpu_s,
            self.memory_mib,
            wall_s,
            self.score == "all",
            self.tolerance,
        ]
        # Its CPU limit is on comparing alone; the sandbox has limits of its own.
        pool = shared(grader, settings, workers=self.workers, cpu_s=600.0, memory_gib=4.0)
        results = pool.map(items)
        for at, result in enumerate(results):
            if isinstance(result, dict) and result.get("wall"):
                [results[at]] = pool.map([items[at]])
        return results

    def _verdict(self, result: Any, answer: str) -> Verdict:
        telemetry: dict[str, Any] = {"sandbox": self.sandbox}
        if isinstance(result, Failure) or result.get("wall"):
            late = not isinstance(result, Failure) or result.cause in ("cpu", "wall")
            reason = "grader_timeout" if late else "grader_crashed"
            return Verdict(None, reason, answer, telemetry=telemetry)
        if result["error"]:
            telemetry["error"] = result["error"]
        detail = {name: result[name] for name in ("tests", "ran", "passed", "failed")}
        plain = Verdict.of(result["reason"] or "correct", answer)
        share = result["passed"] / max(1, result["tests"])
        if self.score == "fraction" and plain.score == 0.0 and 0 < share < 1:
            return Verdict(share, "partial", answer, detail | {"first": plain.reason}, telemetry=telemetry)
        return Verdict(plain.score, plain.reason, answer, detail, telemetry=telemetry)


def last_program(response: str) -> str | None:
    """The last complete fenced block marked as Python, else the last unmarked one; None where there is neither.

    An unmarked block after a marked one is the program's output more often than a program. A block that is never
    closed is none. The fence's own indentation is taken off its lines.
    """
    marked, unmarked = None, None
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in response.splitlines():
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = fence, []
        elif fence and not fence[3] and fence[2].startswith(opened[2]) and not line[fence.end() :].strip():
            text = "\n".join(each.removeprefix(opened[1]) for each in lines) + "\n"
            if opened[3].lower() in _PYTHON:
                marked = text
            elif not opened[3]:
                unmarked = text
            opened = None
        else:
            lines.append(line)
    return marked if marked is not None else unmarked


def _complaint(reference: Any) -> str | None:
    try:
        layout.read(reference)
    except ValueError as error:
        return str(error)
    return None
