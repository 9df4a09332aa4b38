"""How big a model is, from its config.json or, failing that, from its name: what every cost depends on."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Model:
    """The size of a model, as far as costs depend on it."""

    total: int
    """Parameters."""
    active: int
    """Parameters that one token uses: fewer than `total` in a mixture of experts."""
    bits: int
    """Bits of a stored weight: 32, 16, 8 or 4."""
    layers: int
    hidden: int
    vocabulary: int
    cache_width: int
    """Numbers that one token leaves in the key-value cache of one layer."""
    width: int
    """Inner width of the feed-forward layers, as far as one token goes through them."""
    source: Literal["config", "name"]
    """Where this is from: a name gives the parameters, and the shape is guessed from them."""

    @property
    def weight_bytes(self) -> float:
        return self.total * self.bits / 8

    @property
    def cache_bytes(self) -> float:
        """Key-value cache of one token in bf16."""
        return 2.0 * self.layers * self.cache_width


def model_size(name: str, config: Mapping[str, Any] | None = None) -> Model | None:
    """Size of a model from its config.json, else from its name; None where neither tells it.

    Names count parameters ("Qwen2.5-Math-7B", "SmolLM2-135M", "Mixtral-8x7B"), active ones ("235B-A22B") and
    bits ("-AWQ", "-GPTQ-Int4", "-FP8"). The last number that can be a size is taken.
    """
    if config is None:
        return _of_name(name)
    try:
        total, active = parameters(config)
    except KeyError:
        return _of_name(name)
    text = config.get("text_config", config)
    return Model(
        total,
        active,
        _config_bits(config),
        text["num_hidden_layers"],
        text["hidden_size"],
        text["vocab_size"],
        _cache_width(text),
        _width(text),
        "config",
    )


_SIZE = re.compile(r"(?<![\w.])(?:(?P<experts>\d+)x)?(?P<count>\d+(?:\.\d+)?)(?P<unit>[bBmM])(?![a-zA-Z])")
_ACTIVE = re.compile(r"(?<![a-zA-Z])A(\d+(?:\.\d+)?)B(?![a-zA-Z])")
_BITS = {
    4: re.compile(r"awq|int4|nf4|4-?bit|w4a|mxfp4|nvfp4|gptq(?!.*int8)", re.IGNORECASE),
    8: re.compile(r"int8|fp8|8-?bit|w8a", re.IGNORECASE),
}
# Mixtral 8x7B has 46.7 of 56 billion: attention is not repeated per expert; two of eight experts are active.
_SHARED, _ACTIVE_OF_EIGHT = 46.7 / 56, 12.9 / 56


def _of_name(name: str) -> Model | None:
    sizes = list(_SIZE.finditer(name.rsplit("/", 1)[-1]))
    if not sizes:
        return None
    size = sizes[-1]
    total = float(size["count"]) * (1e9 if size["unit"] in "bB" else 1e6)
    active = total
    if size["experts"]:
        whole = total * int(size["experts"])
        total, active = whole * _SHARED, whole * _ACTIVE_OF_EIGHT
    if written := _ACTIVE.search(name):
        active = float(written[1]) * 1e9
    bits = next((bits for bits, pattern in _BITS.items() if pattern.search(name)), 16)
    # Shapes of the Llama and Qwen families: depth grows with the cube root, 12 hidden^2 weights a layer.
    layers = max(2, round(18 * (total / 1e9) ** 0.35))
    hidden = round(math.sqrt(total / (12 * layers)))
    cache_width, width = min(2048, 2 * hidden), 4 * hidden
    return Model(round(total), round(active), bits, layers, hidden, 150_000, cache_width, width, "name")


def _config_bits(config: Mapping[str, Any]) -> int:
    quantised = config.get("quantization_config") or {}
    if quantised:
        method = str(quantised.get("quant_method", ""))
        return int(quantised.get("bits", 8 if "8" in method or quantised.get("load_in_8bit") else 4))
    return 32 if str(config.get("dtype", config.get("torch_dtype"))).endswith("float32") else 16


def _cache_width(config: Mapping[str, Any]) -> int:
    if config.get("kv_lora_rank"):
        return int(config["kv_lora_rank"] + config["qk_rope_head_dim"])
    return 2 * _heads(config)[1] * _head_size(config)


def _width(config: Mapping[str, Any]) -> int:
    each = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    active = int(config.get("num_experts_per_tok") or 1) + int(config.get("n_shared_experts") or 0)
    return each * active


def _heads(config: Mapping[str, Any]) -> tuple[int, int]:
    """Query heads, key-value heads."""
    heads = int(config["num_attention_heads"])
    return heads, int(config.get("num_key_value_heads") or heads)


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def parameters(config: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters (total, active per token) of a decoder from the fields of its config.json.

    Exact for the Llama, Mistral, Qwen2, Qwen3, Mixtral, Qwen3-MoE and DeepSeek-V3 architectures, without
    multi-token-prediction layers.

    Raises:
        KeyError: for a config that names its fields otherwise (GPT-2's n_embd).
    """
    config = config.get("text_config", config)
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    embedding = int(config["vocab_size"]) * hidden * (1 if config.get("tie_word_embeddings") else 2)
    common = embedding + hidden + layers * (_attention(config) + 2 * hidden)
    experts = (
        config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts") or 0
    )
    dense = 3 * hidden * int(config["intermediate_size"])
    if not experts:
        return common + layers * dense, common + layers * dense
    dense_layers = int(config.get("first_k_dense_replace") or len(config.get("mlp_only_layers") or ()))
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    expert = 3 * hidden * width
    always = hidden * experts + expert * int(config.get("n_shared_experts") or 0)
    if shared := config.get("shared_expert_intermediate_size"):
        always += 3 * hidden * int(shared) + hidden
    if config.get("topk_method") == "noaux_tc":
        always += experts  # DeepSeek-V3's correction bias
    common += dense_layers * dense + (layers - dense_layers) * always
    routed = (layers - dense_layers) * expert
    return common + routed * experts, common + routed * int(config["num_experts_per_tok"])


def _attention(config: Mapping[str, Any]) -> int:
    """Parameters of one layer's attention, its own norms included."""
    hidden, (heads, pairs) = int(config["hidden_size"]), _heads(config)
    if rank := config.get("kv_lora_rank"):
        plain, rotary, value = (int(config[f"{n}_head_dim"]) for n in ("qk_nope", "qk_rope", "v"))
        query_rank = config.get("q_lora_rank")
        into = hidden if query_rank is None else int(query_rank)
        query = into * heads * (plain + rotary) + (0 if query_rank is None else hidden * into + into)
        keys = hidden * (rank + rotary) + int(rank) + rank * heads * (plain + value)
        return int(query + keys + heads * value * hidden)
    size = _head_size(config)
    weights = 2 * hidden * size * (heads + pairs)
    family = str(config.get("model_type", ""))
    if family.startswith("qwen2") or config.get("attention_bias"):
        weights += size * (heads + 2 * pairs)
    return weights + (2 * size if family.startswith("qwen3") else 0)
