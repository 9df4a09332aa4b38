"""A reward model in this process, loaded once: conversations in, its raw outputs out."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from distillkit.artifact import Model
from distillkit.engines.base import context_of, require_model
from distillkit.errors import MissingError
from distillkit.trace import Message
from distillkit.training.room import SCORED_TOKENS
from distillkit.verifiers.reward_model import load_classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 32
"""Conversations of one forward pass at most: long ones are fewer."""


class Classifier:
    """A sequence classifier with one output.

    It draws no random numbers, so a training is the same however often it is asked.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.context = context_of(model.config)

    @classmethod
    def load(cls, model: Model) -> "Classifier":
        """From a folder or the Hub, on the GPU where there is one.

        Raises MissingError for weights that are not there, or are no reward model with one output.
        """
        import torch

        require_model(model)
        tokenizer, loaded = load_classifier(model.path, model.revision, "auto")
        if loaded.config.num_labels != 1:
            raise MissingError(
                f"{model.name}: has {loaded.config.num_labels} outputs; a reward model has one (num_labels 1)"
            )
        return cls(loaded.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)

    def scores(self, conversations: Sequence[list[Message]]) -> list[float | None]:
        """The output of each conversation, in order; None for one that is longer than the model's context."""
        import torch

        ids = [self._encoded(messages) for messages in conversations]
        fitting = sorted(
            (row for row, each in enumerate(ids) if len(each) <= self.context), key=lambda row: len(ids[row])
        )
        found: list[float | None] = [None] * len(ids)
        for rows in _passes(fitting, [len(ids[row]) for row in fitting]):
            padded = self.tokenizer.pad(
                {"input_ids": [ids[row] for row in rows]}, padding_side="right", return_tensors="pt"
            )
            with torch.inference_mode():
                logits = self.model(**padded.to(self.model.device)).logits[:, 0].float().tolist()
            for row, value in zip(rows, logits, strict=True):
                found[row] = value
        return found

    def _encoded(self, messages: list[Message]) -> list[int]:
        """By the model's own template; without one, the texts with blank lines between them."""
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer("\n\n".join(each["content"] for each in messages))["input_ids"])
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _passes(rows: list[int], lengths: list[int]) -> Iterator[list[int]]:
    """Rows, the shortest first, in passes of at most BATCH rows and SCORED_TOKENS padded tokens; one row at least."""
    found: list[int] = []
    for row, length in zip(rows, lengths, strict=True):
        if found and (len(found) == BATCH or (len(found) + 1) * length > SCORED_TOKENS):
            yield found
            found = []
        found.append(row)
    if found:
        yield found
