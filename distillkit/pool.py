"""Killable workers: a function of one item, run where a hang or a memory blow-up costs that item alone.

A worker is a fresh interpreter that talks JSON over pipes, because nothing else works from any thread, from a
script without a main guard and from inside pytest. CPU time decides (ITIMER_PROF, whose default action is
death, stops even C code that never gives control back), so that a loaded machine gives the same result; the
wall clock only catches what waits forever. Workers start when the first item comes and stay warm; of the
environment they get all but what is named like a secret.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from distillkit.errors import SECRET, StageError
from distillkit.worker import OUT_OF_MEMORY

START_S = 120.0
"""Wall seconds that a worker may take to import what it needs."""
_GIB = 2**30
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from distillkit.worker import serve; serve()"
)
# One thread each, so that CPU time means the item's own work; a fixed hash seed, so that sets iterate alike.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What stands in the results for an item that gave no value.

    cause: "raised" an exception, ran out of "cpu" time, did not end within the "wall" time, or its worker
        "died" (out of memory, a crash, an exit).
    detail: one line for a reader.
    """

    cause: Literal["raised", "cpu", "wall", "died"]
    detail: str


class StartError(StageError):
    """A worker could not start; `why` is what its start raised."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: a worker could not start: {why}")
        self.why = why


class Pool:
    """Maps a function over JSON items in `workers` processes of this machine.

    Args:
        make: importable function, called once in each worker with `args`; returns the function of one item.
            What it loads or warms up costs no item its time.
        args: JSON values.
        workers: processes at most; fewer where there are fewer items.
        cpu_s: CPU seconds (all threads, children aside) that one item may take.
        memory_gib: address space of a worker in GiB.
        wall_s: backstop in seconds; left out: 20 times `cpu_s`, a minute at least.
        forks: whether each worker forks off the process that serves, so that one that died is replaced in
            milliseconds instead of importing anew. For a `make` that starts no thread, and a function that
            starts no process.
    """

    def __init__(
        self,
        make: Callable[..., Callable[[Any], Any]],
        args: Sequence[Any] = (),
        *,
        workers: int,
        cpu_s: float,
        memory_gib: float = 2.0,
        wall_s: float | None = None,
        forks: bool = False,
    ) -> None:
        self.workers = workers
        self.wall_s = wall_s if wall_s is not None else max(60.0, 20 * cpu_s)
        self._start = {
            "make": [make.__module__, make.__qualname__],
            "args": list(args),
            "cpu_s": cpu_s,
            "memory_bytes": int(memory_gib * _GIB),
            "parent": os.getpid(),
            "forks": forks,
        }
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pool")
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._one_map_at_a_time = threading.Lock()
        self._stop = threading.Event()

    def map(self, items: Sequence[Any]) -> list[Any]:
        """One value or Failure per item, in order. May be called from any thread.

        An item that met the wall clock, or whose worker died, is tried once more, alone on a fresh worker:
        either can be the machine's fault, or a neighbour's.

        Raises:
            StartError: when `make` raises, or does not return within START_S.
        """
        with self._one_map_at_a_time:
            try:
                return self._map(items)
            except BaseException:  # Ctrl-C too: no thread may go on with a hanging item
                stop, self._stop = self._stop, threading.Event()
                stop.set()
                for worker in list(self._busy):
                    worker.kill()
                raise

    def _map(self, items: Sequence[Any]) -> list[Any]:
        size = min(64, -(-len(items) // (4 * self.workers)) or 1)
        chunks = [list(items[at : at + size]) for at in range(0, len(items), size)]
        run = partial(self._run, stop=self._stop)
        results = [each for chunk in self._threads.map(run, chunks) for each in chunk]
        for at, result in enumerate(results):
            if isinstance(result, Failure) and result.cause in ("wall", "died"):
                [results[at]] = self._threads.submit(run, [items[at]], fresh=True).result()
        return results

    def _run(self, items: list[Any], stop: threading.Event, fresh: bool = False) -> list[Any]:
        """Results of a chunk: after a failure the next worker goes on with the item that follows."""
        results: list[Any] = []
        while len(results) < len(items):
            worker = self._take(fresh)
            if not stop.is_set() and worker.send(items[len(results) :]):
                results += worker.results(len(items) - len(results), self.wall_s)
            self._busy.discard(worker)
            if worker.alive and (self._start["forks"] or not fresh) and not stop.is_set():
                self._idle.append(worker)
            else:
                worker.bury()
            if stop.is_set():
                raise StageError("the worker pool was closed while it worked")
        return results

    def _take(self, fresh: bool) -> "_Worker":
        try:
            worker = _Worker(self._start) if fresh and not self._start["forks"] else self._idle.pop()
        except IndexError:
            worker = _Worker(self._start)
        self._busy.add(worker)
        if fresh and self._start["forks"]:
            worker.renew()
        return worker

    def close(self) -> None:
        """Kill the workers. Idempotent; a closed pool maps no more."""
        self._stop.set()
        for worker in list(self._busy):
            worker.kill()
        self._threads.shutdown(wait=True)
        while self._idle:
            self._idle.pop().bury()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """The parent's end of one worker process. `kill` is for any thread, the rest for the one that uses it."""

    def __init__(self, start: dict[str, Any]) -> None:
        # Its own session, so that killing the group takes along what the worker started. It dies with the
        # thread that started it (see worker.serve), which is one of the pool's and lives as long as the pool.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not SECRET.search(name)} | _ENVIRONMENT,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._unread = b""
        self.alive = True
        ready = self._receive(START_S) if self.send(start) else Failure("died", "at once")
        if isinstance(ready, Failure):
            self.bury()
            raise StartError(".".join(start["make"]), ready.detail)

    def send(self, message: Any) -> bool:
        """Hand over one message; False, and the worker buried, when it had died before."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[self._in.write(data) :]
        except BrokenPipeError:
            self.bury()
        return self.alive

    def results(self, count: int, wall_s: float) -> list[Any]:
        """Results of the items that were sent; after a Failure that killed what served there are no more."""
        results: list[Any] = []
        while len(results) < count:
            results.append(self._receive(wall_s))
            if isinstance(results[-1], Failure) and results[-1].cause != "raised":
                if self.alive:
                    self.renew()
                break
        return results

    def renew(self) -> None:
        """Have a fresh server forked, and drop what the old one still had to say: no answer may be late."""
        self.send(None)
        while self.alive and self._line(START_S) != ["ready", None]:
            pass

    def _receive(self, wall_s: float) -> Any:
        """The next result, or the Failure that ended what served."""
        line = self._line(wall_s)
        if isinstance(line, Failure):
            return line
        kind, value = line
        if kind == "died":
            return _cause_of_death(value)
        return Failure("raised", value) if kind == "raised" else value

    def _line(self, wall_s: float) -> list[Any] | Failure:
        """The next line, or the Failure that ended the worker; after `wall_s` seconds it is ended."""
        parts, until = [self._unread], time.monotonic() + wall_s
        while b"\n" not in parts[-1]:
            if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000):
                self.bury()
                return Failure("wall", f"not done after {wall_s:g} s on the wall clock")
            data = os.read(self._out.fileno(), 1 << 16)
            if not data:
                return _cause_of_death(self.bury())
            parts.append(data)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        try:
            return json.loads(line)  # type: ignore[no-any-return]
        except ValueError:  # half a line: the server was killed while it wrote
            self.bury()
            return Failure("died", "killed while it answered")

    def kill(self) -> None:
        """Kill it and whatever it started."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def bury(self) -> int:
        """End it and return its exit code: that of its own death, where it is dying already."""
        self.alive = False
        self.kill()
        self._in.close()
        self._out.close()
        return self._process.wait()


