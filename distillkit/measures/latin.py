"""Where text in Latin letters changes language: a part of the language measure.

A sequence of function words is cut so that as many as possible speak for the language that they are assigned
to, at a price for each switch; the price is lower at the end of a sentence and around formulas. This is a
Viterbi path over a handful of languages, linear in the text.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, pairwise

from distillkit.measures.detector import Detector, detect
from distillkit.measures.function_words import FUNCTION_WORDS, MARKERS
from distillkit.text import sentences

WORD = re.compile(r"[^\W\d_]{2,}(?:'[^\W\d_]+)*")
"""A word of two letters or more: a single one is a variable, or elided ("l'angle")."""

# Prices in function words that speak for the other language and against the present one (2 each).
_FREE, _EASY, _HARD = 1.5, 2.0, 2.5
_STOP = re.compile(r"[.!?\u2026\n\d=+<>]")
_PAUSE = re.compile(r"[,;:()\[\]\u2013\u2014]")
_BREAKS = (re.compile(r"[.!?\u2026](?=\s)|\n"), _STOP, _PAUSE)
"""Sentence ends, formulas and pauses: the better places first."""

LONG_SENTENCE = 4
"""Words from which a detector is asked ..."""
FEW_FUNCTION_WORDS = 0.12
"""... where fewer of them than this share are function words of the target."""

# Formula names in lower case: no sign of a language in a text of another script.
_FORMULA = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp lim max min sup inf gcd lcm mod det"
    " deg dim ker arg sqrt frac cdot times text boxed pmod"
)
_MATH = frozenset(_FORMULA.split())


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of one foreign language without a target word between them; offsets into the text."""

    start: int
    end: int
    language: str
    words: int


@dataclass(frozen=True, slots=True)
class _Sign:
    """A function word: the languages that have it, and how much it counts."""

    start: int
    end: int
    word: str
    languages: frozenset[str]
    weight: int


@cache
def _lexicon() -> dict[str, tuple[frozenset[str], int]]:
    """Word -> its languages and weight: 2 for a marker of reasoning, else 1."""
    languages: dict[str, set[str]] = {}
    for table in (FUNCTION_WORDS, MARKERS):
        for language, listed in table.items():
            for word in listed.split():
                languages.setdefault(word, set()).add(language)
    markers = {word for listed in MARKERS.values() for word in listed.split()}
    return {word: (frozenset(found), 2 if word in markers else 1) for word, found in languages.items()}


@cache
def _words_of(target: str) -> tuple[frozenset[str], frozenset[str]]:
    """Function words of the target, and those of other languages only."""
    own = frozenset(word for word, (languages, _) in _lexicon().items() if target in languages)
    return own, frozenset(_lexicon()) - own


def function_words(found: list[str]) -> Counter[str]:
    """Language -> function words of its among the lower-case words `found`; a shared one counts for each."""
    lexicon = _lexicon()
    return Counter(language for word in found if word in lexicon for language in lexicon[word][0])


def insert(clean: str, start: int, end: int) -> tuple[int, Segment | None]:
    """A run of Latin letters in a text of another script: its words, and the segment where it is language.

    It is one where a function word stands in it, or two plain words in lower case (language "und"); names,
    acronyms, units and variables are no language.
    """
    found = list(WORD.finditer(clean, start, end))
    signs = function_words([match[0].lower() for match in found if not match[0].isupper()])
    plain = [m for m in found if m[0].islower() and len(m[0]) > 2 and m[0] not in _MATH]
    if not signs and len(plain) < 2:
        return len(found), None
    language = max(signs, key=lambda each: (signs[each], each == "en")) if signs else "und"
    return len(found), Segment(found[0].start(), found[-1].end(), language, len(found))


def segments(clean: str, start: int, end: int, target: str, detector: Detector) -> tuple[int, list[Segment]]:
    """A run of Latin letters in a text whose target is written so: its words, and the foreign segments.

    For a target without a list of function words only the detector can tell.
    """
    own, other = _words_of(target)
    total = weight = 0
    unclear: list[Segment] = []
    for left, right in sentences(clean[start:end]):
        found = WORD.findall(clean[start + left : start + right].lower())
        total += len(found)
        weight += sum(_lexicon()[word][1] for word in other.intersection(found))
        few = FEW_FUNCTION_WORDS * len(found)
        if len(found) >= LONG_SENTENCE and sum(word in own for word in found) < few:
            unclear.append(Segment(start + left, start + right, "und", len(found)))
    cut = _cut(clean, start, end, target) if own and weight > 1 else []
    return total, cut + _ask(clean, unclear, cut, target, detector)


