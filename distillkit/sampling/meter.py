"""How far a draw is, how fast, what it cost, and how much of it is right."""

import time
from collections import Counter
from dataclasses import dataclass, field

from distillkit.engines.base import Completion
from distillkit.events import Progress
from distillkit.sampling.plan import cost_of


@dataclass
class Meter:
    """Counts a draw and tells of it, at most every `TELL_S` seconds.

    Facts: tokens, rate (completions/s) and tokens_per_s of what was sampled now; cost of the whole draw where the
    engine has prices, else of what was sampled now and told a cost; where sampling goes on `until`, accepted (share
    of right ones among those judged now) and the problems that are done: enough, hopeless, all.
    """

    TELL_S = 0.5

    progress: Progress
    total: int
    done: int = 0
    sampled: int = 0
    tokens: int = 0
    cost: float = 0.0
    judged: int = 0
    right: int = 0
    began: float = 0.0
    told: float = 0.0
    stopped: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """The model is loaded: rates count from here."""
        self.began = self.began or time.monotonic()
        self.tell()

    def sample(self, completion: Completion) -> None:
        """A completion that was sampled now."""
        self.sampled += 1
        self.tokens += completion.completion_tokens or 0

    def spend(self, completion: Completion) -> None:
        """A completion of this draw, sampled now or before."""
        self.cost += cost_of(completion)

    def settle(self, saved: int, stopped: str) -> None:
        """A problem of which so many samples need not be asked."""
        self.total -= saved
        self.stopped[stopped] += 1

    def count(self, traces: int = 1) -> None:
        """Traces that are done."""
        self.done += traces
        if self.done == self.total or time.monotonic() - self.told >= self.TELL_S:
            self.tell()

    def tell(self) -> None:
        """Tell how far it is."""
        self.told = time.monotonic()
        self.progress(self.done, self.total, unit="completions", **self.facts())

    def facts(self) -> dict[str, float]:
        """What is told besides how much is done."""
        found: dict[str, float] = {"tokens": self.tokens}
        if self.sampled:
            seconds = time.monotonic() - self.began
            found |= {"rate": self.sampled / seconds, "tokens_per_s": self.tokens / seconds}
        if self.cost:
            found["cost"] = self.cost
        if self.judged:
            found["accepted"] = self.right / self.judged
        return found | self.stopped

    def wait(self, owner: str) -> None:
        """Another process draws from the same model in the same way."""
        self.progress(self.done, self.total, unit="completions", waiting_for=owner)
