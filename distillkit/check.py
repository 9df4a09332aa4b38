"""What can be refused is refused before anything is spent.

`check` reads the recipe only: offline, without a heavy import, in under a second. Its findings are plain
data, so that the terminal, `--json` and the tests see the same.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distillkit.recipe import Recipe
from distillkit.wiring import Step, resolve


@dataclass
class Finding:
    """A recipe as it was understood: the stable keys of `check --json`."""

    recipe: str
    stages: list[dict[str, Any]] = field(default_factory=list)
    """[{name, kind, makes, wires: {slot: [names]}}]"""
    foreign: list[str] = field(default_factory=list)
    """What would run code of the recipe's author; `run` needs --trust for it."""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check(recipe: Recipe, folder: Path) -> Finding:
    """Resolve every wire and ask every stage.

    Raises:
        RecipeError, MissingError: the first thing that would fail later.
    """
    steps = resolve(recipe)
    for step in steps:
        step.stage.check(folder)
    return Finding(recipe.name, [_stage(step) for step in steps], foreign(recipe))


def _stage(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.stage.kind,
        "makes": step.stage.MAKES,
        "wires": {slot: names for slot, names in step.wires.items() if names},
    }


def foreign(recipe: Recipe) -> list[str]:
    """Everything in a recipe that runs code of its author."""
    stages = [f"stages.{stage.name}: {phrase}" for stage in recipe.stages for phrase in stage.foreign()]
    return stages + [f"verifiers.{domain}: {phrase}" for domain, v in recipe.verifiers.items() for phrase in v.foreign()]
