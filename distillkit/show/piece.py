"""A trace as plain pieces of text with marks: what a page or a terminal may show of hostile input.

The characters that reorder, hide or command a terminal become visible; a page puts pieces into text nodes, a terminal
prints them without markup.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from distillkit.artifact import Row
from distillkit.reader import look_up

Piece = tuple[str, str]
"""(mark, text): mark is "" for plain text, "reflection", "leak", or the code of a foreign language."""
Mark = tuple[int, int, str]
"""(start, end, mark): offsets into the text."""

REFLECTION, LEAK = "reflection", "leak"
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_WORD = re.compile(r"[A-Za-z-]+", re.ASCII)


def visible(text: str) -> str:
    """The text with control and bidi characters as what they are called: `[U+202E]`."""
    return _HIDDEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", text.replace("\r\n", "\n"))


def marks_of(text: str, row: Row) -> list[Mark]:
    """Foreign segments, reflection words and a leaked n-gram in what the measures read of a row's trace."""
    found = [
        (segment["start"], segment["end"], segment["language"])
        for segment in _dict(look_up(row, "measures.language")).get("foreign") or []
    ]
    for start in _dict(look_up(row, "measures.reflection")).get("positions") or []:
        word = _WORD.match(text, start)
        found += [(start, word.end(), REFLECTION)] if word else []
    return found + leak_marks(text, row, "completion")


def leak_marks(text: str, row: Row, part: str) -> list[Mark]:
    """Where a benchmark's words stand in a text, if they were found in that part (prompt, completion) of the trace."""
    leak = _dict(look_up(row, "leak"))
    shift = row["completion"].find(text) if part == "completion" else 0
    if leak.get("part") != part or shift < 0:
        return []
    return [(leak["start"] - shift, leak["end"] - shift, LEAK)]


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def pieces(text: str, marks: Iterable[Mark]) -> list[Piece]:
    """A text cut at its marks; one that does not fit it or overlaps an earlier one is left out."""
    found: list[Piece] = []
    at = 0
    for start, end, mark in sorted(marks):
        if at <= start < end <= len(text):
            found += [("", text[at:start]), (mark, text[start:end])]
            at = end
    return [each for each in [*found, ("", text[at:])] if each[1]]


def excerpts(text: str, marks: Iterable[Mark], around: int, most: int) -> list[list[Piece]]:
    """The places of a text that have marks, with `around` characters on both sides; at most `most` of them."""
    spans: list[tuple[int, int, list[Mark]]] = []
    for start, end, mark in sorted(marks):
        left, right = max(0, start - around), min(len(text), end + around)
        if spans and left <= spans[-1][1]:
            first, last, inside = spans[-1]
            spans[-1] = (first, max(last, right), [*inside, (start, end, mark)])
        else:
            spans.append((left, right, [(start, end, mark)]))
    return [
        pieces(text[left:right], [(start - left, end - left, mark) for start, end, mark in inside])
        for left, right, inside in spans[:most]
    ]
