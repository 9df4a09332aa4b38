"""What is changed on a base before it is trained: low-rank adapters, quantized weights, its rotary positions.

Sources: LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314; YaRN, arXiv:2309.00071; Open R1's RoPE base of 300k.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from distillkit.errors import MissingError, RecipeError
from distillkit.spec import Strict

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, PretrainedConfig, Trainer

Quantization = Literal["4bit", "8bit"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
PAGE = "README.md"
"""A card that PEFT writes; ours comes with publish."""


class Lora(Strict):
    """Train low-rank differences of the linear layers instead of all weights."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    """The difference is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """Names of the layers that get one; all-linear leaves the head out."""
    merge: bool = True
    """Add the difference into the weights at the end, so that what is saved is a whole model; else the adapter alone
    is saved, which serves beside its base (vllm serve BASE --lora-modules) and which no later stage can read."""

    def config(self, task: str = "CAUSAL_LM") -> "LoraConfig":
        """PEFT's config."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets,
            task_type=task,
        )


class Rope(Strict):
    """Other rotary positions than the base declares: the trained model carries them in its config."""

    theta: float | None = Field(None, gt=0)
    """Base of the frequencies; left out: that of the model. Open R1 trains a 4k model to 32k with 300,000."""
    type: Literal["default", "linear", "dynamic", "yarn"] | None = None
    """How the frequencies are stretched; left out: as the model does."""
    factor: float | None = Field(None, gt=1)
    """By how much; linear, dynamic and yarn need it."""
    max_position_embeddings: int | None = Field(None, ge=1)
    """Positions that the model then has; left out: those of the model, times factor."""

    def objection(self) -> str | None:
        """Why it can be meant by nobody, None where it can."""
        stretched = self.type not in (None, "default")
        if stretched != (self.factor is not None):
            return f"type {self.type} and factor {self.factor}: linear, dynamic and yarn take a factor, others none"
        if self.theta is None and self.type is None and self.max_position_embeddings is None:
            return "says nothing; give theta, type and factor, or max_position_embeddings"
        return None

    def overrides(self, config: "PretrainedConfig", stage: str) -> dict[str, Any]:
        """Arguments of `from_pretrained` that put it on a model of this config.

        Raises RecipeError for a model whose layers have rotary positions of several kinds, or none.
        """
        text = config.get_text_config().to_dict()
        own = text.get("rope_parameters")
        if not own or any(isinstance(value, dict) for value in own.values()):
            raise RecipeError(
                f"stages.{stage}.rope: {config.model_type} has no rotary positions of one kind for all layers"
            )
        given = {"rope_theta": self.theta, "rope_type": self.type, "factor": self.factor}
        kept = own if self.type is None else {"rope_theta": own["rope_theta"]}
        positions = int(text["max_position_embeddings"])
        parameters = {**kept, **{name: value for name, value in given.items() if value is not None}}
        if self.factor is not None:
            parameters["original_max_position_embeddings"] = positions
        longer = self.max_position_embeddings or round(positions * (self.factor or 1))
        return {"rope_parameters": parameters, "max_position_embeddings": longer}


def quantized(how: Quantization) -> "BitsAndBytesConfig":
    """bitsandbytes' config: 4 bits are NF4 with double quantization, computed in bfloat16."""
    import torch
    from transformers import BitsAndBytesConfig

    if how == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def require_packages(needed: dict[str, str], stage: str) -> None:
    """Raises MissingError for packages that are not installed; needed: package to import -> what asks for it."""
    for package, asker in needed.items():
        if find_spec(package) is None:
            name = package.replace("_", "-")
            raise MissingError(
                f"{stage}: {asker} needs the package {name}; install it with: pip install 'distillkit[train]'"
                if package in EXTRA
                else f"{stage}: {asker} needs the package {name}; install it with: pip install {name}"
            )


EXTRA = ("bitsandbytes", "deepspeed", "liger_kernel", "peft")
"""Packages of the extra `train`."""


def merge(folder: Path, trainer: "Trainer") -> None:
    """Make the adapter in a folder a whole model, in the type of the base.

    The base is loaded anew, on the CPU: weights that were quantized for the training would stay so.
    """
    from peft import PeftModel
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # under ZeRO-3 the base would be spread over processes that are gone by now
    base = type(trainer.model.get_base_model())
    kwargs = dict(trainer.args.model_init_kwargs or {})
    for placed in ("device_map", "attn_implementation"):
        kwargs.pop(placed, None)
    path = trainer.model.peft_config["default"].base_model_name_or_path
    loaded = base.from_pretrained(path, **kwargs)
    if loaded.can_generate():  # a reward model writes nothing
        loaded.generation_config = trainer.model.generation_config
    loaded.config.get_text_config().eos_token_id = trainer.model.config.get_text_config().eos_token_id
    loaded.config.get_text_config().pad_token_id = trainer.model.config.get_text_config().pad_token_id
    merged = PeftModel.from_pretrained(loaded, folder).merge_and_unload()
    merged.save_pretrained(folder)
    for name in ADAPTER_FILES:
        (folder / name).unlink()


def settle(folder: Path, trainer: "Trainer", lora: Lora | None) -> None:
    """Make the folder that a trainer saved what the recipe asked for: a whole model, or an adapter."""
    if lora is not None and lora.merge:
        merge(folder, trainer)
    page = folder / PAGE
    if page.exists():
        page.unlink()
    shutil.rmtree(folder / "runs", ignore_errors=True)
