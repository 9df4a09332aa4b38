"""Where text in one alphabet changes language: a part of the language measure.

Around each group of foreign function words the sequence of function words is cut so that as many as possible
speak for the language that they are assigned to, at a price for each switch; the price is lower at the end of a
sentence and around formulas. This is a Viterbi path over a handful of languages, linear in the text.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, pairwise

from distillkit.measures.detector import Detector, detect
from distillkit.measures.function_words import BORROWED, FUNCTION_WORDS, PARTICLES
from distillkit.measures.lexicon import (
    ACCENTED,
    FOREIGN,
    MARKER,
    NOTHING,
    OWN,
    SHARED,
    STOP,
    codes,
    is_listed,
    sign_of,
    tally,
    word_of,
)

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

_RUN = {
    "latin": re.compile(rf"[{_LATIN_LETTERS}]++(?:[\W\d_]++[{_LATIN_LETTERS}]++)*+"),
    "cyrillic": re.compile(rf"[{_CYRILLIC_LETTERS}]++(?:[\W\d_]++[{_CYRILLIC_LETTERS}]++)*+"),
}
"""Alphabet -> its letters and what is no letter between them."""

# Bytes of UTF-8: what parts words becomes a space, what ends sentences a full stop. Splitting at spaces is several
# times as fast as finding words by a pattern.
_PARTS = bytes.maketrans(b'!?,;:)[]{}<>=+-*/\\|&%#@^~$`"0123456789', b".." + b" " * 36)
_ASCII_PARTS = _PARTS[:128] + b" " * 128
_SIGNS = re.compile("[\u00a0-\u00bf\u00d7\u00f7\u2010-\u2027\u202f-\u205f\u2070-\u2bff\u3000-\u303f]+")
_ACCENTED = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")

# Prices in function words that speak for the other language and against the present one (2 each).
_FREE, _EASY, _HARD = 1.5, 2.0, 2.5
_STOP = re.compile(r"[.!?\u2026\n\d=+<>\u3002\uff01\uff1f\u0964]")
_PAUSE = re.compile(r"[,;:()\[\]\u2013\u2014\uff0c\u3001\uff1b\uff1a]")
_BREAKS = (
    re.compile(r"[.!?\u2026](?=\s)|[\n\u3002\uff01\uff1f\u0964]"),
    re.compile(f"{_STOP.pattern}|{_PAUSE.pattern}"),
)
"""Sentence ends; formulas and pauses: the better places first."""

# Foreign signs with at most three own ones between two of them: four outweigh any two switches.
_WINDOW = re.compile(r"[fm](?:[^fmO]*+(?:O[^fmO]*+){0,3}+[fm])*+")

_SIGN = (OWN, SHARED, FOREIGN, MARKER)

# In a text of another script: a sign of a language, or four words in a row.
_LANGUAGE = re.compile("[fm]|w *w *w *w")

BLOCK_CHARS = 500
"""Characters from which a block of lines ends with its line: a few blocks of a text have places, which cost."""

LONG_SENTENCE = 4
"""Words from which a detector is asked ..."""
FEW_FUNCTION_WORDS = 0.12
"""... where fewer of them than this share are function words of the target."""
MANY_FUNCTION_WORDS = 0.4
"""... or fewer than this, in English with two accented words."""
TERM_WORDS = 3
"""A technical term in a text of another script has at most so many words."""

# No sign of a language in a text of another script: formula names and keywords of programs, in lower case.
_FORMULA = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp lim max min sup inf gcd lcm mod det"
    " deg dim ker arg sqrt frac cdot times text boxed pmod".split()
)
_KEYWORD = frozenset(
    "for while if else elif in is not and or do def return break try int let var new del of".split()
)
# Nor, by themselves, words that technical terms are made of ("two pointers", "even number").
_TERM = frozenset(
    "one two three four first second third last times square squared side sides left right term terms number numbers"
    " case cases odd even positive negative equal equals possible small smaller large larger increasing"
    " decreasing".split()
)
# Languages whose accented words stand in English as they are.
_BORROWED_FROM = ("fr", "es", "it", "pt", "de")

# Behind and before a word: an operator makes it a variable, a hyphen a part of a name ("lost-found").
_JOINED_RIGHT = re.compile(r"\s*[=+*/^<>]|-[^\W\d_]")
_JOINED_LEFT = re.compile(r"(?<=[^\W_][-/])")


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of one foreign language without a target word between them; offsets into the text."""

    start: int
    end: int
    language: str
    words: int


