"""Connected components: pairs of alike texts -> clusters, each known by its first text.

Components do not depend on the order of the pairs, as keep-first deduplicators do.
"""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows: TypeAlias = NDArray[np.int64]


class Partition:
    """Rows in classes, which are joined one pair at a time."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.labels: Rows = np.arange(size)
        """Row -> label of its class, some row of it."""
        self._members: dict[int, list[int]] = {}

    def join(self, a: int, b: int) -> None:
        """Make one class of the classes of two rows; only the smaller one's rows are written."""
        x, y = int(self.labels[a]), int(self.labels[b])
        if x == y:
            return
        one, other = self._members.pop(x, [x]), self._members.pop(y, [y])
        if len(one) < len(other):
            x, one, other = y, other, one
        self.labels[other] = x
        one += other
        self._members[x] = one

    def first(self) -> "Rows":
        """Row -> smallest row of its class."""
        import numpy as np

        smallest: Rows = np.arange(len(self.labels))
        np.minimum.at(smallest, self.labels, np.arange(len(self.labels)))
        return smallest[self.labels]


def components(pairs: "Rows", size: int) -> "Rows":
    """Row -> smallest row of its component, where `pairs` of rows, one (a, b) each, are connected."""
    import numpy as np

    first: Rows = np.arange(size)
    a, b = pairs[:, 0], pairs[:, 1]
    while len(a):
        low = np.minimum(first[a], first[b])
        np.minimum.at(first, first[a], low)
        np.minimum.at(first, first[b], low)
        while not np.array_equal(first, first[first]):
            first = first[first]
        apart = first[a] != first[b]
        a, b = a[apart], b[apart]
    return first
