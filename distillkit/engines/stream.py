"""A window of completions in flight: an event loop in a thread of its own, behind a plain iterator.

For engines whose requests are answered one by one, at any time (vLLM's async engine, an endpoint, replicas on a
cluster). There is no batch to wait for: whenever one is finished the next one goes out, while this thread
records the last.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from distillkit.engines.base import Completion, Feed, Request

T = TypeVar("T")
Complete = Callable[[Request], Awaitable[Completion]]
Done = asyncio.Task[Completion]

IDLE_S = 0.02
"""How long to wait before a feed that had nothing is asked again."""


class Stream:
    """The loop and its thread; leaving the context cancels what is in flight."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="stream", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def map(self, complete: Complete, feed: Feed, window: int) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion as soon as it is there; `window` are in flight at most.

        What `complete` raises cancels what is in flight, and is raised here after what else was finished by then.
        """
        finished: SimpleQueue[tuple[Request, Done]] = SimpleQueue()
        tasks: set[Done] = set()

        def end(request: Request, task: Done) -> None:
            tasks.discard(task)
            finished.put((request, task))
            if not task.cancelled() and task.exception() is not None:
                # At once, for the thread that reads may be busy: who was refused asks no more.
                for other in tasks:
                    other.cancel()

        def start(requests: list[Request]) -> None:
            for request in requests:
                task = self.loop.create_task(_awaited(complete, request))
                tasks.add(task)
                task.add_done_callback(partial(end, request))

        flying = 0
        try:
            while True:
                fresh: list[Request] = []
                while flying + len(fresh) < window and (request := feed.take()) is not None:
                    fresh.append(request)
                if fresh:
                    flying += len(fresh)
                    self.loop.call_soon_threadsafe(start, fresh)
                if not flying and feed.over:
                    return
                with suppress(Empty):
                    request, task = finished.get(timeout=None if flying and feed.over else IDLE_S)
                    flying -= 1
                    if task.exception() is not None:
                        yield from _finished_well(finished)
                    yield request, task.result()
        finally:
            self.run(_cancel(tasks))

    def close(self) -> None:
        """Cancel whatever runs on the loop and end its thread."""
        if self.loop.is_closed():
            return
        self.run(_cancel(asyncio.all_tasks(self.loop)))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _finished_well(finished: "SimpleQueue[tuple[Request, Done]]") -> Iterator[tuple[Request, Completion]]:
    """What is there without waiting, errors left out."""
    with suppress(Empty):
        while True:
            request, task = finished.get_nowait()
            if not task.cancelled() and task.exception() is None:
                yield request, task.result()


async def _awaited(complete: Complete, request: Request) -> Completion:
    return await complete(request)


async def _cancel(tasks: "set[asyncio.Task[Any]]") -> None:
    """Cancel tasks, this one aside, and wait until they have ended."""
    others = [task for task in tasks if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
