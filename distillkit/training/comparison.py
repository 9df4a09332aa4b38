"""From preference pairs to tokens: what a reward model's trainer is fed, and what is held out to test it.

Both answers are rendered exactly as the trained model will later be asked about one (verifiers/reward_model.py): the
whole conversation by its template, no token added. A pair that does not fit is dropped with a reason, never cut.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from distillkit.spec import seed_of
from distillkit.text import split_think
from distillkit.trace import Message, Pair
from distillkit.training.examples import encode, render
from distillkit.training.rewards.classifier import Classifier

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

On = Literal["response", "completion"]
PROBE = 32
"""Pairs that are looked at to see whether a template keeps what is compared."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Both conversations of a pair, the better one first, and their token ids."""

    problem_id: str
    conversations: list[list[Message]]
    chosen: "array[int]"
    rejected: "array[int]"
    margin: float | None


@dataclass
class Comparisons:
    """The usable pairs, sorted by id, and why the others were dropped."""

    kept: list[Compared] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """too_long: over max_length; text_lost: the template deletes part of an answer; no_response: nothing follows the
    reasoning; same_text: what is compared is equal; no_margin: the margin is wanted and not said."""

    @classmethod
    def of(
        cls,
        pairs: Iterable[Pair],
        tokenizer: "PreTrainedTokenizerBase",
        on: On,
        max_length: int,
        *,
        margin: bool = False,
    ) -> "Comparisons":
        found = cls()
        for pair in sorted(pairs, key=lambda each: each.id):
            made = compared(pair, tokenizer, on)
            if isinstance(made, Compared) and max(len(made.chosen), len(made.rejected)) > max_length:
                made = "too_long"
            if isinstance(made, Compared) and margin and made.margin is None:
                made = "no_margin"
            if isinstance(made, Compared):
                found.kept.append(made)
            else:
                found.dropped[made] += 1
        return found

    def parted(self, share: float, seed: int) -> tuple[list[Compared], list[Compared]]:
        """Those to train on and those held out: about `share` of the prompts, and none of them in both."""
        prompts = sorted(
            {each.problem_id for each in self.kept}, key=lambda each: (seed_of("heldout", seed, each), each)
        )
        count = min(max(1, round(share * len(prompts))), max(0, len(prompts) - 1)) if share > 0 else 0
        out = set(prompts[:count])
        learnt = [each for each in self.kept if each.problem_id not in out]
        return learnt, [each for each in self.kept if each.problem_id in out]


def shown(answer: str, on: On) -> str:
    """What of an answer is compared."""
    return split_think(answer)[1] if on == "response" else answer


def compared(pair: Pair, tokenizer: "PreTrainedTokenizerBase", on: On) -> Compared | str:
    """The tokens of a pair, or the reason why there are none."""
    answers = [shown(each, on).strip() for each in (pair.chosen, pair.rejected)]
    if not all(answers):
        return "no_response"
    if answers[0] == answers[1]:
        return "same_text"
    talks = [[*pair.messages, {"role": "assistant", "content": answer}] for answer in answers]
    texts = [render(tokenizer, talk) for talk in talks]
    if any(answer not in text for answer, text in zip(answers, texts, strict=True)):
        return "text_lost"
    chosen, rejected = (array("i", encode(tokenizer, text)) for text in texts)
    return Compared(pair.problem_id, talks, chosen, rejected, pair.margin)


def keep_text(tokenizer: "PreTrainedTokenizerBase", pairs: Iterable[Pair], on: On) -> None:
    """Give the tokenizer the training variant of its template where its own would delete part of an answer.

    The trained model keeps it: it never answers, it reads answers.
    """
    from trl import get_training_chat_template

    if any(compared(pair, tokenizer, on) == "text_lost" for pair in islice(pairs, PROBE)):
        try:
            tokenizer.chat_template = get_training_chat_template(tokenizer) or tokenizer.chat_template
        except ValueError:  # a template that TRL does not know: its pairs are dropped, counted
            return


def dataset_of(pairs: Sequence[Compared], *, margin: bool) -> "Dataset":
    """Columns as TRL's RewardTrainer takes them."""
    import numpy as np
    from datasets import Dataset

    columns: dict[str, list[Any]] = {
        "chosen_ids": [np.asarray(each.chosen, dtype=np.int32) for each in pairs],
        "rejected_ids": [np.asarray(each.rejected, dtype=np.int32) for each in pairs],
    }
    return Dataset.from_dict(columns | ({"margin": [each.margin for each in pairs]} if margin else {}))


def leads_of(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pairs: Sequence[Compared]
) -> list[float]:
    """By how much the chosen answer of each pair is rated above the rejected one, as a training by rewards would rate
    them. The model learns nothing afterwards."""
    judge = Classifier(model, tokenizer)
    rated = judge.scores([each for pair in pairs for each in pair.conversations])
    return [(good or 0.0) - (bad or 0.0) for good, bad in zip(rated[::2], rated[1::2], strict=True)]
