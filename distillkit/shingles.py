"""A text as the set of its runs of words, and how alike two such sets are.

A Chinese or Japanese character is a word, and so is an operator ("8 + 2" and "8 - 2" are not the same text); a hyphen
between letters is none. Case and other punctuation do not count. A shingle is a hash of 64 bits: two different ones
are equal with a chance of 2^-64. Source: Broder 1997, "On the resemblance and containment of documents".
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from xxhash import xxh3_64_intdigest

from distillkit.text import normalise
from distillkit.wordhash import run_hashes, span_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shingles: TypeAlias = NDArray[np.uint64]
    """Sorted, without repeats."""

WORDS = 5
"""Words of a shingle."""
SIGNS = "+*/=<>^-\u00d7\u00f7\u2212\u2260\u2264\u2265"
CJK = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
_ASSIGNED = 0x323B0
"""Code points from here on are no letters."""
_INSIDE, _SINGLE, _LETTER = 1, 2, 4
"""Kinds of a character, as bits: part of a word; a word by itself; a letter, which a hyphen joins to another."""
_HYPHEN = ord("-")
_BLOCK = 2**15
"""Characters that are hashed at a time, at least."""
_SLICE = 2**18
"""And at most, more or less: longer texts are cut at white space."""
_CUT = re.compile(rf"\S{{0,{_SLICE}}}")


def shingles(text: str) -> "Shingles":
    """Hashes of the text's different runs of WORDS words; of the whole text where it has fewer."""
    import numpy as np

    return np.unique(runs([normalise(text)])[0])


def jaccard(a: "Shingles", b: "Shingles") -> float:
    """Shared shingles / all shingles, in [0, 1]."""
    import numpy as np

    both = np.concatenate([a, b])
    both.sort(kind="stable")  # which merges two runs that are sorted
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def runs(normal: Sequence[str]) -> "list[NDArray[np.uint64]]":
    """Hash of each run of WORDS words, in order and repeats kept, of each normalised text; at least one."""
    return [found for block in _blocks(normal) for found in _runs(block)]


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Short texts together: a call of numpy costs as much as some hundred characters."""
    block: list[str] = []
    held = 0
    for text in texts:
        block.append(text)
        held += len(text)
        if held >= _BLOCK:
            yield block
            block, held = [], 0
    if block:
        yield block


def _runs(texts: list[str]) -> "Iterator[NDArray[np.uint64]]":
    import numpy as np

    lower = [text.lower() for text in texts]
    ends: NDArray[np.int64] = np.cumsum([len(text) + 1 for text in lower])
    parts = [_words(part, start) for part, start in _slices("\n".join(lower))]
    words = np.concatenate([hashes for hashes, _ in parts])
    last: list[int] = np.concatenate([starts for _, starts in parts]).searchsorted(ends).tolist()
    found = run_hashes(words, WORDS)
    for text, begin, end in zip(texts, [0, *last], last, strict=False):
        if end - begin >= WORDS:
            yield found[begin : end - WORDS + 1]
        elif end > begin:
            yield run_hashes(words[begin:end], end - begin)
        else:
            yield np.array([xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))], np.uint64)


def _slices(text: str) -> Iterator[tuple[str, int]]:
    """The text in parts that no word spans, unless it is longer than a part; and where each begins."""
    start = 0
    while len(text) - start > _SLICE:
        found = _CUT.match(text, start + _SLICE)
        end = found.end() if found else len(text)
        yield text[start:end], start
        start = end
    yield text[start:], start


def _words(text: str, offset: int) -> "tuple[NDArray[np.uint64], NDArray[np.int64]]":
    """Hash of each word, in order, and where it begins, `offset` added."""
    import numpy as np

    codes: NDArray[np.uint8] | NDArray[np.uint32]
    if text.isascii():
        data = text.encode("ascii")
        codes = np.frombuffer(data, np.uint8)
        kinds = np.frombuffer(data.translate(_ascii_kinds()), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        kinds = _kinds()[codes]
    if "-" in text:
        kinds = _without_joints(codes, kinds)
    single, inside = (kinds & _SINGLE) != 0, (kinds & _INSIDE) != 0
    begins, ends = inside.copy(), inside.copy()
    begins[1:] &= ~inside[:-1] | single[1:] | single[:-1]
    ends[:-1] &= ~inside[1:] | single[1:] | single[:-1]
    starts = np.flatnonzero(begins)
    return span_hashes(codes, starts, np.flatnonzero(ends) + 1), starts + offset


def _without_joints(
    codes: "NDArray[np.uint8] | NDArray[np.uint32]", kinds: "NDArray[np.uint8]"
) -> "NDArray[np.uint8]":
    """The kinds, where hyphens between two letters part words and are none."""
    import numpy as np

    at = np.flatnonzero(codes[1:-1] == _HYPHEN) + 1
    joints = at[(kinds[at - 1] & kinds[at + 1] & _LETTER) != 0]
    changed = kinds.copy()
    changed[joints] = 0
    return changed


@cache
def _ascii_kinds() -> bytes:
    return bytes(map(_kind, range(128))) + bytes(128)


@cache
def _kinds() -> "NDArray[np.uint8]":
    """Kind of every code point."""
    import numpy as np

    kinds: NDArray[np.uint8] = np.zeros(0x110000, np.uint8)
    kinds[:_ASSIGNED] = np.fromiter(map(_kind, range(_ASSIGNED)), np.uint8, _ASSIGNED)
    for first, last in CJK:
        kinds[first : last + 1][kinds[first : last + 1] != 0] |= _SINGLE
    return kinds


def _kind(code: int) -> int:
    sign = chr(code)
    if sign in SIGNS:
        return _INSIDE | _SINGLE
    if not (sign.isalnum() or unicodedata.category(sign)[0] == "M"):
        return 0
    return _INSIDE if sign.isdecimal() else _INSIDE | _LETTER
