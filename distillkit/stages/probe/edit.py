"""Changes to a piece of reasoning, and what a change implies for the answer.

A step is `a op b = c` in whole numbers. Where all steps behind a change go on from the result before them, the
rest can be worked anew, and says which answer a model that follows its reasoning must give.
"""

import random
import re
from dataclasses import dataclass
from itertools import pairwise

_STEP = re.compile(
    r"(?<![\w.])(?P<left>-?\d+) *(?P<sign>[-+*\u00d7\u2212]) *(?P<right>\d+) *= *(?P<result>-?\d+)(?![\w]|[.,]\d)"
)
_RESULT = re.compile(r"= *(?P<result>-?\d+)(?![\w/^]|[.,]\d)")
_NUMBER = re.compile(r"(?<![\w.,/\\^{])(?P<result>\d+)(?![\w/^}]|[.,]\d)")
_FLIPPED = {"+": "-", "-": "+", "*": "+", "\u00d7": "+", "\u2212": "+"}

SYNONYMS = (
    ("so", "then"),
    ("then", "next"),
    ("next", "then"),
    ("therefore", "hence"),
    ("hence", "therefore"),
    ("thus", "therefore"),
    ("because", "since"),
    ("also", "too"),
    ("but", "yet"),
    ("\u6240\u4ee5", "\u7136\u540e"),
    ("\u7136\u540e", "\u63a5\u7740"),
    ("\u63a5\u7740", "\u7136\u540e"),
    ("\u56e0\u6b64", "\u6240\u4ee5"),
    ("\u56e0\u4e3a", "\u7531\u4e8e"),
    ("\u4f46\u662f", "\u4e0d\u8fc7"),
)
"""Connectives, and what may stand in their place in a chain of steps without changing what is said."""

_OTHER = dict(SYNONYMS)
_CONNECTIVE = re.compile(
    "|".join(rf"\b{word}\b" if word.isascii() else word for word, _ in SYNONYMS), re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Edit:
    """A reasoning that ends behind a change."""

    text: str
    """The reasoning up to the change, changed."""
    cut: int
    """Where the same place lies in the reasoning as it was."""
    before: str
    after: str
    """The changed step alone."""
    implied: str | None
    """The answer that the changed reasoning leads to; None where that cannot be worked out."""


def change_number(reasoning: str, answer: str, rng: random.Random, modulus: int | None) -> Edit | None:
    """The result of one step, drawn at random, replaced by another number of as many digits.

    Numbers behind an equals sign count as results; where there is none, every whole number does. None where no
    number could be changed so that the answer would have to move.
    """
    places = list(_RESULT.finditer(reasoning)) or list(_NUMBER.finditer(reasoning))
    rng.shuffle(places)
    for place in places:
        start, end = place.span("result")
        old = place["result"]
        new = old[:-1] + str((int(old[-1]) + rng.randrange(1, 10)) % 10)
        implied = _replay(reasoning, end, int(new), answer, modulus)
        if implied != answer:
            head = reasoning[:start].rfind("=")
            step = reasoning[_line_start(reasoning, head if head >= 0 else start) : start]
            return Edit(reasoning[:start] + new, end, step + old, step + new, implied)
    return None


def change_step(reasoning: str, answer: str, rng: random.Random, modulus: int | None) -> Edit | None:
    """The operation of one step, drawn at random, turned into another one, its result left to the model."""
    places = list(_STEP.finditer(reasoning))
    rng.shuffle(places)
    for place in places:
        sign = _FLIPPED[place["sign"]]
        result = _work(int(place["left"]), sign, int(place["right"]), modulus)
        if result == _work(int(place["left"]), place["sign"], int(place["right"]), modulus):
            continue
        implied = _replay(reasoning, place.end(), result, answer, modulus)
        if implied == answer:
            continue
        at, cut = place.start("sign"), place.start("result")
        cut = len(reasoning[:cut].rstrip())
        text = reasoning[:at] + sign + reasoning[at + 1 : cut]
        return Edit(text, cut, reasoning[place.start() : cut], text[place.start() :], implied)
    return None


def paraphrase(reasoning: str) -> str | None:
    """The same steps under other connectives; None where there is none to exchange."""
    changed = _CONNECTIVE.sub(_synonym, reasoning)
    return changed if changed != reasoning else None


def _synonym(word: re.Match[str]) -> str:
    other = _OTHER[word[0].lower()]
    return other.capitalize() if word[0][0].isupper() else other


def _replay(reasoning: str, end: int, result: int, answer: str, modulus: int | None) -> str | None:
    """The answer where the step that ends at `end` gives `result`; None where the steps form no chain to it."""
    steps = list(_STEP.finditer(reasoning))
    numbers = [at for at, step in enumerate(steps) if step.end("result") == end]
    if not numbers or not _is(steps[-1]["result"], answer):
        return None
    later = steps[numbers[0] :]
    if any(before["result"] != after["left"] for before, after in pairwise(later)):
        return None
    for step in later[1:]:
        result = _work(result, step["sign"], int(step["right"]), modulus)
    return str(result)


def _work(left: int, sign: str, right: int, modulus: int | None) -> int:
    if sign == "+":
        found = left + right
    elif sign in "-\u2212":
        found = left - right
    else:
        found = left * right
    return found if modulus is None else found % modulus


def _is(result: str, answer: str) -> bool:
    return result == answer.strip()


def _line_start(text: str, at: int) -> int:
    """Where the calculation begins that ends at `at`: behind the last letter, for it is shown alone."""
    while at > 0 and (text[at - 1] in " +-*=.\u00d7\u2212" or text[at - 1].isdigit()):
        at -= 1
    return at + len(text[at:]) - len(text[at:].lstrip())
