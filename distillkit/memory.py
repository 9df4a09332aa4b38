"""The memory of a training on each GPU, part by part, and the fewest switches that would make it fit.

Counted from shapes, for what TRL 1.16 does: weights in bf16, no logits of a whole row (it computes log-probabilities
in tiles), torch's fused AdamW, which needs no further copies. Sources: activations as in Korthikanti et al. 2022,
arXiv:2205.05198, section 4; ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from distillkit.model_size import Model

Optimizer = Literal["adamw", "adamw_8bit", "adafactor"]

OPTIMIZER_STATES = {"adamw": 2, "adamw_8bit": 2, "adafactor": 0}
"""Numbers per trained parameter: two moments, of a weight's size; of one byte each with 8 bits."""
QUANTIZED = 1.03
"""Scales of blocks beside quantized weights (QLoRA, double quantization: 0.127 bits beside 4)."""
LIVE = 1e9
"""Parameters that ZeRO-3 holds whole at a time (DeepSpeed's stage3_max_live_parameters)."""
BUCKETS_BYTES = 2e9
"""What DeepSpeed puts together before it sends: two buckets of 5e8 numbers."""
AIM = 0.9
"""Share of the memory that a suggestion stays below: the estimate may be wrong by as much."""
FIXED_BYTES = 2e9
"""CUDA context, kernels' workspaces, and what falls between the allocator's blocks."""


@dataclass(frozen=True, slots=True)
class Load:
    """What of a trainer's settings decides its memory."""

    max_length: int
    """Tokens of a row, prompt and completion together."""
    rows_per_device: int = 1
    weight_bytes: int = 2
    """2 for bf16 weights, 4 for float32 ones."""
    optimizer: Optimizer = "adamw"
    lora_rank: int | None = None
    base_bits: int | None = None
    """4 or 8 for a quantized base, None for one as it is."""
    checkpointing: bool = True
    """Activations computed anew in the backward pass: a third more arithmetic, far less memory."""
    liger: bool = False
    """Liger's kernels keep half of a layer's activations."""
    parallel: Literal["ddp", "zero2", "zero3"] = "ddp"
    processes: int = 1
    """GPUs that share what `parallel` shares."""
    offload: bool = False
    frozen_bytes: float = 0
    """Weights of other models on the same GPU: a reference, a teacher."""
    sampled_rows: int = 0
    """Completions that the trainer itself samples at once; 0 where it samples none, or an engine does."""
    engine_bytes: float = 0
    """What an engine in the same process has taken for itself."""

    @property
    def deepspeed(self) -> bool:
        return self.parallel != "ddp"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU at the worst moment; the parts add up to the total."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    cache: float
    """Keys and values of completions while they are sampled. At that moment there are neither gradients nor
    activations: what is smaller of the two is counted as none."""
    other: float
    """Frozen models, an engine, buffers and the context."""

    @property
    def total(self) -> float:
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """Name -> bytes."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def text(self) -> str:
        """The parts in GB, the largest first."""
        order = sorted(self.parts().items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {size / 1e9:.3g}" for name, size in order if size >= 5e7)


def memory(model: Model, load: Load) -> Memory:
    """Bytes of a training on each GPU; good to about a fifth for dense decoders."""
    gradients, activations = _gradient_bytes(model, load), _activation_bytes(model, load)
    cache = load.sampled_rows * load.max_length * model.cache_bytes
    sampling = cache > gradients + activations
    return Memory(
        weights=_weight_bytes(model, load),
        gradients=0 if sampling else gradients,
        optimizer=_optimizer_bytes(model, load),
        activations=0 if sampling else activations,
        cache=cache if sampling else 0,
        other=load.frozen_bytes + load.engine_bytes + FIXED_BYTES + (BUCKETS_BYTES if load.deepspeed else 0),
    )


def _trained(model: Model, load: Load) -> float:
    """Parameters with a gradient: with LoRA two thin matrices, rank x hidden each, beside hidden x hidden."""
    return model.total * (1 if load.lora_rank is None else 2 * load.lora_rank / model.hidden)


def _weight_bytes(model: Model, load: Load) -> float:
    whole = model.total * float(load.weight_bytes)
    if load.base_bits is not None:
        embedding = min(2 * model.vocabulary * model.hidden, model.total)
        whole = embedding * 2 + (model.total - embedding) * load.base_bits / 8 * QUANTIZED
    if load.parallel == "zero3":
        held = min(whole, LIVE * load.weight_bytes)
        whole = held + (0 if load.offload else max(0.0, whole / load.processes))
    adapter = 0 if load.lora_rank is None else 4 * _trained(model, load)  # PEFT keeps it in float32
    return whole + adapter


def _gradient_bytes(model: Model, load: Load) -> float:
    each = load.weight_bytes if load.lora_rank is None else 4
    return _trained(model, load) * each / (load.processes if load.deepspeed else 1)


def _optimizer_bytes(model: Model, load: Load) -> float:
    """States of each trained parameter; under DeepSpeed float32 ones, with a float32 copy of the weights beside."""
    if load.offload:
        return 0.0
    wide = load.deepspeed or load.lora_rank is not None
    size = 1 if load.optimizer == "adamw_8bit" else 4 if wide else load.weight_bytes
    each = OPTIMIZER_STATES[load.optimizer] * size + (4 if load.deepspeed else 0)
    return _trained(model, load) * each / (load.processes if load.deepspeed else 1)


def _activation_bytes(model: Model, load: Load) -> float:
    """What the backward pass needs of the forward one, in bf16, with attention that stores no scores.

    A gated feed-forward layer keeps its input, both inner products, the gate's activation and their product: 8 bytes
    a unit of its width; attention, norms and residuals keep 25 bytes a unit of the hidden size. Liger's kernels keep
    half of the former. Checkpointing keeps the input of each layer, and one layer whole while it is run again.
    """
    tokens = load.rows_per_device * load.max_length
    layer = (17 * model.hidden + 4 * model.width) if load.liger else (25 * model.hidden + 8 * model.width)
    passing = 2 * model.hidden + 4 * model.width  # gradients on their way through one layer
    kept = 2 * model.layers * model.hidden + layer if load.checkpointing else model.layers * layer
    head = (
        4 * model.vocabulary * model.hidden if load.lora_rank is None else 0
    )  # its gradient, summed in float32
    return float(tokens * (kept + passing) + head)


CHECKPOINTS = 3
"""At most on the disk at once: two that are kept, and one that is being written."""


def disk_bytes(model: Model, load: Load) -> float:
    """Bytes that a training writes: its checkpoints (weights and optimizer states), and the weights at the end."""
    alone = replace(load, processes=1, offload=False, base_bits=None, parallel="ddp")
    trained = _trained(model, load)
    weights = trained * (load.weight_bytes if load.lora_rank is None else 4)
    states = _optimizer_bytes(model, alone) + (trained * 8 if load.deepspeed else 0)
    return CHECKPOINTS * (weights + states) + model.total * 2.0


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
    if load.optimizer == "adamw" and load.lora_rank is None:
        yield {"trainer.optim": "paged_adamw_8bit"}, {"optimizer": "adamw_8bit"}
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
