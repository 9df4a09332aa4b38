"""What has silently ruined trainings before, asked in seconds before one starts.

DeepSeek-R1-Distill's chat template deletes the reasoning, so that only answers are trained; Qwen bases name
another end token than their chat template writes, so that the student never stops; a `<think>` that is a
special token is gone before the rewards read the text.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.text import END_THINK, THINK
from distillkit.trace import Trace
from distillkit.training.examples import IGNORED, Examples, encode, example, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

PROBE = 32
"""Traces or rows that are looked at where all would take too long."""


def require_template(tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
    """Raises MissingError for a tokenizer that cannot render a conversation."""
    if not tokenizer.chat_template:
        raise MissingError(
            f"{name}: its tokenizer has no chat template; set template: to r1, qwen_math, none or a .jinja file"
        )


def keep_reasoning(tokenizer: "PreTrainedTokenizerBase", traces: Iterable[Trace]) -> None:
    """Give the tokenizer the training variant of its template where its own would delete the reasoning.

    TRL has such variants for the templates of known models; for others the traces are dropped later, counted.
    """
    from trl import get_training_chat_template

    lost = any(example(trace, tokenizer) == "reasoning_lost" for trace in islice(traces, PROBE))
    if lost:
        try:
            tokenizer.chat_template = get_training_chat_template(tokenizer) or tokenizer.chat_template
        except ValueError:
            return


def require_examples(examples: Examples, stage: str, max_length: int) -> None:
    """Raises StageError when no row is left, or when the template spoils most of them."""
    spoiled = examples.dropped["reasoning_lost"] + examples.dropped["prompt_differs"]
    total = len(examples.kept) + examples.dropped.total()
    if total == 0:
        raise StageError(f"{stage}: no traces to train on; loosen the filter or selection before it")
    if examples.dropped["reasoning_lost"] * 2 > total:
        raise StageError(
            f"{stage}: the model's chat template deletes the reasoning of {spoiled} of {total} traces: "
            "only answers would be trained; set template: to one that keeps it"
        )
    if spoiled * 2 > total:
        raise StageError(
            f"{stage}: the model's chat template renders the prompt of {spoiled} of {total} traces otherwise "
            "when an answer follows: it would be trained on prompts that it never sees; set another template:"
        )
    if not examples.kept:
        raise StageError(
            f"{stage}: none of {total} traces fits max_length {max_length} "
            f"({examples.dropped['too_long']} are longer); raise max_length or filter by length before"
        )


def check_positions(longest: int, context: int | None, stage: str) -> None:
    """Raises RecipeError for rows that are longer than the model has positions."""
    if context is not None and longest > context:
        raise RecipeError(
            f"stages.{stage}.max_length: there are rows of {longest} tokens, but the model has {context} "
            f"positions; lower max_length to {context}, or take a model with a longer context"
        )


def check_labels(trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase", stage: str) -> None:
    """Look at a batch as the model will see it: what bears a loss must end with the end token.

    Raises StageError where it does not, or where nothing bears a loss at all.
    """
    rows = list(islice(iter(trainer.train_dataset), PROBE))
    labels = trainer.data_collator(rows)["labels"]
    trained = [int(label) for label in labels.flatten().tolist() if label != IGNORED]
    if not trained:
        raise StageError(
            f"{stage}: no token of the first {len(rows)} rows bears a loss; are they all prompt?"
        )
    if tokenizer.eos_token_id not in trained:
        tail = tokenizer.decode(trained[-3:])
        raise StageError(
            f"{stage}: the end token {tokenizer.eos_token} is never trained, so that the student would never "
            f"stop; its template ends an answer with {tail!r}: set that token as trainer: {{eos_token: ...}}"
        )


def check_tags(tokenizer: "PreTrainedTokenizerBase", stage: str) -> None:
    """Raises StageError where TRL, which drops special tokens, would hide the think tags from the rewards."""
    text = f"{THINK} 1 {END_THINK} 1"
    seen = tokenizer.decode(encode(tokenizer, text), skip_special_tokens=True)
    if THINK not in seen or END_THINK not in seen:
        raise StageError(
            f"{stage}: {THINK} and {END_THINK} do not survive the tokenizer (special or unknown tokens): "
            "no reward would see them; make them ordinary tokens of it"
        )


def fitting(
    rows: list[dict[str, Any]], tokenizer: "PreTrainedTokenizerBase", context: int | None, completion: int
) -> list[dict[str, Any]]:
    """The rows whose prompt and a completion of full length go into the context together."""
    if context is None:
        return rows
    prompts = [render(tokenizer, row["prompt"], add_generation_prompt=True) for row in rows]
    lengths = [len(encode(tokenizer, prompt)) for prompt in prompts]
    return [row for row, length in zip(rows, lengths, strict=True) if length + completion <= context]


def require_prompts(count: int, dropped: int, needed: int, stage: str) -> None:
    """Raises where a step cannot be filled: StageError for no prompts at all, RecipeError for too few."""
    long = f" ({dropped} are too long for the context with max_completion_length)" if dropped else ""
    if count == 0:
        raise StageError(f"{stage}: no problems left to train on{long}; widen band: or give more problems")
    if count < needed:
        raise RecipeError(
            f"stages.{stage}.prompts_per_step: {needed}, but there are only {count} problems{long}; lower it"
        )
