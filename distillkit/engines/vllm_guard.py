"""Ends vLLM's engine processes when the process that started them is killed.

They do not notice it themselves (0.31), and would hold a GPU's memory until someone finds them. Run as a script,
`python vllm_guard.py PID`, beside the start of an engine: it collects the children of PID until it reads a line,
then waits for the end of PID. Linux only: it needs process descriptors.
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
    """A guard over the children that this process starts from now on; leaving the context ends it."""
    guard = Guard()
    try:
        yield guard
    finally:
        guard.end()


class Guard:
    """The guarding process, from the side that is guarded."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "linux":
            # In a session of its own: a Ctrl-C is for those who can end in good order.
            command = [sys.executable, "-I", __file__, str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def started(self) -> None:
        """All engine processes are there: children that come later are none of its business."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(b"\n")
                self._process.stdin.flush()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):
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


def watch(parent: int) -> None:
    """Until the parent has ended; then kill those of its children that came while the engine started."""
    if sys.platform != "linux":
        return
    others = children(parent) | {os.getpid()}
    descriptors: dict[int, int] = {}
    try:
        gone = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    starting = True
    while True:
        # A descriptor names its process for good, whatever becomes of the number.
        for child in children(parent) - others - set(descriptors) if starting else ():
            with suppress(ProcessLookupError):
                descriptors[child] = os.pidfd_open(child)
        sources = [gone, sys.stdin.fileno()] if starting else [gone]
        ready, _, _ = select.select(sources, [], [], LOOK_S if starting else None)
        if gone in ready:
            break
        starting = starting and not ready
    for descriptor in descriptors.values():
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
