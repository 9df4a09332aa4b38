"""What evaluate scores on: a set of problems with everything that its numbers depend on.

No stage itself. Where the recipe is silent, a built-in benchmark's own file says how it is sampled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from distillkit.benchmarks import Benchmark
from distillkit.sampling import Sampling
from distillkit.spec import Strict
from distillkit.template import AnyTemplate, name_of
from distillkit.trace import Problem
from distillkit.verifiers import AnyVerifier
from distillkit.verifiers.base import Verifier

Temperature = Annotated[float, Field(ge=0)]
Cap = Annotated[int, Field(ge=1)]


class Use(Strict):
    """How one set of problems is sampled and judged, where that differs from the stage and from its own file."""

    n: int | None = Field(None, ge=1)
    """Samples per problem."""
    template: AnyTemplate | None = None
    temperature: Temperature | None = None
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: Cap | None = None
    verifier: AnyVerifier | None = None
    """Judges it in place of the recipe's verifier for the domain, and of the benchmark's own."""
    declared: Benchmark | None = None
    """The declaration of the built-in benchmark, filled in when the recipe runs."""

    def pinned(self, declared: Benchmark | None, commit_of: Callable[[str, str], str]) -> Self:
        """The same with its declaration in full and every judge's models at their commits."""
        update: dict[str, Any] = {}
        if declared is not None:
            judge = declared.verifier.pinned(commit_of)
            update["declared"] = declared.model_copy(update={"verifier": judge})
        if self.verifier is not None:
            update["verifier"] = self.verifier.pinned(commit_of)
        return self.model_copy(update=update)


class Complexity(Strict):
    """How complex a problem is, to show accuracy against it."""

    field: str = Field(pattern=r"^extra\..")
    """A number that each problem carries, such as extra.terms of the toy world."""
    trained: tuple[float, float] | None = None
    """What the models were trained on, least and most; the page shades it."""

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: Any) -> Any:
        return {"field": given} if isinstance(given, str) else given


@dataclass(frozen=True)
class ProblemSet:
    """Problems, and how each model is asked and judged on them."""

    name: str
    problems: list[Problem]
    n: int
    sampling: Sampling
    """At the first temperature and the largest cap."""
    temperatures: list[float]
    """The first one is what models are compared at."""
    caps: list[int]
    """Ascending."""
    verifiers: Mapping[str, Verifier]
    facts: dict[str, Any] = field(default_factory=dict)
    """What the settings of its scores say besides: the Hub's commit, the verifier of its own."""

    def at(self, temperature: float) -> tuple[Sampling, int]:
        """How to draw at a temperature, and how many samples: one where all would be equal."""
        sampling = self.sampling.model_copy(update={"temperature": temperature})
        return sampling, self.n if temperature > 0 or temperature == self.temperatures[0] else 1

    @property
    def settings(self) -> dict[str, Any]:
        """What its scores depend on besides the model and the engine."""
        sampled = self.sampling.parameters
        return {
            "n": self.n,
            "template": name_of(self.sampling.template),
            "temperature": sampled.temperature,
            "top_p": sampled.top_p,
            "max_tokens": sampled.max_tokens,
            **self.facts,
        }

    @property
    def samples(self) -> int:
        """Completions of each model, at all temperatures."""
        return len(self.problems) * sum(self.at(temperature)[1] for temperature in self.temperatures)
