"""From a recipe to TRL's config objects: our fields under TRL's names, and a `trainer:` block passed through.

TRL's classes take seconds to import: the real objects are built in the training process only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from distillkit.artifact import Model
from distillkit.errors import MissingError, RecipeError, nearest
from distillkit.memory import Load
from distillkit.spec import EXECUTION, Aside, file_digest
from distillkit.template import AnyTemplate, TemplateFile
from distillkit.training.adapter import Lora, Quantization, Rope, quantized, require_packages
from distillkit.training.parallel import Parallel
from distillkit.training.passthrough import ASIDE, TRACKERS, ConfigName, objection

TOKENS_PER_PASS = 16_384
"""Padded tokens of a forward pass where the recipe does not set per_device_train_batch_size."""


class Training(Parallel):
    """What every trainer's stage declares; a stage inherits it beside Stage."""

    CONFIG: ClassVar[ConfigName]
    """TRL's class that the `trainer:` block is for."""
    RENAMED: ClassVar[dict[str, str]] = {}
    """Fields of TRL's that bear another name on the stage."""

    learning_rate: float = Field(gt=0)
    template: AnyTemplate | None = None
    """How messages become text; the trained model keeps it. Left out: chat, the tokenizer's own."""
    lora: Lora | None = None
    """Train a low-rank adapter only, in a fraction of the memory; left out, all weights are trained."""
    quantization: Quantization | None = None
    """Load the base in 4 or 8 bits (QLoRA): needs lora: and a GPU."""
    rope: Rope | None = None
    """Other rotary positions than the base declares, for longer rows than it was made for."""
    per_device_train_batch_size: int | None = Field(None, ge=1)
    """Rows of one forward pass; left out, as many as make about 16,384 tokens."""
    gradient_checkpointing: Annotated[bool | None, EXECUTION] = None
    """Compute activations again in the backward pass: a third slower, and far less memory; left out: on a GPU."""
    save_steps: Annotated[int, EXECUTION] = Field(100, ge=1)
    """Steps between two checkpoints; a kill loses the steps since the last one, and changes nothing else."""
    keep_steps: int | None = Field(None, ge=1)
    """Steps between two sets of weights that stay beside the last ones; a checkpoint stage takes them out."""
    trainer: Annotated[dict[str, Any], Aside(ASIDE)] = {}
    """Any other field of TRL's config, as it is; one that only says where numbers are told repeats no work."""

    def check_training(self, stage: str) -> None:
        """Raises RecipeError for a key of `trainer:` that TRL lacks or that is ours, and for a wrong type;
        MissingError for a template file that is not there."""
        if isinstance(self.template, TemplateFile):
            file_digest(Path(self.template.file))
        self._check_adaptation(stage)
        self.check_parallel(stage)
        own = {name: name for name in type(self).model_fields} | self.RENAMED
        for key, value in self.trainer.items():
            reason = objection(self.CONFIG, key, value, own)
            if reason is not None:
                raise RecipeError(f"stages.{stage}.trainer.{key}: {reason}")
        for name in self.trackers():
            if name not in TRACKERS:
                raise RecipeError(
                    f"stages.{stage}.trainer.report_to: {name!r} is no tracker{nearest(name, TRACKERS)}"
                )

    def _check_adaptation(self, stage: str) -> None:
        """Raises RecipeError for lora, quantization and rope that do not go together."""
        if self.quantization is not None and self.lora is None:
            raise RecipeError(
                f"stages.{stage}.quantization: weights of {self.quantization} cannot be trained themselves; "
                "add lora: {rank: 16}, or leave it out"
            )
        if self.rope is not None and (reason := self.rope.objection()):
            raise RecipeError(f"stages.{stage}.rope: {reason}")
        if self.rope is not None and self.trainer.get("use_vllm"):
            raise RecipeError(
                f"stages.{stage}.rope: vLLM would sample with the positions of the base; "
                "leave use_vllm out, or train with rope: in an sft stage before"
            )

    def require_machine(self, stage: str) -> None:
        """Raises MissingError for a GPU or a package that the training needs and this machine lacks."""
        import torch

        if self.trainer.get("use_vllm") and not takes_weights():
            raise MissingError(f"{stage}: trainer.use_vllm needs a GPU; leave it out to sample without vLLM")
        if self.quantization is not None and not torch.cuda.is_available():
            raise MissingError(
                f"{stage}: quantization: {self.quantization} needs a GPU; leave it out to train with lora alone"
            )
        require_packages(self.packages(), stage)

    def packages(self) -> dict[str, str]:
        """Packages beside TRL that the declaration needs -> what in it asks for them."""
        needed = {}
        if self.lora is not None:
            needed["peft"] = "lora"
        if self.quantization is not None:
            needed["bitsandbytes"] = f"quantization: {self.quantization}"
        optim = str(self.trainer.get("optim", ""))
        if optim.startswith("paged_") or "8bit" in optim:
            needed["bitsandbytes"] = f"trainer.optim: {optim}"
        if self.parallel != "ddp":
            needed["deepspeed"] = f"parallel: {self.parallel}"
        if self.trainer.get("use_liger_kernel"):
            needed["liger_kernel"] = "trainer.use_liger_kernel"
        for tracker in self.trackers():
            needed[TRACKERS[tracker]] = f"trainer.report_to: {tracker}"
        kwargs = self.trainer.get("model_init_kwargs") or {}
        if kwargs.get("attn_implementation") == "flash_attention_2":
            needed["flash_attn"] = "trainer.model_init_kwargs.attn_implementation"
        return needed

    def trackers(self) -> list[str]:
        """Where `trainer: {report_to: ...}` wants the numbers to go beside the report."""
        given = self.trainer.get("report_to") or []
        names = [given] if isinstance(given, str) else given
        return [name for name in names if name != "none"]

    def adaptation(self, task: str = "CAUSAL_LM") -> dict[str, Any]:
        """Arguments of TRL's trainer for lora and quantization; empty without them."""
        found: dict[str, Any] = {}
        if self.lora is not None:
            found["peft_config"] = self.lora.config(task)
        if self.quantization is not None:
            found["quantization_config"] = quantized(self.quantization)
        return found

    def _positions(self, model: Model, stage: str) -> dict[str, Any]:
        """Arguments of `from_pretrained` for rope; empty without it, or where the model is not known yet."""
        if self.rope is None or not model.path:
            return {}
        from transformers import AutoConfig

        return self.rope.overrides(AutoConfig.from_pretrained(model.path, revision=model.revision), stage)

    def foreign_trainer(self) -> list[str]:
        """What in the `trainer:` block would run code that is not ours, one phrase each."""
        kwargs = self.trainer.get("model_init_kwargs") or {}
        found = []
        if self.trainer.get("trust_remote_code") or kwargs.get("trust_remote_code"):
            found.append("trainer.trust_remote_code runs code from the model's repository")
        if kwargs.get("use_kernels") or "/" in str(kwargs.get("attn_implementation", "")):
            found.append("trainer.model_init_kwargs runs kernels from the Hub")
        return found

    def fewer(self, batch: int, rows: int) -> int:
        """Rows of a step in a smoke run over `rows` of them: its processes still share them evenly."""
        return max(self.world_size, min(batch, rows) // self.world_size * self.world_size)

    def rows_per_pass(self, batch: int, tokens: int) -> int:
        """Rows of one forward pass of one process: a divisor of its part of `batch`; rows of up to `tokens` tokens.

        Raises RecipeError when the batch is not a multiple of per_device_train_batch_size times the processes.
        """
        batch = self.share(batch)
        declared = self.per_device_train_batch_size
        if declared is None:
            most = max(1, TOKENS_PER_PASS // tokens)
            return max(rows for rows in range(1, min(batch, most) + 1) if batch % rows == 0)
        if batch % declared:
            raise RecipeError(
                f"per_device_train_batch_size {declared}: the {batch} rows of a step are no multiple of it"
            )
        return declared

    def load(self, batch: int, tokens: int) -> Load:
        """What decides its memory on each GPU, with rows of up to `tokens` tokens, prompt included."""
        optim = str(self.trainer.get("optim", ""))
        kwargs = self.trainer.get("model_init_kwargs") or {}
        return Load(
            max_length=tokens,
            rows_per_device=self.rows_per_pass(batch, tokens),
            weight_bytes=4 if str(kwargs.get("dtype", "")).endswith("float32") else 2,
            optimizer=optim,
            lora_rank=None if self.lora is None else self.lora.rank,
            base_bits=None if self.quantization is None else int(self.quantization[0]),
            checkpointing=self.gradient_checkpointing is not False,
            liger=bool(self.trainer.get("use_liger_kernel")),
            parallel=self.parallel,
            processes=self.world_size,
            offload=self.offload,
        )

    def arguments(self, model: Model, folder: Path, seed: int, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Every argument for the config class: the stage's fields over the defaults, `trainer:` over both."""
        import torch

        gpu = torch.cuda.is_available()
        half = gpu and torch.cuda.is_bf16_supported()
        dtype = {"dtype": "bfloat16" if half else "float32"}
        source = {"revision": model.revision} if model.revision else {}
        kwargs = self.trainer.get("model_init_kwargs") or {}
        return {
            "report_to": "none",
            "bf16": half,
            "dataloader_pin_memory": gpu,
            **ours,
            "learning_rate": self.learning_rate,
            "gradient_checkpointing": gpu
            if self.gradient_checkpointing is None
            else self.gradient_checkpointing,
            **self.trainer,
            # TRL would load float32 weights everywhere; use_safetensors refuses pickled ones.
            "model_init_kwargs": {
                "use_safetensors": True,
                **dtype,
                **source,
                **self._positions(model, model.name),
                **kwargs,
            },
            **self.launched(),
            "output_dir": str(folder),
            "seed": seed,
            "use_cpu": not gpu,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "disable_tqdm": True,
            "save_strategy": "steps",
            # Two, because one that a kill cut short is of no use.
            "save_total_limit": 2,
        }


def takes_weights() -> bool:
    """Whether TRL can hand new weights to vLLM here: its wheels for CPUs hide them where TRL does not look."""
    import torch

    return bool(torch.cuda.is_available())
