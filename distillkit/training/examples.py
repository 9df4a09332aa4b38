"""From traces to tokens: what an SFT trainer is fed, one example per trace, labels on the completion only.

Prompt and completion are cut from the same rendered text and tokenized apart, so that the student is trained
behind exactly the tokens that it will see when it is sampled. Rows that do not fit are dropped with a reason.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from distillkit.template import is_prefilled
from distillkit.text import THINK
from distillkit.trace import Message, Trace

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a token that bears no loss."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one trace, the first `prompt` of them its prompt's. Four bytes each: traces are long."""

    id: str
    """Of the trace."""
    ids: "array[int]"
    prompt: int


@dataclass
class Examples:
    """The usable examples, sorted by trace id, and why the other traces were dropped."""

    kept: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """too_long: over max_length; reasoning_lost: the template deletes it; think_doubled, think_lost: it repeats or
    drops the tag; prompt_differs: it renders the prompt otherwise when an answer follows; not_rendered: it refuses
    the roles or the order of the turns."""
    over_length: int = 0
    """Tokens of the rows that are too long: none of them is trained."""

    @classmethod
    def of(cls, traces: Iterable[Trace], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> "Examples":
        """Render and tokenize every trace."""
        found = cls()
        for trace in traces:
            made = example(trace, tokenizer)
            if isinstance(made, str):
                found.dropped[made] += 1
            elif len(made.ids) > max_length:
                found.dropped["too_long"] += 1
                found.over_length += len(made.ids)
            else:
                found.kept.append(made)
        found.kept.sort(key=lambda each: each.id)
        return found

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(len(each.ids) for each in self.kept)

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return sum(len(each.ids) for each in self.kept)

    @property
    def trained(self) -> int:
        """Tokens of all examples that bear a loss."""
        return sum(len(each.ids) - each.prompt for each in self.kept)

    def dataset(self) -> "Dataset":
        """Columns `input_ids` and `labels`, as TRL's collator takes them."""
        import numpy as np
        from datasets import Dataset

        ids = [np.asarray(each.ids, dtype=np.int32) for each in self.kept]
        labels = [row.copy() for row in ids]
        for each, row in zip(self.kept, labels, strict=True):
            row[: each.prompt] = IGNORED
        return Dataset.from_dict({"input_ids": ids, "labels": labels})


def example(trace: Trace, tokenizer: "PreTrainedTokenizerBase") -> Example | str:
    """The example of a trace, or the reason why there is none."""
    answer = answer_of(trace)
    try:
        prompt = render(tokenizer, trace.messages, add_generation_prompt=True)
        whole = render(tokenizer, [*trace.messages, {"role": "assistant", "content": answer}])
    except TemplateError:
        return "not_rendered"
    if trace.reasoning not in whole:
        return "reasoning_lost"
    if not whole.startswith(prompt):
        return "prompt_differs"
    tags = whole.count(THINK) - (prompt.count(THINK) - is_prefilled(prompt)) - answer.count(THINK)
    if tags and trace.reasoning:
        return "think_doubled" if tags > 0 else "think_lost"
    before, behind = encode(tokenizer, prompt), encode(tokenizer, whole[len(prompt) :])
    return Example(trace.id, array("i", before + behind), len(before))


def answer_of(trace: Trace) -> str:
    """The assistant's message: the raw completion, and the `<think>` that its sampler's template opened."""
    return trace.said


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], *, add_generation_prompt: bool = False
) -> str:
    """The text of a conversation by the tokenizer's template."""
    options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
    return str(tokenizer.apply_chat_template(messages, **options))


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a rendered text, whose special tokens are in it already."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
