"""A YAML file that remembers its lines: parsed by the safe loader, changed by `--set`, each place known by its line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from distillkit.errors import MissingError, RecipeError, nearest

Place = tuple[str | int, ...]
"""Path in the YAML, e.g. ("stages", 2, "rules")."""
Lines = dict[Place, int]
"""Place -> line, from 1."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2: `on` and `no` are words, `1e-3` is a number."""


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def parse(path: Path) -> tuple[Any, Lines]:
    """What a file holds, and the line of every place in it.

    Raises:
        MissingError: no such file.
        RecipeError: no YAML, no mapping, or a key written twice.
    """
    try:
        text = path.read_text("utf-8")
        data = yaml.load(text, Loader=Loader)
        root = yaml.compose(text, Loader=Loader)
        lines = dict(_lines(root, (), path)) if root else {}
    except OSError as error:
        raise MissingError(
            f"{path}: no such recipe ({error.strerror}); `distillkit init` lists those that ship"
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}:1: not a text file in UTF-8") from None
    except RecursionError:
        raise RecipeError(
            f"{path}:1: not a recipe: nested too deep, or an alias inside of its anchor"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}:1: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping with name: and stages:")
    return data, lines


def _lines(node: yaml.Node, at: Place, path: Path) -> Iterator[tuple[Place, int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise RecipeError(f"{path}:{line}: {key.value}: written twice; remove one")
            seen.add(key.value)
            yield from _lines(value, (*at, key.value), path)
            yield (*at, key.value), line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*at, index), path)


def assign(data: dict[str, Any], assignment: str, below: Sequence[str] = ()) -> Place:
    """Apply `a.b.c=value` in place, `below` a place; a stage goes by its name. Returns the place that was set.

    Raises RecipeError.
    """
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {assignment}: write KEY=VALUE, e.g. stages.own.n=2")
    try:
        value = yaml.load(text, Loader=Loader)
    except yaml.YAMLError:
        raise RecipeError(f"--set {assignment}: the value is not YAML") from None
    keys = [*below, *dotted.split(".")]
    at: list[str | int] = []
    here: Any = data
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(here, list):
            index = _index(here, key, assignment)
            if last:
                here[index] = value
            at.append(index)
            here = here[index]
        elif isinstance(here, dict):
            if last:
                here[key] = value
            at.append(key)
            here = here.setdefault(key, {})
        else:
            raise RecipeError(
                f"--set {assignment}: {'.'.join(keys[:position])} is a value, nothing lies below it"
            )
    return tuple(at)


def _index(items: list[Any], key: str, assignment: str) -> int:
    names = names_of(items)
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise RecipeError(
        f"--set {assignment}: nothing there is called {key!r}{nearest(key, [n for n in names if n])}"
    )


def names_of(items: list[Any]) -> list[str | None]:
    """The `name` of each item, None for one that has none."""
    return [item.get("name") if isinstance(item, dict) else None for item in items]


def place_of(dotted: str, data: Any) -> Place:
    """The place that `stages.kept.rules` names, or the nearest around it; empty where its root is not there."""
    here: Any = data
    at: Place = ()
    for key in dotted.split("."):
        names = names_of(here) if isinstance(here, list) else []
        if key in names:
            at, here = (*at, names.index(key)), here[names.index(key)]
        elif isinstance(here, dict) and key in here:
            at, here = (*at, key), here[key]
        else:
            break
    return at


def sources_of(path: Path, lines: Lines) -> dict[Place, str]:
    """`file:line` of every place."""
    return {(): f"{path}:1"} | {place: f"{path}:{line}" for place, line in lines.items()}


def source_of(at: Place, sources: dict[Place, str]) -> str:
    """Where a place, or the nearest around it, was written."""
    return next(sources[at[:n]] for n in range(len(at), -1, -1) if at[:n] in sources)
