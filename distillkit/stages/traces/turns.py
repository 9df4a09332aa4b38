"""Conversations as datasets write them, read into one shape: who said what, and what was only thought.

No stage itself, but what `traces` reads messages with. Covers `role`/`content` (OpenAI, TRL), `from`/`value`
(ShareGPT), contents in parts, and reasoning beside the content (`reasoning_content` of DeepSeek's API and vLLM).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distillkit.text import END_THINK, THINK
from distillkit.trace import Message

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip
TOOL_ROLES = frozenset(
    {"tool", "function", "function_call", "function_response", "observation", "ipython", "tool_call", "tool_response"}
)  # fmt: skip
TOOL_PARTS = frozenset({"tool_call", "tool_use", "tool_result", "function_call", "tool_calls"})
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message, and types of a part, that hold what was thought."""
TEXTS = ("content", "value", "text")


class Unfit(ValueError):
    """A row that is no trace; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. `reasoning` is what stood beside the content, not inside of it."""

    role: str
    content: str
    reasoning: str = ""

    @property
    def message(self) -> Message:
        return {"role": self.role, "content": self.content}

    @property
    def whole(self) -> str:
        """The reasoning and the content as one completion."""
        return joined(self.reasoning, self.content)


def turns_of(value: Any) -> list[Turn]:
    """The turns of a conversation: a list of messages, JSON text of one, or plain text of the user.

    Raises:
        Unfit: `tools` where tools are called, `not_text` for images and the like, `unreadable` for anything else.
    """
    if isinstance(value, str):
        if not value.lstrip().startswith("[{"):
            return [Turn("user", value)] if value.strip() else []
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [Turn("user", value)]
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unfit("unreadable")
    return [_turn(each) for each in value]


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict):
        raise Unfit("unreadable")
    name = message.get("role") or message.get("from")
    if name in TOOL_ROLES or any(message.get(key) for key in ("tool_calls", "function_call", "tool_call_id")):
        raise Unfit("tools")
    if not isinstance(name, str) or name.lower() not in ROLES:
        raise Unfit("unreadable")
    content, thought = _contents(next((message[key] for key in TEXTS if message.get(key) is not None), ""))
    beside = next((message[key] for key in THOUGHTS if message.get(key)), "")
    if not isinstance(beside, str):
        raise Unfit("not_text")
    return Turn(ROLES[name.lower()], content, beside or thought)


def _contents(value: Any) -> tuple[str, str]:
    """Text and thoughts of a content: plain, or in parts of one type each."""
    if isinstance(value, str):
        return value, ""
    if not isinstance(value, list):
        raise Unfit("not_text")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in TOOL_PARTS:
            raise Unfit("tools")
        if kind not in ("text", "output_text", *THOUGHTS):
            raise Unfit("not_text")
        found = next((part[key] for key in (*TEXTS, *THOUGHTS) if isinstance(part.get(key), str)), "")
        (thoughts if kind in THOUGHTS else texts).append(found)
    return "\n".join(texts), "\n".join(thoughts)


def joined(reasoning: str, text: str) -> str:
    """Both as the one text that a model gives: `<think>`, the reasoning, `</think>`, the text.

    A text that has a tag of its own holds its reasoning already.
    """
    if not reasoning.strip() or THINK in text or END_THINK in text:
        return text
    return f"{THINK}\n{reasoning.strip()}\n{END_THINK}\n\n{text.lstrip()}"


def prompt_of(turns: Sequence[Turn]) -> list[Message]:
    """The messages up to the last one of the user; none where there is none, or where it is blank.

    What an earlier answer had thought beside its content is left out, as chat templates do.
    """
    last = next((at for at in reversed(range(len(turns))) if turns[at].role == "user"), None)
    if last is None or not turns[last].content.strip():
        return []
    return [turn.message for turn in turns[: last + 1]]


def parted(turns: Sequence[Turn]) -> tuple[Sequence[Turn], str]:
    """What was said before the last answer, and that answer; raises Unfit where nothing was answered."""
    last = next((at for at in reversed(range(len(turns))) if turns[at].role == "assistant"), None)
    if last is None:
        raise Unfit("no_completion")
    return turns[:last], turns[last].whole
