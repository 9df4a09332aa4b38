"""Problems as they come in from a source: which are kept, and why the others are not.

No stage itself; one place counts, so that every row of a source is either kept or has its reason.
"""

from collections import Counter
from dataclasses import dataclass, field

from distillkit.spec import seed_of
from distillkit.trace import Problem


@dataclass
class Intake:
    """Problems as they come in: those kept by id, and why the others were not."""

    read: int = 0
    kept: dict[str, Problem] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Reason -> where the first such row stands."""
    _seen: set[str] = field(default_factory=set)

    def take(self, where: str, found: Problem | str) -> None:
        self.read += 1
        reason = found if isinstance(found, str) else "duplicate" if found.id in self._seen else None
        if reason is not None:
            self.rejected[reason] += 1
            self.examples.setdefault(reason, where)
        elif isinstance(found, Problem):
            self._seen.add(found.id)
            self.kept[found.id] = found

    def sample(self, limit: int, seed: int) -> None:
        """Keep `limit` of them: whatever their order, and however often this is called, the same ones."""
        drawn = sorted(self.kept, key=lambda each: (seed_of("problems", seed, each), each))
        self.rejected += Counter(over_limit=len(drawn[limit:]))
        for each in drawn[limit:]:
            del self.kept[each]

    def why(self) -> str:
        """Reject reasons with their counts and an example of each."""
        parts = [
            f"{n} {reason} (e.g. {self.examples.get(reason)})" for reason, n in self.rejected.most_common()
        ]
        return f": {', '.join(parts)}" if parts else ""
