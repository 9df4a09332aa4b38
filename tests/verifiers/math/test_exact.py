"""Exact arithmetic: it agrees with Python's fractions and with sympy, and reads nothing that it does not know."""

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.verifiers.math.exact import equal, number, value
from distillkit.verifiers.math.value import close

small = st.integers(-30, 30)
rational = st.recursive(
    st.integers(0, 99).map(lambda n: (str(n), Fraction(n)))
    | st.decimals(0, 99, places=3).map(lambda d: (str(d), Fraction(d))),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", r"\cdot ", r"\frac"]), inner).map(
        lambda parts: _joined(*parts)
    ),
    max_leaves=6,
)


def _joined(left: tuple[str, Fraction], sign: str, right: tuple[str, Fraction]) -> tuple[str, Fraction]:
    (a, x), (b, y) = left, right
    if sign == r"\frac":
        return (rf"\frac{{{a}}}{{{b}}}", x / y) if y else (a, x)
    return f"({a}){sign}({b})", x + y if sign == "+" else x - y if sign == "-" else x * y


@given(rational)
def test_rationals_are_those_of_fractions(case: tuple[str, Fraction]) -> None:
    written, expected = case
    found = number(written)
    assert found is not None and found[0] == expected


@given(small, small, small, st.integers(1, 60))
def test_squares_of_radicals(a: int, b: int, c: int, n: int) -> None:
    left = rf"({a}+{b}\sqrt{{{n}}})^2" if b >= 0 else rf"({a}-{-b}\sqrt{{{n}}})^2"
    right = rf"{a * a + b * b * n}+({2 * a * b})\sqrt{{{n}}}"
    assert equal(left, right) is True
    assert equal(left, right + f"+{abs(c) + 1}") is False


@given(st.integers(1, 10**10))
def test_square_roots_are_right_and_square_free(n: int) -> None:
    found = value(rf"\sqrt{{{n}}}")
    assert found is not None
    [((radicand, letters), coefficient)] = found[0]
    assert letters == () and coefficient * coefficient * radicand == n
    assert all(radicand % (d * d) for d in range(2, 200))


@settings(max_examples=40)
@given(st.lists(small, min_size=1, max_size=4), st.lists(small, min_size=1, max_size=3))
def test_polynomials_multiply(p: list[int], q: list[int]) -> None:
    def written(terms: list[int]) -> str:
        return "+".join(f"({factor})x^{{{power}}}" for power, factor in enumerate(terms))

    product = [0] * (len(p) + len(q))
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            product[i + j] += a * b
    assert equal(f"({written(p)})({written(q)})", written(product)) is True


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (r"\frac{1+\sqrt{5}}{2}", r"\frac12+\frac{\sqrt5}{2}", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        (r"\sqrt{2}\sqrt{3}", r"\sqrt{6}", True),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5}", False),
        (r"2^{3/2}", r"2\sqrt{2}", True),
        (r"(1+i)^8", "16", True),
        ("3x^{-1}", r"\frac{3}{x}", True),
        (r"\frac{9}{4}\pi", r"\frac{9\pi}{4}", True),
        (r"4\pi", r"12.566371", None),  # numbers of this kind are sympy's business
        ("xy", "yx", True),
        ("x_1+x_{2}", "x_2+x_1", True),
        ("5!", "120", True),
        ("1,000", "1000", True),
        (r"\frac12", "0.5", True),
        (r"\frac13", "0.333333", True),
        (r"\frac13", "0.33", False),
        (r"\frac13", r"\frac{333333}{1000000}", False),
        ("0.0000001", "0.0000002", False),
    ],
)
def test_known_values(a: str, b: str, expected: bool | None) -> None:
    assert equal(a, b) is expected
    assert equal(b, a) is expected


@pytest.mark.parametrize(
    "expression",
    [
        *[
            "",
            "f(x)",
            "ABCD",
            "1/2x",
            r"\frac{1}{x+1}",
            r"\sin x",
            "x^10",
            "2 3",
            r"3\frac{5}{2}",
            "5!!",
            "E",
            "1..2",
        ],
        *[
            r"\foo",
            "x2",
            r"2^{2^{2^{2^{2}}}}",
            "200!",
            r"\sqrt{-1}",
            r"\frac{1}{0}",
            "0^0",
            "(" * 21 + "1" + ")" * 21,
        ],
        *[
            r"(a+b+c+d)^{60}",
            "9" * 399 + "^{60}",
            r"\sqrt{99999999999}",
            "1e5",
            "x=5",
            "(1,2)",
            "{",
            "x^",
            "^2",
            "+",
        ],
    ],
)
def test_what_is_not_read(expression: str) -> None:
    assert value(expression) is None


@given(st.text(alphabet=r"0123456789xyi+-*/^(){}!., \fracsqtp", max_size=60))
def test_any_text_is_read_or_not_read_at_once(expression: str) -> None:
    found = value(expression)
    assert found is None or all(coefficient for _, coefficient in found[0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["2", "x", "y", "3", r"\sqrt{2}", r"\sqrt{6}", r"\pi", "i"]), min_size=2, max_size=5
    ),
    st.data(),
)
def test_it_agrees_with_sympy(factors: list[str], data: st.DataObject) -> None:
    import sympy

    signs = data.draw(
        st.lists(st.sampled_from(["+", "-", r"\cdot "]), min_size=len(factors) - 1, max_size=len(factors) - 1)
    )
    other = data.draw(st.permutations(factors))
    names = {"i": sympy.I, "pi": sympy.pi, "sqrt": sympy.sqrt} | {each: sympy.Symbol(each) for each in "xy"}

    def both(parts: list[str]) -> tuple[str, sympy.Expr]:
        written = parts[0] + "".join(sign + part for sign, part in zip(signs, parts[1:], strict=True))
        plain = re.sub(r"\\sqrt\{(\d)\}", r"sqrt(\1)", written).replace(r"\cdot ", "*").replace(r"\pi", "pi")
        return written, sympy.sympify(plain, locals=names)

    (first, a), (second, b) = both(factors), both(other)
    assert equal(first, second) is (sympy.expand(a - b) == 0)


@given(st.fractions(), st.fractions())
def test_close_is_symmetric_and_not_looser_than_six_decimals(a: Fraction, b: Fraction) -> None:
    assert close(a, b) is close(b, a)
    assert close(a, a)
    if close(a, b):
        assert math.isclose(a, b, abs_tol=1.01e-6)
