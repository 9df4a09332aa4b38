"""A text as an array of characters and their kinds, so that measures count by whole arrays, not by character.

Made once for a trace and shared by the measures that read it. Offsets are those of the text: one element is one
character. Regular expressions that try many places run at 10 to 25 MB/s; these arrays at hundreds.
"""

import unicodedata
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from distillkit.text import words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Kinds: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
    Codes: TypeAlias = NDArray[np.uint8] | NDArray[np.uint32]
    Flags: TypeAlias = NDArray[np.bool_]
    Places: TypeAlias = NDArray[np.int64]

T = TypeVar("T")

LETTER, SPACE, GARBLE, STOP, CLOSER, CJK, MARK, WIDE_STOP, INVISIBLE = (1 << bit for bit in range(9))
"""Kinds of a character, as bits; an ASCII character has the first five only.

LETTER: of a script that parts its words. CJK: a character that is a word by itself. MARK: belongs to the letter in
front. GARBLE: replacement, control and private-use characters, lone surrogates. STOP: may end a sentence. CLOSER: may
stand behind a stop. WIDE_STOP: ends a sentence wherever it stands. INVISIBLE: zero-width spaces, soft hyphens and
direction marks (joiners are letters' business in Persian and Hindi, and are MARK)."""

_SIGNS = {
    STOP: ".!?\u2026",
    CLOSER: "\"')]}*\u2019\u201d\u300d\u300f\uff09",
    WIDE_STOP: "\u3002\uff01\uff1f\u0964\u061f",
    INVISIBLE: "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufeff",
}
_GARBLE = (
    *((0, 9), (0xE, 0x1C), (0x7F, 0x85), (0x86, 0xA0), (0xD800, 0xF900), (0xFFFD, 0x10000)),
    (0xF0000, 0x110000),
)
_LETTERED = 0x20000
"""Behind the first two planes come Chinese characters alone, then nothing that is text."""
_HAN_PLANES = slice(0x20000, 0x40000)
_JOINERS = "\u200c\u200d"
_APOSTROPHES = (ord("'"), ord("\u2019"))


class Anatomy:
    """What a text is made of. All arrays have one element per character."""

    def __init__(self, text: str) -> None:
        import numpy as np

        self.text = text
        self.kinds: Kinds
        self.codes: Codes
        """Code points."""
        self.folded: Codes
        """Code points of the text in lower case; a letter whose lower case is longer stays."""
        if text.isascii():
            data = text.encode("ascii")
            self.kinds = np.frombuffer(data.translate(_ascii_kinds()), np.uint8)
            self.codes = np.frombuffer(data, np.uint8)
            self.folded = np.frombuffer(data.lower(), np.uint8)
        else:
            kinds, lower = _tables()
            self.codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
            self.kinds = kinds.take(self.codes)
            self.folded = lower.take(self.codes)

    def has(self, kinds: int) -> "Flags":
        """Where a character is of one of these kinds."""
        wide = self.kinds.itemsize > 1
        found: Flags = (self.kinds & (kinds if wide else kinds & 0xFF)) != 0
        return found

    def count(self, kinds: int) -> int:
        """How many characters are of one of these kinds."""
        import numpy as np

        return int(np.count_nonzero(self.has(kinds)))

    @cached_property
    def has_cjk(self) -> bool:
        """Whether there are characters that are words by themselves."""
        return not self.text.isascii() and bool(self.has(CJK).any())

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without the line break."""
        return self.text.split("\n")

    @cached_property
    def bare_lines(self) -> list[str]:
        """The same, white space at both ends cut off: a blank line is empty."""
        return [line.strip() for line in self.lines]

    @cached_property
    def filled_lines(self) -> list[str]:
        """The bare lines that are not blank."""
        return [line for line in self.bare_lines if line]

    @cached_property
    def paragraphs(self) -> "tuple[Places, Places]":
        """Offsets where the paragraphs start and end: each a run of lines that are not blank."""
        import numpy as np

        breaks = np.flatnonzero(self.codes == ord("\n"))
        borders: Places = np.empty(len(breaks) + 2, np.int64)
        borders[0], borders[1:-1], borders[-1] = -1, breaks, len(self.text)
        filled: NDArray[np.int8] = np.zeros(len(breaks) + 3, np.int8)
        filled[1:-1] = np.fromiter(map(bool, self.bare_lines), np.int8, len(breaks) + 1)
        steps = filled[1:] - filled[:-1]
        return borders[np.flatnonzero(steps == 1)] + 1, borders[np.flatnonzero(steps == -1)]

    @cached_property
    def word_starts(self) -> "Places":
        """Offsets of the words as `text.words` counts them, stray combining marks aside."""
        import numpy as np

        letter = self.has(LETTER)
        starts = letter.copy()
        starts[1:] &= ~letter[:-1]
        starts[2:] &= ~(self._apostrophe()[1:-1] & letter[:-2])
        if self.folded.itemsize > 1:
            mark = self.has(MARK)
            starts[2:] &= ~(mark[1:-1] & (letter | mark)[:-2])
            starts |= self.has(CJK)
        return np.flatnonzero(starts)

    def _apostrophe(self) -> "Flags":
        straight, curly = _APOSTROPHES
        found: Flags = self.codes == straight
        return found if self.codes.itemsize == 1 else found | (self.codes == curly)


def once(make: Callable[[str], T]) -> Callable[[str], T]:
    """The same function, which keeps what it made of the last text: the next measure of a trace asks for it again.

    By identity, for to hash a text costs as much as to read it.
    """
    last: list[tuple[str, T]] = []

    def made(text: str) -> T:
        if not last or last[-1][0] is not text:
            last[:] = [(text, make(text))]
        return last[-1][1]

    return made


anatomy = once(Anatomy)
"""The anatomy of a text."""


@cache
def _ascii_kinds() -> bytes:
    """Kinds of the first 128 characters, padded for bytes.translate."""
    kinds = [_kind(chr(code)) for code in range(128)]
    return bytes(kinds + [0] * 128)


def _kind(char: str) -> int:
    """Kind of one character; letters by `text.words`, so that both agree on what a word is."""
    kind = sum(bit for bit, signs in _SIGNS.items() if char in signs)
    if char.isspace():
        return kind | SPACE
    if char in _JOINERS or unicodedata.category(char) in ("Mn", "Mc"):
        return kind | MARK
    if any(start <= ord(char) < end for start, end in _GARBLE):
        return kind | GARBLE
    if words(char):
        return kind | (CJK if len(words(char * 2)) == 2 else LETTER)
    return kind


@cache
def _tables() -> "tuple[NDArray[np.uint16], NDArray[np.uint32]]":
    """Kind and lower case of every code point."""
    import numpy as np

    kinds: NDArray[np.uint16] = np.zeros(0x110000, np.uint16)
    lower: NDArray[np.uint32] = np.arange(0x110000, dtype=np.uint32)
    for code in range(_LETTERED):
        char = chr(code)
        kinds[code] = _kind(char)
        if len(char.lower()) == 1:
            lower[code] = ord(char.lower())
    kinds[_HAN_PLANES] = CJK
    for start, end in _GARBLE:
        if start >= _LETTERED:
            kinds[start:end] = GARBLE
    return kinds, lower