def _ask(
    clean: str, unclear: list[Segment], cut: list[Segment], target: str, detector: Detector
) -> list[Segment]:
    """The sentences that a detector finds foreign, of those that touch no segment of the sorted `cut`."""
    ends = [segment.end for segment in cut]
    asked = []
    for sentence in unclear:
        later = bisect_right(ends, sentence.start)
        if later < len(cut) and cut[later].start < sentence.end:
            continue
        language = detect(" ".join(WORD.findall(clean, sentence.start, sentence.end)).lower(), detector)
        if language not in (target, "und"):
            asked.append(replace(sentence, language=language))
    return asked


def _cut(clean: str, start: int, end: int, target: str) -> list[Segment]:
    """Foreign segments by function words."""
    found = list(WORD.finditer(clean, start, end))
    signs = _signs(clean, found)
    if not signs:  # lower case may have more words than the text: that of a dotted capital I ends one
        return []
    starts = [match.start() for match in found]
    cut: list[Segment] = []
    first = 0
    for language, group in groupby(_path(clean, signs, target)):
        part = signs[first : first + len(list(group))]
        before, first = first, first + len(part)
        if language == target or not _is_evidence(part, language, target):
            continue
        if before:
            left = _after(clean, signs[before - 1].end, part[0].start, otherwise=part[0].start)
        else:
            left = _after(clean, start, part[0].start, otherwise=start)
        right = _before(clean, part[-1].end, signs[first].start) if first < len(signs) else end
        lower, upper = bisect_left(starts, left), bisect_left(starts, right)
        cut.append(Segment(found[lower].start(), found[upper - 1].end(), language, upper - lower))
    return cut


def _signs(clean: str, found: list[re.Match[str]]) -> list[_Sign]:
    """The function words; acronyms, and capitals inside a sentence ("the De Moivre formula"), are names."""
    lexicon, signs, before = _lexicon(), [], -1
    for match in found:
        raw = match[0]
        entry = lexicon.get(raw.lower())
        if entry is not None and not raw.isupper():
            inside = before >= 0 and not _STOP.search(clean, before, match.start())
            if not (raw[0].isupper() and inside):
                signs.append(_Sign(match.start(), match.end(), raw.lower(), *entry))
        before = match.end()
    return signs


def _path(clean: str, signs: list[_Sign], target: str) -> list[str]:
    """The language of each sign, by the best path; ties go to the target, and to staying."""
    present = sorted(
        {language for sign in signs if target not in sign.languages for language in sign.languages}
    )
    states = [target, *present]
    score = {state: 0.0 if state == target else -_FREE for state in states}
    gaps = [_FREE, *(_price(clean, a.end, b.start) for a, b in pairwise(signs))]
    steps: list[dict[str, str]] = []
    for sign, price in zip(signs, gaps, strict=True):
        best = max(states, key=lambda state: score[state])
        reach = score[best] - price
        steps.append({state: state if score[state] >= reach else best for state in states})
        score = {
            state: max(score[state], reach) + (sign.weight if state in sign.languages else -sign.weight)
            for state in states
        }
    state = max(states, key=lambda each: score[each] - (0 if each == target else _FREE))
    path = []
    for step in reversed(steps):
        path.append(state)
        state = step[state]
    return path[::-1]


def _price(clean: str, start: int, end: int) -> float:
    """What a switch between two signs costs."""
    if _STOP.search(clean, start, end):
        return _FREE
    return _EASY if _PAUSE.search(clean, start, end) else _HARD


def _after(clean: str, start: int, end: int, otherwise: int) -> int:
    """Where a foreign segment begins between two signs: behind the last sentence end, else stop or pause."""
    for pattern in _BREAKS:
        stops = list(pattern.finditer(clean, start, end))
        if stops:
            return stops[-1].end()
    return otherwise


def _before(clean: str, start: int, end: int) -> int:
    """Where it ends: at the first sentence end, else stop, else pause."""
    for pattern in _BREAKS:
        stop = pattern.search(clean, start, end)
        if stop is not None:
            return stop.start()
    return start


def _is_evidence(part: list[_Sign], language: str, target: str) -> bool:
    """Two different function words, or one marker: a lone small word is a name or a variable ("du")."""
    telling = {
        sign.word: sign.weight for sign in part if language in sign.languages and target not in sign.languages
    }
    return len(telling) > 1 or max(telling.values(), default=0) > 1
