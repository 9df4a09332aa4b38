r"""How a completion is built: its two halves, the answers in either, and what it should not hold.

A model that runs on goes past its answer: another question, another turn, another box. None of that is seen in the
reasoning alone, so this measure reads the whole completion and its prompt.
"""

import re
from typing import Any, ClassVar, Literal

from distillkit.measures.anatomy import anatomy
from distillkit.measures.answers import Stated, plain, stated
from distillkit.measures.base import Labels, Measure
from distillkit.text import END_THINK, THINK, final_answer
from distillkit.trace import Trace

Form = Literal["none", "closed", "unopened", "unclosed", "repeated"]

# Where a base model begins a turn or a task that nobody gave it: at the start of a line, or as a token of a template.
_HEADING = re.compile(
    r"(?:#{1,4}\s*|\*\*)?(?:Question|Problem|Exercise|Human|User|Instruction|Q)\s?\d{0,3}\s?(?:\*\*)?:"
)
_TURN_STARTS = frozenset("#*QPEHUI")
_TOKEN = re.compile(
    r"<(?:\|(?:im_start|im_end|endoftext|eot_id|start_header_id)\||\uff5c(?:User|Assistant)\uff5c)>"
)
_BEHIND = re.compile(r"(?:[\s$.)\]}*]|\\[)\]]|</answer>)*+")
"""What closes a formula, a sentence or a tag behind an answer."""
_OPEN_SIGNS = tuple(",;+-*/=<([{\\&^_:")
_RULES = ("**", "--", "__", "==")
"""Marks of markdown end a text."""
_OPEN_WORDS = frozenset("the of and a an to is we in that for by with or as".split())
"""What a text does not end on, unless it was cut."""


class Structure(Measure):
    """Of the whole completion, whatever the other measures read."""

    KEYS: ClassVar[dict[str, str]] = {
        "think": "how the reasoning is marked: none, closed, unopened (the prompt opened it), unclosed, repeated",
        "well_formed": "one reasoning, then a response, neither empty and nothing in front",
        "answered": "whether the response states a final answer: a box or an answer tag",
        "boxes": "boxes in the response",
        "different_answers": "different values among the boxes of the response",
        "reasoning_answers": "answers stated in the reasoning: boxes, and values behind 'the answer is'",
        "settled_at": "where in the reasoning the final answer is first stated, from 0 to 1; null where it is not",
        "after_answer": "characters behind the response's first box, what closes its sentence aside; 0 without",
        "turns": "places where the completion begins a question or a turn by itself: 'Question:', '<|im_start|>'",
        "open_end": "whether the text breaks off: on an operator, an open bracket or a word that needs another",
        "leaked": "whether the prompt states the reference or the final answer as an answer",
    }

    kind: Literal["structure"] = "structure"
    marker: str | None = None
    """Begins the line that states the final answer ("Answer:"), where it is neither boxed nor tagged."""

    def measure(self, trace: Trace) -> Labels:
        form = _form(trace.completion)
        response = trace.response
        inside = stated(trace.reasoning)
        boxes = [answer for answer in stated(response) if response[answer.start] == "\\"]
        final = final_answer(response, self.marker)
        return {
            "think": form,
            "well_formed": form in ("closed", "unopened") and bool(trace.reasoning and response.strip()),
            "answered": final is not None,
            "boxes": len(boxes),
            "different_answers": len({box.value for box in boxes}),
            "reasoning_answers": len(inside),
            "settled_at": _settled(inside, final, len(trace.reasoning)),
            "after_answer": _length_behind(response, boxes[0].end) if boxes else 0,
            "turns": _turns(trace),
            "open_end": _is_open(trace.completion),
            "leaked": _leaked(trace, final),
        }


def _form(completion: str) -> Form:
    opened, closed = completion.count(THINK), completion.count(END_THINK)
    if opened > 1 or closed > 1:
        return "repeated"
    if not closed:
        return "unclosed" if opened else "none"
    if not opened:
        return "unopened"
    start = completion.find(THINK)
    return "closed" if start < completion.find(END_THINK) and not completion[:start].strip() else "repeated"


def _is_open(completion: str) -> bool:
    last = completion[-50:].split()[-1:]
    if not last or last[0].endswith(_RULES):
        return False
    return last[0].endswith(_OPEN_SIGNS) or last[0] in _OPEN_WORDS


def _settled(inside: tuple[Stated, ...], final: str | None, length: int) -> float | None:
    value = plain(final) if final is not None else None
    return next((round(each.start / length, 4) for each in inside if each.value == value), None)


def _length_behind(response: str, end: int) -> int:
    closed = _BEHIND.match(response, end)
    return len(response[closed.end() if closed else end :].rstrip())


def _turns(trace: Trace) -> int:
    """Headings at the start of a line, but for the first line of all, and template tokens."""
    lines = anatomy(trace.text).filled_lines[1:]
    if trace.reasoning:
        lines = lines + [line for raw in trace.response.splitlines() if (line := raw.strip())]
    headed = sum(1 for line in lines if line[0] in _TURN_STARTS and _HEADING.match(line))
    return headed + (len(_TOKEN.findall(trace.completion)) if "<" in trace.completion else 0)


def _leaked(trace: Trace, final: str | None) -> bool:
    """Whether a system or user message states a value that is the gold or the final answer."""
    given = [
        answer.value
        for message in trace.messages
        if message["role"] != "assistant"
        for answer in stated(message["content"])
    ]
    if not given:
        return False
    return any(plain(value) in given for value in (_gold(trace.reference), final) if value is not None)


def _gold(reference: Any) -> str | None:
    """The answer in a reference: a string, a number, or an object with `answer`."""
    if isinstance(reference, dict):
        return _gold(reference.get("answer"))
    usable = isinstance(reference, str | int | float) and not isinstance(reference, bool)
    return str(reference) if usable else None
