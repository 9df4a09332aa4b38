r"""Reads the answers that most problems have exactly: rationals, radicals, pi, i and polynomials.

Whatever the grammar does not know is not read at all (None) and stays sympy's business.
"""

import re
from fractions import Fraction
from functools import lru_cache

from distillkit.verifiers.math.value import (
    Monomial,
    Unknown,
    Value,
    add,
    close,
    constant,
    factorial,
    over,
    raised,
    rational,
    root,
    scaled,
    times,
)

_MAX_DEPTH = 20
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)|(?P<command>\\[a-zA-Z]+|\\[{}])"
    r"|(?P<letter>[a-zA-Z](?:_(?:\{[a-zA-Z0-9]+\}|[a-zA-Z0-9]))?)|(?P<sign>[-+*/^(){}\[\]!]))"
)
_AMBIGUOUS = {"E", "I", "O"}  # Euler's number, the imaginary unit, a zero: each to some readers
_NAMES = {r"\pi": "pi", r"\theta": "theta", r"\alpha": "alpha", r"\beta": "beta", r"\lambda": "lambda"}


@lru_cache(maxsize=1 << 15)
def value(expression: str) -> tuple[frozenset[tuple[Monomial, Fraction]], bool] | None:
    r"""The exact value of an expression and whether a decimal point stands in it; None where it is not read.

    Read are numbers, \frac, \sqrt, + - * / ^, brackets, \pi, single letters and i with i^2 = -1. Not read are
    functions, `f(x)`, two capital letters in a row (points, not factors), a/b with something unsigned
    behind it, division by a sum.
    """
    if len(expression) > 400:
        return None
    tokens: list[tuple[str, str]] = []
    at = 0
    end = len(expression.rstrip())
    while at < end:
        token = _TOKEN.match(expression, at)
        if token is None:
            return None
        tokens.append((str(token.lastgroup), token[str(token.lastgroup)]))
        at = token.end()
    try:
        found = _Reader(tokens).whole()
    except Unknown:
        return None
    return frozenset(found.items()), any(kind == "number" and "." in written for kind, written in tokens)


def equal(a: str, b: str) -> bool | None:
    """Whether two expressions are equal; None where that is not certain.

    Where one has a decimal point, two numbers are equal when they agree to six decimals, more for numbers under
    1e-4, so that three digits count. math-verify's rule is six decimals throughout, so 1e-7 equals 2e-7 there.
    """
    first, second = value(a), value(b)
    if first is None or second is None:
        return None
    if first[0] == second[0]:
        return True
    if not (first[1] or second[1]):
        return False
    x, y = rational(dict(first[0])), rational(dict(second[0]))
    return None if x is None or y is None else close(x, y)


def number(expression: str) -> tuple[Fraction, bool] | None:
    """The rational number that an expression is, and whether it has a decimal point; None for anything else."""
    found = value(expression)
    plain = None if found is None else rational(dict(found[0]))
    return None if found is None or plain is None else (plain, found[1])


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Value:
        found = self._sum()
        if self._at < len(self._tokens):
            raise Unknown
        return found

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _kind(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at][0] if 0 <= at < len(self._tokens) else ""

    def _take(self, expected: str | None = None) -> str:
        found = self._peek()
        if not found or (expected is not None and found != expected):
            raise Unknown
        self._at += 1
        return found

    def _sum(self) -> Value:
        total = self._product()
        while self._peek() in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            total = add(total, self._product(), sign)
        return total

    def _product(self) -> Value:
        sign = 1
        while self._peek() in ("+", "-"):
            sign *= 1 if self._take() == "+" else -1
        total = scaled(self._power(), Fraction(sign))
        slashed = False
        while True:
            token = self._peek()
            if token in ("*", r"\cdot", r"\times"):
                self._take()
                total = times(total, self._signed_power())
            elif token in ("/", r"\div"):
                self._take()
                total, slashed = over(total, self._signed_power()), True
            elif self._starts_factor():
                if slashed or self._kind() == "number":
                    raise Unknown  # 1/2x is read both ways; `2 3` and `x2` are no products
                total = times(total, self._power())
            else:
                return total

    def _signed_power(self) -> Value:
        if self._peek() == "-":
            self._take()
            return scaled(self._power(), Fraction(-1))
        return self._power()

    def _starts_factor(self) -> bool:
        token = self._peek()
        return (
            self._kind() in ("number", "letter") or token in ("(", "{", r"\frac", r"\sqrt") or token in _NAMES
        )

    def _power(self) -> Value:
        base = self._atom()
        while self._peek() in ("^", "!"):
            if self._take() == "!":
                base = factorial(base)
                if self._peek() == "!":
                    raise Unknown  # 5!! is no factorial of a factorial
                continue
            if self._kind() == "number" and len(self._peek()) > 1:
                raise Unknown  # TeX sets x^10 as x^1 0, its author meant x^{10}
            exponent = rational(self._argument())
            if exponent is None:
                raise Unknown
            base = raised(base, exponent)
        return base

    def _argument(self) -> Value:
        """What follows a command or ^: a group, or one digit or letter, as TeX has it."""
        if self._peek() == "{":
            return self._group("{", "}")
        kind, token = self._kind(), self._peek()
        if kind == "number" and len(token) > 1:
            self._tokens[self._at : self._at + 1] = [("number", digit) for digit in token]
            if not token.isdigit():
                raise Unknown
            token = token[0]
        if kind == "number":
            self._take()
            return constant(Fraction(token))
        if kind == "letter" or token in _NAMES:
            return self._atom()
        raise Unknown

    def _group(self, left: str, right: str) -> Value:
        self._take(left)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unknown
        found = self._sum()
        self._take(right)
        self._depth -= 1
        return found

    def _atom(self) -> Value:
        kind, token = self._kind(), self._peek()
        if kind == "number":
            self._take()
            return self._mixed(Fraction(_digits(token)), token)
        if kind == "letter":
            return self._letter()
        if token in _NAMES:
            self._take()
            return {(1, ((_NAMES[token], 1),)): Fraction(1)}
        if token == r"\frac":
            self._take()
            upper = self._argument()
            return over(upper, self._argument())
        if token == r"\sqrt":
            self._take()
            return root(self._argument())
        if token in ("(", "{"):
            return self._group(token, ")" if token == "(" else "}")
        raise Unknown

    def _mixed(self, whole: Fraction, written: str) -> Value:
        r"""A number; 3\frac{1}{2} is three and a half where the fraction is a proper one of two integers."""
        if self._peek() != r"\frac":
            return constant(whole)
        self._take()
        upper, lower = (rational(self._argument()) for _ in range(2))
        if not written.isdigit() or upper is None or lower is None or not 0 < upper < lower:
            raise Unknown
        if self._starts_factor() or self._peek() == "^":
            raise Unknown
        return constant(whole + upper / lower)

    def _letter(self) -> Value:
        token = self._take()
        if self._peek() == "(" or (token.isupper() and self._kind() == "letter" and self._peek().isupper()):
            raise Unknown
        if token in _AMBIGUOUS:
            raise Unknown
        return {(1, ((token.replace("{", "").replace("}", ""), 1),)): Fraction(1)}


def _digits(written: str) -> str:
    if len(written) > 400:
        raise Unknown
    return written.replace(",", "")
