"""Rollouts that end at a text such as `</answer>`, as the R1 template asks for: TRL's own end at a token only.

transformers' own stop texts need a tokenizer, which TRL does not hand on, and fail on some; ours is the engine's. Such
a completion is closed with the end token: TRL counts what has none as cut off, and the model is to learn to end there.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from distillkit.engines.transformers.block import StopText

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from trl import GRPOTrainer


def stop_at(trainer: "GRPOTrainer", tokenizer: "PreTrainedTokenizerBase", stop: tuple[str, ...]) -> None:
    """Let the rollouts of a trainer that samples by transformers end behind the first of these texts."""
    model = trainer.model
    generate = model.generate
    ends, pad = list(trainer.eos_token_ids), tokenizer.pad_token_id
    text = StopText.of(tokenizer, stop, model.config.get_text_config().vocab_size)

    @wraps(generate)
    def stopping(*args: Any, **kwargs: Any) -> "torch.Tensor":
        width: int = kwargs["input_ids"].shape[1]
        found = generate(*args, **kwargs, stopping_criteria=[criterion(text, width)])
        return closed(found, width, ends, pad, kwargs["generation_config"].max_new_tokens)

    model.generate = stopping


def criterion(text: StopText, prompt: int) -> "Callable[..., torch.Tensor]":
    """What tells `generate` which rows have come to a stop text behind the prompt, which is so wide."""
    import torch

    def stopped(ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        found = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
        for row in text.may_end[ids[:, -1].cpu()].nonzero()[:, 0].tolist():
            found[row] = text.ends(ids[row, max(prompt, ids.shape[1] - text.window) :].tolist())
        return found

    return stopped


def closed(
    ids: "torch.Tensor", prompt: int, ends: list[int], pad: int, max_new_tokens: int
) -> "torch.Tensor":
    """Token ids (rows, prompt + new) with an end token behind every row that stopped without one.

    prompt: width of the prompts; a row that used up max_new_tokens has no room and stays as it is.
    """
    import torch

    if ids.shape[1] - prompt < max_new_tokens:
        ids = torch.cat([ids, torch.full_like(ids[:, :1], pad)], dim=1)
    new = ids[:, prompt:]
    place = torch.arange(1, new.shape[1] + 1, device=ids.device)
    used = ((new != pad) * place).amax(dim=1)  # up to the last token that is no padding
    open_rows = ~torch.isin(new, torch.tensor(ends, device=ids.device)).any(dim=1) & (used < new.shape[1])
    rows = open_rows.nonzero()[:, 0]
    ids[rows, prompt + used[rows]] = ends[0]
    return ids
