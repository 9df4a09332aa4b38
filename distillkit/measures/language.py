"""The share of a trace's words in its target language, and the segments in others.

DeepSeek-R1's language consistency is the share of target-language words in the reasoning; detectors made for
whole documents miss a foreign clause and stumble over formulas. So: blank what is no prose, let the script
decide where it can, cut text of one alphabet where the function words change language, and ask a detector about
long sentences that these leave open. A word is foreign on evidence only: what stays open belongs to the target.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 3.2.1, equation 7 (language consistency reward).
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distillkit.measures import han, insert, switch
from distillkit.measures.alphabet import TOKEN, Segment
from distillkit.measures.base import Labels, Measure
from distillkit.measures.detector import Detector, detect
from distillkit.measures.lexicon import tally, word_of
from distillkit.measures.prose import prose, without_titles
from distillkit.measures.switch import LONG_SENTENCE
from distillkit.text import scripts, words
from distillkit.trace import Trace

TEXT_CHARS = 80
"""Of a foreign segment's text so many characters are kept; its offsets give the rest."""

SCRIPTS: dict[str, str] = {
    "zh": "cjk",
    "ja": "cjk",
    "ko": "hangul",
    "el": "greek",
    "th": "thai",
    "he": "hebrew",
    **dict.fromkeys(("ru", "uk", "be", "bg", "sr", "mk", "kk"), "cyrillic"),
    **dict.fromkeys(("ar", "fa", "ur"), "arabic"),
    **dict.fromkeys(("hi", "mr", "ne"), "devanagari"),
}
"""Scripts of the languages not written in Latin letters. Of one script are told apart: Latin by function words,
ru and uk likewise, zh and ja by their characters."""

_FIRST = {script: language for language, script in reversed(SCRIPTS.items())}
_LETTERS = {"cyrillic": 2, "greek": 4, "arabic": 2, "hebrew": 2, "other": 2}
"""A foreign run counts from one word of so many letters: below, it is a formula's variables."""

_TOLD_APART = ("latin", "cyrillic", "han", "kana")
# Letters that are not Latin nor common to all scripts, Greek ones only in words; those without Cyrillic, Han and kana.
_RARER = re.compile(
    r"[\u0530-\u1cff\u2c00-\u2c5f\u2d00-\u2ddf\u3105-\u318f\ua000-\ua63f\ua6a0-\ua6ff\ua800-\uaaff\uabc0-\ud7ff"
    r"\ufb07-\ufdff\ufe70-\ufefe\uffa0-\uffdf\U00010000-\U0001afff\U0001d800-\U0001efff]|[\u0370-\u03ff\u1f00-\u1fff]{4}"
)
_NOT_LATIN = re.compile(
    "[\u0370-\u1cff\u2c00-\u2c5f\u2d00-\u2dff\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3040-\u31ff\u3400-\ua6ff"
    "\ua800-\uaaff\uabc0-\ud7ff\uf900-\ufaff\ufb07-\ufdff\ufe70-\ufefe\uff66-\uffdf\U00010000-\U0001d3ff"
    "\u1f00-\u1fff\U0001d800-\U0001efff\U00020000-\U0003ffff]"
)
_LETTER = {"latin": re.compile("[A-Za-z]{2}"), "cyrillic": re.compile("[\u0400-\u052f]{2}")}
_BRACKETS = {"(": ")", "\uff08": "\uff09", "[": "]"}
_GLOSS_CHARS = 12


@dataclass(frozen=True, slots=True)
class Reading:
    """A text measured against one target language."""

    words: int
    foreign: list[Segment]

    @property
    def share(self) -> float:
        """Target words / all words; 1.0 for no words."""
        return 1 - sum(segment.words for segment in self.foreign) / self.words if self.words else 1.0


