"""`eval` without code: what it evaluates, and what it must never."""

import builtins
from typing import Any

import pytest
import sympy

from distillkit.verifiers.arithmetic import evaluate


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 2*3", 7),
        (" -2**3 ", -8),
        ("[[1, 0], [0, 1]]", [[1, 0], [0, 1]]),
        ("{'a': (1, 'b')}", {"a": (1, "b")}),
    ],
)
def test_arithmetic_and_literals_are_evaluated(source: str, value: Any) -> None:
    assert evaluate(source) == value


@pytest.mark.parametrize(
    "source",
    [
        "x", "print(1)", "__import__('os')", "().__class__", "[1, 2][0]", "(lambda: 1)()", "[x for x in (1,)]",
        "f'{1}'", "(x := 1)", "open('/etc/passwd')", "1 if 1 else 2",
    ],
)  # fmt: skip
def test_code_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="is not evaluated"):
        evaluate(source)


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')", "exec('1')", "Symbol('x').__class__", "getattr(x, 'y')", "lambdify([], '1')()", "x.y", "x[0]",
        "sympify('1')", "Symbol('x', real=True)", "parse_expr('1')", "Function('f')(x)(y)",
    ],
)  # fmt: skip
def test_only_expressions_are_made_where_sympy_asks(source: str) -> None:
    with pytest.raises(ValueError, match="is not evaluated"):
        evaluate(source, {**vars(builtins), **vars(sympy), "x": sympy.Symbol("x")})


def test_sympys_own_words_are_evaluated() -> None:
    x = sympy.Symbol("x")
    assert (
        evaluate("Function('f')(x) + sqrt(Integer(2))", vars(sympy) | {"x": x})
        == sympy.Function("f")(x) + 2**sympy.S.Half
    )
