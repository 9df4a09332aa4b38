"""What a training has beside itself on a GPU, and whether all of it fits the one that is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Model
from distillkit.memory import FIXED_BYTES, Frozen, Load
from distillkit.model_size import Model as Size
from distillkit.model_size import model_size
from distillkit.optimizer import state_bytes
from distillkit.remedy import too_large

if TYPE_CHECKING:
    from transformers import Trainer

ENGINE_SHARE = 0.3
"""Share of a GPU that TRL gives an engine in the trainer's process (vllm_gpu_memory_utilization)."""

SCORED_TOKENS = 32_768
"""Tokens, padding included, that a reward model reads at once, one conversation at least: more is no faster."""


def engine_share(trainer: Mapping[str, Any]) -> float | None:
    """Share of each GPU that an engine in the trainer's process takes; None for no such engine."""
    if not trainer.get("use_vllm") or trainer.get("vllm_mode", "colocate") != "colocate":
        return None
    return float(trainer.get("vllm_gpu_memory_utilization", ENGINE_SHARE))


def beside(
    load: Load,
    trainer: Mapping[str, Any],
    memory_gb: float,
    sampled: int,
    *,
    reference: Size | None = None,
    teacher: Size | None = None,
    raters: Sequence[Size] = (),
) -> Load:
    """The load of a training that samples, with all that it has beside itself.

    trainer: the `trainer:` block of the stage. sampled: completions that one process samples at once. raters: reward
    models, which each process holds whole and asks about SCORED_TOKENS at once.
    """
    share = engine_share(trainer)
    batch = load.rows_per_device * load.max_length
    frozen = [Frozen("reference", each, load.weight_bytes) for each in (reference,) if each is not None]
    frozen += [Frozen("teacher", each, load.weight_bytes, batch) for each in (teacher,) if each is not None]
    asked = max(load.max_length, min(sampled * load.max_length, SCORED_TOKENS))
    frozen += [Frozen("reward model", each, each.bits / 8, asked) for each in raters]
    return replace(
        load,
        frozen=tuple(frozen),
        synced=bool(trainer.get("sync_ref_model")),
        sampled_rows=0 if trainer.get("use_vllm") else sampled,
        engine_bytes=0 if share is None else share * memory_gb * 1e9,
        engine_sleeps=bool(trainer.get("vllm_enable_sleep_mode")),
    )


def cramped_engine(model: Size, load: Load, trainer: Mapping[str, Any], memory_gb: float) -> str | None:
    """Why an engine in the trainer's process has too little, and what to give it; None where it has enough.

    It holds all weights in 16 bits whatever ZeRO shares out, and at least one completion.
    """
    share = engine_share(trainer)
    if share is None:
        return None
    parts = int(trainer.get("vllm_tensor_parallel_size", 1))
    weights, cache = model.total * 2 / parts, load.max_length * model.cache_bytes / parts
    needed = (weights + cache + FIXED_BYTES) / (memory_gb * 1e9)
    if needed <= share:
        return None
    text = (
        f"its engine has {share * memory_gb:.0f} GB of each GPU (vllm_gpu_memory_utilization: {share:g}), and takes "
        f"{needed * memory_gb:.0f} GB for the weights and one completion; "
    )
    if needed > 1:
        return text + f"set trainer.vllm_tensor_parallel_size: {parts * 2}"
    return text + (
        f"set trainer.vllm_gpu_memory_utilization: {min(1.0, needed + 0.05):.2f} with vllm_enable_sleep_mode: true"
    )


def warn_of_memory(
    model: Model,
    load: Load,
    stage: str,
    warn: Callable[[str], None],
    trainer: Mapping[str, Any] | None = None,
    sampled: int = 0,
    *,
    reference: bool = False,
    teacher: Model | None = None,
    raters: Sequence[Model] = (),
) -> None:
    """Warn where the estimate is above the memory of the first GPU, with the settings that would fit; only a warning,
    for the estimate may be wrong by a fifth. Without a GPU nothing is said.

    trainer, sampled, ...: as `beside` has them, of a training that samples; reference: whether it holds one.
    """
    import torch

    if not torch.cuda.is_available():
        return
    size = size_of(model)
    if size is None:
        return
    memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
    load = beside(
        load,
        trainer or {},
        memory_gb,
        sampled,
        reference=size if reference else None,
        teacher=None if teacher is None else size_of(teacher),
        raters=[found for each in raters if (found := size_of(each)) is not None],
    )
    texts = [
        too_large(size, load, memory_gb, torch.cuda.device_count()),
        cramped_engine(size, load, trainer or {}, memory_gb),
    ]
    for text in texts:
        if text is not None:
            warn(f"{stage}: {text}")


def size_of(model: Model) -> Size | None:
    """Size of a model by the config that lies here, or by its name."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model.path, revision=model.revision).to_dict()
    return model_size(model.name, config)


def weights_of(trainer: "Trainer", *, trained: bool = False) -> float:
    """Bytes of the weights of a trainer's model in all processes together, or of those alone that learn."""
    from transformers.trainer_pt_utils import get_model_param_count

    if trainer.is_deepspeed_enabled:  # a process of ZeRO-3 has its part of them only
        return float(get_model_param_count(trainer.model, trained) * trainer.model.dtype.itemsize)
    weights = [each for each in trainer.model.parameters() if each.requires_grad or not trained]
    return float(sum(each.numel() * each.element_size() for each in weights))


def states_of(trainer: "Trainer") -> float:
    """Bytes that its optimizer keeps, in all processes together; DeepSpeed's float32 copy of the weights among them."""
    from transformers.trainer_pt_utils import get_model_param_count

    name, model = trainer.args.optim.value, trainer.model
    if trainer.is_deepspeed_enabled:
        count = get_model_param_count(model, True)
        return float(state_bytes(name, count, 4) + 4 * count)
    embedding = {id(each) for each in model.get_input_embeddings().parameters()}
    return sum(
        state_bytes(name, each.numel(), each.element_size(), each.numel() if id(each) in embedding else 0)
        for each in model.parameters()
        if each.requires_grad
    )
