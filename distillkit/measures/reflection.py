"""How often a trace turns back on itself: two word lists, four classes of step, and answers that change.

Counting words is not judging thought: a model can write "wait" and check nothing (Oat-Zero's authors found
that reflection does not by itself mean higher accuracy), and R1's list holds everyday words ("but").
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from distillkit.measures.anatomy import LETTER, Anatomy, anatomy
from distillkit.measures.answers import stated
from distillkit.measures.base import Labels, Measure
from distillkit.measures.reflection_words import CHINESE, CLASSES, LISTS
from distillkit.trace import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from distillkit.measures.anatomy import Flags

WORDS: dict[str, tuple[str, ...]] = {name: LISTS[name] + CHINESE[name] for name in LISTS}
POSITIONS = 500
"""Of so many places the offsets are kept; the counts are of all."""

_HEAD = 4
"""Characters of a phrase by which it is looked up, five bits each."""


class Reflection(Measure):
    """Exact words of the lists, no inflections ("checked" is none): the English counts are those of the papers.

    The Chinese lists and the four classes are ours (measures/reflection_words.py); a trace in another language
    counts 0.
    """

    VERSION: ClassVar[int] = 2

    KEYS: ClassVar[dict[str, str]] = {
        "count": "places where a phrase of either list stands, each counted once",
        "r1": "phrases of DeepSeek-R1's list: wait, check, verify, mistake, wrong, but, ...",
        "oat": "phrases of Oat-Zero's list: recheck, rethink, reconsider, double-check, ...",
        "per_1000_words": "`count` for 1,000 words of the text",
        "backtrack": "steps that take something back: wait, that's wrong, scratch that, start over, ...",
        "self_verify": "steps that check: let me verify, double-check, plug back, ...",
        "case_split": "steps that part a problem: case 1, two cases, suppose that, otherwise, ...",
        "plan_revision": "steps that change the way: alternatively, another approach, let me try, ...",
        "answers": "answers stated in the text: boxes, and values behind 'the answer is'",
        "answer_changes": "how often such an answer differs from the one before",
        "positions": "character offset of each counted place, of the first 500",
    }

    kind: Literal["reflection"] = "reflection"

    def measure(self, trace: Trace) -> Labels:
        sheet = anatomy(trace.text)
        heads = _heads(sheet)
        found = _phrases(sheet, heads, _finder("lists"))
        tally = Counter(phrase for _, phrase in found)
        within = _within()
        steps = Counter(
            name for _, phrase in _phrases(sheet, heads, _finder("classes")) for name in _classes(phrase)
        )
        values = [each.value for each in stated(trace.text)]
        return {
            "count": len(found),
            **{name: sum(n * within[phrase][name] for phrase, n in tally.items()) for name in WORDS},
            "per_1000_words": round(1000 * len(found) / max(1, len(sheet.word_starts)), 2),
            **{name: steps[name] for name in CLASSES},
            "answers": len(values),
            "answer_changes": sum(a != b for a, b in pairwise(values)),
            "positions": [start for start, _ in found[:POSITIONS]],
        }


Found = tuple[int, str]
"""Offset of a phrase in a text, and the phrase as the lists have it."""


class Finder(NamedTuple):
    """Phrases made ready for search: English ones by head, for only words with such a head are looked at."""

    by_head: Mapping[int, re.Pattern[str]]
    chinese: re.Pattern[str]


def _phrases(sheet: Anatomy, heads: list[tuple[int, int]], finder: Finder) -> list[Found]:
    """Phrases in the order they stand, the longest at each place, none inside another."""
    found: list[Found] = []
    end = 0
    for start, head in heads:
        pattern = finder.by_head.get(head)
        match = pattern.match(sheet.text, start) if pattern is not None and start >= end else None
        if match:
            found.append((start, _listed(match[0])))
            end = match.end()
    if sheet.has_cjk:
        found += [(match.start(), match[0]) for match in finder.chinese.finditer(sheet.text)]
        found.sort()
    return found


@lru_cache(maxsize=10_000)
def _listed(found: str) -> str:
    """A phrase in the form in which the lists have it."""
    return " ".join(found.lower().replace("\u2019", "'").split())


def _heads(sheet: Anatomy) -> list[tuple[int, int]]:
    """Offset and head of the words that may begin a phrase."""
    import numpy as np

    letters: NDArray[np.uint32] = np.zeros(len(sheet.text) + _HEAD, np.uint32)
    letters[:-_HEAD] = (sheet.folded & 31) * sheet.has(LETTER)
    starts = sheet.word_starts
    keys: NDArray[np.uint32] = np.zeros(len(starts), np.uint32)
    for i in range(_HEAD):
        keys <<= 5
        keys |= letters.take(starts + i)
    hit = np.flatnonzero(_head_table().take(keys))
    return list(zip(starts[hit].tolist(), keys[hit].tolist(), strict=True))


def _head_of(phrase: str) -> int:
    head = 0
    for char in phrase[:_HEAD].ljust(_HEAD):
        head = head << 5 | (ord(char) & 31 if char.isalpha() else 0)
    return head


@cache
def _head_table() -> "Flags":
    """Which of all heads begin an English phrase."""
    import numpy as np

    table: Flags = np.zeros(1 << 5 * _HEAD, np.bool_)
    table[[*_finder("lists").by_head, *_finder("classes").by_head]] = True
    return table


@cache
def _finder(of: Literal["lists", "classes"]) -> Finder:
    groups = WORDS if of == "lists" else CLASSES
    phrases = sorted(
        {phrase for each in groups.values() for phrase in each}, key=lambda each: (-len(each), each)
    )
    by_head = defaultdict(list)
    for phrase in filter(str.isascii, phrases):
        by_head[_head_of(phrase)].append(phrase)
    chinese = "|".join(phrase for phrase in phrases if not phrase.isascii())
    return Finder({head: _pattern(each) for head, each in by_head.items()}, re.compile(chinese))


def _pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Whole words in any case, the first phrase that fits; ASCII, so that a Chinese neighbour ends a word."""
    either = "|".join(
        re.escape(phrase).replace(r"\ ", r"\s+").replace("'", "['\u2019]") for phrase in phrases
    )
    return re.compile(rf"\b(?<!-)(?:{either})\b", re.IGNORECASE | re.ASCII)


@cache
def _within() -> dict[str, dict[str, int]]:
    """Phrase -> how many phrases of each list it holds: "check again" is one of one list, with a word of the other."""
    found = {}
    for phrase in {phrase for phrases in WORDS.values() for phrase in phrases}:
        found[phrase] = {
            name: len(_pattern(sorted(phrases, key=len, reverse=True)).findall(phrase))
            if phrase.isascii()
            else int(any(p in phrase for p in phrases))
            for name, phrases in WORDS.items()
        }
    return found


@cache
def _classes(phrase: str) -> tuple[str, ...]:
    return tuple(name for name, phrases in CLASSES.items() if phrase in phrases)
