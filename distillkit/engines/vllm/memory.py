"""Whether a model fits a device, said before a byte of it is loaded: its weights, and the cache of one sequence.

vLLM finds out after minutes of loading, and then in the log of another process. Only for architectures whose size
model_size.py tells exactly, so that nothing is refused that would have run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillkit.errors import MissingError
from distillkit.model_size import model_size

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs

EXACT = frozenset(
    ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3", "olmo2")
)
"""`model_type`s whose parameters and cache are known from the config."""
BLOCK_TOKENS = 128
"""Largest block that a cache is cut into by default."""
GB = 1e9


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes on each device."""

    weights: float
    cache_per_token: float
    tokens: int
    """Of the longest sequence."""

    @property
    def cache(self) -> float:
        """For one sequence of the full length, in whole blocks, and one more that vLLM keeps for itself."""
        blocks = math.ceil(self.tokens / BLOCK_TOKENS) + 1
        return self.cache_per_token * blocks * BLOCK_TOKENS

    @classmethod
    def of(cls, config: Mapping[str, Any], arguments: "AsyncEngineArgs") -> "Need | None":
        """From a model's config.json and the engine's arguments; None where the config does not tell exactly."""
        text = config.get("text_config", config)
        size = model_size("", config) if text.get("model_type") in EXACT else None
        if size is None or size.source != "config":
            return None
        wide = arguments.dtype in ("float32", "float")
        bits = size.bits if size.bits < 16 else 32 if wide else 16
        if arguments.quantization and size.bits >= 16:
            bits = 4  # quantised while it is loaded: to four bits at least
        cache = size.cache_bytes * (2 if wide else 1)
        if str(arguments.kv_cache_dtype).startswith(("fp8", "int8")):
            cache = size.cache_bytes / 2
        tokens = arguments.max_model_len or int(text.get("max_position_embeddings") or 0)
        split = arguments.tensor_parallel_size * arguments.pipeline_parallel_size
        weights = size.total * bits / 8 - (arguments.cpu_offload_gb or 0) * GB * split
        return cls(max(0.0, weights) / split, cache / split, _held(text, tokens))


def _held(text: Mapping[str, Any], tokens: int) -> int:
    """Tokens of a sequence that stay in the cache: no more than a window where there is one."""
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    return min(tokens, int(window)) if window else tokens


def require_room(name: str, need: Need, arguments: "AsyncEngineArgs", free: int, total: int) -> None:
    """Raises MissingError where the device (free and total bytes) cannot hold the model, with what to change."""
    share = arguments.gpu_memory_utilization
    explicit = arguments.kv_cache_memory_bytes
    room = total * share if explicit is None else float(free)
    if explicit is None and free < room and need.weights + need.cache <= room:
        raise MissingError(
            f"{name}: the engine would take {share:.0%} of the device's {_gb(total)}, and {_gb(free)} are free; "
            f"end what else uses it, or write gpu_memory_utilization: {math.floor(free / total * 100) / 100}"
        )
    if need.weights > room:
        ways = arguments.tensor_parallel_size * math.ceil(need.weights / room)
        raise MissingError(
            f"{name}: its weights take {_gb(need.weights)} on each device, and the engine has {_gb(room)} there; "
            f"take a quantised model, or write tensor_parallel: {_power_of_two(ways)}"
        )
    left = room - need.weights if explicit is None else min(float(explicit), room - need.weights)
    if need.cache > left:
        fitting = (int(left / need.cache_per_token) // BLOCK_TOKENS - 1) * BLOCK_TOKENS
        less = f"write max_model_len: {fitting} or less, " if fitting > 0 else ""
        raise MissingError(
            f"{name}: the cache of one sequence of {need.tokens} tokens takes {_gb(need.cache)}, and beside "
            f"{_gb(need.weights)} of weights {_gb(max(0.0, left))} are left for it; {less}"
            "take a quantised model, or raise tensor_parallel"
        )


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / GB:.1f} GB"


def _power_of_two(least: int) -> int:
    """The next number of devices that heads can be split over."""
    return 1 << (least - 1).bit_length()
