"""Statistical language detectors, for sentences that function words leave open.

Source: py3langid 0.4 (Lui and Baldwin 2012, langid.py), langdetect 1.0.9 (Nakatani Shuyo 2010).
"""

from functools import cache
from typing import TYPE_CHECKING, Literal

from distillkit.errors import MissingError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Detector = Literal["py3langid", "langdetect", "none"]


def detect(text: str, detector: Detector) -> tuple[str, float]:
    """The likeliest language (ISO 639-1) and its probability; ("und", 0.0) where the detector cannot tell.

    Deterministic: langdetect draws at random by itself, so it is seeded.

    Raises:
        MissingError: the detector's package is not installed.
    """
    try:
        if detector == "py3langid":
            language, probability = _identifier().classify(text)
            return str(language), float(probability)
        if detector == "langdetect":
            return _langdetect(text)
    except ModuleNotFoundError:
        raise MissingError(
            f"detector {detector}: package not installed; pip install {detector}, or set detector: none"
        ) from None
    return "und", 0.0


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
