"""Ends vLLM's engine processes when the process that started them is killed.

They do not notice it themselves (0.31), and would hold a GPU's memory until someone finds them. Run as a script,
`python guard.py PID [OTHERS ...]`, beside the start of an engine: it collects the new children of PID until it
is told which they are, then waits for the end of PID. Linux only: it needs process descriptors.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_S = 0.1
"""How often to look for new children while the engine starts."""


@contextmanager
def guarded() -> Iterator["Guard"]:
    """A guard over the children that this process starts until `started`; leaving the context ends it."""
    guard = Guard()
    try:
        yield guard
    finally:
        guard.end()


class Guard:
    """The guarding process, from the side that is guarded."""

    def __init__(self) -> None:
        self._others = children(os.getpid())
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "linux":
            command = [sys.executable, "-I", __file__, str(os.getpid()), *map(str, self._others)]
            # In a session of its own: a Ctrl-C is for those who can end in good order.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            self._others.add(self._process.pid)

    def started(self) -> None:
        """All engine processes are there: children that come later are none of its business."""
        if self._process is not None and self._process.stdin is not None:
            named = children(os.getpid()) - self._others
            with suppress(BrokenPipeError):
                self._process.stdin.write(b" ".join(b"%d" % child for child in named) + b"\n")
                self._process.stdin.flush()

    def end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()


def children(parent: int) -> set[int]:
    """Direct children, less Python's own tracker of shared memory, which cleans up after the others."""
    found: set[int] = set()
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(child) for child in task.read_text().split()}
    return {child for child in found if b"resource_tracker" not in _command(child)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def watch(parent: int, others: set[int]) -> None:
    """Until the parent has ended; then kill those of its children that came while the engine started."""
    if sys.platform != "linux":
        return
    # A descriptor names its process for good, whatever becomes of the number.
    seen: dict[int, int] = {}
    gone = _open(parent)
    told = False
    while True:
        for child in set() if told else children(parent) - others - set(seen):
            seen[child] = _open(child)
        sources = [each for each in (gone, -1 if told else sys.stdin.fileno()) if each >= 0]
        ready, _, _ = select.select(sources, [], [], None if told else LOOK_S)
        if not told and sys.stdin.fileno() in ready and (line := sys.stdin.readline()):
            told = True
            named = {int(pid) for pid in line.split()}
            seen = {pid: seen[pid] if pid in seen else _open(pid) for pid in named}
        if gone < 0 or gone in ready:
            break
    for descriptor in seen.values():
        with suppress(ProcessLookupError):
            if descriptor >= 0:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def _open(pid: int) -> int:
    """A descriptor of a process, -1 where it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


if __name__ == "__main__":
    me, *rest = map(int, sys.argv[1:])
    watch(me, {os.getpid(), *rest})
