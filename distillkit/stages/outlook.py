"""What the RL run would take that a screening is about: its tokens, GPU-hours and money.

No stage itself. The run is the `grpo` stage that reads the screening, or one that the screening declares. Rollouts are
taken to be as long as the base's answers were: a run whose answers grow costs more.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from distillkit import budget
from distillkit.artifact import Model
from distillkit.budget import Budget
from distillkit.memory import Load
from distillkit.model_size import Model as Size
from distillkit.model_size import model_size
from distillkit.spec import Strict


class RlRun(Strict):
    """The figures of an RL run that decide its cost, by the names that `grpo` has for them."""

    steps: int = Field(ge=1)
    prompts_per_step: int = Field(16, ge=1)
    num_generations: int = Field(8, ge=2)
    """Completions per prompt."""
    max_completion_length: int = Field(ge=2)
    """Most tokens of a completion."""
    beta: float = Field(0.0, ge=0)
    """Above 0 a reference model stays in memory too."""

    @property
    def completions(self) -> int:
        return self.steps * self.prompts_per_step * self.num_generations


def run_of(recipe: str, screening: str) -> tuple[str, RlRun] | None:
    """The first `grpo` stage of a recipe (as YAML) that reads this screening, with its name; None where none does."""
    for stage in (yaml.safe_load(recipe) or {}).get("stages", []) if recipe else []:
        if stage.get("kind") == "grpo" and stage.get("screened") == screening:
            figures = {name: stage[name] for name in RlRun.model_fields if name in stage}
            return str(stage["name"]), RlRun.model_validate(figures)
    return None


def machine_of(recipe: str) -> Budget:
    """The machine that a recipe (as YAML) declares, else the usual one."""
    declared = (yaml.safe_load(recipe) or {}).get("budget") if recipe else None
    try:
        return Budget.model_validate(declared or {})
    except ValidationError:  # of another version
        return Budget()


def size_of(model: Model) -> Size | None:
    """Size of a model by its config where it lies here, else by its name; None where neither tells it."""
    config = Path(model.path) / "config.json"
    return model_size(model.path, json.loads(config.read_text("utf-8")) if config.is_file() else None)


def cost_of(source: str, run: RlRun, size: Size, machine: Budget, mean_tokens: float) -> dict[str, Any]:
    """What a run takes whose answers are `mean_tokens` long.

    {from, steps, completions, mean_tokens, tokens, rollouts: {tokens, gpu_hours, share}, learning: {tokens,
    gpu_hours}, gpu_hours, money, parameters, active, gpu, gpus}; share: of the GPU-hours. Good to a factor of two; the
    memory hangs on the trainer, see `plan`.
    """
    mean = min(mean_tokens, run.max_completion_length)
    load = Load(max_length=run.max_completion_length)
    turns = budget.Turns(run.prompts_per_step * run.num_generations, run.max_completion_length)
    whole = budget.grpo(size, machine, load, run.completions, mean, reference=run.beta > 0, turns=turns)
    rollouts = budget.rollouts(size, machine, run.completions, mean, turns)
    return {
        "from": source,
        "steps": run.steps,
        "completions": run.completions,
        "mean_tokens": round(mean, 1),
        "tokens": whole.tokens,
        "rollouts": {
            "tokens": rollouts.tokens,
            "gpu_hours": rollouts.gpu_hours,
            "share": rollouts.gpu_hours / whole.gpu_hours,
        },
        "learning": {"tokens": whole.tokens, "gpu_hours": whole.gpu_hours - rollouts.gpu_hours},
        "gpu_hours": whole.gpu_hours,
        "money": whole.money,
        "parameters": size.total,
        "active": size.active,
        "gpu": machine.gpu,
        "gpus": machine.gpus,
    }
