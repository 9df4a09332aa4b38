"""A recipe: one checked YAML file. Mistakes are said as `file:line: path: message`.

`--set` is applied to the parsed YAML before validation; the resolved recipe is stored with every run.
"""

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from distillkit.budget import Budget
from distillkit.engines import AnyEngine
from distillkit.errors import MissingError, RecipeError
from distillkit.sampling import Sampling
from distillkit.spec import EXECUTION, Strict, source_files
from distillkit.stages import AnyStage
from distillkit.verifiers import AnyVerifier

Lines = dict[tuple[str | int, ...], int]
"""Path in the YAML -> line, from 1."""


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
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+.0123456789"),
)


class Resources(Strict):
    """How the row stages spread on this machine; never part of an identity."""

    workers: Annotated[int, EXECUTION] = Field(1, ge=1)
    """Processes that label shards side by side."""


class Recipe(Strict):
    """The whole method in one file: stages in the order they run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Names the folder of its runs."""
    seed: int = 0
    """Seed of every stage that draws random numbers."""
    shards: int = Field(16, ge=1, le=4096)
    """Shards of every row artifact."""
    engine: AnyEngine | None = None
    """Engine of the stages that name none."""
    verifiers: dict[str, AnyVerifier] = Field(default_factory=dict)
    """Domain -> what judges it: in verify, in the reward and in evaluate alike."""
    budget: Budget | None = None
    """What the machine has and what the run may cost."""
    execution: Resources = Resources()
    stages: list[AnyStage] = Field(min_length=1)

    def stage(self, name: str) -> AnyStage:
        """The stage of that name; raises RecipeError with the nearest one."""
        for each in self.stages:
            if each.name == name:
                return each
        raise RecipeError(
            f"no stage {name!r} in recipe {self.name}{_nearest(name, [s.name for s in self.stages])}"
        )

    def limited(self, rows: int) -> Self:
        """The whole recipe as a smoke run of at most `rows` problems."""
        return self.model_copy(update={"stages": [stage.limited(rows) for stage in self.stages]})

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        declared = self.model_dump(mode="json", exclude_unset=True, by_alias=True)
        return yaml.safe_dump(declared, sort_keys=False, allow_unicode=True)


