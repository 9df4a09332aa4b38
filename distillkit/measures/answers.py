r"""The answers that a text states on its way: boxes, "the answer is ...", answer tags, in the order they stand.

For describing a trace only. What is graded is decided by `text.final_answer` and the verifiers alone.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from distillkit.measures.anatomy import once

VALUE_CHARS = 200
"""Of a longer value only the beginning is compared."""
MAX_PLACES = 1000
"""Boxes, and "answer"s, that are looked at: a text with more is a loop."""

_ANCHORS = ("box", "nswer", "####", "\u7b54\u6848")
_BOXED = re.compile(r"\\[bf](?:oxed|box)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_VERB = r"(?:is|was|will be|would be|should be|must be|equals|comes out (?:as|to be))"
_STATED = re.compile(
    rf"(?<!</[aA])nswer(?:>|\**\s*+(?:{_VERB}\b|[:=])(?:\s++(?:therefore|thus|then|simply|just|indeed))?+)"
    r"[\s:*]*+(?P<value>\S[^\n]{0,300})"
    r"|####\s*+(?P<number>[-+$]?\d[\d,./]*+)\s*+$"
    r"|\u7b54\u6848(?:\u5e94\u8be5|\u5c31|\u4e5f)?(?:\u662f|\u4e3a|\uff1a|:)\s*+(?P<chinese>[^\n\u3002\uff0c]{1,300})",
    re.MULTILINE,
)
_VALUE_END = re.compile(
    r"[.,;!?](?=\s|\Z)|</|[\u3002\uff0c\uff1b]|\s(?:because|since|and|but|so|which|as|or|if|when|for|by|with|here)\b"
)
_VALUE = re.compile(r"\d|\\[a-z]|^[a-z]$|\u03c0|\u221e")
_OPTION = re.compile(r"^\(([a-z])\)$")
_DRESS = re.compile(r"\\[()\[\],;!]|\$|\*\*|\\displaystyle|\\left|\\right|(?<=\\)[dt](?=frac)|\s+")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")


class Stated(NamedTuple):
    """One stated answer."""

    start: int
    """Offset of what announces it."""
    end: int
    value: str
    """What `plain` leaves of it."""


def _stated(text: str) -> tuple[Stated, ...]:
    found: list[Stated] = []
    for at in sorted(_places(text)):
        if found and at < found[-1].end:
            continue
        answer = _boxed(text, at) or _announced(text, at)
        if answer is not None and answer.value:
            found.append(answer)
    return tuple(found)


stated = once(_stated)
"""Every answer that a text states, in order; a box behind "the answer is" counts once.

Behind words only a number, a formula or an option's letter is an answer ("the answer is wrong" states none).
"""


def _places(text: str) -> Iterator[int]:
    """Where an anchor stands, MAX_PLACES of each at most."""
    for anchor in _ANCHORS:
        at = text.find(anchor) if anchor[0] in text else -1
        for _ in range(MAX_PLACES):
            if at < 0:
                break
            yield at
            at = text.find(anchor, at + len(anchor))


def _boxed(text: str, at: int) -> Stated | None:
    r"""The box around this "box"; None where there is none, or it is not closed within twice VALUE_CHARS."""
    start = text.rfind("\\", max(0, at - 2), at)
    opened = _BOXED.match(text, start) if start >= 0 else None
    if opened is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(text, opened.end(), opened.end() + 2 * VALUE_CHARS):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return Stated(start, brace.end(), plain(text[opened.end() : brace.start()]))
    return None


def _announced(text: str, at: int) -> Stated | None:
    """The value behind "answer is" and its like."""
    match = _STATED.match(text, at)
    if match is None:
        return None
    start, end = match.span(match.lastgroup or 0)
    stop = _VALUE_END.search(text, start, end)
    end = stop.start() if stop else end
    box = _BOXED.search(text, start, end)
    if box is not None:
        return _boxed(text, box.end() - len(box[0]) + box[0].index("box"))
    value = plain(text[start:end])
    return Stated(at, end, value) if _VALUE.search(value) else None


def plain(value: str) -> str:
    r"""The value without its dress: `$`, `\( \)`, `\text`, `\left`, bold, spaces, brackets of an option; case folded.

    For telling equal spellings of one answer, not for grading: 1/2 and 0.5 differ.
    """
    bare = _DRESS.sub("", _TEXT.sub(r"\1", unicodedata.normalize("NFKC", value[:VALUE_CHARS])))
    bare = bare.strip(".,;:!*")
    whole = bare if bare.count(")") <= bare.count("(") else bare.rstrip(")")  # "(Answer: 42)"
    return _OPTION.sub(r"\1", whole.casefold())
