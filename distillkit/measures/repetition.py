"""Whether a trace runs in circles: repeated phrases, repeated lines, and a tail that loops to the end.

A sample that hits its token limit mostly does so in a loop; the loop's length says so more surely than any
share. All three are linear in the text's length.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distillkit.measures.base import Labels, Measure
from distillkit.trace import Trace

LOOP_WINDOW = 8192
"""Characters from the end in which a period is looked for; the loop itself is followed further back."""
MIN_LOOPS = 3
MIN_LOOP_CHARS = 40
"""Below this a repeated tail is an ellipsis, a rule or a number, not a loop."""

# Numbers and signs count ("3 + 4 = 7 so" is no repeat of "1 + 2 = 3 so"); Chinese and Japanese by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


class Repetition(Measure):
    """Shares are in [0, 1]; a text too short to repeat anything has 0."""

    KEYS: ClassVar[dict[str, str]] = {
        "ngram_share": "share of word n-grams that have occurred before in the text",
        "line_share": "share of non-blank lines that have occurred before in the text",
        "tail_loop": "characters of the tail that repeats one period 3 times or more; 0 below 40",
        "tail_period": "characters of that period; 0 where there is none",
    }

    kind: Literal["repetition"] = "repetition"
    n: Annotated[int, Field(ge=1)] = 8
    """Words of an n-gram; mathematics repeats shorter ones by nature."""

    def measure(self, trace: Trace) -> Labels:
        text = trace.text
        tokens = text.lower().split() if text.isascii() else _WORD.findall(text.lower())
        grams = list(zip(*(tokens[i:] for i in range(self.n)), strict=False))
        lines = [line for raw in text.splitlines() if (line := raw.strip())]
        loop, period = tail_loop(text.rstrip())
        return {
            "ngram_share": _repeated(grams),
            "line_share": _repeated(lines),
            "tail_loop": loop,
            "tail_period": period,
        }


def _repeated(items: list[str] | list[tuple[str, ...]]) -> float:
    """Share of items equal to an earlier one."""
    return round(1 - len(set(items)) / len(items), 4) if items else 0.0


def tail_loop(text: str) -> tuple[int, int]:
    """Length of the longest tail that repeats one period MIN_LOOPS times, and that period; else (0, 0).

    The tail need not begin or end with a whole period. Source: the border of a prefix gives its period
    (Knuth, Morris and Pratt 1977), here on the reversed end of the text.
    """
    end = text[: -LOOP_WINDOW - 1 : -1]
    longest = period = border = 0
    borders = [0] * len(end)
    for i in range(1, len(end)):
        while border and end[i] != end[border]:
            border = borders[border - 1]
        border += end[i] == end[border]
        borders[i] = border
        if (i + 1) >= MIN_LOOPS * (i + 1 - border):
            longest, period = i + 1, i + 1 - border
    if longest < MIN_LOOP_CHARS:
        return 0, 0
    return (_follow(text, longest, period) if longest == len(end) else longest), period


def _follow(text: str, length: int, period: int) -> int:
    """Length of a loop that fills the window: it goes on while a character equals the one a period later."""
    start = len(text) - length
    while start >= period and text[start - period : start] == text[start : start + period]:
        start -= period
    while start and text[start - 1] == text[start - 1 + period]:
        start -= 1
    return len(text) - start