def load(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, with `--set` values applied.

    Raises:
        MissingError: no such file.
        RecipeError: every mistake found, one line each.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise MissingError(
            f"{path}: no such recipe ({error.strerror}); `distillkit init` lists those that ship"
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}:1: not a text file in UTF-8") from None
    data, lines = _parse(text, path)
    sources = dict.fromkeys(lines, "")
    for assignment in sets:
        sources[_assign(data, assignment)] = f"--set {assignment}"
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError("\n".join(_describe(error, data, path, lines, sources))) from None
    _check_names(recipe, path, lines)
    return _anchored(_with_engine(recipe), path.resolve().parent)


def _anchored(value: Any, folder: Path) -> Any:
    """The same with every file of the user's as an absolute path: a recipe names files from its own folder on."""
    if isinstance(value, list | tuple):
        return type(value)(_anchored(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _anchored(item, folder) for key, item in value.items()}
    if not isinstance(value, Strict):
        return value
    files = source_files(type(value))
    update = {
        name: str(folder / getattr(value, name)) if name in files else _anchored(getattr(value, name), folder)
        for name in value.model_fields_set
        if getattr(value, name) is not None
    }
    return value.model_copy(update=update)


def _with_engine(recipe: Recipe) -> Recipe:
    stages = [
        stage.model_copy(update={"engine": recipe.engine})
        if isinstance(stage, Sampling) and stage.engine is None and recipe.engine is not None
        else stage
        for stage in recipe.stages
    ]
    return recipe.model_copy(update={"stages": stages})


def _check_names(recipe: Recipe, path: Path, lines: Lines) -> None:
    seen: set[str] = set()
    for index, stage in enumerate(recipe.stages):
        if stage.name in seen:
            line = lines.get(("stages", index, "name"), 1)
            raise RecipeError(
                f"{path}:{line}: stages.{stage.name}: an earlier stage has that name; give each its own"
            )
        seen.add(stage.name)


def _parse(text: str, path: Path) -> tuple[dict[str, Any], Lines]:
    try:
        root = yaml.compose(text, Loader=Loader)
        lines = dict(_lines(root, (), path)) if root else {}
        data = yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}:1: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping with name: and stages:")
    return data, lines


def _lines(
    node: yaml.Node, at: tuple[str | int, ...], path: Path
) -> Iterator[tuple[tuple[str | int, ...], int]]:
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


def _assign(data: dict[str, Any], assignment: str) -> tuple[str | int, ...]:
    """Apply `a.b.c=value` in place; a stage goes by its name. Returns the path that was set."""
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {assignment}: write KEY=VALUE, e.g. stages.own.n=2")
    try:
        value = parse_value(text)
    except yaml.YAMLError:
        raise RecipeError(f"--set {assignment}: the value is not YAML") from None
    keys = dotted.split(".")
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


def parse_value(text: str) -> Any:
    """A value as a recipe would read it; raises yaml.YAMLError."""
    return yaml.load(text, Loader=Loader)


def _index(items: list[Any], key: str, assignment: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise RecipeError(
        f"--set {assignment}: nothing there is called {key!r}{_nearest(key, [n for n in names if n])}"
    )


def _describe(
    error: ValidationError,
    data: dict[str, Any],
    path: Path,
    lines: Lines,
    sources: dict[tuple[str | int, ...], str],
) -> list[str]:
    """One line per mistake: file:line: path: message."""
    found = []
    for each in error.errors(include_url=False, include_context=True):
        at = _real_path(each["loc"], data, each["type"] in ("extra_forbidden", "missing"))
        known = at
        while known and known not in lines and not sources.get(known):
            known = known[:-1]
        where = sources.get(known) or f"{path}:{lines.get(known, 1)}"
        found.append(f"{where}: {_shown(at, data)}: {_message(each, at)}")
    return list(dict.fromkeys(found))


def _real_path(loc: tuple[str | int, ...], data: Any, ends_in_key: bool) -> tuple[str | int, ...]:
    """The loc without pydantic's union tags, which are no keys of the YAML."""
    at: list[str | int] = []
    here = data
    for position, key in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(here, dict) and (key in here or (last and ends_in_key)):
            at.append(key)
            here = here.get(key)
        elif isinstance(here, list) and isinstance(key, int):
            at.append(key)
            here = here[key] if key < len(here) else None
    return tuple(at)


def _shown(at: tuple[str | int, ...], data: Any) -> str:
    """Dotted path, a stage by its name."""
    parts = []
    here = data
    for key in at:
        here = here[key] if isinstance(here, list) and isinstance(key, int) else (here or {}).get(key)
        named = isinstance(key, int) and isinstance(here, dict) and isinstance(here.get("name"), str)
        parts.append(str(here["name"]) if named else str(key))
    return ".".join(parts) or "recipe"


def _message(each: Any, at: tuple[str | int, ...]) -> str:
    kind = each["type"]
    if kind == "extra_forbidden":
        return f"unknown key{_nearest(str(at[-1]) if at else '', _keys_at(each['loc'][:-1]))}"
    if kind == "union_tag_invalid":
        context = each["ctx"]
        expected = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        return f"unknown kind {context['tag']!r}{_nearest(context['tag'], expected)}"
    if kind == "union_tag_not_found":
        return "has no kind:"
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(each["ctx"]["error"])
    given = each["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    message = each["msg"]
    return message[0].lower() + message[1:] + shown


def _keys_at(loc: tuple[str | int, ...]) -> list[str]:
    """Field names of the model that a loc leads to."""
    here: Any = Recipe
    for key in loc:
        here = _below(here, key)
    return list(here.model_fields) if _is_model(here) else []


def _below(kind: Any, key: str | int) -> Any:
    if _is_model(kind):
        info = kind.model_fields.get(str(key))
        return info.annotation if info else None
    origin = get_origin(kind)
    if origin is Annotated:
        return _below(get_args(kind)[0], key)
    if origin in (list, dict):
        return get_args(kind)[-1]
    for member in get_args(kind):
        member = get_args(member)[0] if get_origin(member) is Annotated else member
        if (
            _is_model(member)
            and "kind" in member.model_fields
            and key in get_args(member.model_fields["kind"].annotation)
        ):
            return member
        if (
            get_origin(member) in (list, dict, types.UnionType)
            and (deeper := _below(member, key)) is not None
        ):
            return deeper
        if _is_model(member) and key in member.model_fields:
            return _below(member, key)
    return None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _nearest(word: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
