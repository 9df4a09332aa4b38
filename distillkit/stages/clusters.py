"""Near-duplicate texts: word shingles, MinHash candidates, exact Jaccard, connected components.

MinHash only proposes: every link between two texts is an exact Jaccard similarity of their shingle sets
(shingles are 64-bit hashes; two different ones are equal with a chance of 2^-64). Components do not depend on
the order of the input, as keep-first deduplicators do, and each is named by its first text.

Source: MinHash and banding, Broder 1997 and Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets",
chapter 3; signatures by rensa's R-MinHash (after Dahlgaard, Knudsen and Thorup, arXiv:1704.04370).
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from xxhash import xxh3_64_intdigest

from distillkit.text import normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shingles: TypeAlias = NDArray[np.uint64]
    """Sorted, without repeats."""
    Signature: TypeAlias = NDArray[np.uint32]
    """PERMUTATIONS values of a text, or a row of them per text."""
    Rows: TypeAlias = NDArray[np.intp]

WORDS = 5
"""Words of a shingle."""
PERMUTATIONS = 128
SEED = 17
MARGIN = 0.1
"""A pair is compared exactly when its signatures' estimate is not this far below the threshold: 2.8 of the
estimate's standard deviations at a similarity of 0.8, which leaves 0.2 % of such pairs out."""
RECALL = 0.998
"""Chance that a pair at the threshold shares a band."""
_CHUNK = 1024
_BASE = 0x9E3779B97F4A7C15

# A Chinese or Japanese character is a word, so is an operator ("8 + 2" and "8 - 2" are not the same text);
# a hyphen between letters is none.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SIGNS = r"[+*/=<>^\u00d7\u00f7\u2260\u2264\u2265\u2212]|-(?![^\W\d_])|(?<![^\W\d_])-"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+|{_SIGNS}")
_ASCII_WORD = re.compile(rf"[a-z0-9]+|{_SIGNS}", re.ASCII)
"""The same words, twice as fast, where a lower-case text is ASCII."""


def shingles(text: str) -> "Shingles":
    """Hashes of the text's runs of WORDS words in lower case; of the whole text where it has fewer."""
    import numpy as np

    words = (_ASCII_WORD if text.isascii() else _WORD).findall(text.lower())
    if len(words) < WORDS:
        return np.array([_hash(" ".join(words) or normalise(text))], dtype=np.uint64)
    hashes = np.fromiter(map(_hash, words), np.uint64, len(words))
    count = len(words) - WORDS + 1
    rolled: Shingles = np.zeros(count, np.uint64)
    for offset in range(WORDS):  # a polynomial in the words' hashes, modulo 2^64
        rolled = rolled * np.uint64(_BASE) + hashes[offset : offset + count]
    return np.unique(rolled)


@lru_cache(2**16)
def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def signatures(texts: "Sequence[Shingles]") -> "Signature":
    """MinHash signatures: the share of equal values in two rows estimates the texts' Jaccard similarity."""
    import numpy as np
    from rensa import RMinHash

    if not texts:
        return np.zeros((0, PERMUTATIONS), np.uint32)
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(texts), offsets, PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def band_rows(threshold: float) -> int:
    """Signature values per band: the most (fewest chance candidates) that keep RECALL at the threshold."""
    fitting = [n for n in range(1, 17) if 1 - (1 - threshold**n) ** (PERMUTATIONS // n) >= RECALL]
    return max(fitting)


def candidates(signed: "Signature", threshold: float) -> "list[Rows]":
    """Groups of two or more rows that share a band, rows ascending in each; equal groups are given once."""
    import numpy as np

    rows = band_rows(threshold)
    groups: dict[bytes, Rows] = {}
    weights = np.array([pow(_BASE, n, 2**64) for n in range(1, rows + 1)], dtype=np.uint64)
    for start in range(0, PERMUTATIONS - rows + 1, rows):
        keys = (signed[:, start : start + rows].astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        starts, ends = np.append(0, edges), np.append(edges, len(order))
        for first, last in zip(starts, ends, strict=True):
            if last - first > 1:
                group = order[first:last]
                groups[group.tobytes()] = group
    return list(groups.values())


def jaccard(a: "Shingles", b: "Shingles") -> float:
    """Shared shingles / all shingles, in [0, 1]."""
    import numpy as np

    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


class Partition:
    """Rows in classes; a class is known by its smallest row."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.first: Rows = np.arange(size)
        """Row -> smallest row of its class."""
        self._members: dict[int, list[int]] = {}

    def join(self, a: int, b: int) -> None:
        """Make one class of the classes of two rows; only the smaller class's rows are rewritten, or both."""
        x, y = sorted((int(self.first[a]), int(self.first[b])))
        if x != y:
            joined = self._members.pop(y, [y])
            self.first[joined] = x
            self._members.setdefault(x, [x]).extend(joined)


def link(
    signed: "Signature", groups: "list[Rows]", threshold: float, similarity: Callable[[int, int], float]
) -> "Rows":
    """Row -> first row of its component; two rows are linked when they share a group and are similar enough.

    `similarity(a, b)` is asked only for pairs not yet connected whose estimate is near the threshold.
    """
    import numpy as np

    partition = Partition(len(signed))
    first = partition.first
    asked: dict[tuple[int, int], bool] = {}
    for group in groups:
        for place in range(1, len(group)):
            row = int(group[place])
            for start in range(0, place, _CHUNK):
                earlier = group[start : min(place, start + _CHUNK)]
                earlier = earlier[first[earlier] != first[row]]
                estimate = (signed[earlier] == signed[row]).mean(axis=1)
                for other in map(int, earlier[estimate >= threshold - MARGIN]):
                    if first[other] == first[row]:
                        continue
                    pair = (other, row)
                    if pair not in asked:
                        asked[pair] = similarity(other, row) >= threshold
                    if asked[pair]:
                        partition.join(other, row)
    return np.asarray(first)
