"""What a stage costs before it runs: tokens, GPU-hours, memory, disk and money, by one estimator.

Good to a factor of about two, which is what a decision needs. Generation adds up what a decoding step reads
and computes, training counts operations, and a model's size comes from its config or, failing that, its name.
"""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

from distillkit.memory import Load, disk_bytes, memory
from distillkit.model_size import Model
from distillkit.spec import Strict


class Gpu(NamedTuple):
    """Peak figures of one GPU: memory in GB, its bandwidth in GB/s, dense bf16 tensor TFLOP/s."""

    memory_gb: float
    bandwidth_gb_s: float
    peak_tflops: float


# NVIDIA's data sheets, SXM where there is one; their figures "with sparsity" halved. T4: fp16.
GPUS = {
    "b200": Gpu(180, 8000, 2250),
    "h200": Gpu(141, 4800, 989),
    "h100": Gpu(80, 3350, 989),
    "a100": Gpu(80, 2039, 312),
    "a100_40gb": Gpu(40, 1555, 312),
    "l40s": Gpu(48, 864, 362),
    "a10": Gpu(24, 600, 125),
    "l4": Gpu(24, 300, 121),
    "rtx5090": Gpu(32, 1792, 210),
    "rtx4090": Gpu(24, 1008, 165),
    "rtx3090": Gpu(24, 936, 71),
    "t4": Gpu(16, 320, 65),
}


def _gigabytes(value: object) -> object:
    """ "80GB", "80 GiB" or 80 as a number; anything else is left for pydantic to refuse."""
    match = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:GB|GiB)?\s*", value, re.IGNORECASE)
        if isinstance(value, str)
        else None
    )
    return float(match[1]) if match else value


GigaBytes = Annotated[
    float,
    BeforeValidator(_gigabytes),
    Field(gt=0),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(GB|GiB)?\s*$"}]}
    ),
]


class Budget(Strict):
    """The machine that a recipe may use, and how much of it."""

    gpus: int = Field(1, ge=1)
    """Number of GPUs."""
    gpu: Literal[
        "b200",
        "h200",
        "h100",
        "a100",
        "a100_40gb",
        "l40s",
        "a10",
        "l4",
        "rtx5090",
        "rtx4090",
        "rtx3090",
        "t4",
    ] = "h100"
    """Kind of GPU, for speed and price."""
    gpu_memory: GigaBytes | None = None
    """Memory of each GPU, such as 80GB; left out, what that kind has."""
    gpu_hours: float | None = Field(None, gt=0)
    """GPU-hours that the whole recipe may take (hours times GPUs); left out, no limit."""
    money: float | None = Field(None, gt=0)
    """Most that the whole recipe may cost, GPUs and paid endpoints together; left out, no limit."""
    money_per_gpu_hour: float | None = Field(None, ge=0)
    """Price of one GPU for one hour, in any currency; left out, money is not estimated."""

    @property
    def memory_gb(self) -> float:
        """Memory of one GPU."""
        return self.gpu_memory or GPUS[self.gpu].memory_gb

    def exceeded(self, cost: "Cost") -> list[str]:
        """One line for each limit that `cost` crosses; empty where it fits."""
        lines = []
        if cost.memory_gb > self.memory_gb:
            lines.append(
                f"needs about {cost.memory_gb:.0f} GB on each GPU, and one has {self.memory_gb:.0f} GB"
            )
        if self.gpu_hours is not None and cost.gpu_hours > self.gpu_hours:
            lines.append(
                f"needs about {cost.gpu_hours:.0f} GPU-hours, and the budget is {self.gpu_hours:.0f}"
            )
        if self.money is not None and cost.money is not None and cost.money > self.money:
            lines.append(f"costs about {money_text(cost.money)}, and the budget is {money_text(self.money)}")
        return lines


