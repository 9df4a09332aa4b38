"""The recipes that ship with the package, for users who have only pip."""

from pathlib import Path

import yaml

from distillkit.errors import MissingError, RecipeError

SCHEMA = "recipe.schema.json"
"""What an editor completes and checks recipes by; a recipe's first line names it."""


def folder() -> Path:
    """Where the recipes lie: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.exists() else Path(__file__).parent.parent / "recipes"


def listing() -> list[str]:
    """`name  first comment line` of every shipped recipe."""
    return [f"{path.stem:<20} {_title(path)}" for path in sorted(folder().glob("*.yaml"))]


def copy(name: str, target: Path | None) -> Path:
    """Copy a recipe to `target` (default ./NAME.yaml), and the data that it reads to where it looks for them.

    Raises:
        MissingError: no recipe of that name ships, or the target cannot be written.
        RecipeError: the target, or other data in its place, is there already.
    """
    source = folder() / f"{name}.yaml"
    if not source.exists():
        raise MissingError(
            f"no recipe {name!r} ships; there are {', '.join(p.stem for p in sorted(folder().glob('*.yaml')))}"
        )
    target = target or Path(f"{name}.yaml")
    data = {target.parent / name: (source.parent / name).read_bytes() for name in _data(source)}
    if target.exists():
        raise RecipeError(f"{target}: is there already; give another place with -o")
    for path, body in data.items():
        if path.exists() and path.read_bytes() != body:
            raise RecipeError(
                f"{path}: is there already, and is not what the recipe reads; give a place with -o"
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, body in data.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        target.write_text(source.read_text("utf-8"), "utf-8")
        target.with_name(SCHEMA).write_bytes((source.parent / SCHEMA).read_bytes())
    except OSError as error:
        raise MissingError(
            f"{target}: cannot be written ({error.strerror}); give another place with -o"
        ) from None
    return target


def _data(recipe: Path) -> list[str]:
    """Files beside a recipe that its stages read, by the names that it has for them."""
    stages = yaml.safe_load(recipe.read_text("utf-8"))["stages"]
    return [stage["file"] for stage in stages if (recipe.parent / stage.get("file", ".")).is_file()]


def _title(path: Path) -> str:
    comments = [line[1:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    return next((line for line in comments if not line.startswith("yaml-language-server")), "")
