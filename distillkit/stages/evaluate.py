"""Score models on held-out problems: pass@1, pass@k, cons@k, lengths, language mixing, and gamma as realised.

All models answer the same problems with the same settings, every completion is kept, and no number stands
without its interval, its samples and its settings: a score that lacks them cannot be compared with any other.

Source: pass@1 as the mean over n samples, and the majority vote, as in DeepSeek-R1, arXiv:2501.12948v1, 3.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Model
from distillkit.events import Progress
from distillkit.sampling import Plan, drawn
from distillkit.scoring import Estimate, largest_k, metrics, realised_gamma, settings, warn_failed
from distillkit.stages.answers import Answers
from distillkit.stages.base import Job
from distillkit.stages.scored import Cap, Complexity, ProblemSet, Scored, Temperature
from distillkit.trace import Trace

CUT_SHARE = 0.02
"""From this share of cut completions on, a score says more about the cap than about the model."""


class Evaluate(Scored):
    """Models and problems in; scores out, with every completion and verdict beside them.

    Tables: `completions` (traces), `verdicts` (by trace id), `problems` (n, correct, pass_rate and votes of each
    problem, benchmark and model), and `swept_completions`, `swept_verdicts` of further temperatures.

    Summary: `scores` {model: {metric: estimate}}, a metric is named `pass@1`, or `<benchmark>/pass@1` with several
    benchmarks; `gamma` (see `_gammas`); `settings`; `differences` of all pairs of models; `reach` (pass@k before and
    after training); `bands` (by the base's pass rate); `curves` (pass@k and cons@k against k); `votes`; `sweeps` by
    temperature and by cap; `complexity`; `cost`; `best`, the model with the highest pass@1.
    """

    VERSION: ClassVar[int] = 3

    kind: Literal["evaluate"] = "evaluate"
    temperature: Temperature | Annotated[list[Temperature], Field(min_length=1)] | None = None  # type: ignore[assignment]
    """Left out: the benchmark's, else 1. A list: the first is what models are compared at, the others make a sweep."""
    max_tokens: Cap | Annotated[list[Cap], Field(min_length=1)] | None = None  # type: ignore[assignment]
    """Left out: the benchmark's. A list: sampled at the largest; what a lower cap would have scored is cut from it."""
    n: int = Field(16, ge=1)
    """Samples per problem; a built-in benchmark has its own."""
    k: list[Annotated[int, Field(ge=2)]] | None = None
    """The k of pass@k and cons@k, none above n. Left out: the largest power of two up to n/2."""
    base: str | None = None
    """Which of the models gamma counts from. Left out: the first."""
    trained: str | None = None
    """Which of the models gamma is of. Left out: each one but the base."""
    complexity: Complexity | None = None
    """A number of the problems (extra.terms), or {field, trained: [least, most]}: accuracy is told against it."""

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        for key, named in (("base", self.base), ("trained", self.trained)):
            if named is not None and named not in self.models:
                raise ValueError(f"{key}: {named} is none of the models ({', '.join(self.models)})")
        if self.trained is not None and self.trained == self._base:
            raise ValueError(f"trained: {self.trained} is the base; name what RL made of it")
        return self

    @model_validator(mode="after")
    def _check_sweeps(self) -> Self:
        for key, given in (("temperature", self.temperature), ("max_tokens", self.max_tokens)):
            if isinstance(given, list) and len(set(given)) < len(given):
                raise ValueError(f"{key}: {given}: a value is there twice")
        return self

    @model_validator(mode="after")
    def _check_k(self) -> Self:
        most = max([self.n, *map(self.samples, self.benchmarks)])
        for k in self.k or []:
            if k > most:
                raise ValueError(f"k: {k} needs {k} samples per problem, n is {most}; raise n or lower k")
        return self

    @property
    def _base(self) -> str:
        return self.base or self.models[0]

    def samples(self, name: str) -> int:
        declared = self.declared(name)
        return self.use(name).n or (declared.n if declared else self.n)

    def run(self, job: Job) -> None:
        sets = self.sets(job)
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
        domains = {domain for each in sets for domain in each.domains}
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
        job.out.telemetry["throughput"] = throughput

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
        judged = self.judge(traces, given.verifiers)
        if temperature == given.temperatures[0]:
            answers.add(model.name, given, traces, judged)
        else:
            answers.add_swept(model.name, given, temperature, traces, judged)
        where = {"model": model.name, "benchmark": given.name, "temperature": temperature, "sampled": sampled}
        return [where | facts] if sampled else []

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
