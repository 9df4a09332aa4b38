r"""What makes a trace hard to read: walls of text, code, markdown, broken markup, garbage characters.

DeepSeek-R1 "filtered out chain-of-thought with mixed languages, long paragraphs, and code blocks" and asked
for short paragraphs without markdown (arXiv:2501.12948v2, supplement B.3.3). It published no thresholds:
every number of the preset below is ours.
"""

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from distillkit.measures.anatomy import GARBLE, INVISIBLE, Anatomy, anatomy
from distillkit.measures.base import Labels, Measure
from distillkit.trace import Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillkit.measures.anatomy import Flags, Places

_FENCES = ("```", "~~~")
_HEADING = re.compile(r"#{1,6}[^\S\n]+\S")
_ITEM = re.compile(r"(?:[-*+\u2022]|\d{1,3}[.)])\s+\S")
_MARKED = frozenset("-*+\u20220123456789#|`~")
"""What a line begins with that may be an item, a heading, a row of a table or a fence."""
_DOUBLE_DOLLAR = re.compile(r"(?<!\\)\$\$")
# UTF-8 that was read as Latin-1 or Windows-1252: "caf\u00c3\u00a9", "don\u00e2\u20ac\u2122t".
_MOJIBAKE_SIGNS = "\u00c2\u00c3\u00e2"
_MOJIBAKE = re.compile(r"[\u00c2\u00c3][\u0080-\u00bf]|\u00e2(?:\u20ac|[\u0080-\u008f])[^\sA-Za-z0-9]")


class Readability(Measure):
    """Shape of the text as a reader sees it; an empty text measures 0 everywhere."""

    VERSION: ClassVar[int] = 2

    KEYS: ClassVar[dict[str, str]] = {
        "paragraphs": "paragraphs: what blank lines part",
        "longest_paragraph_chars": "characters of the longest paragraph, line breaks inside it included",
        "longest_paragraph_words": "words of the paragraph that has most",
        "mean_paragraph_words": "words of a paragraph on average",
        "longest_line": "characters of the longest line, without the white space around it",
        "mean_line": "characters of a line on average, blank lines aside",
        "code_blocks": "fenced code blocks, an unclosed one included",
        "code_share": "share of the characters, blank lines and indentation aside, that stand in fenced code",
        "headings": "markdown headings outside code",
        "bold": "pairs of **",
        "tables": "lines that begin with | outside code: rows of a markdown table",
        "list_items": "lines that are list items",
        "list_wall": "list items of the longest unbroken list",
        "unclosed_fences": "1 where the last code fence is never closed",
        "unclosed_math": "math delimiters without a partner: \\[ \\( \\begin, or an odd $$",
        "garble": "share of characters that are no text: replacement, control, private-use, UTF-8 read as Latin-1",
        "invisible": "zero-width characters, soft hyphens and direction marks",
    }

    kind: Literal["readability"] = "readability"

    def measure(self, trace: Trace) -> Labels:
        sheet = anatomy(trace.text)
        return {
            **_paragraphs(sheet),
            **_lines(sheet.filled_lines),
            "bold": sheet.text.count("**") // 2 if "*" in sheet.text else 0,
            "unclosed_math": _unclosed_math(sheet),
            **_garble(sheet),
        }


def _paragraphs(sheet: Anatomy) -> Labels:
    import numpy as np

    starts, ends = sheet.paragraphs
    borders = np.append(np.searchsorted(sheet.word_starts, starts), len(sheet.word_starts)).tolist()
    counts = [behind - first for first, behind in pairwise(borders)]
    return {
        "paragraphs": len(counts),
        "longest_paragraph_chars": int((ends - starts).max(initial=0)),
        "longest_paragraph_words": max(counts, default=0),
        "mean_paragraph_words": round(sum(counts) / len(counts), 1) if counts else 0.0,
    }


