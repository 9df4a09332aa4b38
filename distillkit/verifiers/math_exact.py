r"""Exact arithmetic on the answers that most problems have: rationals, radicals, pi, i and polynomials.

A value is a sum of rational multiples of monomials in square roots and letters, so equality is equality of two
dicts: provable, a hundred times cheaper than sympy's simplify, and free of the accidents of floats. Whatever
the grammar does not know is not read at all (None) and stays sympy's business.
"""

import math
import re
from fractions import Fraction
from functools import lru_cache

Monomial = tuple[int, tuple[tuple[str, int], ...]]
"""A square-free radicand and the powers of letters, sorted by letter: 3x^2*sqrt(5) is (5, (("x", 2),)) times 3."""
Value = dict[Monomial, Fraction]
"""Coefficient of each monomial, none of them zero; {} is 0."""

_ONE: Monomial = (1, ())
_MAX_TERMS, _MAX_POWER, _MAX_RADICAND, _MAX_BITS = 60, 60, 10**10, 4000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)|(?P<command>\\[a-zA-Z]+|\\[{}])"
    r"|(?P<letter>[a-zA-Z](?:_(?:\{[a-zA-Z0-9]+\}|[a-zA-Z0-9]))?)|(?P<sign>[-+*/^(){}\[\]!]))"
)
_AMBIGUOUS = {"E", "I", "O"}  # Euler's number, the imaginary unit, a zero: each to some readers
_NAMES = {r"\pi": "pi", r"\theta": "theta", r"\alpha": "alpha", r"\beta": "beta", r"\lambda": "lambda"}


class _Unknown(Exception):
    """The expression is outside of the grammar, or too big."""


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
    except (_Unknown, RecursionError):
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
    x, y = _rational(first[0]), _rational(second[0])
    if x is None or y is None:
        return None
    return close(x, y)


def close(x: Fraction, y: Fraction) -> bool:
    """Whether two numbers agree to six decimals, or to three digits where that takes more."""
    size = max(abs(x), abs(y))
    if size == 0:
        return True
    decimals = max(6, 2 - math.floor(_log10(size)))
    return round(x, decimals) == round(y, decimals)


def number(expression: str) -> tuple[Fraction, bool] | None:
    """The rational number that an expression is, and whether it has a decimal point; None for anything else."""
    found = value(expression)
    if found is None or (rational := _rational(found[0])) is None:
        return None
    return rational, found[1]


def _log10(size: Fraction) -> float:
    return math.log10(size.numerator) - math.log10(size.denominator)


def _rational(terms: frozenset[tuple[Monomial, Fraction]]) -> Fraction | None:
    if not terms:
        return Fraction(0)
    [(monomial, coefficient), *more] = terms
    return coefficient if monomial == _ONE and not more else None


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def whole(self) -> Value:
        found = self._sum()
        if self._at < len(self._tokens):
            raise _Unknown
        return found

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _kind(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at][0] if 0 <= at < len(self._tokens) else ""

    def _take(self, expected: str | None = None) -> str:
        found = self._peek()
        if not found or (expected is not None and found != expected):
            raise _Unknown
        self._at += 1
        return found

    def _sum(self) -> Value:
        total = self._product()
        while self._peek() in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            total = _add(total, self._product(), sign)
        return total

    def _product(self) -> Value:
        sign = 1
        while self._peek() in ("+", "-"):
            sign *= 1 if self._take() == "+" else -1
        total = _scaled(self._power(), Fraction(sign))
        slashed = False
        while True:
            token = self._peek()
            if token in ("*", r"\cdot", r"\times"):
                self._take()
                total = _times(total, self._signed_power())
            elif token in ("/", r"\div"):
                self._take()
                total, slashed = _over(total, self._signed_power()), True
            elif self._starts_factor():
                if slashed or self._kind() == "number":
                    raise _Unknown  # 1/2x is read both ways; `2 3` and `x2` are no products
                total = _times(total, self._power())
            else:
                return total

    def _signed_power(self) -> Value:
        if self._peek() == "-":
            self._take()
            return _scaled(self._power(), Fraction(-1))
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
                base = _factorial(base)
                if self._peek() == "!":
                    raise _Unknown  # 5!! is no factorial of a factorial
                continue
            if self._kind() == "number" and len(self._peek()) > 1:
                raise _Unknown  # TeX sets x^10 as x^1 0, its author meant x^{10}
            exponent = _rational(frozenset(self._argument().items()))
            if exponent is None:
                raise _Unknown
            base = _raised(base, exponent)
        return base

    def _argument(self) -> Value:
        """What follows a command or ^: a group, or one digit or letter, as TeX has it."""
        if self._peek() == "{":
            return self._group("{", "}")
        kind, token = self._kind(), self._peek()
        if kind == "number" and len(token) > 1:
            self._tokens[self._at : self._at + 1] = [("number", digit) for digit in token]
            if not token.isdigit():
                raise _Unknown
            token = token[0]
        if kind == "number":
            self._take()
            return _constant(Fraction(token))
        if kind == "letter" or token in _NAMES:
            return self._atom()
        raise _Unknown

    def _group(self, left: str, right: str) -> Value:
        self._take(left)
        found = self._sum()
        self._take(right)
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
            return _over(upper, self._argument())
        if token == r"\sqrt":
            self._take()
            return _root(self._argument())
        if token in ("(", "{"):
            return self._group(token, ")" if token == "(" else "}")
        raise _Unknown

    def _mixed(self, whole: Fraction, written: str) -> Value:
        r"""A number; 3\frac{1}{2} is three and a half where the fraction is a proper one of two integers."""
        if self._peek() != r"\frac":
            return _constant(whole)
        self._take()
        upper, lower = (_rational(frozenset(self._argument().items())) for _ in range(2))
        if not written.isdigit() or upper is None or lower is None or not 0 < upper < lower:
            raise _Unknown
        if self._starts_factor() or self._peek() == "^":
            raise _Unknown
        return _constant(whole + upper / lower)

    def _letter(self) -> Value:
        token = self._take()
        if self._peek() == "(" or (token.isupper() and self._kind() == "letter" and self._peek().isupper()):
            raise _Unknown
        if token in _AMBIGUOUS:
            raise _Unknown
        return {(1, ((token.replace("{", "").replace("}", ""), 1),)): Fraction(1)}