class Language(Measure):
    """Language consistency by words: a Chinese or Japanese character is one word, a single Latin letter none.

    The target is the trace's own `language`, else `target`. `mixed` does not depend on it: a trace wholly in
    another language has share 0 and is not mixed.
    """

    VERSION: ClassVar[int] = 2

    KEYS: ClassVar[dict[str, str]] = {
        "target": "language that the share is of",
        "share": "target-language words / all words, from 0 to 1; 1.0 for no words",
        "foreign": "segments in another language: start, end, language (or 'und'), text (its beginning)",
        "mixed": "whether there are words of two or more languages",
    }

    kind: Literal["language"] = "language"
    target: Annotated[str, Field(pattern=r"^(auto|[a-z]{2,3})$")] = "en"
    """ISO 639 code for traces that name none; auto: the language of most of a trace's words."""
    detector: Detector = "py3langid"
    """Asked about sentences almost without function words of the target; none: those are the target's."""

    def measure(self, trace: Trace) -> Labels:
        text = trace.text
        target = re.split("[-_]", trace.language)[0].lower() if trace.language else self.target
        clean = prose(text)
        if target == "auto":
            target = dominant(clean, self.detector)
        reading = native = read(clean, target, self.detector)
        if reading.share < 0.5:
            native = read(clean, dominant(clean, self.detector), self.detector)
        return {
            "target": target,
            "share": round(reading.share, 4),
            "foreign": [_label(segment, text) for segment in reading.foreign],
            "mixed": bool(native.foreign),
        }


def _label(segment: Segment, text: str) -> Labels:
    span = text[segment.start : segment.end]
    return {
        "start": segment.start,
        "end": segment.end,
        "language": segment.language,
        "text": span[:TEXT_CHARS],
    }


def read(clean: str, target: str, detector: Detector) -> Reading:
    """Measure prose (what `prose` left of a text) against a target language."""
    own = SCRIPTS.get(target, "latin")
    if target != "en":
        clean = without_titles(clean)
    if own in TOKEN:
        total, foreign = switch.segments(clean, own, target, detector)
    elif own == "cjk":
        total, foreign = han.segments(clean, 0, len(clean), target)
    else:
        total, foreign = 0, []
    if own == "latin" and (clean.isascii() or not _NOT_LATIN.search(clean)):
        return Reading(total, foreign)
    for count, found in _others(clean, own, detector):
        total += count
        foreign += [segment for segment in found if not _is_gloss(clean, segment.start, segment.end)]
    return Reading(total, sorted(foreign, key=lambda segment: segment.start))


def _others(clean: str, own: str, detector: Detector) -> Iterator[tuple[int, list[Segment]]]:
    """Words, and foreign segments, of each script that is not that of the target."""
    for script, letter in _LETTER.items():
        if script != own and letter.search(clean):
            yield insert.inserts(clean, script, detector)
    if own != "cjk" and han.CHARACTERS.search(clean):
        yield han.inserts(clean)
    for script, start, end in scripts(clean) if _RARER.search(clean) else ():
        if script == own:
            yield len(words(clean[start:end])), []
        elif script not in _TOLD_APART:
            count = _count(clean[start:end], script)
            yield count, [Segment(start, end, _FIRST.get(script, "und"), count)] if count else []


def _is_gloss(clean: str, start: int, end: int) -> bool:
    """Whether a short segment stands alone in brackets behind a word, which it explains."""
    if end - start > _GLOSS_CHARS or not start or end == len(clean):
        return False
    return _BRACKETS.get(clean[start - 1]) == clean[end] and clean[: start - 1].rstrip()[-1:].isalpha()


def _count(run: str, script: str) -> int:
    """Words of a run in a script that is not Latin; 0 where it is too short to be more than variables."""
    found = words(run)
    return len(found) if max(map(len, found), default=0) >= _LETTERS.get(script, 1) else 0


def dominant(clean: str, detector: Detector) -> str:
    """The language of most words of a text; "und" where nothing tells."""
    counted: Counter[str] = Counter()
    for script, token in TOKEN.items():
        spoken = [each for each in token.findall(clean) if len(word_of(each)) > 1]
        if spoken:
            counted[_of_alphabet(spoken, script, detector)] += len(spoken)
    total, found = han.segments(clean, 0, len(clean), "zh")
    japanese = sum(segment.words for segment in found)
    counted.update({"ja": japanese, "zh": total - japanese})
    for script, start, end in scripts(clean) if _RARER.search(clean) else ():
        if script not in _TOLD_APART:
            counted[_FIRST.get(script, "und")] += _count(clean[start:end], script)
    return max(counted, key=lambda language: counted[language]) if counted.total() else "und"


def _of_alphabet(tokens: list[str], script: str, detector: Detector) -> str:
    """The language of words in one alphabet: by function words, else by the detector where it is sure."""
    signs = tally(tokens)
    if signs:
        return max(sorted(signs), key=lambda language: (signs[language], language == "en"))
    if script == "cyrillic":
        return "ru"
    return detect(" ".join(map(str.lower, tokens)), detector) if len(tokens) >= LONG_SENTENCE else "und"
