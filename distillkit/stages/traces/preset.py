"""The layouts of trace sets in use: which column is what.

No stage itself, but the presets of `traces`. Each says which card it was written after; columns that a later version
adds are not read, and one that lacks a text column is refused with what was looked for and what was found.
"""

from dataclasses import dataclass
from typing import Any, Literal

from distillkit.stages.traces.columns import TraceColumns

PresetName = Literal[
    "openr1_math",
    "mixture_of_thoughts",
    "openthoughts3",
    "s1k_1_1",
    "messages",
    "sharegpt",
    "published",
]


@dataclass(frozen=True)
class Preset:
    """Columns of a layout, and what its card says of all rows."""

    columns: TraceColumns
    model: str = ""
    """Who gave the completions."""


OWN_NAMES = {
    name: name
    for name in (
        "reference", "domain", "language", "finish_reason", "prompt_tokens", "completion_tokens", "model", "kept",
    )
}  # fmt: skip
"""Columns that are read by the name that they have here, where a source has them."""


def _layout(**columns: Any) -> TraceColumns:
    return TraceColumns(**{**OWN_NAMES, **columns})


PLAIN = Preset(_layout(prompt="prompt", completion="completion"))
"""The layout of a source of which nothing else is said; `distillkit apply` reads and writes such files."""

PRESETS: dict[PresetName, Preset] = {
    # open-r1/OpenR1-Math-220k, card of February 2025, configs default, extended and all: two to four generations of a
    # NuminaMath-1.5 problem; a null list where only the other judge was asked. `messages` repeats one generation.
    "openr1_math": Preset(
        _layout(
            prompt="problem",
            completion="generations[]",
            reference="answer",
            finish_reason="finish_reasons[]",
            source="source",
            id="uuid",
            domain=None,
            verdicts={"math_verify": "correctness_math_verify[]", "llama": "correctness_llama[]"},
            extra={
                "complete": "is_reasoning_complete[]",
                "problem_type": "problem_type",
                "question_type": "question_type",
            },
        ),
        model="deepseek-ai/DeepSeek-R1",
    ),
    # open-r1/Mixture-of-Thoughts, card of May 2025, configs all, code, math and science: conversations with
    # <think> inside and no reference. num_tokens counts the whole conversation, so it is no completion_tokens.
    "mixture_of_thoughts": Preset(
        _layout(messages="messages", source="source", extra={"num_tokens": "num_tokens"}),
        model="deepseek-ai/DeepSeek-R1",
    ),
    # open-thoughts/OpenThoughts3-1.2M, card of June 2025: sixteen answers a question in rows of their own, <think>
    # inside, domains math, code and science, no reference.
    "openthoughts3": Preset(
        _layout(
            messages="conversations", source="source", domain="domain", extra={"difficulty": "difficulty"}
        ),
        model="Qwen/QwQ-32B",
    ),
    # simplescaling/s1K-1.1, card of February 2025: reasoning and attempt of DeepSeek-R1 (those of Gemini beside
    # them), graded Yes or No by Claude; `solution` is an answer or a worked solution.
    "s1k_1_1": Preset(
        _layout(
            prompt="question",
            reasoning="deepseek_thinking_trajectory",
            response="deepseek_attempt",
            reference="solution",
            source="source_type",
            domain=None,
            verdicts={"grade": "deepseek_grade"},
            extra={"cot_type": "cot_type"},
        ),
        model="deepseek-ai/DeepSeek-R1",
    ),
    # Conversations as OpenAI's API and TRL have them: role and content, <think> inside or reasoning_content beside.
    "messages": Preset(_layout(messages="messages", system="system", tools="tools", id="id")),
    # ShareGPT's: from (human, gpt, system) and value.
    "sharegpt": Preset(_layout(messages="conversations", system="system", tools="tools", id="id")),
    # What `publish` writes: the completion as the last message, the prompt before it, ids that stay.
    "published": Preset(
        _layout(
            messages="messages",
            source="source",
            index="index",
            template="template",
            sampling="sampling",
            id="id",
            verdicts={"published": "verdicts"},
            extra="extra",
            json_text=True,
        )
    ),
}
