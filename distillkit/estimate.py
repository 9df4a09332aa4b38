"""What each stage of a recipe would cost: its rows at their most, its tokens, and the memory of what it trains."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillkit import benchmarks, budget
from distillkit.artifact import Artifact
from distillkit.budget import Budget, Cost, Turns
from distillkit.memory import Load, memory
from distillkit.model_size import Model, model_size
from distillkit.recipe import Recipe
from distillkit.remedy import too_large
from distillkit.stages.base import SCORES, WEIGHTS
from distillkit.stages.budget_curve import BudgetCurve
from distillkit.stages.distill import Distill
from distillkit.stages.grpo import Grpo
from distillkit.stages.mix import Mix
from distillkit.stages.preferences import Preferences
from distillkit.stages.probe import Probe
from distillkit.stages.problems import Problems
from distillkit.stages.refine import Refine
from distillkit.stages.reward_model import RewardModelStage
from distillkit.stages.sample import Sample
from distillkit.stages.scored import Scored
from distillkit.stages.screen import Screen
from distillkit.stages.select import Select
from distillkit.stages.sft import Sft
from distillkit.stages.traces import Traces
from distillkit.toy import PACKAGED
from distillkit.training.checkpoints import sets_kept
from distillkit.training.config import Training
from distillkit.training.room import beside, cramped_engine, engine_share
from distillkit.wiring import Step

PROMPT_TOKENS = 200
"""Mean length of a prompt."""
MEAN_SHARE = 0.5
"""Mean length of a completion as a share of its cap."""


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
        if isinstance(stage, Sample | Refine | Scored | Screen):
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

    def _kept(self, step: Step, stage: Training) -> int:
        """Sets of weights that a training keeps on the way; 0 where the number of its steps is not known."""
        if stage.keep_steps is None:
            return 0
        steps = 0
        if isinstance(stage, Grpo | Distill):
            steps = stage.steps
        elif isinstance(stage, Sft | RewardModelStage):
            rows = self.rows(step.wires["input"][0]) or 0
            steps = math.ceil(stage.epochs * math.ceil(rows / stage.batch))
        return sets_kept(steps, stage.keep_steps)

    def _training(
        self, step: Step, stage: Training, size: Model, machine: Budget, tokens: int
    ) -> Cost | None:
        load = self.load(step, machine)
        if load is None:
            return None
        load = replace(load, kept=self._kept(step, stage))
        cost = budget.training(size, machine, load, tokens)
        if not isinstance(stage, Grpo | Distill):
            return cost
        batch = _batch(stage)
        at_once = _at_once(stage, batch)
        turns = Turns(at_once, stage.max_completion_length, engine_share(stage.trainer) or budget.USABLE)
        if isinstance(stage, Grpo):
            sampled = stage.steps * batch // stage.num_iterations
            corrected = stage.trainer.get("use_vllm") and stage.trainer.get(
                "vllm_importance_sampling_correction", True
            )
            return budget.grpo(
                size, machine, load, sampled, _mean(stage), PROMPT_TOKENS, stage.beta > 0, turns,
                iterations=stage.num_iterations,
                rescored=bool(corrected) or at_once > batch or stage.num_iterations > 1,
            )  # fmt: skip
        [teacher] = [self.model(name) for name in step.wires["teacher"]]
        if teacher is None:
            return None
        # The student samples and learns; the teacher reads what it wrote: a third of what its own training would take.
        padded = round(stage.steps * batch * (turns.longest_tokens + PROMPT_TOKENS))
        learnt = budget.grpo(
            size, machine, load, stage.steps * batch, _mean(stage), PROMPT_TOKENS, turns=turns
        )
        read = budget.training(teacher, machine, replace(load, checkpointing=False), padded)
        hours = learnt.gpu_hours + read.gpu_hours / 3
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
        batch = _batch(stage)
        load = stage.load(batch, stage.max_completion_length)
        load = replace(load, max_length=load.max_length + PROMPT_TOKENS)
        sizes = {slot: self._sizes(step, slot) for slot in ("model", "teacher", "rewards")}
        asked = (
            isinstance(stage, Grpo) and stage.beta > 0 and stage.lora is None
        )  # with LoRA it is the base itself
        return beside(
            load,
            stage.trainer,
            machine.memory_gb,
            stage.share(batch),
            reference=next(iter(sizes["model"]), None) if asked else None,
            teacher=next(iter(sizes["teacher"]), None),
            raters=sizes["rewards"],
        )

    def _sizes(self, step: Step, slot: str) -> list[Model]:
        """Sizes of the models in a slot; one that nothing is known of is left out."""
        found = (self.model(name) for name in step.wires.get(slot, []))
        return [size for size in found if size is not None]

    def memory(self, machine: Budget) -> dict[str, dict[str, float]]:
        """Name of each training that is not stored -> part of the memory of each GPU -> GB."""
        found = {}
        for name, step in self.steps.items():
            if name in self.found or not isinstance(step.stage, Training):
                continue
            size, load = self.model(step.wires["model"][0]), self.load(step, machine)
            if size is not None and load is not None:
                found[name] = {part: held / 1e9 for part, held in memory(size, load).parts().items()}
        return found

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
                texts = [
                    too_large(size, load, machine.memory_gb, machine.gpus),
                    cramped_engine(size, load, stage.trainer, machine.memory_gb),
                ]
                lines += [f"{name}: {text}" for text in texts if text is not None]
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
        stage: Sample | Refine | Scored | Screen,
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
            n = stage.samples(name) if isinstance(stage, Scored) else stage.n
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


def _batch(stage: Grpo | Distill) -> int:
    """Completions that one optimizer step learns from."""
    return stage.batch if isinstance(stage, Distill) else stage.prompts_per_step * stage.num_generations


def _at_once(stage: Grpo | Distill, batch: int) -> int:
    """Completions that are sampled together, in all processes."""
    passes = stage.trainer.get("steps_per_generation")
    rows = stage.rows_per_pass(batch, stage.max_completion_length) * stage.world_size
    return int(stage.trainer.get("generation_batch_size") or (passes * rows if passes else batch))
