"""The words of a text as hashes, for comparing texts under any disguise and at tens of megabytes a second.

A word is a run of letters and digits; case, accents, width, invisible characters and punctuation do not count.
Its hash is a difference of prefix sums, so a text is a few passes over arrays and no Python loop.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes: TypeAlias = NDArray[np.uint64]
    Indices: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]

_BASE = 0x9E3779B97F4A7C15
"""Of the hashes of characters in a word; odd, so that it has an inverse modulo 2^64."""
_WORD_BASE = 0xC2B2AE3D27D4EB4F
_CHUNK = 1 << 15
"""Characters that are hashed at a time: the arrays stay in the cache, and 5 MB in one row cost no memory."""
_SINGLE = (
    *((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xF900, 0xFAFF), (0x20000, 0x323AF)),
)
"""Ranges of Chinese and Japanese characters: each is a word of its own."""


@dataclass(frozen=True)
class Words:
    """A text as hashes of its words."""

    text: str
    starts: "Indices"
    ends: "Indices"
    """Half-open offsets of the words in `text`."""
    hashes: "Hashes"
    cjk: "Flags"
    """Which words are single Chinese or Japanese characters."""
    breaks: "Indices"
    """Offsets of the line breaks."""

    def __len__(self) -> int:
        return len(self.hashes)

    def gram(self, at: int, size: int) -> str:
        """`size` words from index `at` on, folded, with single spaces between them."""
        parts = zip(self.starts[at : at + size].tolist(), self.ends[at : at + size].tolist(), strict=True)
        return " ".join(_folded(self.text[start:end]) for start, end in parts)


def words_of(text: str) -> Words:
    """The words of a text, in order."""
    import numpy as np

    found = [_chunk(text[start:end], start) for start, end in _chunks(text)]
    starts, ends, hashes, cjk, breaks = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Words(text, starts, ends, _mixed(hashes), cjk, breaks)


def windows(hashes: "Hashes", sizes: "set[int]") -> "Iterator[tuple[int, Hashes]]":
    """For each size, ascending, the hash of each run of so many words, one per word that begins one."""
    import numpy as np

    found = hashes.copy()
    for size in range(1, min(max(sizes, default=0), len(hashes)) + 1):
        if size > 1:
            found = found[:-1]
            found *= np.uint64(_WORD_BASE)
            found += hashes[size - 1 :]
        if size in sizes:
            yield size, found.copy()


def runs(hashes: "Hashes", starts: "Indices", ends: "Indices") -> "Hashes":
    """Hash of each run of words [start, end), however long; equal runs have equal hashes anywhere."""
    import numpy as np

    powers, inverse = _powers(max(len(hashes), 1), _WORD_BASE)
    sums: Hashes = np.zeros(len(hashes) + 1, np.uint64)
    np.cumsum(hashes * powers[: len(hashes)], out=sums[1:])
    return (sums[ends] - sums[starts]) * inverse[starts] + (ends - starts).astype(np.uint64)


def _chunks(text: str) -> Iterator[tuple[int, int]]:
    """Parts of a text, cut at a space where there is one."""
    start = 0
    while len(text) - start > _CHUNK:
        end = max(text.rfind(space, start, start + _CHUNK) for space in " \n")
        end = end if end > start else start + _CHUNK
        yield start, end
        start = end
    yield start, len(text)


def _chunk(text: str, offset: int) -> "tuple[Indices, Indices, Hashes, Flags, Indices]":
    """What `Words` says of a part that stands at an offset, hashes not mixed yet."""
    import numpy as np

    table = _table()
    origin: Indices | None = None
    if text.isascii() and not (raw := text.encode()).translate(None, _PRINTED).translate(None, _SPACES):
        codes = np.frombuffer(raw, np.uint8)
        values = table.values.take(codes)  # indexing is five times slower
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = table.lengths.take(codes)
        if (lengths == 1).all():
            values = table.values.take(codes)
        else:
            origin = np.repeat(np.arange(len(codes)), lengths)
            within = np.arange(len(origin)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            values = table.spelt[table.firsts[codes][origin] + within]
    inside = values != 0
    single = (values & np.uint64(_CJK_BIT)) != 0
    edge: Flags = np.empty(len(values) + 1, bool)
    joined = inside & ~single
    edge[0] = edge[-1] = True
    np.logical_not(joined[1:] & joined[:-1], out=edge[1:-1])
    starts = np.flatnonzero(inside & edge[:-1])
    ends = np.flatnonzero(inside & edge[1:]) + 1
    powers, inverse = _powers(max(len(values), 1), _BASE)
    sums: Hashes = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverse[starts]
    cjk = single[starts]
    if origin is not None:
        starts, ends = origin[starts], origin[ends - 1] + 1
    return starts + offset, ends + offset, hashes, cjk, np.flatnonzero(codes == _LINE_BREAK) + offset


_CJK_BIT = 1 << 32
_LINE_BREAK = 10
_PRINTED, _SPACES = bytes(range(32, 127)), b"\t\n\v\f\r\x1c\x1d\x1e\x1f"
_INVISIBLE = frozenset(
    [
        *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x640, 0x3164, 0xFFA0),
        *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
    ]
)
"""Letters and marks that show nothing (fillers, joiners, selectors), and the stroke that lengthens Arabic words."""


@dataclass(frozen=True)
class _Table:
    """What each code point counts as: 0 = no part of a word, else a code point, _CJK_BIT set on a word of its own."""

    values: "Hashes"
    """Of those that stand for one."""
    lengths: "Indices"
    """How many code points each stands for: 0 for what is invisible, more for a ligature."""
    firsts: "Indices"
    spelt: "Hashes"
    """The values of code point c: spelt[firsts[c] : firsts[c] + lengths[c]]."""


@cache
def _table() -> _Table:
    import numpy as np

    count = 0x110000
    values: Hashes = np.zeros(count, np.uint64)
    lengths: Indices = np.ones(count, np.int64)
    firsts = np.arange(count)
    odd: list[int] = []
    for code in range(count):
        char = chr(code)
        if unicodedata.category(char) not in _APART:
            spelling = [_value(each) for each in _fold(char)]
            if len(spelling) == 1:
                values[code] = spelling[0]
            else:
                firsts[code], lengths[code] = count + len(odd), len(spelling)
                odd += spelling
    return _Table(values, lengths, firsts, np.append(values, np.array(odd, np.uint64)))


_APART = frozenset({"Cn", "Co", "Cs", "Zs", "Zl", "Zp", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sm"})
"""Categories that part words: white space, punctuation, mathematical signs, what no text has."""


def _fold(char: str) -> str:
    """A character without case, accent, width and style; a raised or lowered one stands apart ("x²" is "x 2").

    Everything is taken apart and nothing is put together, so that composed and decomposed texts are equal.
    """
    kind = unicodedata.category(char)
    if kind == "Cf" or (kind == "Cc" and not char.isspace()) or ord(char) in _INVISIBLE:
        return ""
    apart = " " if unicodedata.decomposition(char).startswith(("<super>", "<sub>", "<fraction>")) else ""
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    return apart + "".join(each for each in parts if unicodedata.combining(each) in (0, _VIRAMA)) + apart


_VIRAMA = 9
"""Combining class of the sign that Indic letters are joined with; other classes are accents and points."""


def _value(char: str) -> int:
    code, kind = ord(char), unicodedata.category(char)
    if kind[0] not in "LMN":
        return 0
    if any(first <= code <= last for first, last in _SINGLE):
        return code | _CJK_BIT
    return code


def _folded(word: str) -> str:
    return "".join(each for char in word for each in _fold(char) if _value(each))


def _mixed(hashes: "Hashes") -> "Hashes":
    """Spread over all bits, in place (the finaliser of MurmurHash3): a short word's hash is a small number."""
    import numpy as np

    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(33)
    return hashes


_grown: "dict[int, tuple[Hashes, Hashes]]" = {}


def _powers(count: int, base: int) -> "tuple[Hashes, Hashes]":
    """Powers of a base and of its inverse modulo 2^64, more than `count` of each."""
    import numpy as np

    if base not in _grown or len(_grown[base][0]) <= count:
        size = max(1 << 16, 1 << count.bit_length())
        pair = []
        for factor in (base, pow(base, -1, 1 << 64)):
            powers: Hashes = np.full(size, factor, np.uint64)
            powers[0] = 1
            pair.append(np.cumprod(powers, dtype=np.uint64))
        _grown[base] = (pair[0], pair[1])
    return _grown[base]
