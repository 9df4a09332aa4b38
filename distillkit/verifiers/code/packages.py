"""Where the packages lie that a recipe lets candidates import: theirs alone, and those that they require."""

from functools import cache
from importlib import metadata
from pathlib import Path

from distillkit.errors import MissingError
from distillkit.sandbox import readable_inside


@cache
def files_of(packages: tuple[str, ...]) -> tuple[Path, ...]:
    """Top-level files and folders of distributions and of what they require (extras aside).

    Raises MissingError for one that is not installed here, or that the sandbox's user cannot read.
    """
    found: dict[str, Path] = {}
    waiting, seen = list(packages), set[str]()
    while waiting:
        name = waiting.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise MissingError(
                f"package {name!r} is declared for the sandbox but not installed here; pip install {name}"
            ) from None
        for file in distribution.files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not top.endswith((".dist-info", ".pth")):
                found[top] = Path(str(distribution.locate_file(top)))
        waiting += [_required(line) for line in distribution.requires or [] if ";" not in line]
    for path in found.values():
        if not readable_inside(path):
            raise MissingError(
                f"{path}: the sandbox's unprivileged user cannot read it; run as a normal user"
            )
    return tuple(found.values())


def _required(line: str) -> str:
    """The distribution's name at the start of a requirement ("scipy>=1.0" is scipy)."""
    end = next((at for at, letter in enumerate(line) if not (letter.isalnum() or letter in "-_.")), len(line))
    return line[:end]
