"""The fewest switches that would make a training fit a GPU that is too small for it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from distillkit.memory import Load, Memory, memory
from distillkit.model_size import Model

AIM = 0.9
"""Share of the memory that a suggestion stays below: the estimate may be wrong by as much."""
PLAIN = ("", "adamw", "adamw_torch", "adamw_torch_fused")
"""Optimizers that 8 bits would make smaller."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Settings of a stage under which it would fit, by their YAML keys, and what it would take then."""

    settings: dict[str, Any]
    memory: Memory

    def text(self) -> str:
        """The settings as they stand in a recipe."""
        values = (f"{key}: {str(value).lower()}" for key, value in self.settings.items())
        return f"{', '.join(values)} (about {self.memory.total / 1e9:.0f} GB: {self.memory.text()})"


def suggest(model: Model, load: Load, memory_gb: float, gpus: int = 1) -> Suggestion | None:
    """The fewest switches that bring a training well under `memory_gb` of each of `gpus`; None where all do not.

    They are tried in the order of what they cost: first those that change the time alone, then those that change
    the last digits, the method (LoRA), the speed by far (offload), and at last the length of the rows.
    """
    tried: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for switch in _switches(load, gpus):
        tried.append(switch)
        if _fits(model, _with(load, tried), memory_gb):
            break
    else:
        return None
    for switch in tried[-2::-1]:  # the last is needed; what it made superfluous is not
        fewer = [each for each in tried if each is not switch]
        if _fits(model, _with(load, fewer), memory_gb):
            tried = fewer
    settings = {key: value for written, _ in tried for key, value in written.items()}
    return Suggestion(settings, memory(model, _with(load, tried)))


def too_large(model: Model, load: Load, memory_gb: float, gpus: int = 1) -> str | None:
    """Why a training does not fit a GPU, and the settings with which it would; None where it fits."""
    needed = memory(model, load)
    if needed.total <= memory_gb * 1e9:
        return None
    found = suggest(model, load, memory_gb, gpus)
    remedy = (
        f"it would fit with {found.text()}"
        if found
        else "no switch makes it fit: take a smaller model or more GPUs"
    )
    return f"needs about {needed.total / 1e9:.0f} GB of {memory_gb:.0f} GB on each GPU ({needed.text()}); {remedy}"


def _fits(model: Model, load: Load, memory_gb: float) -> bool:
    possible = load.base_bits is None or load.lora_rank is not None
    return possible and memory(model, load).total <= AIM * memory_gb * 1e9


def _with(load: Load, switches: list[tuple[dict[str, Any], dict[str, Any]]]) -> Load:
    for _, changes in switches:
        load = replace(load, **changes)
    return load


def _switches(load: Load, gpus: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What can still be switched on: keys and values of the recipe, and what they change here."""
    if not load.checkpointing:
        yield {"gradient_checkpointing": True}, {"checkpointing": True}
    if load.rows_per_device > 1:
        yield {"per_device_train_batch_size": 1}, {"rows_per_device": 1}
    if not load.liger:
        yield {"trainer.use_liger_kernel": True}, {"liger": True}
    if load.engine_bytes and not load.engine_sleeps:
        yield {"trainer.vllm_enable_sleep_mode": True}, {"engine_sleeps": True}
    if load.optimizer in PLAIN and load.lora_rank is None:
        yield {"trainer.optim": "paged_adamw_8bit"}, {"optimizer": "paged_adamw_8bit"}
    if gpus > 1 and load.parallel != "zero3":
        yield {"processes": gpus, "parallel": "zero3"}, {"processes": gpus, "parallel": "zero3"}
    if load.lora_rank is None:
        yield {"lora.rank": 16}, {"lora_rank": 16}
    if load.base_bits is None and load.parallel != "zero3":
        yield {"quantization": "4bit"}, {"base_bits": 4, "parallel": "ddp"}
    if not load.offload:
        offload = {"offload": True, "parallel": "zero3", "base_bits": None}
        yield {"parallel": "zero3", "offload": True}, offload
    length = load.max_length // 2
    while length >= 512:
        yield {"max_length": length}, {"max_length": length}
        length //= 2
