"""Adaptive rejection sampling: ask for a problem until it has enough right samples, or has shown itself hopeless.

The samples of a problem are asked in the order of their index, never more at once than right ones are still
missing. So whatever order they come back in, whatever the window and however often the run is killed, the
same samples are asked: those up to the one that decides, and not one beyond it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from distillkit.engines.base import Completion
from distillkit.sampling.jury import Jury
from distillkit.sampling.meter import Meter
from distillkit.sampling.outcome import Notes, Outcome, Stopped
from distillkit.sampling.plan import Ask, Plan, Want
from distillkit.trace import Trace, Verdict


@dataclass(slots=True)
class Tally:
    """A problem that is being asked."""

    ask: Ask
    asked: int = 0
    """Samples 0 .. asked-1 were given out."""
    tried: int = 0
    """Those that were judged; one without a score counts as tried."""
    right: int = 0
    queued: bool = True


class UntilEnough:
    """The samples of every problem up to the one that decides."""

    reads = True

    def __init__(self, plan: Plan, jury: Jury, meter: Meter, notes: Notes) -> None:
        """`notes` hold the problems that an earlier, interrupted draw was done with."""
        assert plan.until is not None
        self.plan, self.jury, self.meter, self.notes = plan, jury, meter, notes
        self.correct, self.give_up_after = plan.until.correct, plan.until.give_up_after
        self.outstanding = 0
        self._tallies: dict[str, Tally] = {}
        self._open: deque[Tally] = deque()
        self._fresh: Iterator[Ask] = iter([ask for ask in plan.asks if ask.problem.id not in notes.outcomes])
        self._more = True
        for outcome in notes.outcomes.values():
            meter.done += outcome.n
            meter.settle(plan.n - outcome.n, outcome.stopped)

    @property
    def ready(self) -> bool:
        return self._more or bool(self._open)

    def next(self) -> Want | None:
        self._take(self.jury.judged())
        while not self.jury.full:
            while self._open:
                tally = self._open[0]
                if self._has_room(tally):
                    tally.asked += 1
                    self.outstanding += 1
                    return self.plan.want(tally.ask, tally.asked - 1)
                tally.queued = False
                self._open.popleft()
            ask = next(self._fresh, None)
            if ask is None:
                self._more = False
                return None
            self._tallies[ask.problem.id] = Tally(ask)
            self._open.append(self._tallies[ask.problem.id])
        return None

    def finish(self, want: Want, completion: Completion) -> None:
        self.jury.hand_in(self.plan.trace(want, completion))
        self._take(self.jury.judged())

    def wait(self) -> None:
        self._take(self.jury.judged(wait=True))

    def _has_room(self, tally: Tally) -> bool:
        """Whether one more may be asked: never past what decides, whatever those that are out turn out to be."""
        most = self.plan.n
        if tally.right == 0 and self.give_up_after is not None:
            most = min(most, self.give_up_after)
        return tally.asked < most and tally.asked - tally.tried < self.correct - tally.right

    def _take(self, judged: list[tuple[Trace, Verdict]]) -> None:
        for trace, verdict in judged:
            tally = self._tallies[trace.problem_id]
            right = verdict.score == 1.0
            tally.tried += 1
            tally.right += right
            self.outstanding -= 1
            self.meter.judged += 1
            self.meter.right += right
            if self._has_room(tally):
                if not tally.queued:
                    tally.queued = True
                    self._open.appendleft(tally)  # its prompt is warm, and a problem begun is best ended
            elif tally.tried == tally.asked:
                self._settle(tally)

    def _settle(self, tally: Tally) -> None:
        problem = tally.ask.problem.id
        del self._tallies[problem]
        outcome = Outcome(tally.tried, tally.right, self._why(tally))
        self.notes.add(problem, outcome)
        self.meter.settle(self.plan.n - outcome.n, outcome.stopped)

    def _why(self, tally: Tally) -> Stopped:
        if tally.right >= self.correct:
            return "enough"
        gave_up = self.give_up_after is not None and tally.right == 0 and tally.tried >= self.give_up_after
        return "hopeless" if gave_up else "all"