@dataclass(frozen=True, slots=True)
class _Word:
    """A function word with its place."""

    start: int
    end: int
    word: str
    languages: frozenset[str]
    weight: int


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
        tokens = _tokens(block)
        code = "".join(map(codes(target, script).__getitem__, tokens))
        if (target in FUNCTION_WORDS and _windows(code)) or _ask(tokens, code, target, detector):
            count, cut = _Place(block, script, target).read(detector)
            found += (replace(each, start=each.start + start, end=each.end + start) for each in cut)
        else:
            count = _count(code)
        total += count
    return total, found


def blocks(clean: str) -> Iterator[tuple[int, int]]:
    """Lines, taken together until they have BLOCK_CHARS."""
    start = 0
    while start < len(clean):
        end = clean.find("\n", start + BLOCK_CHARS) + 1 or len(clean)
        yield start, end
        start = end


def _count(code: str) -> int:
    return len(code) - code.count(NOTHING) - code.count(STOP)


def _tokens(clean: str, parts: bytes = _PARTS) -> list[str]:
    """The tokens of a text, but for what stands in them; of other scripts too, which are no words of this one."""
    parted = clean.encode("utf-8", "surrogatepass").translate(parts).decode("utf-8", "surrogatepass")
    if not parted.isascii():
        parted = _SIGNS.sub(" ", parted.replace("\u2026", ". "))
    return f"{parted}\n".replace("\n", " . ").replace(". ", " . ").replace("(", "( ").split()


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
            if len(set(words) - _FORMULA) >= LONG_SENTENCE:
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
        return _count(self.code), sorted(cut + asked, key=lambda segment: segment.start)

    def _segment(self, left: int, right: int, language: str) -> Segment:
        """From the first to the last word between two offsets."""
        first, end = bisect_left(self.starts, left), bisect_left(self.starts, right)
        words = [index for index in range(first, end) if self.code[index] not in (NOTHING, STOP)]
        return Segment(self.spans[words[0]][0], self.spans[words[-1]][1], language, len(words))

    def _cut(self, first: int, end: int) -> list[Segment]:
        """Foreign segments of a window, which is widened by an own function word on both sides."""
        first, end = max(self.code.rfind(OWN, 0, first), 0), self.code.find(OWN, end) + 1 or len(self.code)
        signs = _signs(self.clean, self.spans[first:end], self.code[first:end])
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


def inserts(clean: str, script: str, detector: Detector) -> tuple[int, list[Segment]]:
    """The words in Latin or Cyrillic letters of a text in another script, and the segments where they are language.

    Names, terms, acronyms, units, formula names, keywords and variables are no language.
    """
    total, found = 0, list[Segment]()
    fast = script == "latin" and not _ACCENTED.search(clean)
    table = codes("und", script)
    for start, end in blocks(clean):
        block = clean[start:end]
        tokens = _tokens(block, _ASCII_PARTS) if fast else TOKEN[script].findall(block)
        code = "".join(map(table.__getitem__, tokens))
        total += (count := _count(code))
        if count if script == "cyrillic" else _LANGUAGE.search(code):
            runs = _RUN[script].finditer(clean, start, end)
            found += (segment for run in runs if (segment := _insert(clean, *run.span(), script, detector)))
    return total, found


