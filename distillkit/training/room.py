"""Whether a training fits the GPU that is there, said before its weights are loaded."""

from collections.abc import Callable

from distillkit.artifact import Model
from distillkit.memory import Load, too_large
from distillkit.model_size import model_size


def warn_of_memory(model: Model, load: Load, stage: str, warn: Callable[[str], None]) -> None:
    """Warn where the estimate is above the memory of the first GPU, with the settings that would fit; only a warning,
    for the estimate may be wrong by a fifth. Without a GPU nothing is said."""
    import torch
    from transformers import AutoConfig

    if not torch.cuda.is_available():
        return
    config = AutoConfig.from_pretrained(model.path, revision=model.revision).to_dict()
    size = model_size(model.name, config)
    memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
    text = None if size is None else too_large(size, load, memory_gb, torch.cuda.device_count())
    if text is not None:
        warn(f"{stage}: {text}")
