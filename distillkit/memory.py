"""The memory of a training on each GPU, part by part, and of its checkpoints on the disk.

Counted from shapes, for what TRL 1.16 does: weights in bf16, no logits of a whole row (it computes log-probabilities
in tiles), torch's fused AdamW, which needs no further copies. Sources: activations as in Korthikanti et al. 2022,
arXiv:2205.05198, section 4; ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from distillkit.model_size import Model
from distillkit.optimizer import state_bytes

QUANTIZED = 1.03
"""Scales of blocks beside quantized weights (QLoRA, double quantization: 0.127 bits beside 4)."""
LIVE = 1e9
"""Parameters that ZeRO-3 holds whole at a time (DeepSpeed's stage3_max_live_parameters)."""
BUCKETS_BYTES = 2e9
"""What DeepSpeed puts together before it sends: two buckets of 5e8 numbers."""
FIXED_BYTES = 2e9
"""CUDA context, kernels' workspaces, and what falls between the allocator's blocks."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Another model on the same GPU, which is only asked."""

    role: Literal["reference", "teacher", "reward model"]
    model: Model
    weight_bytes: float = 2
    """Bytes of a weight as it is loaded."""
    tokens: int = 0
    """Tokens, padding included, of a batch that it is asked about at once."""

    @property
    def shared(self) -> bool:
        """Whether ZeRO-3 shares it out too, as TRL has it for all but reward models, which each process loads whole."""
        return self.role != "reward model"


@dataclass(frozen=True, slots=True)
class Load:
    """What of a trainer's settings decides its memory."""

    max_length: int
    """Tokens of a row, prompt and completion together."""
    rows_per_device: int = 1
    weight_bytes: int = 2
    """2 for bf16 weights, 4 for float32 ones."""
    optimizer: str = "adamw"
    """transformers' name of it (`trainer: {optim: NAME}`)."""
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
    frozen: tuple[Frozen, ...] = ()
    """Other models on the same GPU: a reference, a teacher, reward models."""
    synced: bool = False
    """The reference is replaced on the way (sync_ref_model)."""
    sampled_rows: int = 0
    """Completions that the trainer itself samples at once; 0 where it samples none, or an engine does."""
    engine_bytes: float = 0
    """What an engine in the same process has taken for itself."""
    engine_sleeps: bool = False
    """The engine gives its memory back while the trainer learns (vllm_enable_sleep_mode)."""
    kept: int = 0
    """Sets of weights that stay on the disk besides those at the end (`keep_steps`)."""

    @property
    def deepspeed(self) -> bool:
        return self.parallel != "ddp"

    @property
    def sharing(self) -> int:
        """Processes that share gradients and optimizer states."""
        return self.processes if self.deepspeed else 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU at the worst moment; the parts add up to the total.

    A training has moments that share the card in turn: sampling, scoring, learning, and replacing the reference. What
    belongs to a lighter moment than the worst is counted as none.
    """

    weights: float
    frozen: float
    """Weights of other models: a reference, a teacher, reward models."""
    optimizer: float
    gradients: float
    activations: float
    """Of the training, and of a teacher that is asked meanwhile."""
    cache: float
    """Keys and values of completions while the trainer samples them."""
    scoring: float
    """Activations of the reward model that needs the most."""
    gathered: float
    """Weights that ZeRO-3 puts together whole: to sample without an engine, and to replace the reference."""
    engine: float
    """What an engine in the same process holds."""
    other: float
    """Buffers and the context."""

    @property
    def total(self) -> float:
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """Name -> bytes."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def text(self) -> str:
        """The parts in GB, the largest first."""
        return told({name: size / 1e9 for name, size in self.parts().items()})


SHOWN_GB = 0.05
"""Smaller parts of a memory are not told."""


def told(parts_gb: Mapping[str, float]) -> str:
    """Name -> GB in words, the largest first."""
    order = sorted(parts_gb.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {size:.3g}" for name, size in order if size >= SHOWN_GB)


def memory(model: Model, load: Load) -> Memory:
    """Bytes of a training on each GPU; good to about a fifth for dense decoders."""
    always = {
        "weights": _weight_bytes(model, load),
        "frozen": sum(_held_bytes(each.model, each.weight_bytes, load, each.shared) for each in load.frozen),
        "optimizer": _optimizer_bytes(model, load),
        "other": FIXED_BYTES + (BUCKETS_BYTES if load.deepspeed else 0),
    }
    always["engine"] = 0 if load.engine_sleeps else load.engine_bytes
    worst = max(_moments(model, load), key=lambda moment: sum(moment.values()))
    names = [each.name for each in fields(Memory)]
    return Memory(**{name: always.get(name, 0.0) + worst.get(name, 0.0) for name in names})


def _moments(model: Model, load: Load) -> list[dict[str, float]]:
    """What each moment of a step takes beside what is always there. There are no gradients outside of learning."""
    asleep = load.engine_bytes if load.engine_sleeps else 0.0
    whole = model.total * float(load.weight_bytes)
    apart = max(0.0, whole - _held_bytes(model, load.weight_bytes, load)) if load.parallel == "zero3" else 0.0
    teachers = [each for each in load.frozen if each.role == "teacher"]
    raters = [each for each in load.frozen if each.role == "reward model"]
    references = [each for each in load.frozen if each.role == "reference"]
    return [
        {
            "gradients": _gradient_bytes(model, load),
            "activations": _activation_bytes(model, load) + sum(map(_asked_bytes, teachers)),
        },
        {
            "cache": load.sampled_rows * load.max_length * model.cache_bytes,
            "gathered": apart if load.sampled_rows else 0.0,
            "engine": asleep,
        },
        {"scoring": max(map(_asked_bytes, raters), default=0.0)},
        # TRL's SyncRefModelCallback gathers both models at once, on every process.
        {"gathered": apart * (1 + len(references)) if load.synced else 0.0},
    ]


def _asked_bytes(frozen: Frozen) -> float:
    """Activations of a forward pass that nothing is kept of: what lives within one layer, in its width."""
    each = (
        4 * frozen.model.hidden + 3 * frozen.model.width
    )  # residual, norm, output; gate, up and their product
    return float(frozen.tokens * each * frozen.weight_bytes)


def _trained(model: Model, load: Load) -> float:
    """Parameters with a gradient: with LoRA two thin matrices, rank x hidden each, beside hidden x hidden."""
    return model.total * (1 if load.lora_rank is None else 2 * load.lora_rank / model.hidden)


def _held_bytes(model: Model, weight_bytes: float, load: Load, shared: bool = True) -> float:
    """Weights of a model on one GPU: all of them, or with ZeRO-3 its share and what is put together just now."""
    whole = model.total * float(weight_bytes)
    if load.parallel != "zero3" or not shared:
        return whole
    return min(whole, LIVE * weight_bytes) + (0.0 if load.offload else whole / load.processes)


def _weight_bytes(model: Model, load: Load) -> float:
    held = _held_bytes(model, load.weight_bytes, load)
    if load.base_bits is not None:
        embedding = min(2 * model.vocabulary * model.hidden, model.total)
        held = embedding * 2 + (model.total - embedding) * load.base_bits / 8 * QUANTIZED
    adapter = 0 if load.lora_rank is None else 4 * _trained(model, load)  # PEFT keeps it in float32
    return held + adapter


def _gradient_bytes(model: Model, load: Load) -> float:
    """Once, and with DDP once more: its buckets (torch: gradient_as_bucket_view, which accelerate leaves off)."""
    each = load.weight_bytes if load.lora_rank is None else 4
    copies = 2 if load.parallel == "ddp" and load.processes > 1 else 1
    return _trained(model, load) * each * copies / load.sharing


def _optimizer_bytes(model: Model, load: Load) -> float:
    """On the GPU; paged states count, for they leave it only where it is full."""
    return 0.0 if load.offload else _whole_states(model, load) / load.sharing


def _whole_states(model: Model, load: Load) -> float:
    """States of all trained parameters; under DeepSpeed float32 ones, with a float32 copy of the weights beside."""
    trained = _trained(model, load)
    if load.deepspeed:
        return state_bytes(load.optimizer, trained, 4) + 4 * trained
    if load.lora_rank is not None:
        return state_bytes(load.optimizer, trained, 4)
    embedding = min(model.vocabulary * model.hidden, model.total)
    return state_bytes(load.optimizer, trained, load.weight_bytes, embedding)


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
    """Bytes that a training writes: its checkpoints (weights and optimizer states), weights that it keeps on the way,
    and those at the end."""
    weights = _trained(model, load) * (load.weight_bytes if load.lora_rank is None else 4)
    return CHECKPOINTS * (weights + _whole_states(model, load)) + load.kept * weights + model.total * 2.0