def _digits(written: str) -> str:
    if len(written) > 400:
        raise _Unknown
    return written.replace(",", "")


def _constant(number: Fraction) -> Value:
    return {_ONE: number} if number else {}


def _add(a: Value, b: Value, sign: int = 1) -> Value:
    total = dict(a)
    for monomial, coefficient in b.items():
        total[monomial] = total.get(monomial, Fraction(0)) + sign * coefficient
    return _checked({monomial: coefficient for monomial, coefficient in total.items() if coefficient})


def _scaled(a: Value, factor: Fraction) -> Value:
    return {monomial: coefficient * factor for monomial, coefficient in a.items()} if factor else {}


def _times(a: Value, b: Value) -> Value:
    total: Value = {}
    for (first, left), x in a.items():
        for (second, right), y in b.items():
            shared = math.gcd(first, second)
            sign, letters = _merged(left, right)
            monomial = (first // shared * (second // shared), letters)
            total[monomial] = total.get(monomial, Fraction(0)) + sign * shared * x * y
    return _checked({monomial: coefficient for monomial, coefficient in total.items() if coefficient})


def _merged(
    left: tuple[tuple[str, int], ...], right: tuple[tuple[str, int], ...]
) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Powers of a product, and the sign that i^2 = -1 gives it."""
    powers = dict(left)
    for letter, power in right:
        powers[letter] = powers.get(letter, 0) + power
    turns = powers.pop("i", 0) % 4
    if turns % 2:
        powers["i"] = 1
    return (-1 if turns >= 2 else 1), tuple(
        sorted((letter, power) for letter, power in powers.items() if power)
    )


def _checked(a: Value) -> Value:
    if len(a) > _MAX_TERMS:
        raise _Unknown
    for (radicand, letters), coefficient in a.items():
        size = max(abs(coefficient.numerator), coefficient.denominator).bit_length()
        if size > _MAX_BITS or radicand > _MAX_RADICAND or any(abs(p) > 10 * _MAX_POWER for _, p in letters):
            raise _Unknown
    return a


def _over(a: Value, b: Value) -> Value:
    """a / b, where b is one monomial; division by a sum is not exact arithmetic on sums."""
    if len(b) != 1:
        raise _Unknown
    [((radicand, letters), coefficient)] = b.items()
    inverse: Value = {
        (radicand, tuple((letter, -power) for letter, power in letters)): 1 / (coefficient * radicand)
    }
    return _times(a, _times(inverse, {_ONE: Fraction(1)}))


def _raised(base: Value, exponent: Fraction) -> Value:
    if exponent.denominator == 2 and _rational(frozenset(base.items())) is not None:
        return _raised(_root(base), Fraction(exponent.numerator))
    if exponent.denominator != 1 or abs(exponent) > _MAX_POWER:
        raise _Unknown
    if len(base) > 1 and abs(exponent) > 8:
        raise _Unknown
    if not base and exponent <= 0:
        raise _Unknown
    power = int(exponent)
    if power < 0:
        base, power = _over({_ONE: Fraction(1)}, base), -power
    total: Value = {_ONE: Fraction(1)}
    for _ in range(power):
        total = _times(total, base)
    return total


def _factorial(base: Value) -> Value:
    size = _rational(frozenset(base.items()))
    if size is None or size.denominator != 1 or not 0 <= size <= 100:
        raise _Unknown
    return _constant(Fraction(math.factorial(int(size))))


def _root(base: Value) -> Value:
    """The square root of a rational number that is not negative."""
    number = _rational(frozenset(base.items()))
    if number is None or number < 0 or number.numerator * number.denominator > _MAX_RADICAND:
        raise _Unknown
    if not number:
        return {}
    outside, radicand = _square_free(number.numerator * number.denominator)
    return {(radicand, ()): Fraction(outside, number.denominator)}


@lru_cache(maxsize=1 << 12)
def _square_free(number: int) -> tuple[int, int]:
    """(a, b) with number = a^2 * b and b square-free, by trial division up to the cube root."""
    outside, rest, inside, divisor = 1, number, 1, 2
    while divisor * divisor * divisor <= rest:
        while rest % (divisor * divisor) == 0:
            outside, rest = outside * divisor, rest // (divisor * divisor)
        if rest % divisor == 0:
            inside, rest = inside * divisor, rest // divisor
        divisor += 1
    # At most two primes are left, neither smaller than `divisor`: equal ones make a square.
    root = math.isqrt(rest)
    return (outside * root, inside) if root * root == rest else (outside, inside * rest)
