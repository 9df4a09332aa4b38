"""Where requests go out and completions come in: the feed of a session, and what is recorded of its answers."""

import platform
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from distillkit.budget import money_text
from distillkit.engines.base import Completion, Parameters, Request
from distillkit.errors import EngineError, StageError
from distillkit.ledger import Ledger
from distillkit.sampling.course import Course
from distillkit.sampling.meter import Meter
from distillkit.sampling.plan import Plan, Want
from distillkit.spec import digest, identity


class Desk:
    """Gives out what is neither known nor on its way, and hands on what is finished; a Feed.

    A truncated completion that is to be continued is held until all that can be asked now is out: continuing
    is a pass of its own, because it has a limit of its own.
    """

    def __init__(self, plan: Plan, course: Course, ledger: Ledger, meter: Meter) -> None:
        self.plan, self.course, self.ledger, self.meter = plan, course, ledger, meter
        self.failed: dict[str, Completion] = {}
        """Those that a later draw asks for again: the ledger does not have them."""
        self.continuing = False
        self._reads = course.reads or plan.engine.priced or plan.continuation is not None
        self._host = {"host": platform.node()}
        self._flying: dict[str, list[Want]] = {}
        self._again: deque[Request] = deque()
        self._back: deque[Want] = deque()
        self._held: deque[Want] = deque()
        """Truncated ones that are to go on; without their texts, of which there may be gigabytes."""
        self._unpaid = False

    def take(self) -> Request | None:
        if self._again:
            return self._again.popleft()
        while not self._unpaid and (want := self._next()) is not None:
            if self.admit(want):
                self._unpaid = self._spent
                return None if self._unpaid else self.plan.request(want)
        return None

    @property
    def over(self) -> bool:
        if self._again:
            return False
        if self._unpaid:
            return True
        if self.continuing:
            return not self._held
        waiting = self._back or self.course.ready or self.course.outstanding > len(self._held)
        return not waiting

    @property
    def parameters(self) -> Parameters:
        """Those of the present pass."""
        if self.continuing:
            assert self.plan.continuation is not None
            return self.plan.continuation
        return self.plan.parameters

    def ready(self) -> bool:
        """Whether a pass can begin; waits for the verdicts that decide it, and is False once all is done.

        Raises StageError where going on would cost more than may be spent.
        """
        if self._again:
            return True
        self.continuing = False
        while (request := self.take()) is None:
            if self._unpaid:
                raise self._too_dear()
            self._require_answers()
            if self.course.outstanding > len(self._held):
                self.continuing = False
                self.course.wait()
            elif self._held:
                self.continuing = True
            else:
                return False
        self._again.append(request)
        return True

    def round(self) -> list[Want]:
        """All that can be asked now, known or not, for an engine that samples sets; empty once all is done."""
        self._require_answers()
        while self.course.outstanding > len(self._held):
            self.course.wait()
        self.continuing = False
        wants = list(iter(self.course.next, None))
        if not wants:
            self.continuing = True
            wants = list(iter(self._next, None))
        return wants

    def begun(self, wants: Iterable[Want]) -> list[Request]:
        """The requests of a round that were missing when it was first begun, in their order."""
        by_key = {want.key: want for want in wants}
        name = digest([identity(self.plan.engine), sorted(by_key)])
        keys = self.ledger.begin(name, by_key)
        return [self.plan.request(want) for key, want in by_key.items() if key in keys]

    def admit(self, want: Want) -> bool:
        """Whether a sample is to be asked for: False where it is known, which finishes it, or on its way."""
        known = want.key in self.failed or want.key in self.ledger
        if not known:
            self._flying.setdefault(want.key, []).append(want)
            return len(self._flying[want.key]) == 1
        if self._reads:
            self._finish(want, self._known(want.key), counted=not self.plan.engine.priced)
        else:
            self.meter.count()
        return False

    def answer(self, key: str, completion: Completion) -> None:
        """Record a completion and hand it to all who want it."""
        completion = replace(completion, telemetry=self._host | completion.telemetry)
        if completion.telemetry.get("retry"):
            self.failed[key] = completion
        else:
            self.ledger.add(key, completion)
        self.meter.sample(completion)
        for first, want in enumerate(self._flying.pop(key)):
            self._finish(want, completion, counted=first > 0)

    def retake(self) -> int:
        """Take back what is out, from an engine that died; returns how many those were."""
        for wants in self._flying.values():
            for want in wants:
                if want.first is None:
                    self._back.append(want)
                else:
                    self._held.append(self.plan.want(want.ask, want.index))
        lost = len(self._flying)
        self._flying.clear()
        self._again.clear()
        return lost

    def read(self, want: Want) -> tuple[Want, Completion]:
        """A finished sample, or what continues it, with its completion."""
        completion = self._known(want.key)
        if self._is_cut(want, completion):
            want = self.plan.continued(want, completion)
            completion = self._known(want.key)
        return want, completion

    def _goes_on(self, want: Want) -> Want:
        return self.plan.continued(want, self._known(want.key))

    def _require_answers(self) -> None:
        if self._flying:
            raise EngineError(f"the engine left {len(self._flying):,} requests unanswered")

    def _next(self) -> Want | None:
        if self.continuing:
            return self._goes_on(self._held.popleft()) if self._held else None
        return self._back.popleft() if self._back else self.course.next()

    def _known(self, key: str) -> Completion:
        return self.failed.get(key) or self.ledger[key]

    def _is_cut(self, want: Want, completion: Completion) -> bool:
        cut = completion.finish_reason == "length" and want.first is None
        return cut and self.plan.continuation is not None

    def _finish(self, want: Want, completion: Completion, counted: bool = False) -> None:
        if not counted:
            self.meter.spend(completion)
        if self._is_cut(want, completion):
            self._held.append(want)
            return
        self.meter.count()
        self.course.finish(want, completion)

    @property
    def _spent(self) -> bool:
        most = self.plan.engine.max_cost
        return most is not None and self.meter.cost >= most

    def _too_dear(self) -> StageError:
        return StageError(
            f"max_cost reached: {money_text(self.meter.cost)} spent of {money_text(self.plan.engine.max_cost or 0)}; "
            f"{self.meter.done:,} of {self.meter.total:,} completions are safe in the store; raise max_cost and "
            "run again to go on"
        )
