r"""What makes a trace hard to read: walls of text, code, markdown, broken markup, garbage characters.

DeepSeek-R1 "filtered out chain-of-thought with mixed languages, long paragraphs, and code blocks" and asked
for short paragraphs without markdown (arXiv:2501.12948v2, supplement B.3.3). It published no thresholds:
every number of the preset below is ours.
"""

import re
from typing import Any, ClassVar, Literal

from distillkit.measures.base import Labels, Measure
from distillkit.text import paragraphs, words
from distillkit.trace import Trace

_FENCE = re.compile(r"^[^\S\n]{0,3}(```|~~~)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[^\S\n]+\S", re.MULTILINE)
_ITEM = re.compile(r"\s*(?:[-*+\u2022]|\d{1,3}[.)])\s+\S")
_MATH = re.compile(r"\\\\|\\(?P<open>[\[(]|begin\b)|\\(?P<close>[\])]|end\b)|(?P<dollars>(?<!\\)\$\$)")
# Replacement and private-use characters, control characters other than white space, lone surrogates.
_GARBLE = re.compile(
    r"[\ufffd\ufffe\uffff\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ue000-\uf8ff\ud800-\udfff\U000f0000-\U0010ffff]"
)


class Readability(Measure):
    """Shape of the text as a reader sees it; an empty text measures 0 everywhere."""

    KEYS: ClassVar[dict[str, str]] = {
        "longest_paragraph_chars": "characters of the longest paragraph",
        "longest_paragraph_words": "words of the paragraph that has most",
        "longest_line": "characters of the longest line",
        "code_blocks": "fenced code blocks, an unclosed one included",
        "headings": "markdown headings outside code",
        "list_items": "lines that are list items",
        "list_wall": "list items of the longest unbroken list",
        "unclosed_fences": "1 where the last code fence is never closed",
        "unclosed_math": "math delimiters without a partner: \\[ \\( \\begin, or an odd $$",
        "garble": "share of characters that are no text: replacement, control and private-use characters",
    }

    kind: Literal["readability"] = "readability"

    def measure(self, trace: Trace) -> Labels:
        text = trace.text
        parts = [text[start:end] for start, end in paragraphs(text)]
        fences = len(_FENCE.findall(text))
        items, wall = _lists(text)
        return {
            "longest_paragraph_chars": max(map(len, parts), default=0),
            "longest_paragraph_words": max((len(words(part)) for part in parts), default=0),
            "longest_line": max(map(len, text.splitlines()), default=0),
            "code_blocks": (fences + 1) // 2,
            "headings": _headings(text, fences),
            "list_items": items,
            "list_wall": wall,
            "unclosed_fences": fences % 2,
            "unclosed_math": _unclosed_math(text),
            "garble": round(len(_GARBLE.findall(text)) / len(text), 6) if text else 0.0,
        }


def _headings(text: str, fences: int) -> int:
    """Headings outside code: in Python and shell a line that starts with # is a comment."""
    if fences == 0:
        return len(_HEADING.findall(text))
    outside = [part for i, part in enumerate(_FENCE.split(text)[::2]) if i % 2 == 0]
    return sum(len(_HEADING.findall(part)) for part in outside)


def _lists(text: str) -> tuple[int, int]:
    """List items, and those of the longest list; blank lines do not break a list."""
    items = wall = run = 0
    for line in text.splitlines():
        if _ITEM.match(line):
            items, run = items + 1, run + 1
            wall = max(wall, run)
        elif line.strip():
            run = 0
    return items, wall


def _unclosed_math(text: str) -> int:
    """Delimiters left open plus those that close nothing; `$$` counts when its number is odd, `$` never."""
    depth = stray = dollars = 0
    for match in _MATH.finditer(text):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth, stray = (depth - 1, stray) if depth else (0, stray + 1)
        elif match["dollars"]:
            dollars += 1
    return depth + stray + dollars % 2


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
