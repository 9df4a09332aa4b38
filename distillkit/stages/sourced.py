"""What the stages share whose rows come from elsewhere: exactly one source, read at its commit, whole or in part."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from distillkit.hub import dataset_at, dataset_rows, parse_reference
from distillkit.spec import SourceFile
from distillkit.stages.base import Stage
from distillkit.stages.source import Choose, Found, Function, check_file, reader_of

MAPPED = ("file", "hub", "python")
"""Sources of rows in somebody else's columns."""


class SourcedStage(Stage):
    """Rows of a file, of the Hub, of a function of the user's, or of what else its kind knows."""

    SOURCES: ClassVar[tuple[str, ...]] = MAPPED
    """The fields of which exactly one is given."""
    BELONGS: ClassVar[dict[str, tuple[str, ...]]] = {}
    """A field beside them -> the sources that it means something with."""

    file: SourceFile | None = None
    """A .jsonl, .json, .csv or .parquet file."""
    hub: str | None = None
    """org/name[@revision] of a dataset; read at the commit that the lock holds."""
    config: str | None = None
    """Configuration of the Hub dataset; left out: its default."""
    hub_split: str = "train"
    """Split of the Hub dataset."""
    python: Function | None = None
    limit: int | None = Field(None, ge=1)
    """Most of them to take."""
    shuffle: bool = False
    """Take a random `limit` instead of the first ones; more of them contain the fewer."""
    seed: int = 0
    """Decides the shuffle, and what is made; the run's seed does not."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = dict(self)
        sources = [name for name in self.SOURCES if given[name]]
        if len(sources) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(self.SOURCES)}; has {' and '.join(sources) or 'none'}"
            )
        belongs = {"config": ("hub",), "hub_split": ("hub",), **self.BELONGS}
        for name, owners in belongs.items():
            if sources[0] not in owners and given[name] != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}: has no meaning with {sources[0]}:, only with {' or '.join(owners)}"
                )
        return self

    def check(self, recipe_folder: Path) -> None:
        if self.file is not None:
            self.check_file(self.file)
        if self.hub is not None:
            parse_reference(self.hub, "dataset")
        if self.python is not None:
            self.python.check()

    def check_file(self, file: str) -> None:
        """Raises RecipeError or MissingError for a file that cannot be read."""
        reader_of(Path(file), self.MAKES)
        check_file(file)

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"limit": min(rows, self.limit or rows)})

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        if self.hub is None:
            return self
        return self.model_copy(update={"hub": dataset_at(self.hub, commit_of)})

    def foreign(self) -> list[str]:
        return [] if self.python is None else [f"runs {self.python.function}() of {self.python.file}"]

    def mapped_rows(self, choose: Choose) -> Generator[Found, None, None]:
        """The rows of a file, the Hub or a function with where each stands; `choose` picks columns by their names."""
        if self.file is not None:
            yield from reader_of(Path(self.file), self.MAKES)(Path(self.file), choose)
        elif self.hub is not None:
            ref = parse_reference(self.hub, "dataset")
            rows = dataset_rows(ref, self.config, self.hub_split, choose)
            yield from ((f"{ref.repository}:{number}", row) for number, row in enumerate(rows, 1))
        elif self.python is not None:
            yield from self.python.rows()

    @property
    def origin(self) -> str:
        """What the rows name as their source."""
        if self.python is not None:
            return self.python.function
        return Path(self.file).name if self.file is not None else (self.hub or "").partition("@")[0]
