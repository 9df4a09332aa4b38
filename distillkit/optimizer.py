"""What an optimizer keeps of each trained parameter, by transformers' names: memory, disk and rehearsal count with it.

Sources: transformers 5.17, trainer_optimizer.py and Trainer.create_optimizer; bitsandbytes (Dettmers et al. 2022,
arXiv:2110.02861: blocks of 256 numbers, embeddings in 32 bits); Adafactor, arXiv:1804.04235.
"""

from typing import NamedTuple

BLOCK_BYTES = 4 / 256
"""bitsandbytes' scale of a block, shared out over its numbers."""


class States(NamedTuple):
    """Numbers kept per trained parameter, and the bytes of one; None: as wide as the parameter itself."""

    numbers: int
    width: float | None = None


ADAM = States(2)
STATES = {
    "adafactor": States(0),  # a row and a column of each matrix
    "sgd": States(0),
    "lomo": States(0),
    "adalomo": States(0),
    "adagrad": States(1),
    "rmsprop": States(1),
    "schedule_free_sgd": States(1),
    "grokadamw": States(3),
    "adamw_torch_8bit": States(2, 1),
    "adamw_torch_4bit": States(2, 0.5),
    "adamw_8bit": States(2, 1 + BLOCK_BYTES),
    "adamw_bnb_8bit": States(2, 1 + BLOCK_BYTES),
    "adamw_32bit": States(2, 4),
    "ademamix": States(3, 4),
    "ademamix_8bit": States(3, 1 + BLOCK_BYTES),
    "ademamix_32bit": States(3, 4),
    "lion_8bit": States(1, 1 + BLOCK_BYTES),
    "lion_32bit": States(1, 4),
    "rmsprop_bnb": States(1, 4),
    "rmsprop_bnb_8bit": States(1, 1 + BLOCK_BYTES),
    "rmsprop_bnb_32bit": States(1, 4),
}
"""transformers' name, without paged_ in front; every other one is taken for AdamW."""


def is_paged(name: str) -> bool:
    """Whether its states may leave a GPU that is full, for the memory of the CPU."""
    return name.startswith("paged_")


def state_bytes(name: str, parameters: float, width: float, embedding: float = 0) -> float:
    """Bytes of the states of so many trained parameters.

    name: as in `trainer: {optim: NAME}`; empty: the default, AdamW. width: bytes of a trained weight. embedding: how
    many of the parameters are an input embedding, whose states transformers has bitsandbytes keep in 32 bits.
    """
    states = STATES.get(name.removeprefix("paged_"), ADAM)
    each = states.numbers * (width if states.width is None else states.width)
    eased = embedding if states.width == 1 + BLOCK_BYTES else 0
    return (parameters - eased) * each + eased * states.numbers * 4
