"""From the JSON that an OpenAI-compatible server answers to a completion: one raw text with its reasoning in it.

Servers differ in where the reasoning is. DeepSeek and SGLang have `reasoning_content`, OpenRouter and vLLM
`reasoning`; a server without a reasoning parser leaves `<think>` in the text.
"""

from dataclasses import dataclass
from typing import Any, Literal

from distillkit.engines.base import Completion
from distillkit.text import END_THINK, THINK

Json = dict[str, Any]

FINISHED: dict[str, Literal["stop", "length"]] = {"stop": "stop", "eos": "stop", "length": "length"}
REFUSED = {
    "content_filter": "the provider's content filter cut it",
    "tool_calls": "the model called a tool",
    "function_call": "the model called a tool",
}


class BadAnswer(Exception):
    """An answer that is none; `status` is what its body says where the HTTP status said 200."""

    def __init__(self, reason: str, status: int = 500) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """A completion, and whether its reasoning came with it: None where there is no way to tell (api: completions)."""

    completion: Completion
    reasoned: bool | None = None
    reasoning_tokens: int = 0
    """As the server counted them, 0 where it did not."""
    token_ids: list[int] | None = None
    """The tokens of the text, where the server tells them; the one that ended it is not among them."""


def read(data: object) -> Answer:
    """The completion in the answer of either API.

    `telemetry` has what the server says of itself: served, system_fingerprint, cached_tokens, billed.

    Raises BadAnswer for anything that is no whole answer.
    """
    choice = _choice(data)
    assert isinstance(data, dict)
    usage = _object(data.get("usage"))
    message = choice.get("message")
    reason = str(choice.get("finish_reason") or "unknown")
    if reason in ("error", "insufficient_system_resource", "abort"):
        raise BadAnswer(f"the server broke off: finish_reason {reason}")
    prompt_tokens, tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if isinstance(message, dict):
        text, reasoned = _said(message, finished=reason != "length")
        empty = not text.strip()
    else:
        text, reasoned = _with_stop(choice), None
        empty = not text and not tokens  # a model may end at once: that is one token
    if empty and reason not in REFUSED:
        raise BadAnswer("an answer without any text")
    details = _object(usage.get("completion_tokens_details"))
    return Answer(
        Completion(
            text="" if reason in REFUSED else text,
            finish_reason="error" if reason in REFUSED else FINISHED.get(reason, "unknown"),
            prompt_tokens=prompt_tokens,
            completion_tokens=tokens,
            error=f"{REFUSED[reason]} (finish_reason {reason})" if reason in REFUSED else "",
            telemetry=_telemetry(data, usage),
        ),
        reasoned,
        _count(details, "reasoning_tokens") or 0,
        _token_ids(choice, reason),
    )


def _choice(data: object) -> Json:
    if not isinstance(data, dict):
        raise BadAnswer("an answer that is no JSON object")
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        error = _object(data.get("error"))
        status = error.get("code")
        said = f": {error['message']}" if isinstance(error.get("message"), str) else ""
        raise BadAnswer(f"an answer without choices{said}", status if isinstance(status, int) else 500)
    choice: Json = choices[0]
    if not isinstance(choice.get("message"), dict) and not isinstance(choice.get("text"), str):
        raise BadAnswer("a choice without message or text")
    return choice


def _said(message: Json, finished: bool) -> tuple[str, bool]:
    """A message as the model wrote it, and whether its reasoning is in it."""
    content = message.get("content")
    content = content if isinstance(content, str) else ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(reasoning, str) or not reasoning:
        return content, THINK in content or END_THINK in content
    opened = f"{THINK}\n{reasoning.strip()}"
    if not content and not finished:
        return opened, True
    return f"{opened}\n{END_THINK}\n\n{content.lstrip()}", True


def _with_stop(choice: Json) -> str:
    """A text with the stop text that ended it, which servers cut off: vLLM and SGLang say which it was."""
    stop = choice.get("stop_reason", choice.get("matched_stop"))
    text = str(choice["text"])
    return text + stop if isinstance(stop, str) and not text.endswith(stop) else text


def _token_ids(choice: Json, reason: str) -> list[int] | None:
    """vLLM's `return_token_ids`: all that were generated, one that ended the text included."""
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or not all(type(each) is int for each in ids):
        return None
    ended = reason == "stop" and not isinstance(choice.get("stop_reason"), str)
    return ids[:-1] if ended else ids


def _telemetry(data: Json, usage: Json) -> Json:
    cached = _count(_object(usage.get("prompt_tokens_details")), "cached_tokens")
    found = {
        "served": data.get("model"),
        "system_fingerprint": data.get("system_fingerprint"),
        "cached_tokens": _count(usage, "prompt_cache_hit_tokens") if cached is None else cached,
        "billed": usage.get("cost"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _count(found: Json, name: str) -> int | None:
    value = found.get(name)
    return value if type(value) is int and value >= 0 else None
