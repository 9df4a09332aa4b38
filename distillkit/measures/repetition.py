"""Whether a trace runs in circles: repeated phrases, repeated lines, and a tail that loops to the end.

A sample that hits its token limit mostly does so in a loop; the loop's length says so more surely than any
share. Everything is linear in the text's length.
"""

from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from distillkit.measures.anatomy import CJK, SPACE, Anatomy, anatomy
from distillkit.measures.base import Labels, Measure
from distillkit.trace import Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes: TypeAlias = NDArray[np.uint64]

LOOP_WINDOW = 8192
"""Longest period of a loop, in characters."""
MIN_LOOPS = 3
MIN_LOOP_CHARS = 40
"""Below this a repeated tail is an ellipsis, a rule or a number, not a loop."""
_SUFFIX = MIN_LOOP_CHARS - MIN_LOOP_CHARS // MIN_LOOPS
"""So many characters at the end of every loop stand once more a period earlier."""
LONG_LINE = 20
TAIL = 0.25
"""Share of the n-grams that are the tail."""

_BASE = 0x9E3779B97F4A7C15
"""Base of the hash, modulo 2^64; odd, so that it has an inverse."""
_INVERSE = pow(_BASE, -1, 2**64)
_KEPT_POWERS = 1 << 18


class Repetition(Measure):
    """Shares are in [0, 1]; a text too short to repeat anything has 0.

    Words are what white space parts, in lower case, numbers and signs among them ("3 + 4 = 7" repeats nothing of
    "1 + 2 = 3"); Chinese and Japanese go by character.
    """

    VERSION: ClassVar[int] = 2

    KEYS: ClassVar[dict[str, str]] = {
        "ngram_share": "share of word n-grams that have occurred before in the text",
        "tail_ngram_share": "the same among the n-grams of the last quarter",
        "line_share": "share of the text that stands in lines that have occurred before, by characters",
        "most_repeated_line": "how often the most frequent line of 20 characters or more stands there",
        "tail_loop": "characters of the tail that repeats one period 3 times or more; 0 below 40",
        "tail_period": "characters of that period; 0 where there is none",
    }

    kind: Literal["repetition"] = "repetition"
    n: Annotated[int, Field(ge=1)] = 8
    """Words of an n-gram; mathematics repeats shorter ones by nature."""

    def measure(self, trace: Trace) -> Labels:
        sheet = anatomy(trace.text)
        lines = sheet.filled_lines
        loop, period = tail_loop(sheet.text.rstrip())
        return {
            **_shares(_grams(sheet, self.n)),
            "line_share": round(1 - _characters(set(lines)) / _characters(lines), 4) if lines else 0.0,
            "most_repeated_line": _most(lines),
            "tail_loop": loop,
            "tail_period": period,
        }


def _characters(lines: Collection[str]) -> int:
    return sum(map(len, lines))


def _most(lines: list[str]) -> int:
    """How often the most frequent long line stands there; brackets and rules repeat by nature."""
    long = [line for line in lines if len(line) >= LONG_LINE]
    return max(Counter(long).values()) if len(set(long)) < len(long) else min(1, len(long))


def _shares(grams: "Hashes") -> Labels:
    """Shares of repeated n-grams, in all and in the tail."""
    tail = max(1, round(len(grams) * TAIL))
    distinct, earlier = _distinct(grams), _distinct(grams[: len(grams) - tail])
    return {
        "ngram_share": round(1 - distinct / len(grams), 4) if len(grams) else 0.0,
        "tail_ngram_share": round(1 - (distinct - earlier) / tail, 4) if len(grams) else 0.0,
    }


def _distinct(hashes: "Hashes") -> int:
    import numpy as np

    ordered = np.sort(hashes)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + 1 if len(ordered) else 0


def _grams(sheet: Anatomy, n: int) -> "Hashes":
    """A hash of every run of n words, in order.

    A word's hash is that of its characters, a run's that of its words: each a polynomial, taken as a difference of
    prefix sums and shifted to the origin. White space adds nothing. Source: Karp and Rabin 1987.
    """
    import numpy as np

    dark = ~sheet.has(SPACE)
    starts = dark.copy()
    starts[1:] &= ~dark[:-1]
    if sheet.has_cjk:
        alone = sheet.has(CJK)
        starts |= alone
        starts[1:] |= alone[:-1] & dark[1:]
    words = np.flatnonzero(starts)
    powers, inverses = _powers(len(dark))
    sums = _prefix_sums((sheet.folded + np.uint64(1)) * dark, powers)
    borders = sums.take(np.append(words, len(dark)))
    hashes = (borders[1:] - borders[:-1]) * inverses.take(words)
    sums = _prefix_sums(hashes, powers)
    differences = sums[n:] - sums[:-n]
    grams: Hashes = differences * inverses[: len(differences)]
    return grams


def _prefix_sums(values: "Hashes", powers: "Hashes") -> "Hashes":
    """Sums of the first 0, 1, 2, ... values, each times its power."""
    import numpy as np

    sums: Hashes = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return sums


def _powers(count: int) -> "tuple[Hashes, Hashes]":
    """The first `count` powers of the base and of its inverse, or more."""
    return _kept_powers() if count <= _KEPT_POWERS else _some_powers(count)


@lru_cache(maxsize=1)
def _kept_powers() -> "tuple[Hashes, Hashes]":
    return _some_powers(_KEPT_POWERS)


def _some_powers(count: int) -> "tuple[Hashes, Hashes]":
    import numpy as np

    powers: Hashes = np.full(count, _BASE, np.uint64)
    inverses: Hashes = np.full(count, _INVERSE, np.uint64)
    powers[:1] = inverses[:1] = 1
    return np.cumprod(powers), np.cumprod(inverses)


def tail_loop(text: str) -> tuple[int, int]:
    """Length of the longest tail that repeats one period MIN_LOOPS times, and that period; else (0, 0).

    The tail need not begin or end with a whole period. A period is a distance at which the end of the text stood
    before. Where a tail of length L has the period p, no longer tail has another one of at most L - p (Fine and
    Wilf 1965), so the search leaps over those, and is linear.
    """
    if len(text) < MIN_LOOP_CHARS:
        return 0, 0
    suffix, reach = text[-_SUFFIX:], len(text) - _SUFFIX
    floor = max(0, reach - LOOP_WINDOW)
    longest = best = distance = 0
    while (found := text.rfind(suffix, floor, len(text) - distance - 1)) >= 0:
        period = reach - found
        length = _length_of(text, period)
        if length > longest and length >= max(MIN_LOOPS * period, MIN_LOOP_CHARS):
            longest, best = length, period
        distance = max(period, length - period)
    return longest, best


def _length_of(text: str, period: int) -> int:
    """Length of the longest tail of this period: from the end on, a character equals the one a period earlier."""
    step, end = 64, len(text)
    while end > period:
        start = max(period, end - step)
        if text[start:end] != text[start - period : end - period]:
            break
        end, step = start, 2 * step
    else:
        return len(text)
    while end - start > 1:  # the last character that differs stands in [start, end)
        middle = (start + end) // 2
        if text[middle:end] == text[middle - period : end - period]:
            end = middle
        else:
            start = middle
    return len(text) - end + period
