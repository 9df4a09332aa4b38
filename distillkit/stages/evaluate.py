"""Score models on held-out problems: pass@1, pass@k, cons@k, lengths, language mixing, and gamma as realised.

All models answer the same problems with the same settings, every completion is kept, and no number stands
without its interval, its samples and its settings: a score that lacks them cannot be compared with any other.

Source: pass@1 as the mean over n samples, and the majority vote, as in DeepSeek-R1, arXiv:2501.12948v1, 3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit import benchmarks as built_in
from distillkit.artifact import Manifest, Model
from distillkit.events import Progress
from distillkit.sampling import Plan, drawn
from distillkit.scoring import (
    Estimate,
    Scoring,
    largest_k,
    metrics,
    realised_gamma,
    settings,
    warn_failed,
)
from distillkit.stages.answers import Answers
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Input, Job, Stage, Wire, require_rows
from distillkit.stages.benchmark import PLAIN, Reading
from distillkit.stages.scored import Asking, Complexity, ProblemSet
from distillkit.template import TemplateFile
from distillkit.trace import Problem, Trace, problem_of
from distillkit.verifiers.base import Verifier

CUT_SHARE = 0.02
"""From this share of cut completions on, a score says more about the cap than about the model."""


class Evaluate(Stage, Asking, Scoring):
    """Models and problems in; scores out, with every completion and verdict beside them.

    Tables: `completions` (traces), `verdicts` (by trace id), `problems` (n, correct, pass_rate and votes of each
    problem, benchmark and model), and `swept_completions`, `swept_verdicts` of further temperatures.

    Summary: `scores` {model: {metric: estimate}}, a metric is named `pass@1`, or `<benchmark>/pass@1` with several
    benchmarks; `gamma` (see `_gammas`); `settings`; `differences` of all pairs of models; `reach` (pass@k before and
    after training); `bands` (by the base's pass rate); `curves` (pass@k and cons@k against k); `votes`; `sweeps` by
    temperature and by cap; `complexity`; `cost`; `best`, the model with the highest pass@1.
    """

    VERSION: ClassVar[int] = 2
    MAKES: ClassVar[str] = SCORES
    DRAWS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    kind: Literal["evaluate"] = "evaluate"
    models: Annotated[list[str], Wire((WEIGHTS,), external=True, named=True), Field(min_length=1)]
    """Models to compare, scored under their names here: a stage, org/name[@rev] on the Hub, or ./path."""
    problems: Annotated[
        str | list[str] | None, Wire((PROBLEMS,), heldout=True, named=True, instead="benchmarks")
    ] = None
    """Problems stages, n samples each. Left out: `benchmarks`, else the nearest held-out problems."""
    k: list[Annotated[int, Field(ge=2)]] | None = None
    """The k of pass@k and cons@k, none above n. Left out: the largest power of two up to n/2."""
    base: str | None = None
    """Which of the models gamma counts from. Left out: the first."""
    trained: str | None = None
    """Which of the models gamma is of. Left out: each one but the base."""
    complexity: Complexity | None = None
    """A number of the problems (extra.terms), or {field, trained: [least, most]}: accuracy is told against it."""

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        for model in self.models:
            if self.models.count(model) > 1:
                raise ValueError(f"models: {model} is there twice")
        for key, named in (("base", self.base), ("trained", self.trained)):
            if named is not None and named not in self.models:
                raise ValueError(f"{key}: {named} is none of the models ({', '.join(self.models)})")
        if self.trained is not None and self.trained == self._base:
            raise ValueError(f"trained: {self.trained} is the base; name what RL made of it")
        return self

    @model_validator(mode="after")
    def _check_k(self) -> Self:
        most = max([self.n, *map(self.samples, self.benchmarks)])
        for k in self.k or []:
            if k > most:
                raise ValueError(f"k: {k} needs {k} samples per problem, n is {most}; raise n or lower k")
        return self

    @model_validator(mode="after")
    def _check_caps(self) -> Self:
        bare = [name for name in self.benchmarks if not self.caps(name)]
        if self.max_tokens is None and (bare or self.problems is not None or not self.benchmarks):
            of = bare[0] if bare else self.problems or "the nearest held-out problems"
            raise ValueError(f"max_tokens: give it; {of} has none of its own, only built-in benchmarks have")
        return self

    @property
    def _base(self) -> str:
        return self.base or self.models[0]

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"limit": min(self.limit or rows, rows)})

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        return self.declared_in_full(commit_of)

    def check(self, recipe_folder: Path) -> None:
        self.check_judges()

    def foreign(self) -> list[str]:
        return self.foreign_judges()

    def accept(self, manifest: Manifest) -> None:
        self.check_unjudged(self.name, manifest)

    def run(self, job: Job) -> None:
        sets = self._sets(job)
        models = job.models("models")
        answers = Answers()
        throughput = []
        for model in models:
            for each in sets:
                for temperature in each.temperatures:
                    throughput += self._ask(model, each, temperature, answers, job, _total(models, sets))
            if any(len(each.caps) > 1 and not answers.lengths_known(model.name, each) for each in sets):
                job.warn(f"{model.name}: its engine counts no tokens, so no lower max_tokens can be told")
        answers.write(job)
        scores = {model.name: dict(self._scores(model.name, sets, answers, job)) for model in models}
        domains = {problem.domain for each in sets for problem in each.problems}
        judges = {domain: judge for each in sets for domain, judge in each.verifiers.items()}
        job.out.summary = {
            "scores": {
                model: {name: found.as_json() for name, found in each.items()}
                for model, each in scores.items()
            },
            "gamma": [gamma for each in sets for gamma in self._gammas(each, answers)],
            "settings": settings(sets[0].sampling, judges, domains)
            | {
                "n": {each.name: each.n for each in sets},
                "benchmarks": {each.name: each.settings for each in sets},
            },
            **answers.summary(sets, models, self._base),
        }
        if self.complexity is not None:
            names = [model.name for model in models]
            job.out.summary["complexity"] = answers.complexity(sets, names, self.complexity)
            if not job.out.summary["complexity"]["rows"]:
                job.warn(f"complexity: no problem carries a number {self.complexity.field}")
        job.out.telemetry |= answers.spending.as_telemetry() | {"throughput": throughput}

    def _ask(
        self, model: Model, given: ProblemSet, temperature: float, answers: Answers, job: Job, total: int
    ) -> list[dict[str, Any]]:
        """Draw and judge; returns how fast that was, empty where all of it was known."""
        sampling, n = given.at(temperature)
        plan = Plan.of(sampling, model, given.problems, n, job.seed)
        progress = _onward(job.progress, answers.samples, total, model.name)
        with drawn(plan, model, job.store, progress, job.warn, replicas=job.replicas) as found:
            traces: list[Trace] = sorted(found.traces(), key=lambda trace: trace.id)
            sampled, facts = found.sampled, found.facts
        warn_failed(traces, job.warn)
        answers.spending.add(traces)
        judged = self.judge(traces, given.verifiers)
        if temperature == given.temperatures[0]:
            answers.add(model.name, given, traces, judged)
        else:
            answers.add_swept(model.name, given, temperature, traces, judged)
        where = {"model": model.name, "benchmark": given.name, "temperature": temperature, "sampled": sampled}
        return [where | facts] if sampled else []

    def _sets(self, job: Job) -> list[ProblemSet]:
        """What to score on; what both wires name counts once."""
        found = {}
        for end in [*job.inputs.get("problems", []), *job.inputs.get("benchmarks", [])]:
            made = self._made(job, end) if end.artifact else self._built_in(job, end)
            require_rows(len(made.problems), f"{self.name}: {end.name}", "give it problems to score on")
            found[end.name] = made
        return list(found.values())

    def _made(self, job: Job, end: Input) -> ProblemSet:
        """The problems of a stage, judged as the recipe says."""
        rows = job.store.open(end.artifact or "", end.name).rows()
        problems = sorted((problem_of(row) for row in rows), key=lambda problem: problem.id)
        own = self.use(end.name).verifier
        judges = {problem.domain: own or job.verifiers[problem.domain] for problem in problems}
        return self._set(end.name, problems, judges, {"verifier": own.kind} if own else {})

    def _built_in(self, job: Job, end: Input) -> ProblemSet:
        """A benchmark of the Hub at its commit, judged as its own file says."""
        declared = self.declared(end.name) or built_in.named(end.name)
        template = self.use(end.name).template or self.template or declared.template
        reading = Reading(end.name, declared, template in PLAIN or isinstance(template, TemplateFile))
        own = self.use(end.name).verifier or declared.verifier
        facts = {"verifier": own.kind, "hub": declared.hub, "commit": end.revision}
        problems = reading.problems(end.revision or "", job.warn)
        return self._set(end.name, problems, {declared.domain: own}, facts)

    def _set(
        self, name: str, problems: list[Problem], judges: Mapping[str, Verifier], facts: dict[str, Any]
    ) -> ProblemSet:
        temperatures, caps = self.temperatures(name), self.caps(name)
        sampling, some = self.sampling(name, temperatures, caps), problems[: self.limit]
        return ProblemSet(name, some, self.samples(name), sampling, temperatures, caps, judges, facts)

    def _scores(
        self, model: str, sets: list[ProblemSet], answers: Answers, job: Job
    ) -> Iterator[tuple[str, Estimate]]:
        for each in sets:
            groups, votes = answers.groups[model, each.name], answers.ballots[model, each.name]
            found = metrics(groups, self._ks(each), each.verifiers, ballots=votes)
            cut = found.get("truncated")
            if cut is not None and (cut.value or 0) > CUT_SHARE:
                job.warn(
                    f"{model} on {each.name}: max_tokens {each.caps[-1]:,} cut {cut.value:.1%} of the completions, "
                    "so it scores too low; raise it"
                )
            head = f"{each.name}/" if len(sets) > 1 else ""
            yield from ((head + metric, estimate) for metric, estimate in found.items())

    def _ks(self, given: ProblemSet) -> list[int]:
        if self.k is not None:
            return sorted(k for k in set(self.k) if k <= given.n)
        largest = largest_k(given.n)
        return [largest] if largest else []

    def _gammas(self, given: ProblemSet, answers: Answers) -> Iterator[dict[str, Any]]:
        """Gamma as realised with the largest k up to n/2: an estimate and its {model, base, benchmark, k}."""
        k = max((k for k in self._ks(given) if 2 * k <= given.n), default=None)
        if k is None:
            return
        before = answers.groups[self._base, given.name]
        for model in [self.trained] if self.trained else [each for each in self.models if each != self._base]:
            found = realised_gamma(before, answers.groups[model, given.name], k)
            yield {"model": model, "base": self._base, "benchmark": given.name, "k": k} | found.as_json()


def _total(models: Sequence[Model], sets: Sequence[ProblemSet]) -> int:
    return len(models) * sum(each.samples for each in sets)


def _onward(progress: Progress, before: int, whole: int, model: str) -> Progress:
    """The progress of one of several draws, told as part of all of them."""

    def tell(done: int, total: int, **facts: Any) -> None:
        progress(before + done, whole, **{**facts, "model": model})

    return tell
