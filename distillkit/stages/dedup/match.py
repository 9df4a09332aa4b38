"""True near-duplicates among contested texts, bucket by bucket: whatever agrees on a band is compared exactly.

Why a crowd (boilerplate that thousands of texts share) does not explode, and yet nothing is lost: a pair is compared
in the first band that it shares only, and not where others connect it; a row of the biggest cluster of its group needs
no turn, for every row outside of it is compared with all of them. So m texts that are alike cost about m comparisons.
Where rows are left after TURNS turns, as when all are somewhat alike but none enough, each looks for its partners by
their rarest shingles (prefix.py), which finds every pair that is at least as similar as the threshold.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from distillkit.shingles import jaccard
from distillkit.stages.dedup.arrays import load_array, save_array
from distillkit.stages.dedup.bands import MARGIN, PAIRS, Bucket, Corpus
from distillkit.stages.dedup.partition import Partition
from distillkit.stages.dedup.prefix import Prefixes
from distillkit.stages.dedup.signature import band_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillkit.shingles import Shingles
    from distillkit.stages.dedup.bands import Keys, Rows
    from distillkit.stages.dedup.signature import Signature

    Flags: TypeAlias = NDArray[np.bool_]

TURNS = 32
"""Rows of a group that are compared with all others of it before the rest looks for partners by rare shingles."""


class Spill:
    """Shingles of contested texts on disk, a file of them per shard; rows are numbered within `texts`."""

    def __init__(self, folder: Path, texts: "Rows") -> None:
        import numpy as np

        self.counts: Rows = np.zeros(len(texts), np.int64)
        """Row -> its shingles."""
        self._starts: Rows = np.zeros(len(texts), np.int64)
        self._files: Rows = np.zeros(len(texts), np.int64)
        self._open: list[int] = []
        for places in sorted(folder.glob("spill-*.npy")):
            rows, counts = load_array(places).T
            starts = np.cumsum(counts) - counts
            _, here, there = np.intersect1d(texts, rows, assume_unique=True, return_indices=True)
            self.counts[here], self._starts[here], self._files[here] = (
                counts[there],
                starts[there],
                len(self._open),
            )
            self._open.append(os.open(places.with_suffix(".u64"), os.O_RDONLY))

    def read(self, row: int) -> "Shingles":
        """The shingles of a text; read, not mapped, so that they do not stay in memory."""
        import numpy as np

        start, count = int(self._starts[row]) * 8, int(self.counts[row]) * 8
        return np.frombuffer(os.pread(self._open[self._files[row]], count, start), np.uint64)

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open:
            os.close(file)


def confirm(bucket: Bucket) -> None:
    """Write (row, first row of its cluster, similarity to that) for each text; skips what is written.

    The similarity is that of the two texts, whatever chain connects them, so that it may be below the threshold.
    """
    if bucket.file.exists():
        return
    import numpy as np

    corpus = bucket.corpus
    rows = load_array(bucket.texts)
    signed = np.asarray(load_array(corpus.signatures, mapped=True)[rows])
    salts = load_array(corpus.salts)[rows]
    with Spill(corpus.folder, rows) as spill:
        match = _Match(corpus, signed, salts, spill)
        for band in range(corpus.bands):
            for group in _groups(corpus.keys(band, signed, salts)):
                match.connect(group, band)
        first = match.partition.first()
        alike = [
            1.0 if at == row else jaccard(spill.read(at), spill.read(row)) for row, at in enumerate(first)
        ]
    save_array(bucket.file, np.stack([rows, rows[first], np.array(alike)], axis=1))


def _groups(keys: "Keys") -> "Iterator[Rows]":
    """Rows that have equal keys, ascending; groups of two or more."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1]))
    ends = np.append(starts[1:], len(order))
    for at in np.flatnonzero(ends - starts > 1):
        yield order[starts[at] : ends[at]]


class _Match:
    """Connects the rows of groups, band by band; rows are numbered within a bucket."""

    def __init__(self, corpus: Corpus, signed: "Signature", salts: "Keys", spill: Spill) -> None:
        import numpy as np

        self.partition = Partition(len(signed))
        self._threshold, self._bands = corpus.threshold, corpus.bands
        self._values = band_rows(corpus.threshold)
        self._signed, self._salts, self._spill = signed, salts, spill
        self._settled: Flags = np.zeros(len(signed), bool)
        """Rows that were compared with everything that they could be alike to."""
        self._prefixes: Prefixes | None = None

    def connect(self, group: "Rows", band: int) -> None:
        """Compare the rows of a group until each pair is compared or connected."""
        group = group[~self._settled[group]]
        for _ in range(TURNS):
            outside = self._outside(group)
            if not len(outside):
                return
            row = int(outside[0])
            group = group[group != row]
            self._compare(row, self._likely(row, group, band))
        for row in map(int, self._outside(group)):
            self._settle(row)

    def _outside(self, group: "Rows") -> "Rows":
        """Rows outside of the biggest cluster of a group."""
        import numpy as np

        if len(group) < 2:
            return group[:0]
        labels = self.partition.labels[group]
        found, counts = np.unique(labels, return_counts=True)
        return group[labels != found[counts.argmax()]]

    def _settle(self, row: int) -> None:
        """Compare a row with everything that it could be alike to, whatever the band."""

        if self._prefixes is None:
            self._prefixes = Prefixes(self._spill.read, self._spill.counts, self._threshold)
        others = self._prefixes.sharing(row)
        others = others[(self._salts[others] == self._salts[row]) & ~self._settled[others]]
        self._compare(row, self._likely(row, others, None))
        self._settled[row] = True

    def _compare(self, row: int, others: Iterator[int]) -> None:
        labels = self.partition.labels
        for other in others:
            if labels[other] == labels[row]:  # since a moment ago
                continue
            if jaccard(self._spill.read(row), self._spill.read(other)) >= self._threshold:
                self.partition.join(row, other)

    def _likely(self, row: int, others: "Rows", band: int | None) -> Iterator[int]:
        """Rows of another cluster that may be similar enough, by size and signature.

        band: they share this one with the row, and are passed over if they share an earlier one; None: they have to
        share any.
        """
        import numpy as np

        labels = self.partition.labels
        others = others[labels[others] != labels[row]]
        sizes, size = self._spill.counts[others], self._spill.counts[row]
        others = others[np.minimum(sizes, size) >= self._threshold * np.maximum(sizes, size)]
        bands = self._bands if band is None else band
        for start in range(0, len(others), PAIRS):
            part = others[start : start + PAIRS]
            equal = self._signed[part] == self._signed[row]
            near = equal.mean(axis=1) >= self._threshold - MARGIN
            shared = (
                equal[:, : bands * self._values]
                .reshape(len(part), bands, self._values)
                .all(axis=2)
                .any(axis=1)
            )
            yield from map(int, part[near & (shared if band is None else ~shared)])
