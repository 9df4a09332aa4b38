"""Where text in one alphabet changes language: a part of the language measure.

Around each group of foreign function words the sequence of function words is cut so that as many as possible
speak for the language that they are assigned to, at a price for each switch; the price is lower at the end of a
sentence and around formulas. This is a Viterbi path over a handful of languages, linear in the text.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby, pairwise

from distillkit.measures.alphabet import TOKEN, Segment, blocks, count_words, split_tokens
from distillkit.measures.detector import Detector, detect
from distillkit.measures.function_words import FORMULA, FUNCTION_WORDS
from distillkit.measures.lexicon import ACCENTED, NOTHING, OWN, SHARED, STOP, codes, is_listed, word_of
from distillkit.measures.sign import SENTENCE_BREAK, Word, find_signs

# Prices in function words that speak for the other language and against the present one (2 each).
_FREE, _EASY, _HARD = 1.5, 2.0, 2.5
_PAUSE = re.compile(r"[,;:()\[\]\u2013\u2014\uff0c\u3001\uff1b\uff1a]")
_BREAKS = (
    re.compile(r"[.!?\u2026](?=\s)|[\n\u3002\uff01\uff1f\u0964]"),
    re.compile(f"{SENTENCE_BREAK.pattern}|{_PAUSE.pattern}"),
)
"""Sentence ends; formulas and pauses: the better places first."""

# Foreign signs with at most three own ones between two of them: four outweigh any two switches.
_WINDOW = re.compile(r"[fm](?:[^fmO]*+(?:O[^fmO]*+){0,3}+[fm])*+")

LONG_SENTENCE = 4
"""Words from which a detector is asked ..."""
FEW_FUNCTION_WORDS = 0.12
"""... where fewer of them than this share are function words of the target."""
MANY_FUNCTION_WORDS = 0.4
"""... or fewer than this, in English with two accented words."""

# Languages whose accented words stand in English as they are.
_BORROWED_FROM = ("fr", "es", "it", "pt", "de")


@cache
def _states(languages: frozenset[str], target: str) -> list[str]:
    return [target, *sorted(languages - {target})]


def segments(clean: str, script: str, target: str, detector: Detector) -> tuple[int, list[Segment]]:
    """The words in the target's alphabet, and the foreign segments among them.

    For a target without a list of function words only the detector can tell.
    """
    total, found = 0, list[Segment]()
    for start, end in blocks(clean):
        block = clean[start:end]
        tokens = split_tokens(block)
        code = "".join(map(codes(target, script).__getitem__, tokens))
        if (target in FUNCTION_WORDS and _windows(code)) or _ask(tokens, code, target, detector):
            count, cut = _Place(block, script, target).read(detector)
            found += (replace(each, start=each.start + start, end=each.end + start) for each in cut)
        else:
            count = count_words(code)
        total += count
    return total, found


def _windows(code: str) -> list[tuple[int, int]]:
    """Stretches of a code with foreign signs of a weight of two or more."""
    found = _WINDOW.finditer(code)
    return [match.span() for match in found if match[0].count("f") + 2 * match[0].count("m") > 1]


def _ask(tokens: list[str], code: str, target: str, detector: Detector) -> list[tuple[int, int, str]]:
    """Sentences (first token, end) almost without function words of the target that a detector finds foreign."""
    if detector == "none":
        return []
    found, first = [], 0
    for sentence in code.split(STOP):
        if len(sentence) >= LONG_SENTENCE and _is_unclear(sentence):
            kept = [index for index, each in enumerate(sentence, first) if each != NOTHING]
            words = [word_of(tokens[index]).lower() for index in kept]
            if len(set(words) - FORMULA) >= LONG_SENTENCE:
                language = detect(" ".join(words), detector)
                if language not in (target, "und"):
                    found.append((first, first + len(sentence), language))
        first += len(sentence) + 1
    return found


def _is_unclear(sentence: str) -> bool:
    """Whether so few words of a coded sentence are function words of the target that another may be its language."""
    own = sentence.count(OWN)
    if "f" not in sentence and "m" not in sentence:
        own += sentence.count(SHARED)
    few = FEW_FUNCTION_WORDS if sentence.count(ACCENTED) < 2 else MANY_FUNCTION_WORDS
    return own < few * (len(sentence) - sentence.count(NOTHING))


class _Place:
    """A block of text whose tokens have places: only one with foreign signs pays for them."""

    def __init__(self, clean: str, script: str, target: str) -> None:
        self.clean, self.target = clean, target
        matches = list(TOKEN[script].finditer(clean))
        self.tokens = [match[0] for match in matches]
        self.spans = [match.span() for match in matches]
        self.starts = [start for start, _ in self.spans]
        self.code = "".join(map(codes(target, script).__getitem__, self.tokens))

    def read(self, detector: Detector) -> tuple[int, list[Segment]]:
        """Words, and foreign segments: by function words, then by a detector in sentences that these left open."""
        windows = _windows(self.code) if self.target in FUNCTION_WORDS else []
        cut = [segment for first, end in windows for segment in self._cut(first, end)]
        ends = [segment.end for segment in cut]
        asked = []
        for first, end, language in _ask(self.tokens, self.code, self.target, detector):
            segment = self._segment(self.spans[first][0], self.spans[end - 1][1], language)
            later = bisect_right(ends, segment.start)
            if later == len(cut) or cut[later].start >= segment.end:
                asked.append(segment)
        return count_words(self.code), sorted(cut + asked, key=lambda segment: segment.start)

    def _segment(self, left: int, right: int, language: str) -> Segment:
        """From the first to the last word between two offsets."""
        first, end = bisect_left(self.starts, left), bisect_left(self.starts, right)
        words = [index for index in range(first, end) if self.code[index] not in (NOTHING, STOP)]
        return Segment(self.spans[words[0]][0], self.spans[words[-1]][1], language, len(words))

    def _cut(self, first: int, end: int) -> list[Segment]:
        """Foreign segments of a window, which is widened by an own function word on both sides."""
        first, end = max(self.code.rfind(OWN, 0, first), 0), self.code.find(OWN, end) + 1 or len(self.code)
        signs = find_signs(self.clean, self.spans[first:end], self.code[first:end])
        begin = 0 if first == 0 else self.spans[first][0]
        stop = len(self.clean) if end == len(self.code) else self.spans[end - 1][1]
        found: list[Segment] = []
        after = 0
        for language, group in groupby(_path(self.clean, signs, self.target)):
            part = signs[after : after + len(list(group))]
            before, after = after, after + len(part)
            if language == self.target or not _is_evidence(part, language, self.target):
                continue
            start = signs[before - 1].end if before else begin
            left = _after(self.clean, start, part[0].start, otherwise=part[0].start if before else start)
            right = _before(self.clean, part[-1].end, signs[after].start) if after < len(signs) else stop
            found.append(self._segment(left, right, language))
        return found


def _path(clean: str, signs: Sequence[Word], target: str) -> list[str]:
    """The language of each sign, by the best path; ties go to the target, and to staying."""
    present: set[str] = set()
    for sign in signs:
        if target not in sign.languages:
            present |= sign.languages
    states = _states(frozenset(present), target)
    score = {state: 0.0 if state == target else -_FREE for state in states}
    gaps = [_FREE, *(_price(clean, a.end, b.start) for a, b in pairwise(signs))]
    steps: list[dict[str, str]] = []
    for sign, price in zip(signs, gaps, strict=False):
        best = max(states, key=score.__getitem__)
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
    if SENTENCE_BREAK.search(clean, start, end):
        return _FREE
    return _EASY if _PAUSE.search(clean, start, end) else _HARD


def _after(clean: str, start: int, end: int, otherwise: int) -> int:
    """Where a foreign segment begins between two signs: behind the last sentence end, else formula or pause."""
    for pattern in _BREAKS:
        stops = list(pattern.finditer(clean, start, end))
        if stops:
            return stops[-1].end()
    return otherwise


def _before(clean: str, start: int, end: int) -> int:
    """Where it ends: at the first sentence end, else formula or pause."""
    for pattern in _BREAKS:
        stop = pattern.search(clean, start, end)
        if stop is not None:
            return stop.start()
    return start


def _is_evidence(part: Sequence[Word], language: str, target: str) -> bool:
    """Two different function words, or one marker.

    A lone small word is a name or a variable ("du"), two may be ("en de"); accents alone are borrowed ("café").
    """
    telling = {
        sign.word: sign.weight for sign in part if language in sign.languages and target not in sign.languages
    }
    if max(telling.values(), default=0) > 1:
        return True
    listed = language not in _BORROWED_FROM or any(map(is_listed, telling))
    return listed and len(telling) > 1 and sum(map(len, telling)) > 4
