"""The prompts of a GRPO training in the order of their use, and how long a generation of completions lasts."""

import math
from statistics import median
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Model
from distillkit.engines.base import end_tokens
from distillkit.training.order import by_rate, in_order
from distillkit.training.rewards.batch import RATE

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import GRPOConfig


def window_of(config: "GRPOConfig") -> int:
    """Optimizer steps that one generation of completions serves."""
    accumulated = int(config.gradient_accumulation_steps)
    return math.lcm(int(config.steps_per_generation * config.num_iterations), accumulated) // accumulated


def dataset_of(rows: list[dict[str, Any]], config: "GRPOConfig", *, easy_first: bool = False) -> "Dataset":
    """The prompts of the whole training in the order of their use: each pass over the rows is shuffled anew.

    No generation asks a prompt twice, where there are enough of them.
    easy_first: the same prompts, by falling pass rate; one without a rate goes in the middle.
    """
    from datasets import Dataset

    generations = math.ceil(config.max_steps / window_of(config))
    together = config.generation_batch_size // config.num_generations
    order = in_order(len(rows), generations * together, config.seed, together)
    if easy_first:
        known = [row[RATE] for row in rows if row[RATE] is not None]
        middle = median(known) if known else 0.5
        rates = [middle if row[RATE] is None else row[RATE] for row in rows]
        order = by_rate(order, rates, together)
    return Dataset.from_list(rows).select(order)


def end_ids(model: Model, tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """The tokens that end a completion: the tokenizer's and those of the model's generation defaults."""
    from transformers import GenerationConfig

    try:
        declared = GenerationConfig.from_pretrained(model.path, revision=model.revision).eos_token_id
    except OSError:  # a model without generation defaults
        declared = None
    return frozenset(end_tokens(declared, tokenizer))
