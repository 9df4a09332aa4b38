r"""How mathematical answers are written, made one: the normalisation in front of every comparison.

math-verify reads LaTeX that a careful author wrote. Models write `1\,000`, `3 1/2`, `1.2e5`, "2 million",
`0.\overline{3}` and `sin 30°`; each is rewritten here into the LaTeX that means the same, in time linear in
the answer's length.
"""

import re
from fractions import Fraction
from functools import lru_cache

from distillkit import text

MAX_CHARS = 2000
"""A longer answer is wrong, a longer gold cannot be parsed: no real one is, and sympy chokes on them."""

_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "≤": r"\le "}
    | {
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∞": r"\infty ",
        "π": r"\pi ",
        "°": r"^\circ ",
        "∪": r"\cup ",
        "∩": r"\cap ",
    }
    | {
        "∅": r"\emptyset ",
        "±": r"\pm ",
        "∈": r"\in ",
        "ℝ": r"\mathbb{R}",
        "²": "^2",
        "³": "^3",
        "½": r"\frac12",
    }
    | {"¼": r"\frac14", "¾": r"\frac34", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda "}
)
_MILLIONS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}

_REWRITES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"(?<!\\)(?:\$+|\\[\[\]()])"), ""),  # $...$, \(...\), \[...\]
    (re.compile(r",\\!|\{,\}|\\!"), ""),  # 1,\!000 and 1{,}000
    (re.compile(r"(?<=\d)(?:\\[,;: ]|~| )(?=\d{3}(?!\d))"), ""),  # 1\,000 and 1 000
    (re.compile(r"(?<!\\)(?:\\[,;: ]|~)"), " "),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z.])\s*"), ""),
    (re.compile(r"(?<![a-zA-Z\\])pi(?![a-zA-Z])"), r"\\pi "),
    (re.compile(r"\\langle(?![a-zA-Z])\s*"), "("),
    (re.compile(r"\s*\\rangle(?![a-zA-Z])"), ")"),
    (re.compile(r"\\displaystyle(?![a-zA-Z])"), ""),
    (re.compile(r"\A\s*(?:≈|=|\\(?:approx|simeq|sim|Rightarrow|implies|therefore)(?![a-zA-Z])|\\\\)\s*"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:math(?:rm|it|bf)|text(?:normal|bf|it|rm)|mbox)(?![a-zA-Z])\s*(?=\{)"), r"\\text"),
    (re.compile(r"\\text\s*\{\s*([ei])\s*\}(?=\s*\S)"), r"\1"),  # math-verify takes it for a unit
    (re.compile(r"\A\s*(?:\\text\s*\{\s*)?(?i:all real numbers)\s*\}?\s*\Z"), r"\\mathbb{R}"),
    (re.compile(r"\\varnothing|\\\{\s*\\\}"), r"\\emptyset"),
    (re.compile(r"√\s*(?:\{|(?=\())"), r"\\sqrt{"),
    (re.compile(r"√\s*(\d+|[a-z])"), r"\\sqrt{\1}"),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))\s*"), r"^\\circ "),
    (
        re.compile(r"(?i)\s*(?:\\text\s*\{\s*(?:percent|pct|%|\\%)\s*\}|(?<![a-z])(?:percent|pct)(?![a-z]))"),
        r"\\%",
    ),
    (re.compile(r"(?<=\d)\.(?=\s*[/*+}])"), ""),  # 1./3
    (re.compile(r"(?<![\w\\])(?:np|math)\.(?=(?:arc)?(?:sin|cos|tan)|sqrt|log|exp)"), r"\\"),
    (re.compile(r"(?<!\\)%"), r"\\%"),
    (re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?![\w.])"), r"\1 \\times 10^{\2}"),  # 1.2e5
    (re.compile(r"(?<![\d.,/}])(\d{1,9}) +(\d{1,9})/(\d{1,9})(?![\d.,/])"), r"\1\\frac{\2}{\3}"),  # 3 1/2
]
_MANY = re.compile(
    rf"(?<![\w.,}}])(\d[\d,]*(?:\.\d+)?)\s*(?:\\text\s*\{{\s*)?({'|'.join(_MILLIONS)})s?(?![a-z])(?P<end>\s*\}})?"
)
_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,30})\.(\d{0,30})\s*\\(?:overline|bar|dot)\s*(?:\{\s*(\d{1,30})\s*\}|(\d))(?![\d.])"
)
_NUMERAL = re.compile(r"([0-9A-Z]+)\s*_\s*(?:\{\s*)?(?:\\text\s*\{\s*)?(\d{1,2}|[a-z]+)[\s}]*")
_TRIG = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\\circ ")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")


