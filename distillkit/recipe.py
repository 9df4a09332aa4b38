"""A recipe: one checked YAML file. Mistakes are said as `file:line: path: message`.

`--set` is applied to the parsed YAML before validation; the resolved recipe is stored with every run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError

from distillkit.budget import Budget
from distillkit.cluster import Cluster
from distillkit.document import (
    Lines,
    Place,
    assign,
    names_of,
    parse,
    place_of,
    source_of,
    sources_of,
)
from distillkit.engines import AnyEngine
from distillkit.errors import DistillkitError, RecipeError, nearest
from distillkit.mistake import describe
from distillkit.sampling import Sampling
from distillkit.spec import EXECUTION, Strict, source_files
from distillkit.stages import AnyStage
from distillkit.verifiers import AnyVerifier


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
        near = nearest(name, names, f"there are {', '.join(names)}")
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
    data, lines = parse(path)
    sources = sources_of(path, lines)
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
        raise RecipeError("\n".join(describe(error, Recipe, data, sources))) from None


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Puts `file:line:` before an error that begins with its place in the recipe (`stages.kept.rules: ...`,
    or a stage's name alone)."""
    data, lines = parse(path)
    try:
        yield
    except DistillkitError as error:
        head = str(error).partition(":")[0]
        place = place_of(f"stages.{head}" if head in names_of(data.get("stages", [])) else head, data)
        if not place:
            raise
        raise type(error)(f"{source_of(place, sources_of(path, lines))}: {error}") from None


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
