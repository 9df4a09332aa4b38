"""What a worker of the math verifier serves: math-verify on one pair, its own time limits off.

Kept apart because it alone runs beside sympy; the pool's CPU limit replaces math-verify's SIGALRM, which works
in the main thread only and cancels the alarms of others.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from distillkit.verifiers.arithmetic import disarm


def comparer() -> Callable[[Sequence[str | None]], bool]:
    """The function of (gold, answer): are they equal; without an answer, does the gold equal itself."""
    import logging
    from functools import lru_cache

    from math_verify import LatexExtractionConfig, parse, verify

    disarm("math_verify")
    # Its other reader takes the last number of what is no LaTeX: "[1, @ 7" would be 7.
    latex = [LatexExtractionConfig()]
    # It warns that its own time limits are off; the pool's replace them.
    logging.getLogger("math_verify").setLevel(logging.ERROR)

    @lru_cache(maxsize=1024)
    def read(expression: str) -> tuple[Any, ...]:
        return tuple(
            parse(rf"\boxed{{{expression}}}", latex, fallback_mode="no_fallback", parsing_timeout=None)
        )

    def compare(question: Sequence[str | None]) -> bool:
        gold, answer = question
        expected = list(read(gold or ""))
        given = expected if answer is None else list(read(answer))
        return bool(
            verify(
                expected,
                given,
                float_rounding=_decimals([*expected, *given]),
                allow_set_relation_comp=True,
                timeout_seconds=None,
            )
        )

    compare(["\\frac{1}{2}", "0.5"])  # sympy imports parts of itself late; not on an item's time
    return compare


def _decimals(expressions: Sequence[Any]) -> int:
    """Decimals that decide: six as usual, more where a number is so small that three digits need more."""
    from sympy import Basic, Float

    sizes = [
        abs(float(number))
        for expression in expressions
        if isinstance(expression, Basic)
        for number in expression.atoms(Float)
    ]
    smallest = min((size for size in sizes if size > 0), default=1.0)
    return max(6, 2 - math.floor(math.log10(smallest)))
