"""Near-duplicates among signed texts, through files and in bounded memory.

Two texts share a band when they agree on all of its signature values; as similar as the threshold, they share one
with a chance of RECALL. The folder of a `Corpus` is handed on from part to part, each of them tasks for an executor:

1. `contest`, a task per band: which texts may have a near-duplicate at all, by the estimate of their signatures.
2. `spread`, on one node: texts that any chain of candidate pairs connects go into one bucket.
3. `spill`, a task per shard (gather.py): the shingles of contested texts, and of no others, into files.
4. `confirm`, a task per bucket (match.py): clusters by true Jaccard similarity.

Source: Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3; files as in datatrove's minhash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from distillkit.stages.arrays import load_array, save_array
from distillkit.stages.clusters import components
from distillkit.stages.signature import PERMUTATIONS, band_rows
from distillkit.wordhash import mixed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillkit.stages.signature import Signature

    Rows: TypeAlias = NDArray[np.int64]
    Keys: TypeAlias = NDArray[np.uint64]

MARGIN = 0.1
"""A pair is compared exactly when its signatures' estimate is not this far below the threshold: 2.8 of the
estimate's standard deviations at a similarity of 0.8, which leaves 0.2 % of such pairs out."""
PAIRS = 2**14
"""Pairs whose signatures are compared at a time: 16 MiB."""
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
class Band:
    """One band of a corpus."""

    corpus: Corpus
    number: int

    @property
    def file(self) -> Path:
        return self.corpus.folder / f"contested-{self.number:03d}.npy"


def contest(band: Band) -> None:
    """Write links (a, b) between texts of this band that may have a near-duplicate; skips what is written.

    They connect all such texts that agree on the band, near-duplicates of each other or not.
    """
    import numpy as np

    if band.file.exists():
        return
    corpus = band.corpus
    signed = load_array(corpus.signatures, mapped=True)
    keys = corpus.keys(band.number, signed, load_array(corpus.salts))
    marked: NDArray[np.bool_] = np.zeros(len(signed), bool)
    for a, b in _neighbours(keys, marked):
        for start in range(0, len(a), PAIRS):
            one, other = a[start : start + PAIRS], b[start : start + PAIRS]
            near = (signed[one] == signed[other]).mean(axis=1) >= corpus.threshold - MARGIN
            marked[one[near]] = marked[other[near]] = True
    rows = np.flatnonzero(marked)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    same = keys[rows[1:]] == keys[rows[:-1]]
    save_array(band.file, np.stack([rows[:-1][same], rows[1:][same]], axis=1))


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


def spread(corpus: Corpus, size: int) -> list[Bucket]:
    """Share the contested ones of `size` texts out to buckets of about BUCKET texts; skips what is written."""
    import numpy as np

    done = corpus.folder / "buckets.npy"
    if not done.exists():
        links = np.concatenate([load_array(Band(corpus, band).file) for band in range(corpus.bands)])
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
