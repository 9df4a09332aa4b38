"""Function words that are signs of a language, and those that stand in names: a part of the language measure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from distillkit.measures.function_words import BORROWED, PARTICLES
from distillkit.measures.lexicon import FOREIGN, MARKER, OWN, SHARED, sign_of, word_of

_SIGN = (OWN, SHARED, FOREIGN, MARKER)

SENTENCE_BREAK = re.compile(r"[.!?\u2026\n\d=+<>\u3002\uff01\uff1f\u0964]")
"""The end of a sentence, or a sign of a formula."""

# Behind and before a word: an operator makes it a variable, a hyphen a part of a name ("lost-found").
_JOINED_RIGHT = re.compile(r"\s*[=+*/^<>]|-[^\W\d_]")
_JOINED_LEFT = re.compile(r"(?<=[^\W_][-/])")


@dataclass(frozen=True, slots=True)
class Word:
    """A function word with its place."""

    start: int
    end: int
    word: str
    languages: frozenset[str]
    weight: int


def find_signs(clean: str, spans: Sequence[tuple[int, int]], code: str) -> list[Word]:
    """The function words among tokens, which are coded.

    None are capitals inside a sentence ("the De Moivre formula"), what links two names ("de la Vallee"), and
    borrowed phrases ("per se").
    """
    tokens = [clean[left:right] for left, right in spans]
    found: list[Word] = []
    borrowed = -1
    for index, each in enumerate(code):
        sign = sign_of(tokens[index]) if each in _SIGN else None
        if sign is None or index == borrowed:
            continue
        word = word_of(tokens[index]).lower()
        if index + 1 < len(tokens) and (tokens[index].lower(), tokens[index + 1].lower()) in BORROWED:
            borrowed = index + 1
        elif not (_is_joined(clean, *spans[index]) or _is_name(clean, tokens, spans, index)):
            found.append(Word(*spans[index], word, *sign))
    return found


def _is_joined(clean: str, start: int, end: int) -> bool:
    return bool(_JOINED_RIGHT.match(clean, end) or _JOINED_LEFT.match(clean, start))


def _is_name(clean: str, tokens: list[str], spans: Sequence[tuple[int, int]], index: int) -> bool:
    """Whether a function word is part of a name."""
    token = tokens[index]
    before = tokens[index - 1] if index else ""
    inside = (
        bool(before)
        and not SENTENCE_BREAK.search(clean, spans[index - 1][1], spans[index][0])
        and before[0].isalnum()
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
