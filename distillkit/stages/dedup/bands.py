"""Near-duplicates among signed texts, through files and in bounded memory.

Two texts share a band when they agree on all of its signature values; as similar as the threshold, they share one
with a chance of RECALL. The folder of a `Corpus` is handed on from part to part, each of them tasks for an executor:

1. `contest`, a task per band: which texts may have a near-duplicate at all, by the estimate of their signatures.
2. `spread`, on one node: texts that any chain of candidate pairs connects go into one bucket.
3. `spill`, a task per shard (gather.py): the shingles of contested texts, and of no others, into files.
4. `confirm`, a task per bucket (match.py): clusters by true Jaccard similarity.

Source: Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3; files as in datatrove's minhash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from distillkit.stages.dedup.arrays import load_array, save_array
from distillkit.stages.dedup.partition import components
from distillkit.stages.dedup.signature import PERMUTATIONS, band_rows
from distillkit.wordhash import mixed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillkit.stages.dedup.signature import Signature

    Rows: TypeAlias = NDArray[np.int64]
    Keys: TypeAlias = NDArray[np.uint64]

MARGIN = 0.1
"""A pair is compared exactly when its signatures' estimate is not this far below the threshold: 2.8 of the
estimate's standard deviations at a similarity of 0.8, which leaves 0.2 % of such pairs out."""
CROWD = 256
"""Texts that agree on a band from which on all of them are contested: whatever comes behind is linear in them."""
PAIRS = 2**14
"""Pairs whose signatures are compared at a time: 16 MiB."""
FEW = 20_000
"""Texts up to which all bands are one task."""
BUCKET = 2**11
"""Texts of a bucket, at least, where there are as many."""


@dataclass(frozen=True)
class Corpus:
    """Different texts, numbered by their smallest trace id, in a folder; picklable."""

    folder: Path
    threshold: float

    @property
    def signatures(self) -> Path:
        """A row per text."""
        return self.folder / "signatures.npy"

    @property
    def salts(self) -> Path:
        """Texts of different salt are never compared."""
        return self.folder / "salts.npy"

    @property
    def bands(self) -> int:
        return PERMUTATIONS // band_rows(self.threshold)

    def keys(self, band: int, signed: "Signature", salts: "Keys") -> "Keys":
        """A hash of each row's values in a band."""
        import numpy as np

        rows = band_rows(self.threshold)
        keys = salts.copy()
        for column in range(band * rows, (band + 1) * rows):
            keys = mixed(keys + signed[:, column].astype(np.uint64))
        return keys


@dataclass(frozen=True)
class Bands:
    """Some bands of a corpus."""

    corpus: Corpus
    numbers: range

    @property
    def file(self) -> Path:
        return self.corpus.folder / f"contested-{self.numbers.start:03d}.npy"


def in_bands(corpus: Corpus, size: int) -> list[Bands]:
    """The bands of `size` texts, one by one; all at once where a task would do less than it costs."""
    if size <= FEW:
        return [Bands(corpus, range(corpus.bands))]
    return [Bands(corpus, range(number, number + 1)) for number in range(corpus.bands)]


def contest(bands: Bands) -> None:
    """Write links (a, b) between texts that may have a near-duplicate; skips what is written.

    They connect all such texts that agree on a band, near-duplicates of each other or not.
    """
    import numpy as np

    if not bands.file.exists():
        signed = load_array(bands.corpus.signatures, mapped=True)
        salts = load_array(bands.corpus.salts)
        links = [
            _links(bands.corpus, bands.corpus.keys(band, signed, salts), signed) for band in bands.numbers
        ]
        save_array(bands.file, np.unique(np.concatenate(links), axis=0))


def _links(corpus: Corpus, keys: "Keys", signed: "Signature") -> "Rows":
    """The links of one band."""
    import numpy as np

    marked = _crowded(keys)
    for a, b in _neighbours(keys, marked):
        for start in range(0, len(a), PAIRS):
            one, other = a[start : start + PAIRS], b[start : start + PAIRS]
            near = (signed[one] == signed[other]).mean(axis=1) >= corpus.threshold - MARGIN
            marked[one[near]] = marked[other[near]] = True
    rows = np.flatnonzero(marked)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    same = keys[rows[1:]] == keys[rows[:-1]]
    return np.stack([rows[:-1][same], rows[1:][same]], axis=1)


def _crowded(keys: "Keys") -> "NDArray[np.bool_]":
    """Which rows agree with more than CROWD others: to compare all pairs of those would be quadratic."""
    import numpy as np

    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    crowded: NDArray[np.bool_] = sizes[group] > CROWD
    return crowded


def _neighbours(keys: "Keys", done: "NDArray[np.bool_]") -> "Iterator[tuple[Rows, Rows]]":
    """Pairs of rows with equal keys, until every one of a group is `done`: those one apart in it, two apart, ..."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1])) if len(order) else order
    sizes = np.diff(np.append(starts, len(order)))
    ends: Rows = np.repeat(starts + sizes, sizes)
    active = np.flatnonzero(np.arange(len(order)) + 1 < ends)
    apart = 1
    while len(active):
        if apart & (apart - 1) == 0:  # now and then: which groups have rows left
            left: NDArray[np.bool_] = np.repeat(np.add.reduceat(~done[order], starts) > 0, sizes)
            active = active[left[active]]
        a, b = order[active], order[active + apart]
        open_ = ~(done[a] & done[b])
        yield a[open_], b[open_]
        apart += 1
        active = active[active + apart < ends[active]]


@dataclass(frozen=True)
class Bucket:
    """Contested texts that have all their candidates among each other."""

    corpus: Corpus
    number: int

    @property
    def texts(self) -> Path:
        """Their rows, ascending."""
        return self.corpus.folder / f"bucket-{self.number:04d}.npy"

    @property
    def file(self) -> Path:
        """What `confirm` found."""
        return self.corpus.folder / f"clusters-{self.number:04d}.npy"


def spread(corpus: Corpus, tasks: Sequence[Bands], size: int) -> list[Bucket]:
    """Share the texts that `contest` linked, of `size`, out to buckets of about BUCKET; skips what is written."""
    import numpy as np

    done = corpus.folder / "buckets.npy"
    if not done.exists():
        links = np.concatenate([load_array(task.file) for task in tasks])
        rows = np.unique(links)
        first = components(links, size)[rows]
        order = np.argsort(first, kind="stable")  # whole components one behind the other
        ends = (
            np.flatnonzero(np.append(first[order][1:] != first[order][:-1], True)) + 1 if len(rows) else rows
        )
        cuts = [0]
        for end in ends.tolist():
            if end - cuts[-1] >= BUCKET or end == len(rows):
                cuts.append(end)
        for number, (start, end) in enumerate(pairwise(cuts)):
            save_array(Bucket(corpus, number).texts, np.sort(rows[order[start:end]]))
        save_array(done, np.array(len(cuts) - 1))
    return [Bucket(corpus, number) for number in range(int(load_array(done)))]