def _lines(lines: list[str]) -> Labels:
    """Lengths of the lines and what they make; blank lines break no list.

    Markdown counts outside of code only: in Python and shell a line that starts with # is a comment.
    """
    lengths = [*map(len, lines)]
    fences: list[int] = []
    headings = tables = 0
    items: list[int] = []
    for i, line in [(i, line) for i, line in enumerate(lines) if line[0] in _MARKED]:
        if line.startswith(_FENCES):
            fences.append(i)
        elif _ITEM.match(line):
            items.append(i)
        elif len(fences) % 2 == 0:
            headings += _HEADING.match(line) is not None
            tables += line[0] == "|"
    inside = sum(
        sum(lengths[start + 1 : end])
        for start, end in zip(fences[::2], [*fences, len(lines)][1::2], strict=False)
    )
    return {
        "longest_line": max(lengths, default=0),
        "mean_line": round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
        "code_blocks": (len(fences) + 1) // 2,
        "code_share": round(inside / sum(lengths), 4) if fences else 0.0,
        "headings": headings,
        "tables": tables,
        "list_items": len(items),
        "list_wall": _longest_run(items),
        "unclosed_fences": len(fences) % 2,
    }


def _longest_run(places: list[int]) -> int:
    """The most places that follow each other by one."""
    longest = run = 0
    before = -2
    for place in places:
        run = run + 1 if place == before + 1 else 1
        longest, before = max(longest, run), place
    return longest


def _unclosed_math(sheet: Anatomy) -> int:
    """Delimiters left open plus those that close nothing; `$$` counts when its number is odd, `$` never."""
    dollars = len(_DOUBLE_DOLLAR.findall(sheet.text)) if "$$" in sheet.text else 0
    return _unpaired(sheet) + dollars % 2


def _unpaired(sheet: Anatomy) -> int:
    r"""How many of \[ \( \begin find no partner behind them, and how many of \] \) \end none in front."""
    depth = stray = 0
    for step in _delimiters(sheet):
        if step < 0 and depth == 0:
            stray += 1
        else:
            depth += step
    return depth + stray


def _delimiters(sheet: Anatomy) -> list[int]:
    r"""1 for each delimiter that opens, -1 for each that closes, in order; in `\\[` one backslash escapes the other."""
    import numpy as np

    slashes = np.flatnonzero(sheet.codes == ord("\\"))
    behind = slashes[_fresh(slashes)] + 1
    behind = behind[behind < len(sheet.codes)]
    first = sheet.codes[behind]
    steps = _bracket_steps().take(first, mode="clip")
    for i in np.flatnonzero((first == ord("b")) | (first == ord("e"))).tolist():
        word = sheet.text[behind[i] : behind[i] + 6]
        steps[i] = (word.startswith("begin")) - (word.startswith("end") and not word[3:4].isalpha())
    return steps[steps != 0].tolist()  # type: ignore[no-any-return]


def _fresh(slashes: "Places") -> "Flags":
    """Which backslashes are not escaped themselves: every second of a run of them."""
    import numpy as np

    follows: Flags = np.zeros(len(slashes), np.bool_)
    follows[1:] = slashes[1:] - slashes[:-1] == 1
    if not follows.any():
        return ~follows
    order = np.arange(len(slashes))
    fresh: Flags = (order - np.maximum.accumulate(np.where(follows, 0, order))) % 2 == 0
    return fresh


@cache
def _bracket_steps() -> "NDArray[np.int8]":
    import numpy as np

    steps: NDArray[np.int8] = np.zeros(128, np.int8)
    steps[[ord("["), ord("(")]] = 1
    steps[[ord("]"), ord(")")]] = -1
    return steps


def _garble(sheet: Anatomy) -> Labels:
    text = sheet.text
    garbled = sheet.count(GARBLE)
    if any(sign in text for sign in _MOJIBAKE_SIGNS):
        garbled += sum(map(len, _MOJIBAKE.findall(text)))
    return {
        "garble": round(garbled / len(text), 6) if text else 0.0,
        "invisible": sheet.count(INVISIBLE),
    }


_MAXIMA: dict[str, tuple[float, str]] = {
    "code_blocks": (0, "code_block"),
    "longest_paragraph_words": (300, "long_paragraph"),
    "headings": (0, "markdown"),
    "list_wall": (20, "list_wall"),
    "unclosed_math": (0, "broken_markup"),
    "garble": (0.001, "garbled"),
}
R1_READABLE: list[dict[str, Any]] = [
    {"field": f"measures.readability.{key}", "max": most, "reason": reason}
    for key, (most, reason) in _MAXIMA.items()
]
"""Rules of the filter preset `r1_readable`: R1 names the first two and no markdown; the numbers are ours."""
