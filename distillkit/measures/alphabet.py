"""Words, runs and segments of one alphabet: a part of the language measure, which asks this before all else.

Splitting a text at spaces is several times as fast as finding its words by a pattern, and most texts need no more;
places are looked up only where a code (lexicon.py) shows something foreign.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from distillkit.measures.lexicon import NOTHING, STOP

# A token: a word with what stands in it ("don't", "x_1", "os.path") and the bracket of a call, or a sentence's end.
_JOINED = r"[{0}]+(?:'[{0}]+|\.[a-z_\d][{0}]*)*+\(?|[.!?\u2026\n]"
_MARKS = r"\d_\u00ad\u0300-\u036f\u200b-\u200f\u2060\ufeff"
_LATIN_LETTERS = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_CYRILLIC_LETTERS = r"\u0400-\u052f\u2de0-\u2dff\ua640-\ua69f"
TOKEN = {
    "latin": re.compile(_JOINED.format(_LATIN_LETTERS + _MARKS)),
    "cyrillic": re.compile(_JOINED.format(_CYRILLIC_LETTERS + _MARKS)),
}
"""Alphabet -> its tokens. Other scripts between them are skipped."""

RUN = {
    "latin": re.compile(rf"[{_LATIN_LETTERS}]++(?:[\W\d_]++[{_LATIN_LETTERS}]++)*+"),
    "cyrillic": re.compile(rf"[{_CYRILLIC_LETTERS}]++(?:[\W\d_]++[{_CYRILLIC_LETTERS}]++)*+"),
}
"""Alphabet -> its letters and what is no letter between them."""

# Bytes of UTF-8: what parts words becomes a space, what ends sentences a full stop. Splitting at spaces is several
# times as fast as finding words by a pattern.
_PARTS = bytes.maketrans(b'!?,;:)[]{}<>=+-*/\\|&%#@^~$`"0123456789', b".." + b" " * 36)
ASCII_PARTS = _PARTS[:128] + b" " * 128
_SIGNS = re.compile("[\u00a0-\u00bf\u00d7\u00f7\u2010-\u2027\u202f-\u205f\u2070-\u2bff\u3000-\u303f]+")

BLOCK_CHARS = 500
"""Characters from which a block of lines ends with its line: a few blocks of a text have places, which cost."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of one foreign language without a target word between them; offsets into the text."""

    start: int
    end: int
    language: str
    words: int


def blocks(clean: str) -> Iterator[tuple[int, int]]:
    """Lines, taken together until they have BLOCK_CHARS."""
    start = 0
    while start < len(clean):
        end = clean.find("\n", start + BLOCK_CHARS) + 1 or len(clean)
        yield start, end
        start = end


def count_words(code: str) -> int:
    """Words of a code."""
    return len(code) - code.count(NOTHING) - code.count(STOP)


def split_tokens(clean: str, parts: bytes = _PARTS) -> list[str]:
    """The tokens of a text, but for what stands in them; of other scripts too, which are no words of this one."""
    parted = clean.encode("utf-8", "surrogatepass").translate(parts).decode("utf-8", "surrogatepass")
    if not parted.isascii():
        parted = _SIGNS.sub(" ", parted.replace("\u2026", ". "))
    return f"{parted}\n".replace("\n", " . ").replace(". ", " . ").replace("(", "( ").split()
