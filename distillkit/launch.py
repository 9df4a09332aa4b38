"""Run one stage: here, or in a child process, so that a model's memory is truly gone before the next stage.

Children are forked from a server process that imports the heavy libraries while the first stages still run:
TRL alone takes seconds to import, and a recipe starts many children. Such a child has its output in a log,
tells its progress in a file, and dies with its parent however that one dies.
"""

import atexit
import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from distillkit.durable import disk_error
from distillkit.errors import DistillkitError, EngineError, redacted
from distillkit.events import read_events
from distillkit.stages.base import Stage
from distillkit.store import Writer
from distillkit.ticket import (
    ENVIRONMENT,
    ERROR,
    ERRORS,
    INTERRUPTED,
    LOG,
    PROGRESS,
    RESULT,
    Listener,
    Ticket,
    run_here,
)
from distillkit.training.config import Training

__all__ = ["Ticket", "preload_of", "run_child", "run_here", "start", "stop"]

PRELOAD = ("torch", "transformers.models.qwen3.modeling_qwen3", "transformers.generation")
"""What every child with a model needs."""

PRELOAD_TRAINERS = ("datasets", "trl.trainer.sft_trainer", "trl.trainer.grpo_trainer")
"""What a child that trains needs besides."""

THREADS_VARIABLE = "DISTILLKIT_THREADS"
DEFAULT_THREADS = 2
"""Fixed whatever the machine has: the order of a sum, and so the last bit of a weight, depends on it."""

GRACE_S = 120.0
"""How long a child that was told to stop may take, to finish a step and save a checkpoint."""

POLL_S = 0.1
CHILD = "distillkit.child"
TAIL_LINES = 8


def preload_of(stages: Sequence[Stage]) -> list[str]:
    """The modules that the children of these stages need, in the order of their need."""
    trainers = PRELOAD_TRAINERS if any(isinstance(stage, Training) for stage in stages) else ()
    return [*PRELOAD, *trainers] if any(stage.CHILD for stage in stages) else []


def start(preload: Sequence[str] = (*PRELOAD, *PRELOAD_TRAINERS)) -> None:
    """Begin to import in the server what the children will need; else the first child starts the server.

    With a GPU nothing is preloaded: a library that touches the device while it is imported would spoil it for
    every fork, and seconds do not matter there. The server ends with the thread that called this.
    """
    global _server
    if _server is None or not _server.alive:
        _server = _Server([] if _has_gpu() else preload)


def stop() -> None:
    """End the server and with it any child."""
    global _server
    if _server is not None:
        _server.close()
        _server = None


def run_child(ticket: Ticket, out: Writer, on_event: Listener) -> None:
    """Run a stage in a child process and take over into `out` what it counted and found.

    An interruption of this call (Ctrl-C, an exception in `on_event`) tells the child to stop, waits until it
    has, and goes on upwards; a second one kills the child.

    Raises:
        DistillkitError: what the stage raised in the child.
        EngineError: the child crashed or was killed.
    """
    start(())
    assert _server is not None
    for name in (RESULT, ERROR, PROGRESS):
        (out.scratch / name).unlink(missing_ok=True)
    status = _server.run(ticket, on_event)
    if status == 0:
        _take_result(out)
    else:
        raise _failure(ticket, status)


def _take_result(out: Writer) -> None:
    result = json.loads((out.scratch / RESULT).read_text("utf-8"))
    out.rows_in, out.rows_kept = result["rows_in"], result["rows_kept"]
    out.counts, out.summary = result["counts"], result["summary"]
    out.telemetry, out.salt = result["telemetry"], result["salt"]


FULL_BYTES = 2**20
"""A child that crashed with less than this free is taken to have met the end of the disk."""


def _failure(ticket: Ticket, status: int | None) -> DistillkitError:
    """What to raise for a child that ended so: an exit code, minus a signal, or None where nobody knows."""
    if (ticket.scratch / ERROR).exists():
        error = json.loads((ticket.scratch / ERROR).read_text("utf-8"))
        return {each.__name__: each for each in ERRORS}[error["class"]](error["text"])
    if (status or 0) > 0 and shutil.disk_usage(ticket.work).free < FULL_BYTES:
        # On a full disk the child may not even be able to leave its error behind.
        full = disk_error(ticket.scratch, OSError(errno.ENOSPC, ""))
        if isinstance(full, DistillkitError):
            return full
    if status == INTERRUPTED:
        return EngineError(f"{ticket.name}: its process was told to stop and did; run again to go on")
    how = "ended without a word" if status is None else f"ended with exit code {status}"
    if status is not None and status < 0:
        how = f"was killed by {signal.Signals(-status).name}"
    if status == -signal.SIGKILL:
        how += " (as the system does when memory runs out)"
    log = ticket.scratch / LOG
    return EngineError(f"{ticket.name}: its process {how}; what is finished is safe; log: {log}{_tail(log)}")


def _tail(log: Path) -> str:
    """The last lines of a log, without the values of secret environment variables."""
    if not log.exists():
        return ""
    text = redacted(log.read_text("utf-8", "replace"))
    lines = [line[:300] for line in text.splitlines() if line.strip()]
    return "".join(f"\n  {line}" for line in lines[-TAIL_LINES:])


class _Server:
    """The parent's end of the process that forks children; one child at a time."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        threads = os.environ.get(THREADS_VARIABLE, str(DEFAULT_THREADS))
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD, str(theirs.fileno()), str(os.getpid()), *preload],
            env={
                **os.environ,
                **ENVIRONMENT,
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "PYTHONPATH": paths,
            },
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._unread = b""
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, ticket: Ticket, on_event: Listener) -> int | None:
        """Fork a child and follow it; its exit code, minus its signal, or None when the server died."""
        child = self._fork(ticket)
        if child is None:
            return None
        offset = 0
        status: bytes | None = b""
        try:
            while status == b"":
                status = self._answer(POLL_S)
                events, offset = read_events(ticket.scratch / PROGRESS, offset)
                for event in events:
                    on_event(event)
        except BaseException:
            if status == b"":
                self._end(child)
            raise
        return None if status is None else int(status)

    def _fork(self, ticket: Ticket) -> int | None:
        """The pid of a new child, None when the server is dead."""
        try:
            with contextlib.suppress(BrokenPipeError):
                self._socket.sendall(json.dumps(asdict(ticket)).encode() + b"\n")
            answer = self._answer(None)
        except BaseException:  # a child may come into being unseen; its server takes it along
            self.close()
            raise
        return None if answer is None else int(answer)

    def _end(self, child: int) -> None:
        """Tell a child to stop and wait for it; kill it when it does not, or at a second interruption."""
        try:
            os.kill(child, signal.SIGTERM)
            answer = self._answer(GRACE_S)
        except ProcessLookupError:  # it ended at this very moment
            self.close()
        except BaseException:
            self._kill(child)
            raise
        else:
            if answer == b"":
                self._kill(child)

    def _kill(self, child: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        self._answer(None)

    def _answer(self, timeout_s: float | None) -> bytes | None:
        """The server's next line, b"" when it did not come in time, None when the server is gone."""
        while b"\n" not in self._unread:
            if not select.select([self._socket], [], [], timeout_s)[0]:
                return b""
            try:
                data = self._socket.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def close(self) -> None:
        atexit.unregister(self.close)
        self._socket.close()
        self._process.kill()  # its children die with it
        self._process.wait()


_server: _Server | None = None


def _has_gpu() -> bool:
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))
