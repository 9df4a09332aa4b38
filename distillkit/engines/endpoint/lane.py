"""Which server a request goes to, how many are in flight at each, and when a server is left alone.

One lane per base URL. Requests in flight grow by addition and shrink by multiplication, as TCP's window does, since
a server says that it has too much only by refusing (Chiu and Jain, Computer Networks 17, 1989). A server that fails
again and again is left alone for a while, and then tried with one request (Nygard, Release It!, "Circuit Breaker").
"""

import asyncio
import random
from collections import deque
from dataclasses import dataclass

from distillkit.engines.endpoint.server import Server

BACK_OFF = 0.7
"""What is left of a lane's window when its server has too much."""
GROWTH = 32
"""A window that answers in full grows by this part of its ceiling."""
FAILURES = 5
"""So many failures in a row, and a server is left alone."""
REST_S, LONGEST_REST_S = 1.0, 60.0
"""For how long at first, and at most; it doubles with each failed trial."""


@dataclass(eq=False)
class Lane:
    """A server and how it fares. Times are of the event loop's clock."""

    server: Server
    ceiling: int
    """Most requests in flight."""
    window: float = 0.0
    """Requests that may be in flight now."""
    flying: int = 0
    rests_until: float = 0.0
    failures: int = 0
    """In a row."""
    turned: float = 0.0
    """When the window shrank or the server was left alone; what was sent before that tells nothing new."""
    answered: int = 0

    def __post_init__(self) -> None:
        self.window = float(self.ceiling)

    @property
    def never_well(self) -> bool:
        """Whether all that was sent has failed, and the trial after a rest too, while that still counts as flying."""
        return not self.answered and self.failures > FAILURES and self.flying == 1

    def has_room(self, now: float) -> bool:
        """Whether a request may go out; after a rest that failures brought, one alone."""
        if now < self.rests_until:
            return False
        return self.flying < (1 if self.failures >= FAILURES else int(self.window))

    def answer(self) -> None:
        """A request was answered."""
        self.answered += 1
        self.failures = 0
        self.window = min(self.ceiling, self.window + max(1, self.ceiling / GROWTH) / self.window)

    def refuse(self, now: float, sent: float, wait_s: float | None) -> None:
        """The server has too much; `wait_s` is for how long it wants to be left alone, where it says so."""
        if sent >= self.turned:
            self.turned = now
            self.window = max(1.0, self.window * BACK_OFF)
        if wait_s is not None:
            self.rests_until = max(self.rests_until, now + wait_s)

    def fail(self, now: float, sent: float) -> None:
        """The server broke: no connection, no answer in time, an answer that is none."""
        if self.failures >= FAILURES and sent < self.turned:
            return
        self.failures += 1
        if self.failures >= FAILURES:
            rest_s = min(REST_S * 2 ** (self.failures - FAILURES), LONGEST_REST_S)
            self.turned, self.rests_until = now, now + random.uniform(0.5, 1) * rest_s

    def rest(self, now: float) -> None:
        """It was not there when it was greeted: leave it alone, then try it."""
        self.failures = FAILURES - 1
        self.fail(now, now)


class Lanes:
    """All lanes, and the requests that wait for room in one."""

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self._waiting: deque[tuple[asyncio.Future[Lane], Lane | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, avoid: Lane | None) -> Lane:
        """Wait for room, first come first served, in the emptiest lane; `avoid` is taken only for want of another."""
        place: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, avoid))
        self._admit()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(place.result())
            raise

    def leave(self, lane: Lane) -> None:
        """A request has its answer, or has none."""
        lane.flying -= 1
        self._admit()

    def _admit(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            place, avoid = self._waiting[0]
            if place.done():  # cancelled while it waited
                self._waiting.popleft()
                continue
            free = [lane for lane in self.lanes if lane.has_room(now)]
            if not free:
                self._wake(now)
                return
            lane = min(free, key=lambda lane: (lane is avoid, lane.flying / lane.window))
            self._waiting.popleft()
            lane.flying += 1
            place.set_result(lane)

    def _wake(self, now: float) -> None:
        """Look again when the next lane has rested."""
        ends = [lane.rests_until for lane in self.lanes if lane.rests_until > now]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(min(ends), self._admit) if ends else None


def pause_s(attempt: int, base_s: float = 0.5, longest_s: float = 30.0) -> float:
    """Seconds before try `attempt` + 1: exponential, with full jitter.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(longest_s, base_s * 2 ** (attempt - 1)))
