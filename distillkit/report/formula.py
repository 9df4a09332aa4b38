r"""LaTeX in a text as MathML trees, so that a reader sees `\frac{1}{2}` as a fraction, without a network.

A formula is hostile input. The library's tree is rebuilt from elements and attributes that are known to be harmless,
its text goes into text nodes; whatever is unknown, too long, defines macros or does not convert stays text.
Source: MathML Core, W3C 2025; conversion by latex2mathml.
"""

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Node = list[Any]
"""[tag, {attribute: value}, child, ...]; a child is a Node or a text."""

LONGEST = 300
"""Characters; a longer formula stays text."""
DEEPEST = 12
"""Braces within braces; a deeper formula stays text."""
TAGS = frozenset(
    "math mrow mi mn mo mtext mspace msup msub msubsup mfrac msqrt mroot mover munder munderover mtable mtr mtd "
    "mstyle mpadded mphantom menclose mmultiscripts mprescripts".split()
)
ATTRIBUTES = {
    "accent": re.compile("true|false"),
    "columnalign": re.compile("left|right|center"),
    "displaystyle": re.compile("true|false"),
    "linethickness": re.compile("0|0pt|0em"),
    "mathvariant": re.compile("normal"),
    "movablelimits": re.compile("true|false"),
    "notation": re.compile("box"),
    "stretchy": re.compile("true|false"),
    "width": re.compile(r"[01]?(\.\d{1,4})?em"),
}
"""What an attribute may say; one that says anything else is left out."""

_BRACED = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
_FORMULA = re.compile(
    r"\\\((?P<round>.{1,300}?)\\\)|\\\[(?P<square>.{1,300}?)\\\]|\$\$(?P<double>[^$]{1,300})\$\$"
    r"|(?<![\\$\w])\$(?P<single>(?![\s$])[^$\n]{1,300}(?<![\s\\]))\$(?![\w$])"
    rf"|(?P<boxed>\\(?:d?frac{_BRACED}{_BRACED}|(?:boxed|fbox|sqrt){_BRACED}))",
    re.DOTALL,
)
"""A dollar sign opens a formula only before a character that is no space, and closes one only behind such and before
no digit or letter: `$5 and $10` is money."""
STUMBLES = (AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError)
"""What the library meets in a text that is no LaTeX, besides its own exceptions."""
_MACRO = re.compile(
    r"\\(?:(?:re)?newcommand|providecommand|def|let|gdef|edef|xdef|href|url|unicode|class|style|html)"
)


def formulas(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, LaTeX) of what stands between the delimiters of formulas, the delimiters inside start and end."""
    for match in _FORMULA.finditer(text):
        yield match.start(), match.end(), str(match[match.lastgroup or 0])


@lru_cache(maxsize=4096)
def tree(latex: str) -> Node | None:
    """The formula as a tree of MathML elements; None where it is better left as text."""
    from latex2mathml import exceptions
    from latex2mathml.converter import convert_to_element

    if len(latex) > LONGEST or _depth(latex) > DEEPEST or _MACRO.search(latex) or not latex.isprintable():
        return None
    own = [e for e in vars(exceptions).values() if isinstance(e, type) and issubclass(e, Exception)]
    refused: tuple[type[Exception], ...] = (*own, *STUMBLES)
    try:
        return _rebuilt(convert_to_element(latex))
    except refused:
        return None


def _depth(latex: str) -> int:
    depth = deepest = 0
    for character in latex:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest


def _rebuilt(element: "Element") -> Node | None:
    """A copy of what is known to be harmless; None where an element, a command or a text is not."""
    text = html.unescape(element.text or "")
    if element.tag not in TAGS or text.startswith("\\") or not text.replace("\xa0", "").isprintable():
        return None
    children = [_rebuilt(child) for child in element]
    if any(child is None for child in children):
        return None
    if element.tag == "mrow" and len(children) == 1 and not text:
        return children[0]
    kept = {
        name: value
        for name, value in element.attrib.items()
        if name in ATTRIBUTES and ATTRIBUTES[name].fullmatch(value)
    }
    return [element.tag, kept, *([text] if text else []), *children]
