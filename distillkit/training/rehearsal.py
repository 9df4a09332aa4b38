"""One step on the longest rows before the first real one, so that memory runs out at once and not after a night.

A trainer of the same class takes the step, at a learning rate of zero: weights, random numbers and the real trainer
are left bit for bit as they were.
"""

import copy
import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.errors import EngineError
from distillkit.training.callbacks import last_checkpoint

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTTrainer

REMEDIES = (
    "gradient_checkpointing: true",
    "a smaller per_device_train_batch_size",
    "trainer: {use_liger_kernel: true}",
    "trainer: {optim: paged_adamw_8bit}",
    "lora: {rank: 16} with quantization: 4bit",
)
"""What makes a training fit, the cheapest first."""


def rehearse(trainer: "SFTTrainer", stage: str) -> None:
    """Train one step on as many of the longest rows as a forward pass has, and forget it.

    Left out where a checkpoint shows that they fit, and where several processes or DeepSpeed share the training: their
    engines cannot be made twice.

    Raises EngineError where the memory does not hold them.
    """
    if (
        trainer.accelerator.num_processes > 1
        or trainer.is_deepspeed_enabled
        or last_checkpoint(Path(str(trainer.args.output_dir)))
    ):
        return
    rows = longest_rows(trainer.train_dataset, trainer.args.per_device_train_batch_size)
    tokens = max(len(row["input_ids"]) for row in rows)
    with kept_randomness(), memory_errors(stage, f"{len(rows)} rows of up to {tokens:,} tokens, the longest"):
        double = type(trainer)(
            trainer.model,
            rehearsal_of(trainer.args),
            train_dataset=rows,
            processing_class=trainer.processing_class,
        )
        double.train()
    double.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    trainer.model.zero_grad(set_to_none=True)
    del double
    _empty()


def rehearsal_of(arguments: Any) -> Any:
    """The arguments for one step that changes nothing and leaves nothing."""
    found = copy.copy(arguments)
    changes = {
        "max_steps": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.0,
        "lr_scheduler_type": "constant",
        "lr_scheduler_kwargs": {},
        "warmup_steps": 0,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "model_init_kwargs": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def longest_rows(dataset: "Dataset", count: int) -> "Dataset":
    """The rows with the most tokens, the longest first."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = np.concatenate(
        [
            pc.list_value_length(batch["input_ids"]).to_numpy(zero_copy_only=False)
            for batch in dataset.with_format("arrow").iter(batch_size=1024)
        ]
    )
    return dataset.select(np.argsort(-lengths, kind="stable")[:count])


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Every random number generator stands afterwards where it stood before."""
    import numpy as np
    import torch

    python, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


@contextmanager
def memory_errors(stage: str, what: str) -> Iterator[None]:
    """Turns an end of memory into an EngineError that says what was too much, and what to do."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        _empty()
        raise EngineError(f"{stage}: out of memory with {what}; try {', '.join(REMEDIES)}") from None


def _empty() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
