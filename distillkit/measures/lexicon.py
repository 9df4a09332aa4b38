"""What a word says about its language: a part of the language measure.

Each token of an alphabet becomes one letter of a code, by a table that remembers: a million traces have few
distinct tokens. All that is slow is then asked of short strings of code instead of text.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache

from distillkit.measures.function_words import FUNCTION_WORDS, LETTERS, MARKERS

OWN, SHARED, FOREIGN, MARKER, PLAIN, ACCENTED, NOTHING, STOP = "Oofmwa ."
"""Codes: a function word of the target only, of the target and others, of others, one of others that counts double,
any other word, one with an accent where the target is English, no word (number, variable, identifier), the end of a
sentence."""

_REMEMBERED = 50_000
_LONGEST = 40
"""Characters of a token that is remembered; a longer one is no function word."""

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# "l'angle", "qu'il", "dell'area": the word counts, what is elided in front of it does not.
_ELISION = re.compile(
    r"\A(?:[a-z]|qu|gl|un|(?:ne|de|da|a|su)ll|quest|tutt|lorsqu|puisqu|jusqu)'(?=\w)", re.IGNORECASE
)

Sign = tuple[frozenset[str], int]
"""Languages that have a word, and its weight: 2 for a marker of reasoning, else 1."""


@cache
def _listed() -> dict[str, Sign]:
    languages: dict[str, set[str]] = {}
    for table in (FUNCTION_WORDS, MARKERS):
        for language, words in table.items():
            for word in words.split():
                languages.setdefault(word, set()).add(language)
    markers = {word for words in MARKERS.values() for word in words.split()}
    return {word: (frozenset(found), 2 if word in markers else 1) for word, found in languages.items()}


@cache
def _endings() -> list[tuple[str, re.Pattern[str]]]:
    return [(language, re.compile(pattern)) for language, pattern in LETTERS.items()]


def is_listed(word: str) -> bool:
    """Whether a word stands in a list, so that more than its letters speaks for its language."""
    return word in _listed()


def word_of(token: str) -> str:
    """The word in a token, case kept: composed, invisible characters and elided articles dropped; "" for none."""
    word = token if token.isascii() else _INVISIBLE.sub("", unicodedata.normalize("NFC", token))
    if "'" in word:
        if word.lower() not in _listed():
            word = _ELISION.sub("", word)
        if not word.replace("'", "").isalpha():
            return ""
    elif not word.isalpha():  # number, identifier, call
        return ""
    return "" if word[0].islower() and not word.islower() else word  # camelCase


@lru_cache(_REMEMBERED)
def _sign(word: str) -> Sign | None:
    sign = _listed().get(word)
    if sign is None and len(word) > 2:
        languages = frozenset(language for language, pattern in _endings() if pattern.search(word))
        sign = (languages, 1) if languages else None
    return sign


def sign_of(token: str) -> Sign | None:
    """What a token says about its language, as a function word or by its letters; acronyms say nothing."""
    word = word_of(token)
    if not word or len(word) > _LONGEST or (word.isupper() and len(word) > 1):
        return None
    sign = _sign(word.lower())
    if sign is not None and word[0].isupper() and word.lower() not in _listed():
        return None  # letters and endings of a name
    return sign


class Codes(dict[str, str]):
    """Token -> its code for one target language and alphabet."""

    def __init__(self, target: str, script: str) -> None:
        super().__init__()
        self.target = target
        self.cyrillic = script == "cyrillic"
        self.shortest = 1 if self.cyrillic and target != "und" else 2  # a single Latin letter is a variable

    def __missing__(self, token: str) -> str:
        if len(token) > _LONGEST:
            return self._code(token)
        if len(self) >= _REMEMBERED:
            self.clear()
        code = self[token] = self._code(token)
        return code

    def _code(self, token: str) -> str:
        if token[0] in ".!?\u2026\n":
            return STOP
        word = word_of(token)
        if len(word) < self.shortest or (word[-1] >= "\u0400") != self.cyrillic:
            return NOTHING
        sign = sign_of(token)
        if sign is None:
            return ACCENTED if self.target == "en" and word.islower() and not word.isascii() else PLAIN
        languages, weight = sign
        if self.target in languages:
            return OWN if len(languages) == 1 else SHARED
        return MARKER if weight > 1 else FOREIGN


@cache
def codes(target: str, script: str) -> Codes:
    """The table of a target language; of "und" every sign is foreign."""
    return Codes(target, script)


def tally(tokens: Iterable[str]) -> Counter[str]:
    """Language -> weight of the signs for it among tokens; a word of several languages counts for each."""
    found: Counter[str] = Counter()
    for token in tokens:
        sign = sign_of(token)
        for language in sign[0] if sign else ():
            found[language] += sign[1] if sign else 0
    return found
