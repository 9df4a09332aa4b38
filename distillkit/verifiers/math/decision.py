r"""What can be decided about a gold and an answer without sympy, in microseconds and by rules one can read.

It also holds the rules that sympy lacks: units and bases that conflict are wrong, clock times are no ratios,
words are no products of letters, (1, 3) is not the set of 1 and 3, `x = 1 = 7` is not 7.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from distillkit.verifiers.math.exact import equal, number, value
from distillkit.verifiers.math.text import clock, numeral, plain_text
from distillkit.verifiers.math.unit import measure
from distillkit.verifiers.math.value import close

Pair = tuple[str, str]
"""Gold and answer, as text.readable gave them."""
Known = tuple[Fraction, bool]
"""A number, and whether it was written with a decimal point."""

_INTEGER = re.compile(r"[-+]?(?:\d{1,400}|\d{1,3}(?:,\d{3}){1,100})", re.ASCII)
_NAMED = re.compile(r"([a-zA-Z]|\\[a-z]+)(?:_(?:\w|\{\w+\}))?\s*=\s*([^=<>]+)")
_POINT = re.compile(r"\(\s*[a-zA-Z]\s*(?:,\s*[a-zA-Z]\s*)+\)\s*=\s*(\(.*\))")
_AND = re.compile(r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*")
_LITERAL = re.compile(r"-?\d[\d.,]*(?:/\d+)?|-?\\frac\{\d+\}\{\d+\}")
_MAX_COMPARISONS = 10_000
_COMMA_DECIMAL = re.compile(r"-?\d+,\d+")


def decide(gold: str, answer: str) -> bool | Pair:
    """Whether they are equal, or the pair that is left for sympy: the two without their units."""
    if _squeezed(gold) == _squeezed(answer):
        return True
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold.replace(",", "")) == int(answer.replace(",", ""))
    for rule in (_words, _clocks, _numerals, _percents, _chain):
        if (found := rule(gold, answer)) is not None:
            return found
    return _measured(gold, answer)


@lru_cache(maxsize=1 << 15)
def _squeezed(expression: str) -> str:
    """Without the spaces that mean nothing: those between two digits or two letters stay."""
    return re.sub(
        r"(?<![a-zA-Z0-9])\s+|\s+(?![a-zA-Z0-9])|(?<=[a-zA-Z])\s+(?=\d)|(?<=\d)\s+(?=[a-zA-Z])",
        "",
        expression,
    )


def _words(gold: str, answer: str) -> bool | None:
    """Answers in words are equal as words, whatever products their letters make."""
    first, second = plain_text(gold), plain_text(answer)
    if first is None or second is None:
        return None
    if len(first) == 1 and len(second) == 1:
        return first == second if "\\text" not in gold + answer else first.lower() == second.lower()
    if first.casefold() == second.casefold() and (len(first) > 2 or first.casefold() == "no"):
        return True
    bare = first == gold and second == answer and first.islower() and second.islower()
    if bare and sorted(first) == sorted(second):
        return None  # xy and yx
    if first.casefold() == second.casefold():
        return True if "\\text" in gold + answer else None
    return False


def _clocks(gold: str, answer: str) -> bool | None:
    """3:30 and 3:30 p.m. are one time, 3:30 a.m. and 3:30 p.m. two."""
    first, second = clock(gold), clock(answer)
    if first is None or second is None:
        return None
    return first[:3] == second[:3] and (first[3] == second[3] or not (first[3] and second[3]))


def _numerals(gold: str, answer: str) -> bool | None:
    """Numerals of a named base: equal digits, and the base equal or left out on one side."""
    first, second = numeral(gold), numeral(answer)
    if first is None and second is None:
        return None
    a, b = first or (gold, None), second or (answer, None)
    return _digits(a[0]) == _digits(b[0]) and (a[1] == b[1] or None in (a[1], b[1]))


def _digits(numeral: str) -> str:
    return numeral.lstrip("0") or "0"


def _percents(gold: str, answer: str) -> bool | None:
    r"""A percent sign on one side only is a unit left out, unless the number is 1 or less.

    28% and 28, 50% and 0.5 are equal; 1% and 1 are not: up to 1, a share is as likely meant.
    """
    if gold.endswith(r"\%") == answer.endswith(r"\%"):
        if not gold.endswith(r"\%"):
            return None
        first, second = (number(each.removesuffix(r"\%")) for each in (gold, answer))
        return None if first is None or second is None else _same_number(first, second)
    marked, bare = (gold, answer) if gold.endswith(r"\%") else (answer, gold)
    share, plain = number(marked.removesuffix(r"\%")), number(bare)
    if share is None or plain is None:
        return None
    if _same_number((share[0] / 100, share[1]), plain):
        return True
    return abs(plain[0]) > 1 and _same_number(share, plain)


def _same_number(first: Known, second: Known) -> bool:
    return first[0] == second[0] or ((first[1] or second[1]) and close(first[0], second[0]))


def _chain(gold: str, answer: str) -> bool | None:
    """`x = 1 = 7` and `1 = 7` name two different numbers; whoever writes that has not answered."""
    members = [member.strip() for member in answer.split("=")]
    if re.fullmatch(r"[a-zA-Z]\w*", members[0]):
        members = members[1:]
    if len(members) < 2 or not all(map(_LITERAL.fullmatch, members)):
        return None
    values = [each for member in members if (each := number(member)) is not None]
    return None if all(_same_number(values[0], each) for each in values) else False


def is_understood(gold: str) -> bool:
    """Whether a gold can be compared by these rules, so that nobody need ask whether sympy reads it."""
    if plain_text(gold) or clock(gold) or numeral(gold):
        return True
    core = measure(gold)[0].removesuffix(r"\%")
    sequence = _sequence(core)
    return all(value(item) is not None for item in (sequence.items if sequence else (core,)))


def _measured(gold: str, answer: str) -> bool | Pair:
    """Compare what is left when the units are off; units of both sides must agree."""
    (core, unit), (given, given_unit) = measure(gold), measure(answer)
    if unit is None or given_unit is None or unit == given_unit:
        found = _equal(core, given)
        return (core, given) if found is None else found
    if unit.dimension != given_unit.dimension:
        return False
    first, second = number(core), number(given)
    if first is None or second is None:
        return False
    return _same_number((first[0] * unit.size, first[1]), (second[0] * given_unit.size, second[1]))


def _equal(gold: str, answer: str) -> bool | None:
    if point := _POINT.fullmatch(gold):
        gold = point[1]
    if point := _POINT.fullmatch(answer):
        answer = point[1]
    if (found := _sequences(gold, answer)) is not None:
        return found
    first, second = _NAMED.fullmatch(gold), _NAMED.fullmatch(answer)
    if first and second and first[1] != second[1]:
        return None
    return equal(first[2] if first else gold, second[2] if second else answer)


class _Sequence(NamedTuple):
    """kind: brackets "(", "[", "[)", "(]", "{" or "" for a bare list, "and" for one that is joined by a word."""

    kind: str
    items: tuple[str, ...]


def _sequences(gold: str, answer: str) -> bool | None:
    """Lists, sets, tuples and intervals of things that can be compared; None where one is something else."""
    first, second = _sequence(gold), _sequence(answer)
    if first is None or second is None:
        return _decimal_comma(gold, answer)
    if first.kind == "(" and second.kind in ("{", "and"):
        return False
    if (
        first.kind in ("(", "[", "[)", "(]")
        and second.kind in ("(", "[", "[)", "(]")
        and first.kind != second.kind
    ):
        return False
    if first.kind == "(" and second.kind in ("(", ""):
        return _in_order(first.items, second.items)
    if first.kind in ("[", "[)", "(]"):
        return _in_order(first.items, second.items) if first.kind == second.kind else None
    if second.kind in ("{", "", "and"):
        return _in_any_order(first.items, second.items)
    return None


def _decimal_comma(gold: str, answer: str) -> bool | None:
    """1,22 is 1.22 where the other side is written so."""
    for a, b in ((gold, answer), (answer, gold)):
        if _COMMA_DECIMAL.fullmatch(a) and a.replace(",", ".") == b:
            return True
    return None


def _in_order(gold: tuple[str, ...], answer: tuple[str, ...]) -> bool | None:
    if len(gold) != len(answer):
        return False
    found = [_item(a, b) for a, b in zip(gold, answer, strict=True)]
    return False if False in found else None if None in found else True


def _in_any_order(gold: tuple[str, ...], answer: tuple[str, ...]) -> bool | None:
    """Whether each has its equal on the other side: as sets, so that a repeated element counts once."""
    first, second = ({_squeezed(item): item for item in side} for side in (gold, answer))
    sides = ((first.keys() - second.keys(), second), (second.keys() - first.keys(), first))
    if sum(len(alone) * len(others) for alone, others in sides) > _MAX_COMPARISONS:
        return None
    found: bool | None = True
    for alone, others in sides:
        for item in alone:
            fates = {_item(item, other) for other in others.values()}
            if True not in fates:
                if None not in fates:
                    return False
                found = None
    return found


def _item(gold: str, answer: str) -> bool | None:
    if _squeezed(gold) == _squeezed(answer):
        return True
    return _sequences(gold, answer) if gold[:1] in "([" and answer[:1] in "([" else equal(gold, answer)


@lru_cache(maxsize=1 << 14)
def _sequence(expression: str) -> _Sequence | None:
    """The items of a list, set, tuple or interval; None for anything else, and for what is nested in braces."""
    kind, inner = "", expression
    if expression.startswith(r"\{") and expression.endswith(r"\}"):
        kind, inner = "{", expression[2:-2]
    elif expression[:1] in ("(", "[") and expression[-1:] in (")", "]") and _closes_last(expression):
        kind = {"()": "(", "[]": "["}.get(expression[0] + expression[-1], expression[0] + expression[-1])
        inner = expression[1:-1]
    elif _INTEGER.fullmatch(expression):
        return None
    joined = _AND.sub(",", inner)
    items = _split(joined)
    if items is None or (len(items) < 2 and kind != "{") or not all(items):
        return None
    return _Sequence("and" if not kind and joined != inner else kind, tuple(items))


def _closes_last(expression: str) -> bool:
    """Whether the bracket that opens the expression is closed by its last character alone."""
    depth = 0
    for at, char in enumerate(expression):
        depth += (char in "([") - (char in ")]")
        if depth == 0:
            return at == len(expression) - 1
    return False


def _split(inner: str) -> list[str] | None:
    """Parts between the commas or semicolons that stand in no bracket; None where brackets do not match."""
    mark = ";" if ";" in inner else ","
    parts, depth, start = [], 0, 0
    for at, char in enumerate(inner):
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return None
        if char == mark and depth == 0:
            parts.append(inner[start:at].strip())
            start = at + 1
    return [*parts, inner[start:].strip()] if depth == 0 else None
