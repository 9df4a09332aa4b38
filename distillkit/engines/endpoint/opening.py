"""Telling a setup that cannot work from rows that cannot: what the first problems of a session end in."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

NO_REASONING = "its answers come without reasoning"


@dataclass
class Opening:
    """What became of the first problems: where all end in the same fault, it is the setup's and not theirs."""

    size: int = 4
    done: asyncio.Event = field(default_factory=asyncio.Event)
    faults: dict[str, str | None] = field(default_factory=dict)
    """Problem id -> fault, None while it is in flight."""

    @property
    def over(self) -> bool:
        """Whether anything ended well."""
        return self.done.is_set()

    def begin(self, problem_id: str) -> None:
        """A request of this problem goes out."""
        if not self.over and len(self.faults) < self.size:
            self.faults.setdefault(problem_id, None)

    def end(self, problem_id: str, fault: str | None) -> bool:
        """It ended, None for well; whether all of the first ended in this fault."""
        if fault is None:
            self.done.set()
        if problem_id in self.faults:
            self.faults[problem_id] = fault
        return not self.over and len(self.faults) == self.size and set(self.faults.values()) == {fault}

    async def wait(self, longest_s: float) -> None:
        """Until anything ended well, so that no fault of the setup is recorded as one of its problem."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.done.wait(), longest_s)

    @property
    def unreasoned(self) -> bool:
        """Whether all that came, few as it was, came without reasoning."""
        return not self.over and set(self.faults.values()) == {NO_REASONING}
