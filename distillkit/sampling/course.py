"""The order in which a draw asks: n samples of every problem, one after the other."""

from collections.abc import Iterator
from typing import Protocol

from distillkit.engines.base import Completion
from distillkit.sampling.plan import Plan, Want


class Course(Protocol):
    """Says what may be asked next."""

    reads: bool
    """Whether it must see the completions that are known already."""
    outstanding: int
    """Samples that were given out, and on whose verdict it hangs what else is asked."""

    @property
    def ready(self) -> bool:
        """False once nothing can be asked now."""
        ...

    def next(self) -> Want | None:
        """The next sample that may be asked now, known or not; None where there is none."""
        ...

    def finish(self, want: Want, completion: Completion) -> None:
        """A sample that was given out has its completion, in full."""
        ...

    def wait(self) -> None:
        """Wait until a verdict is in; only where samples are outstanding and have their completion."""
        ...


class Everything:
    """All n samples of all problems."""

    reads = False
    outstanding = 0

    def __init__(self, plan: Plan) -> None:
        self._more = True
        self._rest: Iterator[Want] = (want for ask in plan.asks for want in plan.wants(ask))

    @property
    def ready(self) -> bool:
        return self._more

    def next(self) -> Want | None:
        want = next(self._rest, None)
        self._more = want is not None
        return want

    def finish(self, want: Want, completion: Completion) -> None:
        """Nothing hangs on it."""

    def wait(self) -> None:
        raise AssertionError("no verdict is waited for")
