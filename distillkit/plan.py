"""What a run would take from the store, what it would make, and what that costs before it is spent.

Rows that are not there yet are counted at their most (every sample kept), completions at half of their cap:
the estimate is meant to be on the safe side, and says so.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from distillkit import budget
from distillkit.artifact import Artifact
from distillkit.budget import Budget, Cost, Load
from distillkit.check import foreign
from distillkit.errors import MissingError
from distillkit.events import Events
from distillkit.lint import cost_lint
from distillkit.lock import Lock
from distillkit.model_size import Model, model_size
from distillkit.recipe import Recipe
from distillkit.runner import Run
from distillkit.stages.base import SCORES, WEIGHTS
from distillkit.stages.budget_curve import BudgetCurve
from distillkit.stages.evaluate import Evaluate
from distillkit.stages.grpo import Grpo
from distillkit.stages.mix import Mix
from distillkit.stages.probe import Probe
from distillkit.stages.problems import Problems
from distillkit.stages.sample import Sample
from distillkit.stages.screen import Screen
from distillkit.stages.select import Select
from distillkit.stages.sft import Sft
from distillkit.stages.traces import Traces
from distillkit.store import Store
from distillkit.toy import PACKAGED
from distillkit.wiring import Step, resolve

COSTLY = ("sample", "screen", "grpo", "sft", "evaluate")
"""Kinds of stages that hold a model."""
PROMPT_TOKENS = 200
"""Mean length of a prompt."""
MEAN_SHARE = 0.5
"""Mean length of a completion as a share of its cap."""


@dataclass
class Planned:
    """The stable keys of `plan --json`."""

    recipe: str
    stages: list[dict[str, Any]] = field(default_factory=list)
    """[{name, kind, state: stored | make | unknown, artifact, rows, cost}]; unknown = its inputs are not made yet."""
    total: dict[str, Any] = field(default_factory=dict)
    over_budget: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What is paid for and hardly meant."""
    foreign: list[str] = field(default_factory=list)
    start: list[str] = field(default_factory=list)
    """What to start on which machine before the run, where it needs more than this one."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class KnownLock(Lock):
    """A lock that never asks the network."""

    def commit_of(self, kind: str, reference: str) -> str:
        known = self.known(kind, reference)
        if known is None:
            raise MissingError(f"{reference}: not resolved yet")
        return known


def plan(recipe: Recipe, path: Path, store: Path) -> Planned:
    """The plan of a recipe over a store, which need not exist; nothing is loaded or asked for."""
    steps = resolve(recipe)
    found = _stored(recipe, path, store, steps) if store.exists() else {}
    estimate = Estimate(recipe, steps, found)
    planned = Planned(recipe.name, foreign=foreign(recipe))
    machine = recipe.budget or Budget()
    total = Cost()
    ready = True
    for step in steps:
        artifact = found.get(step.name)
        cost = None if artifact else estimate.cost(step, machine)
        ready = all(
            name in found or not _is_stage(recipe, name) for names in step.wires.values() for name in names
        )
        total += cost or Cost()
        planned.stages.append(
            {
                "name": step.name,
                "kind": step.stage.kind,
                "state": "stored" if artifact else "make" if ready else "unknown",
                "artifact": artifact.path.name if artifact else None,
                "rows": estimate.rows(step.name),
                "cost": asdict(cost) if cost else None,
            }
        )
    planned.total = asdict(total)
    planned.warnings = cost_lint(
        {each["name"]: (each["kind"], each["cost"]["gpu_hours"]) for each in planned.stages if each["cost"]}
    )
    planned.start = recipe.execution.ray.instructions() if recipe.execution.ray else []
    planned.over_budget = recipe.budget.exceeded(total) if recipe.budget else []
    return planned


def over_budget(recipe: Recipe, path: Path, store: Path) -> str | None:
    """What of the budget the plan exceeds, in words; None where it fits or no budget is declared."""
    lines = plan(recipe, path, store).over_budget if recipe.budget else []
    return "; ".join(lines) or None


def _stored(recipe: Recipe, path: Path, store: Path, steps: list[Step]) -> dict[str, Artifact]:
    run = Run(recipe, Store(store), Events(Path("/dev/null")), KnownLock(path.with_suffix(".lock")))
    for step in steps:
        if not all(
            name in run.done or not _is_stage(recipe, name) for names in step.wires.values() for name in names
        ):
            continue
        try:
            artifact = run.store.find(step.stage.kind, run.request(step, run.inputs(step)))
        except MissingError:  # a Hub name that was never resolved
            continue
        if artifact is not None:
            run.done[step.name] = artifact
    return run.done


def _is_stage(recipe: Recipe, name: str) -> bool:
    return any(stage.name == name for stage in recipe.stages)


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
        step = self.steps[name]
        stage = step.stage
        if isinstance(stage, Problems | Traces):
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
        if isinstance(stage, Sample) and stage.engine is not None and not stage.engine.needs_model:
            return self._asking(step, stage)
        names = step.wires.get("model") or step.wires.get("models") or []
        models = [self.model(name) for name in names]
        if not models or any(model is None for model in models):
            return None
        sizes = [model for model in models if model is not None]
        if isinstance(stage, Sample | Evaluate | Screen | BudgetCurve | Probe):
            return self._sampling(step, stage, sizes, machine)
        if isinstance(stage, Grpo):
            completions = stage.steps * stage.prompts_per_step * stage.num_generations
            load = Load(max_length=stage.max_completion_length)
            return budget.grpo(
                sizes[0],
                machine,
                load,
                completions,
                MEAN_SHARE * stage.max_completion_length,
                reference=stage.beta > 0,
            )
        if isinstance(stage, Sft):
            rows = self.rows(step.wires["input"][0])
            if rows is None:
                return None
            load = Load(
                max_length=stage.max_length,
                optimizer="adamw_8bit" if "8bit" in str(stage.trainer.get("optim")) else "adamw",
            )
            return budget.training(
                sizes[0], machine, load, round(rows * stage.epochs * MEAN_SHARE * stage.max_length)
            )
        return None

    def _asking(self, step: Step, stage: Sample) -> Cost | None:
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
        stage: Sample | Evaluate | Screen | BudgetCurve | Probe,
        sizes: list[Model],
        machine: Budget,
    ) -> Cost | None:
        samples = 0
        for name in [
            name for slot in ("problems", "benchmarks", "input") for name in step.wires.get(slot, [])
        ]:
            rows = self.rows(name)
            if not isinstance(stage, Sample) and stage.limit is not None:
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


def render(planned: Planned) -> RenderableType:
    """The plan as a table with a line for the total."""
    table = Table("stage", "kind", "state", "rows", "tokens", "GPU-hours", "GB/GPU", box=None)
    for stage in planned.stages:
        cost = stage["cost"]
        rows = "" if stage["rows"] is None else f"{stage['rows']:,}"
        figures = (
            (f"{cost['tokens']:,}", f"{cost['gpu_hours']:.3g}", f"{cost['memory_gb']:.3g}")
            if cost
            else ("", "", "")
        )
        table.add_row(stage["name"], stage["kind"], stage["state"], rows, *figures)
    total = planned.total
    money = "" if total["money"] is None else f", {budget.money_text(total['money'])} in money"
    lines = [
        f"in all about {total['gpu_hours']:.3g} GPU-hours{money}; good to a factor of two, "
        "completions taken at half their cap"
    ]
    made = [stage for stage in planned.stages if stage["state"] != "stored"]
    if unknown := [each["name"] for each in made if each["kind"] in COSTLY and each["cost"] is None]:
        lines.append(
            f"not counted, since their rows or their model's size are not known: {', '.join(unknown)}"
        )
    lines += [f"over budget: {line}" for line in planned.over_budget]
    lines += [f"warning: {line}" for line in planned.warnings]
    lines += [f"foreign code (needs run --trust): {phrase}" for phrase in planned.foreign]
    lines += planned.start
    return Group(table, *lines)
