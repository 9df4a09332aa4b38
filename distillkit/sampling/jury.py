"""Judging beside sampling: a thread that takes whatever is waiting as one batch, so that no engine waits for it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from distillkit.errors import RecipeError
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Verifier

BATCH = 1024
"""Traces at most that are judged together."""

WAITING = 4096
"""Traces at most that wait: a jury slower than the engine must not fill the memory."""

Judged = list[tuple[Trace, Verdict]]


class Jury:
    """The recipe's verifiers at work in the background; its methods are for one thread."""

    def __init__(self, verifiers: Mapping[str, Verifier]) -> None:
        self.verifiers = verifiers
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jury")
        self._waiting: list[Trace] = []
        self._at_work: Future[Judged] | None = None

    @property
    def full(self) -> bool:
        """Whether nothing more should be handed in before something was judged."""
        return len(self._waiting) >= WAITING

    def hand_in(self, trace: Trace) -> None:
        """Have a trace judged."""
        self._waiting.append(trace)

    def judged(self, wait: bool = False) -> Judged:
        """What was judged since the last call; with `wait` at least one batch, where any is in.

        Raises what a verifier raised, and RecipeError for a domain without one.
        """
        self._start()
        if self._at_work is None or not (wait or self._at_work.done()):
            return []
        found = self._at_work.result()
        self._at_work = None
        self._start()
        return found

    def _start(self) -> None:
        if self._at_work is None and self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._at_work = self._thread.submit(self._judge, batch)

    def _judge(self, traces: Sequence[Trace]) -> Judged:
        by_domain: dict[str, list[Trace]] = defaultdict(list)
        for trace in traces:
            by_domain[trace.domain].append(trace)
        found: Judged = []
        for domain, several in by_domain.items():
            found += zip(several, judge_of(domain, self.verifiers).grade_all(several), strict=True)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # a grader that hangs must not hold up whoever wants to stop
            for verifier in self.verifiers.values():
                verifier.close()
        self._thread.shutdown(wait=kind is None, cancel_futures=True)


def judge_of(domain: str, verifiers: Mapping[str, Verifier]) -> Verifier:
    """Who judges a domain while it is sampled; raises RecipeError where nobody can."""
    if domain not in verifiers:
        raise RecipeError(
            f"no verifier for domain {domain!r}; add it to `verifiers:` at the top of the recipe"
        )
    if not verifiers[domain].alone:
        raise RecipeError(
            f"until: verifiers.{domain}: {verifiers[domain].kind} needs all traces of a problem before it can judge "
            "one; leave until out, or take another verifier"
        )
    return verifiers[domain]