def money_text(amount: float) -> str:
    """An amount to be read: small ones have their first digits, not two zeros."""
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What something takes. The sum of two is one after the other: the larger memory, the rest added up."""

    tokens: int = 0
    """Tokens generated or trained on."""
    gpu_hours: float = 0.0
    """Hours times GPUs."""
    memory_gb: float = 0.0
    """Peak on each GPU."""
    disk_gb: float = 0.0
    money: float | None = None
    """None where no price is known."""

    def __add__(self, other: "Cost") -> "Cost":
        known = [cost.money for cost in (self, other) if cost.money is not None]
        return Cost(
            self.tokens + other.tokens,
            self.gpu_hours + other.gpu_hours,
            max(self.memory_gb, other.memory_gb),
            self.disk_gb + other.disk_gb,
            sum(known) if known else None,
        )


SEQUENCES = 256
"""Sequences that an engine decodes at once, memory allowing (vLLM's default)."""
USABLE = 0.9
"""Share of a GPU's memory that an engine takes."""
STEP_OVERHEAD_S = 0.005
COMPUTE_SHARE = 0.5
"""Overhead of a decoding step and the share of the peak that its arithmetic reaches: fitted, see below."""
ALLOWANCE = 2.0
"""Hours billed over hours of full engines: loading, stragglers, restarts (FinePhrase: 14 days for 6)."""


def tokens_per_second(model: Model, machine: Budget, mean_tokens: float, prompt_tokens: float = 200) -> float:
    """Completion tokens per second of all GPUs together while the engine is full.

    A decoding step reads all weights and the cache of every sequence, which holds its prompt and on average
    half of its completion, and computes every new token and, shared out, its prompt. So long completions are
    slow twice: more to read, and fewer fit. One sequence is taken to fit; `generation` says what it needs.

    Fitted to datatrove's benchmark (vLLM 0.15 defaults, H100, documents rewritten, taken as 1,000 tokens each
    way): within 20 % for Qwen3 0.6B to 32B and 30B-A3B, within 50 % for SmolLM2. Not checked on long traces,
    where published campaigns took two to eight times as long (OpenThoughts3, OpenR1).
    """
    gpu, mean_tokens = GPUS[machine.gpu], max(mean_tokens, 1)
    held_bytes = model.cache_bytes * (prompt_tokens + mean_tokens / 2)
    room_bytes = machine.gpus * machine.memory_gb * 1e9 * USABLE - model.weight_bytes
    sequences = max(1.0, min(SEQUENCES, room_bytes / held_bytes))
    computed = sequences * (1 + prompt_tokens / mean_tokens)
    reading_s = (model.weight_bytes + sequences * held_bytes) / (machine.gpus * gpu.bandwidth_gb_s * 1e9)
    computing_s = 2 * model.active * computed / (machine.gpus * gpu.peak_tflops * 1e12 * COMPUTE_SHARE)
    return sequences / (reading_s + computing_s + STEP_OVERHEAD_S)


TEXT_BYTES = 2.0
"""Disk for one token of text with its labels: four characters, compressed to a half."""


def generation(
    model: Model, machine: Budget, completions: int, mean_tokens: float, prompt_tokens: float = 200
) -> Cost:
    """Cost of sampling `completions` of `mean_tokens` each; its memory holds the weights and one sequence."""
    tokens = round(completions * mean_tokens)
    seconds = ALLOWANCE * tokens / tokens_per_second(model, machine, mean_tokens, prompt_tokens)
    one_held = model.cache_bytes * (prompt_tokens + mean_tokens)
    return _cost(
        machine,
        tokens,
        seconds / 3600 * machine.gpus,
        memory_bytes=(model.weight_bytes + one_held) / machine.gpus / USABLE,
        disk_bytes=model.weight_bytes + tokens * TEXT_BYTES,
    )


class Turns(NamedTuple):
    """How an RL training samples: in turns, each of which ends with its longest completion."""

    at_once: int
    """Completions of a turn, over all GPUs."""
    longest_tokens: float
    """Tokens of the longest completion of a turn; among dozens one reaches the cap."""
    share: float = USABLE
    """Of each GPU's memory that the engine has."""


def rollouts(
    model: Model,
    machine: Budget,
    completions: int,
    mean_tokens: float,
    turns: Turns,
    prompt_tokens: float = 200,
) -> Cost:
    """Cost of sampling for RL: the completions of a turn, over all GPUs, wait for the longest of them.

    Such a turn has as many decoding steps as its longest completion has tokens, and each reads all weights for however
    few completions are left: with few at once, or a long tail, that is most of it. Caches and arithmetic go by the
    tokens, as in `tokens_per_second`. An engine spans as many GPUs as hold the weights.

    Source of the shape: RollPacker, arXiv:2509.21009, section 2: rollouts are about 70 % of a step of RL, and most of
    that is waiting. How it stands to published runs is in docs/parallel.md: still 1.4 to 1.7 times below them.
    """
    gpu, mean_tokens, weights = GPUS[machine.gpu], max(mean_tokens, 1), model.total * 2.0
    memory_bytes = machine.memory_gb * 1e9 * turns.share
    spans = min(machine.gpus, math.ceil(weights / memory_bytes))
    rows = max(1.0, turns.at_once * spans / machine.gpus)
    held_bytes = model.cache_bytes * (prompt_tokens + mean_tokens / 2)
    sequences = max(1.0, min(SEQUENCES, (spans * memory_bytes - weights) / held_bytes))
    steps = turns.longest_tokens + max(0.0, rows / sequences - 1) * mean_tokens
    reading_s = weights / (spans * gpu.bandwidth_gb_s * 1e9) + STEP_OVERHEAD_S
    token_s = held_bytes / (spans * gpu.bandwidth_gb_s * 1e9)
    token_s += (
        2
        * model.active
        * (1 + prompt_tokens / mean_tokens)
        / (spans * gpu.peak_tflops * 1e12 * COMPUTE_SHARE)
    )
    turn_s = steps * reading_s + rows * mean_tokens * token_s
    tokens = round(completions * mean_tokens)
    return _cost(
        machine,
        tokens,
        ALLOWANCE * completions / turns.at_once * turn_s * machine.gpus / 3600,
        memory_bytes=weights / spans,
        disk_bytes=tokens * TEXT_BYTES,
    )


MODEL_FLOPS_SHARE = 0.35
"""Share of the GPU's peak that training reaches (MFU), with flash attention and padding left out."""


def training(model: Model, machine: Budget, load: Load, tokens: int) -> Cost:
    """Cost of training on `tokens` (rows x length x epochs, prompts included).

    6 operations per active parameter and token, 8 with checkpointing (Kaplan et al. 2020, arXiv:2001.08361,
    section 2.1), at MODEL_FLOPS_SHARE of the peak.
    """
    operations = (8 if load.checkpointing else 6) * model.active * tokens
    hours = operations / (MODEL_FLOPS_SHARE * GPUS[machine.gpu].peak_tflops * 1e12) / 3600
    return _cost(
        machine,
        tokens,
        hours,
        memory_bytes=memory(model, load).total,
        disk_bytes=disk_bytes(model, load),
    )


def flops_per_token(model: Model, length: int) -> float:
    """Operations that the model itself asks for per token of a training on rows of `length` tokens.

    6 per active parameter (the input embedding aside, which is looked up) and 6 x layers x hidden x length for
    attention that looks back only: PaLM, arXiv:2204.02311, appendix B, halved for the mask. What checkpointing
    computes again is not counted, as in every MFU.
    """
    counted = model.active - model.vocabulary * model.hidden
    return 6.0 * counted + 6.0 * model.layers * model.hidden * length


def utilisation(model: Model, length: int, tokens_per_s: float, peak_tflops: float) -> float:
    """Model FLOPs utilisation (MFU): what a training computes per second over what the GPU could."""
    return tokens_per_s * flops_per_token(model, length) / (peak_tflops * 1e12)


def grpo(
    model: Model,
    machine: Budget,
    load: Load,
    completions: int,
    mean_tokens: float,
    prompt_tokens: float = 200,
    reference: bool = False,
    turns: Turns | None = None,
    iterations: int = 1,
    rescored: bool = False,
) -> Cost:
    """Cost of GRPO: rollouts and training on them, on the same GPUs in turn.

    `completions` that are sampled, each trained on `iterations` times. `reference` adds a forward pass of a frozen
    model (beta > 0), `rescored` one of the model itself (TRL's importance sampling with vLLM, or old completions); the
    memory of both, an engine's and that of the completions are in `load`. `turns`: as TRL does it, where the trainer
    waits for the longest completion and pads all others to it; left out, an engine that is always full, and no padding.

    Not counted: loading, weights on their way to the engine, rewards that the trainer waits for, evaluations.
    """
    if turns is None:
        sampled = generation(model, machine, completions, mean_tokens, prompt_tokens)
        trained_tokens = mean_tokens
    else:
        sampled = rollouts(model, machine, completions, mean_tokens, turns, prompt_tokens)
        trained_tokens = turns.longest_tokens
    padded = completions * (trained_tokens + prompt_tokens)
    learning = training(model, machine, load, round(padded * iterations))
    forward = 2 / (8 if load.checkpointing else 6) / iterations * (reference + rescored)
    return _cost(
        machine,
        sampled.tokens,
        sampled.gpu_hours + learning.gpu_hours * (1 + forward),
        memory_bytes=learning.memory_gb * 1e9,
        disk_bytes=(sampled.disk_gb + learning.disk_gb) * 1e9,
    )


def _cost(machine: Budget, tokens: int, gpu_hours: float, memory_bytes: float, disk_bytes: float) -> Cost:
    price = machine.money_per_gpu_hour
    return Cost(
        tokens, gpu_hours, memory_bytes / 1e9, disk_bytes / 1e9, None if price is None else price * gpu_hours
    )
