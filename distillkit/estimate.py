"""What each stage of a recipe would cost: its rows at their most, its tokens, and the memory of what it trains."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillkit import benchmarks, budget
from distillkit.artifact import Artifact
from distillkit.budget import Budget, Cost
from distillkit.memory import Load, too_large
from distillkit.model_size import Model, model_size
from distillkit.recipe import Recipe
from distillkit.stages.base import SCORES, WEIGHTS
from distillkit.stages.budget_curve import BudgetCurve
from distillkit.stages.distill import Distill
from distillkit.stages.evaluate import Evaluate
from distillkit.stages.grpo import Grpo
from distillkit.stages.mix import Mix
from distillkit.stages.preferences import Preferences
from distillkit.stages.probe import Probe
from distillkit.stages.problems import Problems
from distillkit.stages.refine import Refine
from distillkit.stages.reward_model import RewardModelStage
from distillkit.stages.sample import Sample
from distillkit.stages.screen import Screen
from distillkit.stages.select import Select
from distillkit.stages.sft import Sft
from distillkit.stages.traces import Traces
from distillkit.toy import PACKAGED
from distillkit.training.config import Training
from distillkit.wiring import Step

PROMPT_TOKENS = 200
"""Mean length of a prompt."""
MEAN_SHARE = 0.5
"""Mean length of a completion as a share of its cap."""
ENGINE_SHARE = 0.3
"""Share of a GPU that TRL gives an engine in the trainer's process (vllm_gpu_memory_utilization)."""


