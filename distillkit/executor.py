"""Where a shard task runs. The work itself is a function from a shard to a file, so that it can run anywhere.

Inline and process pool now; whatever else (a cluster, a job array) only has to map a function over tasks.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

PRELOAD = "distillkit.stages"
"""What every task needs: a second of importing, once in a run instead of in each worker of each stage. It starts no
thread, which a fork would not survive; numpy and pyarrow do."""

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Maps a top-level function over picklable tasks; results come in the order of the tasks."""

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]: ...


class Inline:
    """In this process, one after the other: nothing to start, everything to debug."""

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        return map(function, tasks)


@dataclass(frozen=True)
class Processes:
    """In worker processes of this machine, forked from one that has imported `PRELOAD` and has no threads."""

    workers: int

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", PRELOAD])  # the former is Python's own choice
        with ProcessPoolExecutor(self.workers, mp_context=context) as pool:
            yield from pool.map(function, tasks)


def executor_for(workers: int) -> Executor:
    """Inline for one worker, else a pool of processes."""
    return Inline() if workers <= 1 else Processes(workers)
