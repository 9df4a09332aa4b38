"""The recipes that ship with the package, for users who have only pip."""

from pathlib import Path

from distillkit.errors import MissingError, RecipeError


def folder() -> Path:
    """Where the recipes lie: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.exists() else Path(__file__).parent.parent / "recipes"


def listing() -> list[str]:
    """`name  first comment line` of every shipped recipe."""
    return [f"{path.stem:<20} {_title(path)}" for path in sorted(folder().glob("*.yaml"))]


def copy(name: str, target: Path | None) -> Path:
    """Copy a recipe to `target` (default ./NAME.yaml).

    Raises:
        MissingError: no recipe of that name ships, or the target cannot be written.
        RecipeError: the target is there already.
    """
    source = folder() / f"{name}.yaml"
    if not source.exists():
        raise MissingError(
            f"no recipe {name!r} ships; there are {', '.join(p.stem for p in sorted(folder().glob('*.yaml')))}"
        )
    target = target or Path(f"{name}.yaml")
    if target.exists():
        raise RecipeError(f"{target}: is there already; give another place with -o")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text("utf-8"), "utf-8")
    except OSError as error:
        raise MissingError(
            f"{target}: cannot be written ({error.strerror}); give another place with -o"
        ) from None
    return target


def _title(path: Path) -> str:
    comments = [line[1:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    return next((line for line in comments if not line.startswith("yaml-language-server")), "")
