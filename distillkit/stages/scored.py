"""What models are scored on: sets of problems with everything that their numbers depend on.

No stage itself, but the head of evaluate, budget_curve and probe. Where the recipe is silent, a built-in benchmark's
own file says how it is asked, sampled and judged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from distillkit import benchmarks as built_in
from distillkit.artifact import Manifest
from distillkit.benchmarks import Benchmark
from distillkit.engines.base import Parameters
from distillkit.errors import nearest
from distillkit.sampling import Sampling
from distillkit.scoring import Scoring
from distillkit.spec import Strict
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Input, Job, Stage, Wire, require_rows
from distillkit.stages.benchmark import PLAIN, Reading
from distillkit.template import AnyTemplate, TemplateFile, name_of
from distillkit.trace import Problem, problem_of
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
    def domains(self) -> set[str]:
        return {problem.domain for problem in self.problems}

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


class Scored(Stage, Sampling, Scoring):
    """Models, and the sets of problems that they are scored on; stages that score models inherit it."""

    MAKES: ClassVar[str] = SCORES
    DRAWS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    models: Annotated[list[str], Wire((WEIGHTS,), external=True, named=True), Field(min_length=1)]
    """Models to compare, told under their names here: a stage, org/name[@rev] on the Hub, ./path, or a packaged one."""
    problems: Annotated[
        str | list[str] | None, Wire((PROBLEMS,), heldout=True, named=True, instead="benchmarks")
    ] = None
    """Problems stages. Left out: `benchmarks`, else the nearest held-out problems."""
    benchmarks: Annotated[
        dict[str, Annotated[int, Field(ge=1)] | Use],
        BeforeValidator(_by_name),
        Wire((PROBLEMS,), default="none", external=True, heldout=True, named=True),
    ] = Field(default_factory=dict)
    """Problems stages and built-in benchmarks: a list of names, or name -> samples per problem, or name -> {n,
    template, temperature, top_p, max_tokens, verifier}. What is left out is what the stage says, else the benchmark's
    own file."""
    temperature: Temperature | None = None  # type: ignore[assignment]
    """Left out: the benchmark's, else 1."""
    top_p: float | None = Field(None, gt=0, le=1)  # type: ignore[assignment]
    """Left out: the benchmark's, else 1."""
    max_tokens: Cap | None = None  # type: ignore[assignment]
    """Left out: the benchmark's."""

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        for model in self.models:
            if self.models.count(model) > 1:
                raise ValueError(f"models: {model} is there twice")
        return self

    @model_validator(mode="after")
    def _check_caps(self) -> Self:
        for name in self.set_names():
            if not self.caps(name):
                of = name or "the nearest held-out problems"
                raise ValueError(
                    f"max_tokens: give it; {of} has none of its own, only built-in benchmarks have"
                    + (nearest(name, built_in.names()) if name in self.benchmarks else "")
                )
        return self

    def set_names(self) -> list[str]:
        """The sets of problems that the recipe names, benchmarks first; "" stands for the nearest held-out problems."""
        made = [self.problems] if isinstance(self.problems, str) else self.problems or []
        return [*self.benchmarks, *made] or [""]

    def use(self, name: str) -> Use:
        """What the recipe says of a set of problems."""
        given = self.benchmarks.get(name, Use())
        return Use(n=given) if isinstance(given, int) else given

    def declared(self, name: str) -> Benchmark | None:
        """The file of a built-in benchmark that is scored; None for problems of a stage."""
        known = name in self.benchmarks and name in built_in.names()
        return self.use(name).declared or (built_in.named(name) if known else None)

    def judge_of(self, name: str) -> Verifier | None:
        """What judges a set in place of the recipe's verifiers."""
        declared = self.declared(name)
        return self.use(name).verifier or (declared.verifier if declared else None)

    def samples(self, name: str) -> int:
        """Samples per problem of a set."""
        raise NotImplementedError

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

    def sampling(self, name: str) -> Sampling:
        """How a set is sampled: at the first temperature and the largest cap."""
        use, declared = self.use(name), self.declared(name)
        return Sampling(
            engine=self.engine,
            template=use.template or self.template or (declared.template if declared else None),
            temperature=self.temperatures(name)[0],
            top_p=use.top_p or self.top_p or (declared.top_p if declared else 1.0),
            top_k=self.top_k,
            min_p=self.min_p,
            max_tokens=self.caps(name)[-1],
            stop=self.stop,
        )

    @property
    def parameters(self) -> Parameters:
        """Of the first set, at its first temperature and its largest cap; each set may have its own."""
        return self.sampling(self.set_names()[0]).parameters

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"limit": min(self.limit or rows, rows)})

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        """The same with the files of the built-in benchmarks in it, so that they are part of its identity."""
        files = {name: built_in.named(name) for name in self.benchmarks if name in built_in.names()}
        update = {name: self.use(name).pinned(files.get(name), commit_of) for name in self.benchmarks}
        return self.model_copy(update={"benchmarks": update}) if update else self

    def check(self, recipe_folder: Path) -> None:
        for name in self.benchmarks:
            if (judge := self.judge_of(name)) is not None:
                judge.check()

    def foreign(self) -> list[str]:
        own = [verifier for name in self.benchmarks if (verifier := self.use(name).verifier)]
        return [phrase for verifier in own for phrase in verifier.foreign()]

    def accept(self, manifest: Manifest) -> None:
        self.check_unjudged(self.name, manifest)

    def sets(self, job: Job) -> list[ProblemSet]:
        """What to score on; what both wires name counts once. Raises StageError for a set without problems."""
        found = {}
        for end in [*job.inputs.get("problems", []), *job.inputs.get("benchmarks", [])]:
            made = self._made(job, end) if end.artifact else self._built_in(job, end)
            require_rows(len(made.problems), f"{self.name}: {end.name}", "give it problems to score on")
            found[end.name] = made
        return list(found.values())

    def _made(self, job: Job, end: Input) -> ProblemSet:
        """The problems of a stage, judged as the recipe says."""
        rows = job.store.open(end.artifact, end.name).rows()
        problems = sorted((problem_of(row) for row in rows), key=lambda problem: problem.id)
        own = self.use(end.name).verifier
        judges = {problem.domain: own or job.verifiers[problem.domain] for problem in problems}
        return self._set(end.name, problems, judges, {"verifier": own.kind} if own else {})

    def _built_in(self, job: Job, end: Input) -> ProblemSet:
        """A benchmark of the Hub at its commit, judged as its own file says."""
        declared = self.declared(end.name) or built_in.named(end.name)
        template = self.sampling(end.name).template
        reading = Reading(end.name, declared, template in PLAIN or isinstance(template, TemplateFile))
        own = self.use(end.name).verifier or declared.verifier
        facts = {"verifier": own.kind, "hub": declared.hub, "commit": end.revision}
        problems = reading.problems(end.revision or "", job.warn)
        return self._set(end.name, problems, {declared.domain: own}, facts)

    def _set(
        self, name: str, problems: list[Problem], judges: Mapping[str, Verifier], facts: dict[str, Any]
    ) -> ProblemSet:
        some, temperatures, caps = problems[: self.limit], self.temperatures(name), self.caps(name)
        sampling, n = self.sampling(name), self.samples(name)
        return ProblemSet(name, some, n, sampling, temperatures, caps, judges, facts)


def _listed(given: Any) -> list[Any]:
    """One value, several, or none, as a list."""
    return given if isinstance(given, list) else [] if given is None else [given]
