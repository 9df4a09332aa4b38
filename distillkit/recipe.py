"""A recipe: one checked YAML file. Mistakes are said as `file:line: path: message`.

`--set` is applied to the parsed YAML before validation; the resolved recipe is stored with every run.
"""

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from distillkit.budget import Budget
from distillkit.cluster import Cluster
from distillkit.engines import AnyEngine
from distillkit.errors import DistillkitError, MissingError, RecipeError
from distillkit.sampling import Sampling
from distillkit.spec import EXECUTION, Strict, source_files
from distillkit.stages import AnyStage
from distillkit.verifiers import AnyVerifier

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


class Resources(Strict):
    """Where the work spreads; never part of an identity."""

    workers: Annotated[int, EXECUTION] = Field(1, ge=1)
    """Processes that label shards side by side."""
    ray: Cluster | None = None
    """A Ray cluster to sample and label on, in place of this machine."""


class Recipe(Strict):
    """The whole method in one file: stages in the order they run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Names the folder of its runs."""
    seed: int = Field(0, ge=0, lt=2**31)
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
        names = [each.name for each in self.stages]
        near = _nearest(name, names) or f"; there are {', '.join(names)}"
        raise RecipeError(f"no stage {name!r} in recipe {self.name}{near}")

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
    data, lines = _parse(path)
    sources = _sources(path, lines)
    for assignment in sets:
        sources[assign(data, assignment)] = f"--set {assignment}"
    recipe = validated(data, sources)
    _check_names(recipe, path, lines)
    anchored: Recipe = _anchored(_with_engine(recipe), path.resolve().parent)
    return anchored


def validated(data: dict[str, Any], sources: dict[Place, str]) -> Recipe:
    """The recipe in parsed YAML; `sources` says where each place was written, for the messages.

    Raises RecipeError with every mistake found, one line each.
    """
    try:
        found: Recipe = Recipe.model_validate(data)
        return found
    except ValidationError as error:
        raise RecipeError("\n".join(_describe(error, data, sources))) from None


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Puts `file:line:` before an error that begins with its place in the recipe (`stages.kept.rules: ...`,
    or a stage's name alone)."""
    data, lines = _parse(path)
    try:
        yield
    except DistillkitError as error:
        head = str(error).partition(":")[0]
        place = _place_of(f"stages.{head}" if head in _names(data.get("stages", [])) else head, data)
        if not place:
            raise
        raise type(error)(f"{_source(place, _sources(path, lines))}: {error}") from None


def _place_of(dotted: str, data: Any) -> Place:
    """The place that `stages.kept.rules` names, or the nearest around it; empty where its root is not there."""
    here: Any = data
    at: Place = ()
    for key in dotted.split("."):
        names = _names(here) if isinstance(here, list) else []
        if key in names:
            at, here = (*at, names.index(key)), here[names.index(key)]
        elif isinstance(here, dict) and key in here:
            at, here = (*at, key), here[key]
        else:
            break
    return at


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


def _parse(path: Path) -> tuple[Any, Lines]:
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
    names = _names(items)
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise RecipeError(
        f"--set {assignment}: nothing there is called {key!r}{_nearest(key, [n for n in names if n])}"
    )


def _names(items: list[Any]) -> list[str | None]:
    return [item.get("name") if isinstance(item, dict) else None for item in items]


def _describe(error: ValidationError, data: dict[str, Any], sources: dict[Place, str]) -> list[str]:
    """One line per mistake: source: path: message."""
    found = []
    for each in error.errors(include_url=False, include_context=True):
        at = _real_path(each["loc"], data, each["type"] in ("extra_forbidden", "missing"))
        written = (*at, "kind") if each["type"] == "union_tag_invalid" else at
        found.append(f"{_source(written, sources)}: {_shown(at, data)}: {_message(each, at)}")
    return list(dict.fromkeys(found))


def _sources(path: Path, lines: Lines) -> dict[Place, str]:
    return {(): f"{path}:1"} | {place: f"{path}:{line}" for place, line in lines.items()}


def _source(at: Place, sources: dict[Place, str]) -> str:
    """Where a place, or the nearest around it, was written."""
    return next(sources[at[:n]] for n in range(len(at), -1, -1) if at[:n] in sources)


def _real_path(loc: Place, data: Any, ends_in_key: bool) -> Place:
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


def _shown(at: Place, data: Any) -> str:
    """Dotted path, a stage by its name."""
    parts = []
    here: Any = data
    for key in at:
        here = here[key] if isinstance(here, list) and isinstance(key, int) else (here or {}).get(key)
        named = isinstance(key, int) and isinstance(here, dict) and isinstance(here.get("name"), str)
        parts.append(str(here["name"]) if named else str(key))
    return ".".join(parts) or "recipe"


def _message(each: Any, at: Place) -> str:
    kind = each["type"]
    if kind == "extra_forbidden":
        return f"unknown key{_nearest(str(at[-1]) if at else '', _keys_at(each['loc'][:-1]))}"
    if kind == "union_tag_invalid":
        context = each["ctx"]
        expected = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        near = _nearest(context["tag"], expected) or f"; there are {', '.join(expected)}"
        return f"unknown kind {context['tag']!r}{near}"
    if kind == "union_tag_not_found":
        return "has no kind:"
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(each["ctx"]["error"])
    given = each["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    message: str = each["msg"]
    return message[0].lower() + message[1:] + shown


def _keys_at(loc: Place) -> list[str]:
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
