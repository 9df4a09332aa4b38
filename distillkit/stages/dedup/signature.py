"""MinHash signatures behind one interface: rensa (Rust) or datasketch (numpy, several times slower).

The share of equal values in two signatures estimates the Jaccard similarity of the texts. A signature proposes, an
exact comparison decides; so what the two libraries find differs only in the few pairs that MinHash misses.
Source: Broder 1997; rensa's R-MinHash after Dahlgaard, Knudsen and Thorup, arXiv:1704.04370; datasketch's affine
permutations of 32 bits.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias

from xxhash import xxh3_64_hexdigest

from distillkit.errors import MissingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillkit.shingles import Shingles

    Signature: TypeAlias = NDArray[np.uint32]
    """PERMUTATIONS values of a text, or a row of them per text."""

Library = Literal["rensa", "datasketch"]
PERMUTATIONS = 128
SEED = 17
RECALL = 0.998
"""Chance that a pair at the threshold shares a band."""
ALGORITHMS: dict[Library, str] = {"rensa": "1559244ea0041b7c", "datasketch": "6b7d3f43785af79c"}
"""Digest of a known text's signature: a release that signs otherwise is not the library that a recipe means."""
INSTALL: dict[Library, str] = {
    "rensa": "pip install 'rensa>=0.5,<0.6'",
    "datasketch": "pip install 'distillkit[datasketch]'",
}
_VALUES = 2**15
"""Shingles that datasketch permutes at a time: 16 MiB."""


def require(library: Library) -> None:
    """Raises MissingError where the library is not installed."""
    if find_spec(library) is None:
        raise MissingError(f"minhash: {library} is not installed; {INSTALL[library]}")


def signatures(texts: "Sequence[Shingles]", library: Library = "rensa") -> "Signature":
    """A row per text; the order of a text's shingles and their repeats do not count.

    Raises:
        MissingError: the library is not installed, or it signs otherwise than it did.
    """
    _require_algorithm(library)
    return _sign(texts, library)


@cache
def _require_algorithm(library: Library) -> None:
    import numpy as np

    require(library)
    probe = _sign([np.arange(1, 2**12, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)], library)
    if xxh3_64_hexdigest(probe.tobytes()) != ALGORITHMS[library]:
        raise MissingError(
            f"minhash: this release of {library} signs texts otherwise than the one that distillkit was made with; "
            f"{INSTALL[library]}"
        )


def _sign(texts: "Sequence[Shingles]", library: Library) -> "Signature":
    import numpy as np

    if not texts:
        return np.zeros((0, PERMUTATIONS), np.uint32)
    return _by_rensa(texts) if library == "rensa" else np.stack([_by_datasketch(text) for text in texts])


def _by_rensa(texts: "Sequence[Shingles]") -> "Signature":
    import numpy as np
    from rensa import RMinHash

    offsets = np.cumsum([0, *map(len, texts)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(texts), offsets, PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _by_datasketch(text: "Shingles") -> "Signature":
    import numpy as np
    from datasketch import MinHash

    minhash = MinHash(PERMUTATIONS, SEED, hashfunc=int, scheme="affine32")
    words = (text >> np.uint64(32)).tolist()
    for start in range(0, len(words), _VALUES):
        minhash.update_batch(words[start : start + _VALUES])
    return np.asarray(minhash.hashvalues, dtype=np.uint32)


def band_rows(threshold: float) -> int:
    """Signature values per band: the most (fewest chance candidates) that keep RECALL at the threshold."""
    fitting = [n for n in range(1, 17) if 1 - (1 - threshold**n) ** (PERMUTATIONS // n) >= RECALL]
    return max(fitting)
