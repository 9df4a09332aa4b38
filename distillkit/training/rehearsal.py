"""The longest rows before the first step, so that memory runs out at once and not after a night.

Forward and backward as the trainer does them, while what its optimizer will keep is held beside: the worst moment of
every later step. The gradient of the first layer's input is asked for, not that of the weights: the pass goes through
all layers, and neither a parameter nor what DDP and ZeRO hang on it takes notice. No step is taken either, so that
weights, random numbers and the optimizer stand bit for bit as they stood.
"""

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distillkit.errors import EngineError
from distillkit.optimizer import is_paged
from distillkit.training.examples import encode, render
from distillkit.training.room import states_of, weights_of

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

REMEDIES = (
    "gradient_checkpointing: true",
    "a smaller per_device_train_batch_size",
    "trainer: {use_liger_kernel: true}",
    "trainer: {optim: paged_adamw_8bit}",
    "lora: {rank: 16} with quantization: 4bit",
)
"""What makes a training fit, the cheapest first."""

TILE = 512
"""Tokens whose logits a distillation is rehearsed with: about as much as TRL's tiles of both models take."""

Batch = dict[str, Any]
"""Arguments of a model's forward pass: input_ids, attention_mask, labels, ..."""


def rehearse(trainer: "Trainer", stage: str) -> None:
    """Have a trainer of texts begin with the longest rows that one of its passes can meet.

    Raises EngineError, when the training begins, where the memory does not hold them. Left out on a CPU, whose memory
    ends by swapping or a kill and never by an error that could be told; with reentrant checkpoints of activations
    (TRL's choice for LoRA under ZeRO-3), which know gradients of weights only; and where activations leave the GPU
    (activation_offloading), which they do within a step only.
    """
    args = trainer.args.to_dict()
    unlike = (args["gradient_checkpointing_kwargs"] or {}).get("use_reentrant") or args.get(
        "activation_offloading"
    )
    if trainer.args.device.type != "cpu" and not unlike:
        trainer.add_callback(rehearsal(trainer, stage))


def rehearsal(trainer: "Trainer", stage: str) -> "TrainerCallback":
    """A callback that rehearses once all is ready for the first step: the model as it is trained, shared out among the
    processes, with Liger's kernels and checkpoints of activations. A training that goes on has shown that it fits."""
    from transformers import TrainerCallback

    class Rehearsal(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(
            self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
        ) -> None:
            if state.global_step:
                return
            batch = longest_batch(trainer)
            rows, tokens = batch["input_ids"].shape
            with kept_randomness(), memory_errors(stage, f"{rows} rows of {tokens:,} tokens, the longest"):
                run_through(trainer, batch)
            _empty()

    return Rehearsal()


def run_through(trainer: "Trainer", batch: Batch) -> None:
    """Forward and backward over a batch beside what the training holds then. Where several passes make a step, these
    are the gradients of those before; where one does, they come as the activations go."""
    import torch

    several = trainer.args.gradient_accumulation_steps > 1
    held = [optimizer_states(trainer), *([gradients(trainer)] if several else [])]
    learning = trainer.model.training
    trainer.model.train()
    try:
        with first_input(trainer.model) as inputs, trainer.accelerator.autocast():
            loss = loss_of(trainer, batch)
        torch.autograd.grad(loss, inputs)
    finally:
        trainer.model.train(learning)
    del loss, inputs
    if not several:
        held.append(gradients(trainer))


@contextmanager
def first_input(model: "torch.nn.Module") -> Iterator[list["torch.Tensor"]]:
    """What the embedding gives within it, cut off from the embedding's weights, and asked for its gradient."""
    found: list[torch.Tensor] = []

    def cut(module: Any, args: Any, output: "torch.Tensor") -> "torch.Tensor":
        found.append(output.detach().requires_grad_())
        return found[-1]

    hook = model.get_input_embeddings().register_forward_hook(cut)
    try:
        yield found
    finally:
        hook.remove()


def loss_of(trainer: "Trainer", batch: Batch) -> "torch.Tensor":
    """A loss that costs what the trainer's own does: no logits of a whole row, and a teacher that reads along."""
    import torch
    from trl import DistillationTrainer

    if not isinstance(trainer, DistillationTrainer):
        # What TRL gives a model: log-probabilities of the labels alone, tile by tile.
        return trainer.model(**batch, use_cache=False, fused_lm_head=True).loss
    asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = trainer.model(**asked, use_cache=False, logits_to_keep=TILE).logits
    with torch.no_grad():
        told = trainer.teacher_model(**asked, use_cache=False, logits_to_keep=TILE).logits
    apart = torch.nn.functional.kl_div
    return apart(logits.log_softmax(-1), told.log_softmax(-1), reduction="batchmean", log_target=True)


def optimizer_states(trainer: "Trainer") -> "torch.Tensor":
    """Memory as large as what the optimizer will keep from the first step on; DeepSpeed's holds it already."""
    there = trainer.is_deepspeed_enabled or is_paged(trainer.args.optim.value)
    return _hold(trainer, 0 if there else states_of(trainer))


def gradients(trainer: "Trainer") -> "torch.Tensor":
    """Memory as large as the gradients of one process, which ZeRO shares out."""
    sharing = trainer.accelerator.num_processes if trainer.is_deepspeed_enabled else 1
    return _hold(trainer, weights_of(trainer, trained=True) / sharing)


def _hold(trainer: "Trainer", size: float) -> "torch.Tensor":
    import torch

    return torch.empty(int(size), dtype=torch.uint8, device=trainer.args.device)


def longest_batch(trainer: "Trainer") -> Batch:
    """What one pass of the trainer meets at most, on its device: rows of a dataset of tokens, or the longest prompt
    with a completion of the largest length, in each of its rows."""
    import torch

    rows = trainer.args.per_device_train_batch_size
    if "input_ids" in trainer.train_dataset.column_names:
        batch: Batch = dict(trainer.data_collator(list(longest_rows(trainer.train_dataset, rows))))
    else:
        prompt = longest_prompt(trainer)
        ids = torch.tensor([_stretched(prompt, len(prompt) + trainer.args.max_completion_length)] * rows)
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    device = trainer.args.device
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }


def longest_prompt(trainer: "Trainer") -> list[int]:
    """Tokens of the prompt with the most characters."""
    asked = max(
        trainer.train_dataset["prompt"], key=lambda messages: sum(len(each["content"]) for each in messages)
    )
    return encode(
        trainer.processing_class, render(trainer.processing_class, asked, add_generation_prompt=True)
    )


def _stretched(ids: list[int], length: int) -> list[int]:
    return (ids * (length // len(ids) + 1))[:length]


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
