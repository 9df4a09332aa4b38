"""Statistical language detectors, for sentences that function words leave open.

Source: py3langid 0.4 (Lui and Baldwin 2012, langid.py), langdetect 1.0.9 (Nakatani Shuyo 2010).
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from distillkit.errors import MissingError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Detector = Literal["py3langid", "langdetect", "none"]

SURE: dict[Detector, float] = {"py3langid": 0.5, "langdetect": 0.99}
"""Probability from which a detector is believed. Of 225 real English sentences (4 words or more) that
function words left open, py3langid called none foreign (in a language below), langdetect 29."""

_CHARS = 400
"""More of a sentence tells a detector nothing new."""

_KNOWN = "en fr de es it pt nl sv da no nb nn fi is pl cs sk sl hr hu ro tr vi id ms et lv lt ca gl sw tl"
_WELL_KNOWN = frozenset(_KNOWN.split())
"""Languages that may be reported; formulas look like the rarer ones (Walloon, Pidgin, Somali, ...)."""


def detect(text: str, detector: Detector) -> str:
    """The language (ISO 639-1) of text in Latin letters, "und" where the detector is not sure.

    Deterministic: langdetect draws at random by itself, so it is seeded.

    Raises:
        MissingError: the detector's package is not installed.
    """
    if detector == "none":
        return "und"
    text = text[:_CHARS]
    try:
        language, probability = _py3langid(text) if detector == "py3langid" else _langdetect(text)
    except ModuleNotFoundError:
        raise MissingError(
            f"detector {detector}: package not installed; pip install {detector}, or set detector: none"
        ) from None
    return language if probability >= SURE[detector] and language in _WELL_KNOWN else "und"


@lru_cache(4096)  # a model in a loop says the same again
def _py3langid(text: str) -> tuple[str, float]:
    language, probability = _identifier().classify(text)
    return str(language), float(probability)


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _langdetect(text: str) -> tuple[str, float]:
    from langdetect import DetectorFactory, LangDetectException, detect_langs

    DetectorFactory.seed = 0
    try:
        best = detect_langs(text)[0]
    except LangDetectException:  # nothing in the text that it knows
        return "und", 0.0
    return str(best.lang).split("-")[0], float(best.prob)