class Estimate:
    """Rows and costs of the stages of one recipe."""

    def __init__(self, recipe: Recipe, steps: list[Step], found: Mapping[str, Artifact]) -> None:
        self.recipe = recipe
        self.steps = {step.name: step for step in steps}
        self.found = found

    def rows(self, name: str) -> int | None:
        """Rows that a stage makes at most; None where only the run can tell."""
        if name in self.found:
            return self.found[name].manifest.rows_kept
        if name not in self.steps:
            return benchmarks.named(name).problems
        step = self.steps[name]
        stage = step.stage
        if isinstance(stage, Problems | Traces | Preferences):
            return stage.limit
        if isinstance(stage, Mix):
            there = {each: self.rows(each) for each in step.wires["inputs"]}
            return stage.rows({each: n for each, n in there.items() if n is not None})
        if stage.MAKES in (WEIGHTS, SCORES) or not step.wires.get("input"):
            return None
        below = self.rows(step.wires["input"][0])
        if below is None:
            return None
        if isinstance(stage, Sample):
            return below * stage.n
        if isinstance(stage, Select) and stage.limit is not None:
            return min(below, stage.limit)
        return below

    def model(self, name: str) -> Model | None:
        """Size of a model by its config where it is at hand, else by its name; a stage has the size of its base."""
        if name in self.steps:
            return self.model(self.steps[name].wires["model"][0])
        return model_size(name, _config(name))

    def cost(self, step: Step, machine: Budget) -> Cost | None:
        """What a stage costs; None for one that holds no model, or where its rows or its size are not known."""
        stage = step.stage
        if isinstance(stage, Sample | Refine) and stage.engine is not None and not stage.engine.needs_model:
            return self._asking(step, stage)
        names = step.wires.get("model") or step.wires.get("models") or []
        models = [self.model(name) for name in names]
        if not models or any(model is None for model in models):
            return None
        sizes = [model for model in models if model is not None]
        if isinstance(stage, Sample | Refine | Evaluate | Screen | BudgetCurve | Probe):
            return self._sampling(step, stage, sizes, machine)
        if isinstance(stage, Training):
            tokens = self._trained_tokens(step, stage)
            return None if tokens is None else self._training(step, stage, sizes[0], machine, tokens)
        return None

    def _trained_tokens(self, step: Step, stage: Training) -> int | None:
        """Tokens of a whole training, completions at their mean length; None where its rows are not known."""
        if isinstance(stage, Grpo):
            return round(stage.steps * stage.prompts_per_step * stage.num_generations * _mean(stage))
        if isinstance(stage, Distill):
            return round(stage.steps * stage.batch * _mean(stage))
        rows = self.rows(step.wires["input"][0])
        if rows is None or not isinstance(stage, Sft | RewardModelStage):
            return None
        each = stage.max_length * (2 if isinstance(stage, RewardModelStage) else 1)  # chosen and rejected
        return round(rows * stage.epochs * MEAN_SHARE * each)

    def _training(
        self, step: Step, stage: Training, size: Model, machine: Budget, tokens: int
    ) -> Cost | None:
        load = self.load(step, machine)
        if load is None:
            return None
        if isinstance(stage, Grpo):
            completions = stage.steps * stage.prompts_per_step * stage.num_generations
            return budget.grpo(size, machine, load, completions, _mean(stage), reference=stage.beta > 0)
        cost = budget.training(size, machine, load, tokens)
        if not isinstance(stage, Distill):
            return cost
        [teacher] = [self.model(name) for name in step.wires["teacher"]]
        if teacher is None:
            return None
        # The student samples; the teacher reads what it wrote: a third of what its own training would take.
        sampled = budget.generation(size, machine, stage.steps * stage.batch, _mean(stage))
        read = budget.training(teacher, machine, replace(load, checkpointing=False), tokens)
        hours = sampled.gpu_hours + cost.gpu_hours + read.gpu_hours / 3
        price = machine.money_per_gpu_hour
        return replace(cost, gpu_hours=hours, money=None if price is None else price * hours)

    def load(self, step: Step, machine: Budget) -> Load | None:
        """What decides the memory of a training; None for another stage, or where a model's size is not known."""
        stage = step.stage
        if isinstance(stage, Sft):
            return stage.load(stage.batch, stage.max_length)
        if isinstance(stage, RewardModelStage):
            return stage.load(stage.batch, 2 * stage.max_length)
        if not isinstance(stage, Grpo | Distill):
            return None
        batch = stage.batch if isinstance(stage, Distill) else stage.prompts_per_step * stage.num_generations
        load = stage.load(batch, stage.max_completion_length)
        [model] = [self.model(name) for name in step.wires["model"]]
        frozen: Model | None = None
        if isinstance(stage, Distill):
            [frozen] = [self.model(name) for name in step.wires["teacher"]]
        elif stage.beta > 0 and stage.lora is None:  # with LoRA the reference is the base itself
            frozen = model
        served = bool(stage.trainer.get("use_vllm"))
        inside = served and stage.trainer.get("vllm_mode", "colocate") == "colocate"
        share = float(stage.trainer.get("vllm_gpu_memory_utilization", ENGINE_SHARE))
        return replace(
            load,
            max_length=load.max_length + PROMPT_TOKENS,
            frozen_bytes=0 if frozen is None else frozen.total * float(load.weight_bytes),
            sampled_rows=0 if served else stage.share(batch),
            engine_bytes=share * machine.memory_gb * 1e9 if inside else 0,
        )

    def misfits(self, machine: Budget) -> list[str]:
        """One line for each training that the machine is too small for, with what would make it fit."""
        lines = []
        for name, step in self.steps.items():
            stage = step.stage
            if name in self.found or not isinstance(stage, Training):
                continue
            if stage.world_size > machine.gpus:
                lines.append(
                    f"{name}: asks for {stage.world_size} GPUs, and the budget has {machine.gpus}; "
                    f"set stages.{name}.processes={machine.gpus}"
                )
            size, load = self.model(step.wires["model"][0]), self.load(step, machine)
            if size is not None and load is not None:
                lines += [
                    f"{name}: {text}"
                    for text in [too_large(size, load, machine.memory_gb, machine.gpus)]
                    if text is not None
                ]
        return lines

    def _asking(self, step: Step, stage: Sample | Refine) -> Cost | None:
        """What a paid endpoint takes; GPU-hours are somebody else's."""
        rows = self.rows(step.wires["input"][0])
        if rows is None or stage.engine is None:
            return None
        completions, tokens = rows * stage.n, round(MEAN_SHARE * stage.max_tokens)
        each = stage.engine.cost(PROMPT_TOKENS, tokens)
        if each is None:
            return Cost(tokens=completions * tokens)
        most = stage.engine.max_cost or math.inf
        return Cost(tokens=completions * tokens, money=min(completions * each, most))

    def _sampling(
        self,
        step: Step,
        stage: Sample | Refine | Evaluate | Screen | BudgetCurve | Probe,
        sizes: list[Model],
        machine: Budget,
    ) -> Cost | None:
        samples = 0
        for name in [
            name for slot in ("problems", "benchmarks", "input") for name in step.wires.get(slot, [])
        ]:
            rows = self.rows(name)
            if not isinstance(stage, Sample | Refine) and stage.limit is not None:
                rows = stage.limit if rows is None else min(rows, stage.limit)
            if rows is None:
                return None
            n = stage.samples(name) if isinstance(stage, Evaluate) else stage.n
            samples += rows * n
        if isinstance(stage, BudgetCurve | Probe):
            samples = round(samples * stage.worth)
        total = Cost()
        for size in sizes:
            total += budget.generation(size, machine, samples, MEAN_SHARE * stage.parameters.max_tokens)
        return total


def _config(name: str) -> dict[str, Any] | None:
    """config.json of a model that is on this machine."""
    if name in PACKAGED:
        folder = PACKAGED[name]
    elif name.startswith((".", "/", "~")):
        folder = Path(name).expanduser()
    else:
        return None
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError:
        return None  # the name may tell its size; loading it says what is wrong
    return found


def _mean(stage: Grpo | Distill) -> float:
    """Tokens of one completion, taken at their mean."""
    return MEAN_SHARE * stage.max_completion_length