def _insert(clean: str, start: int, end: int, script: str, detector: Detector) -> Segment | None:
    if end - start < 2:
        return None
    spans = [match.span() for match in TOKEN[script].finditer(clean, start, end)]
    table = codes("und", script)
    code = "".join(table[clean[left:right]] for left, right in spans)
    words = [span for span, each in zip(spans, code, strict=True) if each not in (NOTHING, STOP)]
    if not words:
        return None
    if script == "cyrillic":
        found = tally(clean[slice(*span)] for span in words)
        language: str | None = max(sorted(found), key=lambda each: found[each], default="ru")
    else:
        language = _language_of_insert(clean, spans, code, detector)
    return Segment(words[0][0], words[-1][1], language, len(words)) if language else None


def _language_of_insert(
    clean: str, spans: list[tuple[int, int]], code: str, detector: Detector
) -> str | None:
    """The language of a run of Latin letters; None where nothing tells."""
    if not _LANGUAGE.search(code):
        return None
    signs = [sign for sign in _signs(clean, spans, code) if sign.word not in _FORMULA]
    telling = {sign.word: sign for sign in signs if sign.word not in _KEYWORD | _TERM}
    found = Counter(each for sign in signs for each in sign.languages for _ in range(sign.weight))
    language = max(sorted(found), key=lambda each: (found[each], each == "en"), default="und")
    if "en" in {each for sign in telling.values() for each in sign.languages}:
        return language
    if len(telling) > 1 or any(sign.weight > 1 for sign in telling.values()):
        return language
    tokens = (clean[left:right] for left, right in spans)
    plain = [token for token in tokens if token.islower() and len(token) > 2 and token not in _FORMULA]
    if len(plain) <= TERM_WORDS:
        return None
    if language == "und":
        language = detect(" ".join(plain), detector)
    return None if language == "und" else language


def _signs(clean: str, spans: Sequence[tuple[int, int]], code: str) -> list[_Word]:
    """The function words among tokens, which are coded.

    None are capitals inside a sentence ("the De Moivre formula"), what links two names ("de la Vallee"), and
    borrowed phrases ("per se").
    """
    tokens = [clean[left:right] for left, right in spans]
    signs: list[_Word] = []
    borrowed = -1
    for index, each in enumerate(code):
        sign = sign_of(tokens[index]) if each in _SIGN else None
        if sign is None or index == borrowed:
            continue
        word = word_of(tokens[index]).lower()
        if index + 1 < len(tokens) and (tokens[index].lower(), tokens[index + 1].lower()) in BORROWED:
            borrowed = index + 1
        elif not (_is_joined(clean, *spans[index]) or _is_name(clean, tokens, spans, index)):
            signs.append(_Word(*spans[index], word, *sign))
    return signs


def _is_joined(clean: str, start: int, end: int) -> bool:
    return bool(_JOINED_RIGHT.match(clean, end) or _JOINED_LEFT.match(clean, start))


def _is_name(clean: str, tokens: list[str], spans: Sequence[tuple[int, int]], index: int) -> bool:
    """Whether a function word is part of a name."""
    token = tokens[index]
    before = tokens[index - 1] if index else ""
    inside = (
        bool(before) and not _STOP.search(clean, spans[index - 1][1], spans[index][0]) and before[0].isalnum()
    )
    if token[0].isupper() and len(token) > 1 and inside:
        return True
    following = index + 1
    while following < min(index + 4, len(tokens)) and tokens[following] in PARTICLES:
        following += 1
    if following >= len(tokens) or not word_of(tokens[following])[:1].isupper():
        return False
    if following == index + 1 and clean[spans[index][1] : spans[following][0]].strip(" \n'"):
        return False
    return token.lower() in PARTICLES and (token[0].isupper() or inside)


def _path(clean: str, signs: Sequence[_Word], target: str) -> list[str]:
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
    if _STOP.search(clean, start, end):
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


def _is_evidence(part: Sequence[_Word], language: str, target: str) -> bool:
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
