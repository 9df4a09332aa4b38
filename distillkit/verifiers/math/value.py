"""Arithmetic on sums of rational multiples of monomials in square roots and letters.

Every value has one form, so equality is equality of two dicts: provable, a hundred times cheaper than sympy's
simplify, and free of the accidents of floats.
"""

import math
from fractions import Fraction
from functools import lru_cache

Monomial = tuple[int, tuple[tuple[str, int], ...]]
"""A square-free radicand and the powers of letters, sorted by letter: 3x^2*sqrt(5) is (5, (("x", 2),)) times 3."""
Value = dict[Monomial, Fraction]
"""Coefficient of each monomial, none of them zero; {} is 0."""

ONE: Monomial = (1, ())
_MAX_TERMS, _MAX_POWER, _MAX_RADICAND, _MAX_BITS = 60, 60, 10**10, 4000


class Unknown(Exception):
    """The value is none of these sums, or too big for one."""


def _log10(size: Fraction) -> float:
    return math.log10(size.numerator) - math.log10(size.denominator)


def rational(value: Value) -> Fraction | None:
    """The rational number that a value is; None where roots or letters are in it."""
    if not value:
        return Fraction(0)
    [(monomial, coefficient), *more] = value.items()
    return coefficient if monomial == ONE and not more else None


def constant(number: Fraction) -> Value:
    """The value of a rational number."""
    return {ONE: number} if number else {}


def add(a: Value, b: Value, sign: int = 1) -> Value:
    """a + sign * b."""
    total = dict(a)
    for monomial, coefficient in b.items():
        total[monomial] = total.get(monomial, Fraction(0)) + sign * coefficient
    return _checked({monomial: coefficient for monomial, coefficient in total.items() if coefficient})


def scaled(a: Value, factor: Fraction) -> Value:
    """a * factor."""
    return {monomial: coefficient * factor for monomial, coefficient in a.items()} if factor else {}


def times(a: Value, b: Value) -> Value:
    """a * b."""
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
        raise Unknown
    for (radicand, letters), coefficient in a.items():
        size = max(abs(coefficient.numerator), coefficient.denominator).bit_length()
        if size > _MAX_BITS or radicand > _MAX_RADICAND or any(abs(p) > 10 * _MAX_POWER for _, p in letters):
            raise Unknown
    return a


def over(a: Value, b: Value) -> Value:
    """a / b, where b is one monomial; division by a sum is not exact arithmetic on sums."""
    if len(b) != 1:
        raise Unknown
    [((radicand, letters), coefficient)] = b.items()
    inverse: Value = {
        (radicand, tuple((letter, -power) for letter, power in letters)): 1 / (coefficient * radicand)
    }
    return times(a, times(inverse, {ONE: Fraction(1)}))


def raised(base: Value, exponent: Fraction) -> Value:
    """base to a rational exponent; only of a rational number where the exponent is a half."""
    if exponent.denominator == 2 and rational(base) is not None:
        return raised(root(base), Fraction(exponent.numerator))
    if exponent.denominator != 1 or abs(exponent) > _MAX_POWER:
        raise Unknown
    if len(base) > 1 and abs(exponent) > 8:
        raise Unknown
    if not base and exponent <= 0:
        raise Unknown
    power = int(exponent)
    if power < 0:
        base, power = over({ONE: Fraction(1)}, base), -power
    total: Value = {ONE: Fraction(1)}
    for _ in range(power):
        total = times(total, base)
    return total


def factorial(base: Value) -> Value:
    """base!, for integers up to 100."""
    size = rational(base)
    if size is None or size.denominator != 1 or not 0 <= size <= 100:
        raise Unknown
    return constant(Fraction(math.factorial(int(size))))


def root(base: Value) -> Value:
    """The square root of a rational number that is not negative."""
    number = rational(base)
    if number is None or number < 0 or number.numerator * number.denominator > _MAX_RADICAND:
        raise Unknown
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


def close(x: Fraction, y: Fraction) -> bool:
    """Whether two numbers agree to six decimals, or to three digits where that takes more."""
    size = max(abs(x), abs(y))
    if size == 0:
        return True
    decimals = max(6, 2 - math.floor(_log10(size)))
    return round(x, decimals) == round(y, decimals)
