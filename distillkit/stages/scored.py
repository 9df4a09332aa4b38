"""What evaluate scores on: a set of problems with everything that its numbers depend on.

No stage itself. Where the recipe is silent, a built-in benchmark's own file says how it is sampled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from distillkit import benchmarks as built_in
from distillkit.benchmarks import Benchmark
from distillkit.engines.base import Parameters
from distillkit.sampling import Sampling
from distillkit.spec import Strict
from distillkit.stages.base import PROBLEMS, Wire
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


def _by_name(given: Any) -> Any:
    """A list of names as the mapping that it is short for."""
    if isinstance(given, list):
        given = {name: {} for name in given if isinstance(name, str)}
    if isinstance(given, dict):
        return {name: {} if use is None else use for name, use in given.items()}
    return given


class Asking(Sampling):
    """Which sets of problems are scored and how each is sampled; evaluate inherits it."""

    benchmarks: Annotated[
        dict[str, Annotated[int, Field(ge=1)] | Use],
        BeforeValidator(_by_name),
        Wire((PROBLEMS,), default="none", external=True, heldout=True, named=True),
    ] = Field(default_factory=dict)
    """Problems stages and built-in benchmarks: a list of names, or name -> samples per problem, or name -> {n,
    template, temperature, top_p, max_tokens, verifier}. What is left out is what the stage says, else the benchmark's
    own file."""
    temperature: Temperature | Annotated[list[Temperature], Field(min_length=1)] | None = None  # type: ignore[assignment]
    """Left out: the benchmark's, else 1. A list: the first is what models are compared at, the others make a sweep."""
    top_p: float | None = Field(None, gt=0, le=1)  # type: ignore[assignment]
    """Left out: the benchmark's, else 1."""
    max_tokens: Cap | Annotated[list[Cap], Field(min_length=1)] | None = None  # type: ignore[assignment]
    """Left out: the benchmark's. A list: sampled at the largest; what a lower cap would have scored is cut from it."""
    n: int = Field(16, ge=1)
    """Samples per problem."""

    @model_validator(mode="after")
    def _check_sweeps(self) -> Self:
        for key, given in (("temperature", self.temperature), ("max_tokens", self.max_tokens)):
            if isinstance(given, list) and len(set(given)) < len(given):
                raise ValueError(f"{key}: {given}: a value is there twice")
        return self

    @property
    def parameters(self) -> Parameters:
        """Of the stage itself: its first temperature and its largest cap; each set of problems may have its own."""
        name = next(iter(self.benchmarks), "")
        return self.sampling(name, _listed(self.temperature) or [1.0], self.caps(name) or [1]).parameters

    def samples(self, name: str) -> int:
        """Samples per problem of a set."""
        use, declared = self.use(name), self.declared(name)
        return use.n or (declared.n if declared else self.n)

    def temperature_at(self, name: str) -> float:
        """Temperature that models are compared at on a set."""
        return float(self.temperatures(name)[0])

    def use(self, name: str) -> Use:
        """What the recipe says of a set of problems."""
        given = self.benchmarks.get(name, Use())
        return Use(n=given) if isinstance(given, int) else given

    def declared(self, name: str) -> Benchmark | None:
        """The file of a built-in benchmark that is scored."""
        known = name in self.benchmarks and name in built_in.names()
        return self.use(name).declared or (built_in.named(name) if known else None)

    def caps(self, name: str) -> list[int]:
        """Caps of a set, ascending; empty where nobody gave one."""
        declared = self.declared(name)
        own = declared.max_tokens if declared else None
        return sorted(_listed(self.use(name).max_tokens) or _listed(self.max_tokens) or _listed(own))

    def temperatures(self, name: str) -> list[float]:
        """Temperatures of a set; models are compared at the first."""
        declared = self.declared(name)
        own = declared.temperature if declared else None
        return _listed(self.use(name).temperature) or _listed(self.temperature) or _listed(own) or [1.0]

    def sampling(self, name: str, temperatures: Sequence[float], caps: Sequence[int]) -> Sampling:
        """How a set is sampled: at the first temperature and the largest cap."""
        use, declared = self.use(name), self.declared(name)
        top_p = use.top_p or self.top_p or (declared.top_p if declared else 1.0)
        return Sampling(
            engine=self.engine,
            template=use.template or self.template or (declared.template if declared else None),
            temperature=temperatures[0],
            top_p=top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            max_tokens=max(caps),
            stop=self.stop,
        )

    def declared_in_full(self, commit_of: Callable[[str, str], str]) -> Self:
        """The same with the files of the built-in benchmarks in it, so that they are part of its identity."""
        names = built_in.names()
        update = {
            name: self.use(name).pinned(built_in.named(name) if name in names else None, commit_of)
            for name in self.benchmarks
        }
        return self.model_copy(update={"benchmarks": update}) if update else self

    def check_judges(self) -> None:
        """Refuse a verifier of its own that cannot work on this machine; raises MissingError or RecipeError."""
        for name in self.benchmarks:
            use, declared = self.use(name), self.declared(name)
            judge = use.verifier or (declared.verifier if declared else None)
            if judge is not None:
                judge.check()

    def foreign_judges(self) -> list[str]:
        """What in them would run code of the recipe's author, one phrase each."""
        own = [verifier for name in self.benchmarks if (verifier := self.use(name).verifier)]
        return [phrase for verifier in own for phrase in verifier.foreign()]


def _listed(given: Any) -> list[Any]:
    """One value, several, or none, as a list."""
    return given if isinstance(given, list) else [] if given is None else [given]


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
