"""The share of a trace's words in its target language, and the segments in others.

DeepSeek-R1's language consistency is the share of target-language words in the reasoning; detectors made for
whole documents miss a foreign clause and stumble over formulas. So: blank what is no prose, let the script
decide where it can, cut Latin text where the function words change language, and ask a detector about long
sentences that these leave open. A word is foreign on evidence only: what stays open belongs to the target.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 3.2.1, equation 7 (language consistency reward).
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distillkit.measures.base import Labels, Measure
from distillkit.measures.detector import Detector, detect
from distillkit.measures.latin import LONG_SENTENCE, WORD, Segment, function_words, insert, segments
from distillkit.measures.prose import prose
from distillkit.text import scripts, words
from distillkit.trace import Trace

TEXT_CHARS = 80
"""Of a foreign segment's text so many characters are kept; its offsets give the rest."""

SCRIPTS: dict[str, tuple[str, ...]] = {
    "zh": ("han",),
    "ja": ("kana", "han"),
    "ko": ("hangul",),
    "el": ("greek",),
    "th": ("thai",),
    "he": ("hebrew",),
    **dict.fromkeys(("ru", "uk", "be", "bg", "sr", "mk", "kk"), ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("devanagari",)),
}
"""Scripts of the languages not written in Latin letters. Languages of one script are not told apart."""

_FIRST = {script: language for language, used in reversed(SCRIPTS.items()) for script in used} | {"han": "zh"}
_JAPANESE = ({"kana"}, {"kana", "han"})
_LETTERS = {"cyrillic": 2, "greek": 4, "arabic": 2, "hebrew": 2, "other": 2}
"""A foreign run counts from one word of so many letters: below, it is a formula's variables."""


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
    own = SCRIPTS.get(target, ("latin",))
    total, foreign = 0, list[Segment]()
    for script, start, end in _runs(clean, own):
        if script != "latin":
            count = len(words(clean[start:end])) if script in own else _count(clean[start:end], script)
            if script not in own and count:
                foreign.append(Segment(start, end, _FIRST.get(script, "und"), count))
        elif "latin" in own:
            count, found = segments(clean, start, end, target, detector)
            foreign += found
        else:
            count, found_one = insert(clean, start, end)
            foreign += [found_one] if found_one else []
        total += count
    return Reading(total, sorted(foreign, key=lambda segment: segment.start))


def dominant(clean: str, detector: Detector) -> str:
    """The language of most words of a text; "und" where nothing tells."""
    tally: Counter[str] = Counter()
    latin: list[str] = []
    for script, start, end in _runs(clean, ()):
        if script == "latin":
            latin += WORD.findall(clean[start:end].lower())
        else:
            tally[_FIRST.get(script, "und")] += _count(clean[start:end], script)
    if latin:
        tally[_latin_language(latin, detector)] += len(latin)
    return max(tally, key=lambda language: tally[language], default="und")


def _latin_language(found: list[str], detector: Detector) -> str:
    """The language of words in Latin letters: by function words, else by the detector where it is sure."""
    signs = function_words(found)
    if signs:
        return max(signs, key=lambda language: (signs[language], language == "en"))
    return detect(" ".join(found), detector) if len(found) >= LONG_SENTENCE else "und"


def _runs(clean: str, own: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Runs of one script; Chinese characters beside kana are Japanese, unless the target owns them."""
    if clean.isascii():
        return [("latin", 0, len(clean))]
    runs: list[tuple[str, int, int]] = []
    for script, start, end in scripts(clean):
        if runs and {script, runs[-1][0]} in _JAPANESE and "han" not in own:
            script, start, _ = "kana", *runs.pop()[1:]
        runs.append((script, start, end))
    return runs


def _count(run: str, script: str) -> int:
    """Words of a run in a script that is not Latin; 0 where it is too short to be more than variables."""
    found = words(run)
    return len(found) if max(map(len, found), default=0) >= _LETTERS.get(script, 1) else 0
