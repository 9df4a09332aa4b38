"""The benchmarks that a recipe can name: where each lies on the Hub, how it is asked, and what judges it.

One YAML file each, beside this one; a further benchmark is a further file. None names a commit: as for every name on
the Hub, the recipe's lock does. Samples, temperature and cap are those of the papers; a recipe may say otherwise.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from distillkit.errors import RecipeError
from distillkit.hub import HubRef, dataset_rows
from distillkit.spec import Strict, digest
from distillkit.template import AnyTemplate
from distillkit.verifiers import AnyVerifier

FOLDER = Path(__file__).parent


class Choices(Strict):
    """The wrong answers of a multiple-choice question; with the right one they are shuffled and lettered."""

    columns: Annotated[list[str], Field(min_length=1, max_length=25)]
    seed: int = 0
    """Decides the order; equal seeds ask the same question."""


class Benchmark(Strict):
    """A set of problems on the Hub; the first keys are those of a problems stage."""

    hub: str
    """org/name of a dataset."""
    config: str | None = None
    hub_split: str = "test"
    columns: dict[str, str | dict[str, str]]
    """`prompt` and `reference`: dotted paths of the columns; a mapping makes an object of several. Any other name is a
    value that `question` may quote."""
    reference_pattern: str | None = None
    choices: Choices | None = None
    decode: Literal["livecodebench"] | None = None
    """How tests that are packed in a reference are unpacked."""
    domain: str = "math"
    verifier: AnyVerifier
    """What judges it: the same for everybody who names it, or its numbers could not be compared."""
    question: str = "{prompt}"
    """What is asked: {prompt}, {choices} and the names of further columns stand for their text."""
    instruction: str = ""
    """Added to the question, but not under the templates r1, qwen_math and none, which have their own words."""
    template: AnyTemplate | None = None
    """Left out: the model's own (chat)."""
    problems: int = Field(ge=1)
    """How many it holds, to tell its cost before it is read."""
    n: int = Field(ge=1)
    """Samples per problem."""
    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(32768, ge=1)

    @property
    def prompt(self) -> str:
        """Column of the bare question."""
        return str(self.columns["prompt"])

    def content(self, commit: str) -> str:
        """64 hex digits over what decides its prompts at a commit."""
        return digest([self.hub, commit, self.config, self.hub_split, self.prompt])

    def prompts(self, commit: str) -> Iterator[tuple[int, str | None]]:
        """Number from 0, as the Hub's page counts, and prompt of each row at a commit; None where it has no text.

        Raises:
            MissingError: it is gated, or out of reach and not in the local cache.
            RecipeError, StageError: what is there does not have this shape any more.
        """
        column = self.prompt

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
