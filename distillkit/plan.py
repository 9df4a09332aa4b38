"""What a run would take from the store, what it would make, and what that costs before it is spent.

Rows that are not there yet are counted at their most (every sample kept), completions at half of their cap:
the estimate is meant to be on the safe side, and says so.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from distillkit import budget
from distillkit.artifact import Artifact
from distillkit.budget import Budget, Cost
from distillkit.check import foreign
from distillkit.errors import MissingError
from distillkit.estimate import Estimate
from distillkit.events import Events
from distillkit.lint import cost_lint
from distillkit.lock import Lock
from distillkit.memory import told
from distillkit.rank import join_command
from distillkit.recipe import Recipe
from distillkit.runner import Run
from distillkit.store import Store
from distillkit.training.config import Training
from distillkit.wiring import Step, resolve

COSTLY = (
    "sample", "refine", "screen", "grpo", "sft", "reward_model", "distill", "evaluate", "probe", "budget_curve"
)  # fmt: skip
"""Kinds of stages that hold a model."""


@dataclass
class Planned:
    """The stable keys of `plan --json`."""

    recipe: str
    stages: list[dict[str, Any]] = field(default_factory=list)
    """[{name, kind, state: stored | make | unknown, artifact, rows, cost}]; unknown = its inputs are not made yet."""
    total: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    """Training that is to be made -> what holds the memory of each GPU of the declared machine, in GB."""
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
    planned.warnings = imbalance(estimate, machine)
    planned.start = recipe.execution.ray.instructions() if recipe.execution.ray else []
    planned.start += [line for step in steps if step.name not in found for line in machines(step, store)]
    if recipe.budget:
        planned.memory = estimate.memory(recipe.budget)
        planned.over_budget = recipe.budget.exceeded(total) + estimate.misfits(recipe.budget)
    return planned


def machines(step: Step, store: Path) -> list[str]:
    """What to start on the further machines of a training that has several, one line each."""
    stage = step.stage
    if not isinstance(stage, Training) or stage.machines == 1:
        return []
    return [
        f"{step.name} trains on {stage.machines} machines over one shared store; on this one: distillkit run; "
        f"on each other one, K being 1 to {stage.machines - 1}:",
        f"  {join_command(step.name, stage.processes, stage.machines, store)}",
    ]


def doubts(recipe: Recipe) -> list[str]:
    """Trainings that the declared machine is too small for, with what would make them fit, and evaluation that costs
    more than its share; as `check` tells them, without a store."""
    estimate = Estimate(recipe, resolve(recipe), {})
    tight = estimate.misfits(recipe.budget) if recipe.budget else []
    return tight + imbalance(estimate, recipe.budget or Budget())


def imbalance(estimate: Estimate, machine: Budget) -> list[str]:
    """Evaluation that costs more than its share of the whole recipe, paid or not; empty where a part is not known."""
    costly = [step for step in estimate.steps.values() if step.stage.kind in COSTLY]
    costs = {step.name: (step.stage.kind, estimate.cost(step, machine)) for step in costly}
    hours = {name: (kind, cost.gpu_hours) for name, (kind, cost) in costs.items() if cost is not None}
    return cost_lint(hours) if len(hours) == len(costs) else []


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
    for name, parts in planned.memory.items():
        lines.append(f"{name}: about {sum(parts.values()):.3g} GB on each GPU: {told(parts)}")
    lines += [f"over budget: {line}" for line in planned.over_budget]
    lines += [f"warning: {line}" for line in planned.warnings]
    lines += [f"foreign code (needs run --trust): {phrase}" for phrase in planned.foreign]
    lines += planned.start
    return Group(table, *lines)
