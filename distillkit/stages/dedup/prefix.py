"""Which of many texts could be alike at all, by their rarest shingles: exact, and linear where nothing is.

Order the shingles of all texts by how many have them. Two texts as similar as t share one among the first
|x| - ceil(t |x|) + 1 of the larger and the first |y| - ceil(2 t / (1 + t) |y|) + 1 of the smaller one: what they
differ in is no more than that. What thousands share stands last in that order, and proposes nothing.

Source: Xiao, Wang, Lin and Yu 2008, "Efficient similarity joins for near duplicate detection" (PPJoin), lemmas 1 and 3.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillkit.shingles import Shingles
    from distillkit.stages.dedup.bands import Rows

    Tokens: TypeAlias = NDArray[np.uint32]
    """Halves of shingles: two that are equal by chance propose a pair too many."""

_COUNTERS = 20
"""Bits of a shingle by which it is counted: those that share a counter are taken to be as common as all of them."""
_EPSILON = 1e-9


class Prefixes:
    """The rarest shingles of texts, ready to be looked for.

    read: gives the shingles of a row; each is read twice. sizes: how many each row has.
    """

    def __init__(self, read: "Callable[[int], Shingles]", sizes: "Rows", threshold: float) -> None:
        import numpy as np

        kept = np.ceil(sizes * threshold - _EPSILON)
        self._long: Rows = (sizes - kept + 1).astype(np.int64)
        kept = np.ceil(sizes * (2 * threshold / (1 + threshold)) - _EPSILON)
        self._short: Rows = (sizes - kept + 1).astype(np.int64)
        self._starts: Rows = np.append(0, np.cumsum(self._long))
        self._tokens: Tokens = np.empty(self._starts[-1], np.uint32)
        common = self._counted(read, len(sizes))
        for row in range(len(sizes)):
            self._tokens[self._starts[row] : self._starts[row + 1]] = _rarest(
                read(row), common, self._long[row]
            )
        rows: Rows = np.repeat(np.arange(len(sizes)), self._long)
        places = np.arange(len(rows)) - self._starts[rows]
        self._by_long = _Postings(self._tokens, rows)
        short = places < self._short[rows]
        self._by_short = _Postings(self._tokens[short], rows[short])

    @staticmethod
    def _counted(read: "Callable[[int], Shingles]", count: int) -> "Rows":
        """How many texts have the shingles of each counter, about."""
        import numpy as np

        common: Rows = np.zeros(2**_COUNTERS, np.int64)
        for row in range(count):
            common[_counter(read(row))] += 1
        return common

    def sharing(self, row: int) -> "Rows":
        """The rows that could be as similar to a row as the threshold; the row itself may be among them."""
        import numpy as np

        start = self._starts[row]
        long = self._tokens[start : start + self._long[row]]
        short = self._tokens[start : start + self._short[row]]
        return np.unique(np.concatenate([self._by_short.rows(long), self._by_long.rows(short)]))


def _counter(shingles: "Shingles") -> "Shingles":
    import numpy as np

    return shingles >> np.uint64(64 - _COUNTERS)


def _rarest(shingles: "Shingles", common: "Rows", count: int) -> "Tokens":
    """The first `count` in the order of all texts: rarest first."""
    import numpy as np

    order = np.argsort(
        common[_counter(shingles)], kind="stable"
    )  # they ascend, so equals have one order everywhere
    return shingles[order[:count]].astype(np.uint32)


class _Postings:
    """Token -> rows that have it."""

    def __init__(self, tokens: "Tokens", rows: "Rows") -> None:
        import numpy as np

        order = np.argsort(tokens, kind="stable")
        self._tokens, self._rows = tokens[order], rows[order].astype(np.int32)

    def rows(self, tokens: "Tokens") -> "Rows":
        """Every row that has one of the tokens, repeats kept."""
        import numpy as np

        begins = np.searchsorted(self._tokens, tokens, side="left")
        ends = np.searchsorted(self._tokens, tokens, side="right")
        spans = np.stack([begins, ends], axis=1)[begins < ends].tolist()
        parts = [self._rows[begin:end] for begin, end in spans]
        return np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int64)
