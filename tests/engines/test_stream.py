"""The window: bounded, no barrier, errors and interruptions end it."""

import asyncio
import threading

import pytest
from patience import PATIENCE_S

from distillkit.engines.base import Completion, Listed, Request
from distillkit.engines.stream import Stream
from distillkit.errors import EngineError


def requests(count):
    return [Request(str(number), "", number, "p", number, []) for number in range(count)]


def test_every_request_comes_back_once_and_never_more_than_the_window_fly():
    flying = most = 0

    async def complete(request):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(request.seed % 3 / 1000)
        flying -= 1
        return Completion(request.key, "stop")

    with Stream() as stream:
        found = {r.key: c.text for r, c in stream.map(complete, Listed(requests(200)), window=7)}
    assert found == {str(n): str(n) for n in range(200)}
    assert most == 7


def test_a_slow_one_does_not_hold_the_others_up():
    gate = asyncio.Event()

    async def complete(request):
        if request.seed == 0:
            await gate.wait()
        return Completion("", "stop")

    order = []
    with Stream() as stream:
        for request, _ in stream.map(complete, Listed(requests(50)), window=2):
            order.append(request.seed)
            if len(order) == 49:
                stream.loop.call_soon_threadsafe(gate.set)
    assert order[-1] == 0 and sorted(order) == list(range(50))


def test_an_error_is_raised_and_what_flew_is_cancelled():
    cancelled = []

    async def complete(request):
        if request.seed == 3:
            raise EngineError("gone")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(request.seed)
            raise

    with Stream() as stream, pytest.raises(EngineError, match="gone"):
        list(stream.map(complete, Listed(requests(4)), window=4))
    assert sorted(cancelled) == [0, 1, 2]


def test_a_feed_that_grows_while_it_is_read():
    class Chain:
        """The next request comes only once the last one was seen."""

        def __init__(self):
            self.ready, self.seen = requests(1), 0

        def take(self):
            return self.ready.pop() if self.ready else None

        @property
        def over(self):
            return self.seen == 20

    feed = Chain()

    async def complete(request):
        return Completion("", "stop")

    with Stream() as stream:
        for _each in stream.map(complete, feed, window=8):
            feed.seen += 1
            if feed.seen < 20:
                feed.ready.append(requests(20)[feed.seen])
    assert feed.seen == 20


def test_leaving_in_the_middle_leaves_nothing_behind():
    async def complete(request):
        if request.seed:
            await asyncio.sleep(60)
        return Completion("", "stop")

    with Stream() as stream:
        generating = stream.map(complete, Listed(requests(3)), window=3)
        next(generating)
        generating.close()
    assert stream.loop.is_closed()


def test_an_error_stops_the_others_while_the_reader_is_busy():
    failing, cancelled = asyncio.Event(), threading.Event()

    async def complete(request):
        if request.seed == 0:
            return Completion("", "stop")
        if request.seed == 1:
            await failing.wait()
            raise EngineError("gone")
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cancelled.set()

    with Stream() as stream:
        found = stream.map(complete, Listed(requests(3)), window=3)
        assert next(found)[0].seed == 0
        stream.loop.call_soon_threadsafe(failing.set)
        assert cancelled.wait(PATIENCE_S)  # nobody has asked for the next one meanwhile
        with pytest.raises(EngineError, match="gone"):
            next(found)