def readable(written: str | None) -> str | None:
    r"""An answer as the comparison reads it best, in one way of writing.

    None for what no answer looks like: blank, over MAX_CHARS, or with unbalanced braces (`7} \boxed{8` would
    end our box and open another).
    """
    return None if written is None or len(written) > MAX_CHARS else _readable(written)


@lru_cache(maxsize=1 << 14)
def _readable(written: str) -> str | None:
    found = text.normalise(text.last_boxed(written) or written).translate(_SIGNS)
    for pattern, replacement in _REWRITES:
        found = pattern.sub(replacement, found)
    found = _MANY.sub(_written_out, _REPEATING.sub(_as_fraction, found))
    if _TRIG.search(found):
        found = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", found)
    found = _whole(re.sub(r"(?<=[^.\s])\s?[.,;]$", "", " ".join(found.split())))
    return found if found and _balanced(found) else None


def _written_out(match: re.Match[str]) -> str:
    """2.5 million as 2500000."""
    size = Fraction(match[1].replace(",", "")) * 10 ** _MILLIONS[match[2]]
    tail = "" if match["end"] or "{" not in match[0] else r"\text{"
    return f"{size.numerator if size.denominator == 1 else float(size)}{tail}"


def _as_fraction(match: re.Match[str]) -> str:
    r"""0.1\overline{6} as the fraction that it is."""
    whole, start, repeated = match[1] or "0", match[2], match[3] or match[4]
    nines = 10 ** len(repeated) - 1
    value = Fraction(int(whole + start) * nines + int(repeated), nines * 10 ** len(start))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _whole(found: str) -> str:
    r"""Without what only wraps the whole: \text{42} is 42, {42} is 42."""
    if (inner := _TEXT.fullmatch(found)) and re.fullmatch(r"\s*[-+]?[\d.,/]+\s*", inner[1]):
        found = inner[1].strip()
    if found.startswith("{") and found.endswith("}") and _balanced(found[1:-1]):
        found = found[1:-1].strip()
    return found


def _balanced(expression: str) -> bool:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", expression):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def plain_text(expression: str) -> str | None:
    r"""The words of an answer in words, \text{} and a pair of brackets aside; None where it is a formula.

    Only what has letters and nothing of a formula: `\text{(A)}` gives A, `ABCD` itself, `x+1` None.
    """
    found = _TEXT.sub(r" \1 ", expression)
    found = " ".join(found.split()).strip(" .,:;!?*\"'")
    found = re.sub(r"\(([^()]*)\)", r"\1", found, count=1) if found.startswith("(") else found
    found = found.strip(" .")
    return found if re.fullmatch(r"[^\W\d_]+(?:[ '’-]+[^\W\d_]+)*", found) else None


def is_prose(expression: str) -> bool:
    r"""Whether it is a sentence that nobody can be expected to repeat: four words or more outside of \text{}.

    An author who sets words in \text{} means them as the answer; there a sentence with a number in it is one.
    """
    bare = re.sub(r"\\[a-zA-Z]+", " ", _TEXT.sub(" ", expression))
    if len(_long_words(bare)) >= 4:
        return True
    inside = " ".join(_TEXT.findall(expression))
    return bool(re.search(r"\d", inside)) and len(_long_words(inside)) >= 4


def _long_words(prose: str) -> list[str]:
    return re.findall(r"(?<![^\W_])[^\W\d_]{2,}(?![^\W_])", prose)


def numeral(expression: str) -> tuple[str, int] | None:
    r"""Digits and base of `1011_2` or `2A_{16}`; None for anything else, `x_1` and `A_4` too."""
    match = _NUMERAL.fullmatch(expression)
    if match is None or not match[1][0].isdigit():
        return None
    base = int(match[2]) if match[2].isdigit() else _BASES.get(match[2], 0)
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in match[1]):
        return None
    return match[1].lstrip("0") or "0", base


_CLOCK = re.compile(
    r"(\d{1,2}):(\d\d)(?::(\d\d))?\s*+(?:\\text\s*+\{)?\s*+(?:([aApP])\.?\s*+[mM]\.?)?\s*+\}?"
)


def clock(expression: str) -> tuple[int, int, int, str] | None:
    """Hour, minute, second and "a", "p" or "" of a clock time; 15:30 is 3:30 p.m. None for anything else."""
    match = _CLOCK.fullmatch(expression)
    if match is None:
        return None
    hour, minute, second, half = int(match[1]), int(match[2]), int(match[3] or 0), (match[4] or "").lower()
    if hour > 24 or minute > 59 or second > 59 or (half and not 1 <= hour <= 12):
        return None
    if hour > 12:
        return hour - 12, minute, second, "p"
    return hour, minute, second, half
