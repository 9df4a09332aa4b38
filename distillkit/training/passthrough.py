"""A recipe's `trainer:` block: any field of TRL's config class, as it is, but those that distillkit answers for.

TRL's classes take seconds to import, so the block is checked against a generated list of their fields
(scripts/make_trl_fields.py).
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from distillkit.errors import nearest

FIELDS_FILE = Path(__file__).parent / "trl_fields.json"

ConfigName = Literal["SFTConfig", "GRPOConfig", "RewardConfig", "DistillationConfig"]

_TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "str": str,
    "list": list,
    "dict": dict,
    "null": NoneType,
}

_HUB = "publishing is a stage of its own (kind: publish)"
_EVALUATE = "held-out problems are for the stages evaluate and screen"
_RESUME = "distillkit saves and resumes by itself; save_steps says how often"
_FEED = "distillkit feeds the trainer tokens, completions only"

OWNED = {
    "output_dir": "distillkit keeps checkpoints in the store",
    "seed": "it comes from the recipe's seed",
    "data_seed": "it comes from the recipe's seed",
    "gradient_accumulation_steps": "it follows from the batch and per_device_train_batch_size",
    "auto_find_batch_size": "the result must not depend on the memory of a machine",
    "logging_steps": "every step is kept, for the report",
    "logging_strategy": "every step is kept, for the report",
    "logging_first_step": "every step is kept, for the report",
    "logging_nan_inf_filter": "a loss that is not a number stops the training",
    "disable_tqdm": "distillkit shows the progress",
    "use_cpu": "distillkit uses a GPU where there is one",
    "shuffle_dataset": "the order comes from the recipe's seed",
    "local_rank": "the launcher sets it",
    "deepspeed": "write parallel: zero2 or zero3 beside trainer:",
    "reward_weights": "write the weights in rewards:",
    "log_completions": "distillkit keeps a sample of completions for the report",
    "num_completions_to_print": "distillkit keeps a sample of completions for the report",
    "hub_token": "secrets come from the environment only",
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "a stage trains, and nothing else"),
    **dict.fromkeys(("save_strategy", "save_total_limit", "save_only_model", "save_on_each_node"), _RESUME),
    **dict.fromkeys(("resume_from_checkpoint", "enable_jit_checkpoint", "ignore_data_skip"), _RESUME),
    **dict.fromkeys(("eval_strategy", "eval_steps", "eval_on_start", "eval_delay"), _EVALUATE),
    **dict.fromkeys(("eval_packing", "num_generations_eval", "load_best_model_at_end"), _EVALUATE),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"), _HUB),
    **dict.fromkeys(("hub_always_push", "hub_revision", "log_completions_hub_repo"), _HUB),
    **dict.fromkeys(("dataset_text_field", "dataset_kwargs", "dataset_num_proc", "truncation_mode"), _FEED),
    **dict.fromkeys(("completion_only_loss", "assistant_only_loss", "remove_unused_columns"), _FEED),
    "chat_template_path": "write template: beside trainer:",
    **dict.fromkeys(
        ("teacher_model_name_or_path", "teacher_model_revision"), "write teacher: beside trainer:"
    ),
}
"""Fields of TRL's that a `trainer:` block may not set, and why."""


TRACKERS = {
    **{
        name: name for name in ("trackio", "wandb", "tensorboard", "mlflow", "comet_ml", "swanlab", "clearml")
    },
    **{name: name for name in ("neptune", "codecarbon", "dagshub", "dvclive", "kubeflow")},
    "azure_ml": "azureml",
    "flyte": "flytekit",
}
"""What `report_to` may name -> the package that it needs."""

ASIDE = frozenset([
    "report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
    "log_level", "log_level_replica", "log_on_each_node", "log_unique_prompts", "ddp_timeout",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers",
])  # fmt: skip
"""Fields of TRL's that say what is told of a training, and how its rows are carried: no weight depends on them."""


def objection(config: ConfigName, key: str, value: Any, own: Mapping[str, str]) -> str | None:
    """Why a key of a `trainer:` block may not stand there with this value, None where it may.

    own: TRL's names of what the stage declares itself -> the stage's names.
    """
    if key in OWNED:
        return f"may not be set: {OWNED[key]}"
    if key in own:
        return f"is a field of the stage; write {own[key]}: beside trainer:"
    fields = trl_fields(config)
    if key not in fields:
        known = [name for name in fields if name not in OWNED]
        return f"unknown key; TRL's {config} has no such field{nearest(key, known)}"
    return misfit(value, fields[key])


@cache
def trl_fields(config: ConfigName) -> dict[str, dict[str, list[str]]]:
    """Fields of one of TRL's config classes: name -> {"types": [...], "choices": [...]}."""
    fields: dict[str, dict[str, list[str]]] = json.loads(FIELDS_FILE.read_text("utf-8"))[config]
    return fields


def misfit(value: Any, entry: dict[str, list[str]]) -> str | None:
    """Why a value does not fit a field of TRL's, None where it does."""
    types = entry["types"]
    fits = (
        "bool" in types if isinstance(value, bool) else any(isinstance(value, _TYPES[name]) for name in types)
    )
    if not fits and isinstance(value, str) and "float" in types and _is_number(value):
        return f"{value!r} is text to YAML; write a number with a point, such as 1.0e-5"
    if not fits:
        return f"{value!r} does not fit; it takes {' or '.join(types)}"
    if isinstance(value, str) and value not in entry.get("choices", [value]):
        return f"{value!r} is none of its values{nearest(value, entry['choices'])}"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
