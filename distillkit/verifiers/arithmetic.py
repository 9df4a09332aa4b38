"""`eval` for text that a model wrote: arithmetic, literals, and sympy's expressions, but no code.

What it keeps out: `sympy.parse_expr` knows the builtins, so it runs `__import__("os").system(...)`, and scorers of
reasoning-gym call `eval` on an answer to read a list.
Source: sympy 1.14, sympy/parsing/sympy_parser.py (parse_expr, eval_expr).
"""

import ast
import builtins
import sys
from typing import Any


def disarm(package: str) -> None:
    """Put `evaluate` in the place of `eval` in every loaded module of a package, and in sympy's parser."""
    import sympy.parsing.sympy_parser as parser

    parser.__dict__["eval"] = evaluate
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package}."):
            module.__dict__["eval"] = evaluate


_LITERAL = (
    ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.operator,
    ast.unaryop, ast.expr_context,
)  # fmt: skip
_CALLABLE = frozenset({"sqrt", "cbrt", "root"})


def evaluate(source: str, names: dict[str, Any] | None = None, locals_: dict[str, Any] | None = None) -> Any:
    """`eval` of arithmetic and literals; where `names` are given (by sympy), of its expressions too.

    Raises:
        ValueError: for an attribute, an index, a lambda, or a call of anything but sympy's own constructors.
    """
    tree = ast.parse(source.strip(), mode="eval")
    known = {**(names or {}), **(locals_ or {})}
    for node in ast.walk(tree):
        if not isinstance(node, _LITERAL) and not (names and _is_symbolic(node, known)):
            raise ValueError(f"{type(node).__name__} is not evaluated")
    return builtins.eval(compile(tree, "<answer>", "eval"), {"__builtins__": {}}, known)


def _is_symbolic(node: ast.AST, known: dict[str, Any]) -> bool:
    """Whether it is a name, or a call of one of sympy's expression classes (or of an undefined function)."""
    from sympy import Basic

    match node:
        case ast.Name():
            return True
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            made = known.get(name)
            return name in _CALLABLE or (isinstance(made, type) and issubclass(made, Basic))
        case ast.Call(func=ast.Call(func=ast.Name(id="Function")), keywords=[]):
            return True
    return False
