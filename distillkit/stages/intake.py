"""Problems, pairs and traces as they come in from a source: which are kept, and why the others are not.

No stage itself; one place counts, so that every row of a source is either kept or has its reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from distillkit.spec import seed_of
from distillkit.trace import Pair, Problem

Taken = TypeVar("Taken", Problem, Pair)


@dataclass
class Intake(Generic[Taken]):
    """Problems or pairs as they come in: those kept by id, and why the others were not."""

    salt: str = "problems"
    """Decides, with a seed, which a limit draws."""
    read: int = 0
    kept: dict[str, Taken] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Reason -> where the first such row stands."""
    _seen: set[str] = field(default_factory=set)

    def take(self, where: str, found: Taken | str) -> None:
        self.read += 1
        reason = found if isinstance(found, str) else self.objection(found)
        if reason is not None:
            self.rejected[reason] += 1
            self.examples.setdefault(reason, where)
        elif not isinstance(found, str):
            self._seen.add(found.id)
            self.kept[found.id] = found

    def objection(self, found: Taken) -> str | None:
        """Why one is not kept though it can be read, None where it is."""
        return "duplicate" if found.id in self._seen else None

    def sample(self, limit: int, seed: int) -> None:
        """Keep `limit` of them: whatever their order, and however often this is called, the same ones."""
        drawn = sorted(self.kept, key=lambda each: (seed_of(self.salt, seed, each), each))
        self.rejected += Counter(over_limit=len(drawn[limit:]))
        for each in drawn[limit:]:
            del self.kept[each]

    def why(self) -> str:
        return _why(self.rejected, self.examples)


@dataclass
class Tally:
    """Traces as they come in, counted only: there are too many to hold."""

    rows: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Reason -> where the first such row stands."""
    _names: dict[str, None] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Columns of the source, in the order in which they came up."""
        return list(self._names)

    def learn(self, names: Sequence[str]) -> list[str]:
        """Take note of columns; returns them."""
        self._names |= dict.fromkeys(names)
        return list(names)

    def row(self, row: Mapping[str, Any] | None) -> None:
        self.rows += 1
        if row is not None and not row.keys() <= self._names.keys():
            self.learn(list(row))

    def reject(self, where: str, reason: str) -> None:
        self.rejected[reason] += 1
        self.examples.setdefault(reason, where)

    def facts(self) -> dict[str, Any]:
        """All of it as JSON, for `add`."""
        return {"rows": self.rows, "kept": self.kept, "rejected": self.rejected, "examples": self.examples,
                "names": self.names}  # fmt: skip

    def add(self, facts: Mapping[str, Any]) -> None:
        """Count another part in."""
        self.rows += facts["rows"]
        self.kept += facts["kept"]
        self.rejected.update(facts["rejected"])
        self.examples = facts["examples"] | self.examples
        self.learn(facts["names"])

    def why(self) -> str:
        return _why(self.rejected, self.examples)


def _why(rejected: Counter[str], examples: Mapping[str, str]) -> str:
    """Reject reasons with their counts and an example of each."""
    parts = [f"{n:,} {reason} (e.g. {examples.get(reason)})" for reason, n in rejected.most_common()]
    return f": {', '.join(parts)}" if parts else ""
