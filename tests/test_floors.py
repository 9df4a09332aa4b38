"""A module imports lower floors, or what stands to its right on its own; components never import each other."""

import ast
from pathlib import Path

import pytest

import distillkit

PACKAGE = Path(distillkit.__file__).parent

# Highest first; within a floor a module may import what stands to its right.
FLOORS = [
    ["__main__", "cli"],
    [
        "session",
        "conversation",
        "release",
        "live",
        "plan",
        "estimate",
        "inspection",
        "check",
        "lint",
        "hindsight",
        "apply",
        "recount",
        "housekeeping",
        "runner",
        "launch",
        "child",
        "rank",
        "ticket",
    ],
    ["wiring", "recipe", "mistake", "document", "lock", "shipped"],
    ["stages"],
    ["training", "toy"],
    [
        "portrait",
        "publication",
        "report",
        "version",
        "difference",
        "show",
        "rule",
        "grid",
        "comparison",
        "run_folder",
        "delivery",
        "licence",
        "benchmarks",
        "scoring",
        "sampling",
        "template",
        "ledger",
        "verifiers",
        "hub",
        "edition",
    ],
    [
        "cluster",
        "engines",
        "measures",
        "values",
        "reader",
        "executor",
        "events",
        "store",
        "shard",
        "shuffle",
        "artifact",
        "index",
        "durable",
        "budget",
        "remedy",
        "memory",
        "optimizer",
        "model_size",
        "sandbox",
        "seccomp",
        "pool",
        "worker",
    ],
    ["trace", "stats", "interval", "spec"],
    ["shingles", "text", "errors", "wordhash"],
]
COMPONENTS = ["stages", "verifiers", "measures", "engines"]
SHARED = {"__init__", "base", "stream"}


def place(module: str) -> tuple[int, int]:
    """(floor, position) of a top-level name of the package."""
    for floor, names in enumerate(FLOORS):
        if module in names:
            return floor, names.index(module)
    raise AssertionError(f"distillkit.{module} has no floor; give it one in tests/test_floors.py")


def imports(path: Path) -> set[str]:
    """Dotted names inside the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "distillkit":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {node.module, *names} if node.module == "distillkit" else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "distillkit"}
    return {name.removeprefix("distillkit.") for name in found if name.startswith("distillkit.")}


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_points_upward(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    here = place(parts[0])
    for name in imports(path):
        top, *below = name.split(".")
        if top == "__version__":
            continue
        if top != parts[0]:
            assert place(top) > here, (
                f"{path.name} imports distillkit.{name}, which stands higher or to the left"
            )
        elif top in COMPONENTS and parts[1] not in SHARED and below:
            own = below[0] == parts[1]  # a kind with parts is a folder
            assert own or below[0] in SHARED or _is_data(top, below[0]), (
                f"{path.name} imports its sibling distillkit.{name}"
            )


def _is_data(folder: str, module: str) -> bool:
    """A module of a component folder that defines no component: a word list, shared plumbing."""
    path = PACKAGE / folder / module
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    return "kind: Literal" not in text


def test_every_kind_is_in_its_union() -> None:
    from typing import get_args

    from distillkit import engines, measures, stages, verifiers

    for package, union in (
        (stages, stages.AnyStage),
        (verifiers, verifiers.AnyVerifier),
        (measures, measures.AnyMeasure),
        (engines, engines.AnyEngine),
    ):
        listed = {kind.__name__ for kind in get_args(get_args(union)[0])}
        folder = Path(package.__file__).parent
        defined = {
            node.name
            for path in folder.rglob("*.py")
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.ClassDef) and any(_names_kind(line) for line in node.body)
        }
        assert listed == defined


def _names_kind(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "kind"
        and ast.unparse(node.annotation).startswith("Literal")
    )
