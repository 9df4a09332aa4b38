"""What the probes share: the model and completions that they look at, and the form of what they find."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from distillkit.artifact import Model
from distillkit.sampling import Sampling
from distillkit.sampling.resume import Start, resume
from distillkit.scoring import SHARE, Estimate, Judged, mean_over
from distillkit.stages.base import Job
from distillkit.stages.forcing import Forcing, Thinking
from distillkit.stages.scored import ProblemSet
from distillkit.trace import Trace
from distillkit.verifiers.base import Verifier

Judge = Callable[[Sequence[Trace]], list[Judged]]


@dataclass(frozen=True)
class Case:
    """One model, its completions, and the means to let it go on from other texts."""

    given: ProblemSet
    """What it was asked, and how; what is resumed is sampled and judged alike."""
    model: Model
    traces: Sequence[Trace]
    judged: dict[str, Judged]
    """By trace id."""
    judge: Judge
    thinking: dict[str, Thinking]
    """By trace id; empty where no probe cuts or changes the thinking."""
    force: Forcing
    job: Job
    curves: dict[str, list[float | None]] | None = None
    """Those of the training that made the model; None where none did."""

    @property
    def sampling(self) -> Sampling:
        return self.given.sampling

    def resume(self, starts: Sequence[Start]) -> dict[str, Trace]:
        """What the model makes of each start, by its id."""
        if not starts:
            return {}
        job = self.job
        return resume(
            self.sampling, self.model, starts, job.seed, job.store, job.progress, job.warn, job.replicas
        )

    def verifier(self, trace: Trace) -> Verifier:
        return self.given.verifiers[trace.domain]

    def same(self, trace: Trace, answer: str | None, other: str | None) -> bool:
        """Whether two answers to a trace's problem are one; None is no answer, and like no other."""
        return answer is not None and other is not None and self.verifier(trace).same(answer, other)

    def subjects(self) -> "tuple[list[Trace], Counter[str]]":
        """Traces that reasoned and answered, and why the others cannot be probed."""
        found, skipped = [], Counter[str]()
        for trace in self.traces:
            why = self._unfit(trace)
            if why:
                skipped[why] += 1
            else:
                found.append(trace)
        return found, skipped

    def _unfit(self, trace: Trace) -> str | None:
        if trace.finish_reason in ("length", "error"):
            return "unfinished"
        if not self.verifier(trace).votes:
            return "not_comparable"
        if self.judged[trace.id].answer is None:
            return "no_answer"
        return None if self.thinking[trace.id].tokens else "no_reasoning"


class Other(NamedTuple):
    """A trace that a probe let the model write."""

    variant: str
    trace: Trace
    judged: Judged


@dataclass
class Finding:
    """What a probe found out about a model: its summary as JSON, and the traces that it rests on."""

    summary: dict[str, Any]
    others: list[Other] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    """{name, text} each."""


def over_problems(
    values: Iterable[tuple[str, float]], bounds: tuple[float, float] | None = SHARE
) -> Estimate:
    """The mean of (problem id, value) pairs, first over a problem's samples, then over problems."""
    columns: dict[str, list[float]] = {}
    for problem, value in values:
        columns.setdefault(problem, []).append(float(value))
    means = [fmean(columns[problem]) for problem in sorted(columns)]
    return mean_over(means, sum(map(len, columns.values())), bounds)


def percent(share: float) -> str:
    """A share to be read in a warning."""
    return f"{share:.0%}"
