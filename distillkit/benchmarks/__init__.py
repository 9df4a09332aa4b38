"""The benchmarks that a recipe can name: where each lies on the Hub and which columns hold what.

One YAML file each, beside this one; a further benchmark is a further file. None names a commit: as for every name on
the Hub, the recipe's lock does.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from distillkit.errors import RecipeError
from distillkit.hub import HubRef, dataset_rows
from distillkit.spec import Strict, digest

FOLDER = Path(__file__).parent


class Benchmark(Strict):
    """A set of problems on the Hub; the keys are those of a problems stage."""

    hub: str
    """org/name of a dataset."""
    config: str | None = None
    hub_split: str = "test"
    columns: dict[str, str]
    """`prompt` and `reference`: dotted paths of the columns."""
    reference_pattern: str | None = None
    domain: str = "math"

    def content(self, commit: str) -> str:
        """64 hex digits over what decides its prompts at a commit."""
        return digest([self.hub, commit, self.config, self.hub_split, self.columns["prompt"]])

    def prompts(self, commit: str) -> Iterator[tuple[int, str | None]]:
        """Number from 0, as the Hub's page counts, and prompt of each row at a commit; None where it has no text.

        Raises:
            MissingError: it is gated, or out of reach and not in the local cache.
            RecipeError, StageError: what is there does not have this shape any more.
        """
        column = self.columns["prompt"]

        def choose(names: list[str]) -> list[str]:
            if column not in names:
                raise RecipeError(
                    f"{self.hub}: has no column {column!r} any more; there are {', '.join(names)}"
                )
            return [column]

        rows = dataset_rows(HubRef("dataset", self.hub, commit), self.config, self.hub_split, choose)
        for number, row in enumerate(rows):
            text = row[column]
            yield number, text if isinstance(text, str) and text.strip() else None


def names() -> list[str]:
    """Of every built-in benchmark, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def named(name: str) -> Benchmark:
    """The built-in benchmark of this name; KeyError where there is none."""
    if name not in names():
        raise KeyError(name)
    found: Benchmark = Benchmark.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8")))
    return found
