"""A grader of the user's own in any language: a program that reads a row per line and answers with a line.

It is started once per worker and stays. A row that it does not answer in time, or answers with nonsense, is tried
once more on a fresh process and then has its reason. Every answer names the request that it is to, so that whatever
a program prints besides, no row ever gets another row's score.
"""

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, WithJsonSchema, model_serializer, model_validator

from distillkit.errors import SECRET, MissingError, RecipeError
from distillkit.pool import Failure, close_shared, shared
from distillkit.spec import EXECUTION, SourceFile, Strict, file_digest
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.grader import CAUSES, row_of, scored
from distillkit.worker import die_with

log = logging.getLogger(__name__)

MAX_LINE = 1 << 20
"""Bytes of an answer; a longer line is no answer."""
NO_LIMIT_GIB = 2.0**20
LATE, BROKEN = "late", "broken"
_REASONS = {LATE: "grader_timeout", BROKEN: "grader_crashed"}


class ProgramFile(Strict):
    """A file that a program is made of; in YAML simply its path."""

    path: SourceFile

    @model_validator(mode="before")
    @classmethod
    def _of_path(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given

    @model_serializer
    def _as_path(self) -> str:
        return self.path


class Command(Verifier):
    """Runs a program: {kind: command, command: [./grader, --strict], files: [./grader]}."""

    votes: ClassVar[bool] = False

    kind: Literal["command"] = "command"
    command: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    """The program and its arguments; no shell reads them. A word that names one of `files` is that file."""
    files: list[Annotated[ProgramFile, WithJsonSchema({"type": "string"})]] = []
    """Files of yours that it consists of, from the recipe's folder on; their bytes are part of the identity."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Wall seconds for one row, its start included; a row that takes longer is not judged."""
    memory_gib: Annotated[float | None, Field(ge=1)] = None
    """Address space of the program in GiB; left out: no limit, since some runtimes reserve far more than they use."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Processes of it; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer, else the whole response: what counts is the program's business."""
        return super().answer(trace) or trace.response.strip() or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        results = self._call([row_of(trace, answer) for trace, answer in answered])
        failed = [detail for fate, detail in results if fate != "scored"]
        if failed:
            log.warning(
                "%s: failed on %d of %d rows: %s", self.command[0], len(failed), len(results), failed[0]
            )
        return [
            _verdict(fate, found, answer)
            for (fate, found), (_, answer) in zip(results, answered, strict=True)
        ]

    def check(self) -> list[str]:
        for file in self.files:
            file_digest(Path(file.path))
        program = self._words()[0]
        if "/" in program and not Path(program).is_absolute():
            raise RecipeError(f"command: {program}: name it under `files:` too, so that its bytes count")
        if shutil.which(program) is None:
            raise MissingError(
                f"command: {program}: no such program that may be executed; install it, or chmod +x"
            )
        return []

    def probe(self, trace: Trace) -> Verdict:
        """The verdict on one row; raises RecipeError where the program gives none."""
        answer = self.answer(trace) or ""
        [(fate, found)] = self._call([row_of(trace, answer)])
        if fate != "scored":
            raise RecipeError(f"{self.command[0]}: failed on problem {trace.problem_id}: {found}")
        return _verdict(fate, found, answer)

    def foreign(self) -> list[str]:
        return [f"runs {' '.join(self.command)}"]

    def close(self) -> None:
        close_shared(program)

    def _words(self) -> list[str]:
        """The command, its own files by their full path."""
        return [
            next((file.path for file in self.files if _names(word, Path(file.path))), word)
            for word in self.command
        ]

    def _call(self, rows: Sequence[dict[str, Any]]) -> list[tuple[str, Any]]:
        """Of each row ("scored", (score, reason)), or ("late" or "broken", why)."""
        if not rows:
            return []
        digests = [file_digest(Path(file.path)) for file in self.files]
        pool = shared(
            program,
            (self._words(), digests, self.timeout_s),
            workers=self.workers,
            cpu_s=self.timeout_s,  # of the worker, which only waits
            memory_gib=self.memory_gib or NO_LIMIT_GIB,
        )
        results = pool.map(rows)
        for at, row in enumerate(rows):
            if not _is_scored(results[at]):  # its neighbours' fault, or the machine's: once more, alone
                results[at] = pool.map([row])[0]
        return [_fate(result) for result in results]


def _verdict(fate: str, found: Any, answer: str) -> Verdict:
    if fate != "scored":
        return Verdict.of(_REASONS[fate], answer)
    score, reason = found
    return Verdict(score, reason, answer)


def _names(word: str, file: Path) -> bool:
    """Whether a word of the command is the path of a file, as the recipe has it."""
    parts = Path(word).parts
    return bool(parts) and file.parts[-len(parts) :] == parts


def _is_scored(result: Any) -> bool:
    return not isinstance(result, Failure) and result[0] == "scored"


def _fate(result: Any) -> tuple[str, Any]:
    if isinstance(result, Failure):
        late = CAUSES[result.cause] == "grader_timeout"
        return LATE if late else BROKEN, result.detail
    return result[0], result[1]


def program(
    words: list[str], digests: list[str], timeout_s: float
) -> Callable[[dict[str, Any]], tuple[str, Any]]:
    """What a worker serves: the program, kept alive from row to row. `digests` tell edited files apart."""
    return _Program(words, timeout_s).grade


class _Ended(ValueError):
    """The program closed its output."""


class _Program:
    """One process of the program, started when the first row comes and again after each failure."""

    def __init__(self, words: list[str], timeout_s: float) -> None:
        self._words = words
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._requests = 0
        self._first = 1

    def grade(self, row: dict[str, Any]) -> tuple[str, Any]:
        """("scored", (score, reason)), or ("late" or "broken", why) and the process is gone."""
        self._requests += 1
        until = time.monotonic() + self._timeout_s
        try:
            process = self._started()
            request = json.dumps({"request": self._requests, **row}).encode() + b"\n"
            answer = self._answer(self._exchange(process, request, until))
            while answer is None:
                answer = self._answer(self._exchange(process, b"", until))
            return "scored", scored(answer)
        except TimeoutError:
            self._end()
            return LATE, f"no answer within {self._timeout_s:g} s"
        except (_Ended, BrokenPipeError) as error:
            return BROKEN, f"{error}{self._exit_code()}"
        except (OSError, TypeError, ValueError) as error:
            self._end()
            return BROKEN, str(error)

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._unread, self._first = b"", self._requests
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                process_group=0,
                env={name: value for name, value in os.environ.items() if not SECRET.search(name)},
                preexec_fn=partial(die_with, os.getpid()),  # safe: a worker has one thread
            )
            for pipe in (self._process.stdin, self._process.stdout):
                os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        return self._process

    def _exchange(self, process: "subprocess.Popen[bytes]", data: bytes, until: float) -> bytes:
        """Send a line and read one. Both at once, for a program may write before it has read all."""
        assert process.stdin is not None and process.stdout is not None
        source, sink, waiting = process.stdout.fileno(), process.stdin.fileno(), memoryview(data)
        read, self._unread = self._unread, b""
        while waiting or b"\n" not in read:
            left = until - time.monotonic()
            readable, writable, _ = select.select([source], [sink] if waiting else [], [], max(0.0, left))
            if not readable and not writable:
                raise TimeoutError
            if writable:
                waiting = waiting[os.write(sink, waiting) :]
            if readable:
                data = os.read(source, 1 << 16)
                read += data
                if not data:
                    raise _Ended("it ended without an answer")
                if len(read) > MAX_LINE:
                    raise ValueError(f"it wrote more than {MAX_LINE:,} bytes")
        line, _, self._unread = read.partition(b"\n")
        return line

    def _answer(self, line: bytes) -> dict[str, Any] | None:
        """What a line answers, the request aside; None for one to an earlier request (it answered that twice)."""
        shown = line[:200].decode("utf-8", "replace")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"it answered {shown!r}, which is no JSON") from None
        request = answer.pop("request", None) if isinstance(answer, dict) else None
        if request in range(self._first, self._requests):
            return None
        if not isinstance(answer, dict) or request != self._requests:
            raise ValueError(f"it answered {shown!r}, which does not name request {self._requests}")
        return answer

    def _exit_code(self) -> str:
        """What a process ended with that has closed its pipe, in words; the process is gone then."""
        assert self._process is not None
        try:
            words = f" (exit code {self._process.wait(1)})"
        except subprocess.TimeoutExpired:
            words = ""
        self._end()
        return words

    def _end(self) -> None:
        """Kill the process and whatever it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()  # type: ignore[union-attr]
