"""Latin or Cyrillic words in a text of another script: language, or only a term: a part of the language measure."""

import re
from collections import Counter

from distillkit.measures.alphabet import ASCII_PARTS, RUN, TOKEN, Segment, blocks, count_words, split_tokens
from distillkit.measures.detector import Detector, detect
from distillkit.measures.function_words import FORMULA, KEYWORD, TERM
from distillkit.measures.lexicon import NOTHING, STOP, codes, tally
from distillkit.measures.sign import find_signs

_ACCENTED = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")

# In a text of another script: a sign of a language, or four words in a row.
_LANGUAGE = re.compile("[fm]|w *w *w *w")

TERM_WORDS = 3
"""A technical term in a text of another script has at most so many words."""


def inserts(clean: str, script: str, detector: Detector) -> tuple[int, list[Segment]]:
    """The words in Latin or Cyrillic letters of a text in another script, and the segments where they are language.

    Names, terms, acronyms, units, formula names, keywords and variables are no language.
    """
    total, found = 0, list[Segment]()
    fast = script == "latin" and not _ACCENTED.search(clean)
    table = codes("und", script)
    for start, end in blocks(clean):
        block = clean[start:end]
        tokens = split_tokens(block, ASCII_PARTS) if fast else TOKEN[script].findall(block)
        code = "".join(map(table.__getitem__, tokens))
        total += (count := count_words(code))
        if count if script == "cyrillic" else _LANGUAGE.search(code):
            runs = RUN[script].finditer(clean, start, end)
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
    signs = [sign for sign in find_signs(clean, spans, code) if sign.word not in FORMULA]
    telling = {sign.word: sign for sign in signs if sign.word not in KEYWORD | TERM}
    found = Counter(each for sign in signs for each in sign.languages for _ in range(sign.weight))
    language = max(sorted(found), key=lambda each: (found[each], each == "en"), default="und")
    if "en" in {each for sign in telling.values() for each in sign.languages}:
        return language
    if len(telling) > 1 or any(sign.weight > 1 for sign in telling.values()):
        return language
    tokens = (clean[left:right] for left, right in spans)
    plain = [token for token in tokens if token.islower() and len(token) > 2 and token not in FORMULA]
    if len(plain) <= TERM_WORDS:
        return None
    if language == "und":
        language = detect(" ".join(plain), detector)
    return None if language == "und" else language