def _cause_of_death(code: int) -> Failure:
    if code == -signal.SIGPROF:
        return Failure("cpu", "out of CPU time")
    if code == OUT_OF_MEMORY:
        return Failure("died", "out of memory")
    return Failure("died", f"killed by signal {-code}" if code < 0 else f"exited with code {code}")


_shared: dict[tuple[Any, ...], Pool] = {}
_shared_lock = threading.Lock()


def shared(
    make: Callable[..., Callable[[Any], Any]],
    args: Sequence[Any] = (),
    *,
    workers: int | None,
    cpu_s: float,
    memory_gib: float = 2.0,
    forks: bool = False,
) -> Pool:
    """This process's pool for these settings: made at the first call, then the same warm one.

    So that a frozen declaration can own live workers without holding them. workers: None is one per CPU.
    """
    count = workers or _cpu_count()
    key = (os.getpid(), make.__module__, make.__qualname__, json.dumps(list(args)), count, cpu_s, memory_gib)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Pool(make, args, workers=count, cpu_s=cpu_s, memory_gib=memory_gib, forks=forks)
        return _shared[key]


def _cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def close_shared(make: Callable[..., Callable[[Any], Any]] | None = None) -> None:
    """Close the shared pools of `make`, or all of them; the next call of `shared` starts anew."""
    with _shared_lock:
        for key in list(_shared):
            if key[0] == os.getpid() and (make is None or key[1:3] == (make.__module__, make.__qualname__)):
                _shared.pop(key).close()
