"""What rewards read: the completions of one generation as traces, each read, judged and described once.

However many rewards ask, and however often a model says the same, a completion is graded once: the gate of a dataset,
the reward and the metric of an evaluation are one verifier, so that they cannot drift apart.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from distillkit.measures.base import Labels
from distillkit.measures.language import Language
from distillkit.text import is_formatted
from distillkit.trace import Problem, Trace, to_row
from distillkit.verifiers.base import Verifier

if TYPE_CHECKING:
    from distillkit.training.rewards.classifier import Classifier

T = TypeVar("T")

Scores = list[float | None]
"""One per completion, in order; None: no opinion, TRL leaves it out of the sum."""

COLUMNS = ("id", "reference", "domain", "source", "language")

RATE = "rate"
"""Further column: the base's pass rate in the screening, None where it is not known."""


def dataset_row(problem: Problem, rate: float | None = None) -> dict[str, Any]:
    """A row of the dataset for GRPOTrainer: `prompt`, and the columns that the rewards read."""
    row = to_row(problem)
    return {"prompt": row["messages"], **{name: row[name] for name in COLUMNS}, RATE: rate}


@dataclass(frozen=True)
class Circumstance:
    """What rewards know of the training that they pay for.

    prefilled: whether the template opened `<think>`, so that the completions do not.
    end_ids: tokens that end a completion; one of full length without them at its end was cut off.
    stop: texts that end a completion too.
    """

    prefilled: bool
    max_completion_length: int
    end_ids: frozenset[int]
    stop: tuple[str, ...] = ()
    verifiers: Mapping[str, Verifier] = field(default_factory=dict)
    models: "Mapping[str, Classifier]" = field(default_factory=dict)
    """Reward models by the name that the recipe gives them."""
    gate: Callable[[str], bool] = lambda domain: False
    """Whether an answer to a problem of this domain counts only in the form of R1."""

    def traces(
        self,
        prompts: Sequence[Any],
        completions: Sequence[str],
        token_ids: Sequence[Sequence[int]],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[Trace]:
        """What TRL generated for rows of the dataset; equal completions of a problem are one and the same trace."""
        made: dict[tuple[Any, ...], Trace] = {}
        found = []
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
        for prompt, text, ids, values in zip(prompts, completions, token_ids, rows, strict=True):
            ended = len(ids) < self.max_completion_length or ids[-1] in self.end_ids
            key = values, text, len(ids), ended
            if key not in made:
                row = dict(zip(COLUMNS, values, strict=True))
                made[key] = self._trace(row, prompt, text, len(ids), ended=ended)
            found.append(made[key])
        return found

    def _trace(
        self, row: Mapping[str, Any], prompt: Any, completion: str, tokens: int, *, ended: bool
    ) -> Trace:
        stopped = bool(self.stop) and completion.rstrip().endswith(self.stop)
        problem = Problem(prompt, **{**row, "reference": json.loads(row["reference"])})
        return Trace.of(
            problem,
            completion,
            prefilled=self.prefilled,
            finish_reason="stop" if ended or stopped else "length",
            completion_tokens=tokens,
        )


@dataclass
class Batch:
    """The completions of one generation, in order."""

    traces: list[Trace]
    """Rows that share a trace share what is thought of it."""
    token_ids: Sequence[Sequence[int]]
    rates: Sequence[float | None]
    """The base's pass rate on the problem of each, where it was screened."""
    circumstance: Circumstance
    step: int
    """The step that they are for, from 1."""
    log: Callable[[str, float], None]
    """Tells TRL a metric of this batch."""
    _languages: dict[int, Labels] = field(default_factory=dict)
    _verdicts: dict[int, float | None] = field(default_factory=dict)
    _judging: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def firsts(self) -> list[int]:
        """For each row the first one of the same trace."""
        first: dict[int, int] = {}
        return [first.setdefault(id(trace), row) for row, trace in enumerate(self.traces)]

    def of_each(self, say: Callable[[Trace], T]) -> list[T]:
        """What a function says of each trace, asked once about those that are the same."""
        said = {first: say(self.traces[first]) for first in dict.fromkeys(self.firsts)}
        return [said[first] for first in self.firsts]

    def language(self, row: int) -> Labels:
        """Labels of the measure `language`, for the metric and the reward alike."""
        first = self.firsts[row]
        if first not in self._languages:
            self._languages[first] = Language().measure(self.traces[first])
        return self._languages[first]

    @cached_property
    def formatted(self) -> list[bool]:
        """Whether each has the form of R1: reasoning in its tags, then an answer, and nothing else."""
        return self.of_each(lambda trace: is_formatted(trace.completion, self.circumstance.prefilled))

    def verdicts(self, rows: Sequence[int]) -> Scores:
        """Scores of these completions by the verifier of their domain; each is judged once, whoever asks."""
        judged = [self._judged(row) for row in rows]
        with self._judging:  # rewards wait for their verifiers in threads of their own
            missing = [row for row in dict.fromkeys(judged) if row not in self._verdicts]
            scores = accuracy([self.traces[row] for row in missing], self.circumstance.verifiers)
            self._verdicts |= zip(missing, scores, strict=True)
        return [self._verdicts[row] for row in judged]

    def _judged(self, row: int) -> int:
        """The row whose verdict this one has: its own where the traces of a problem vote, for each has a vote."""
        verifier = self.circumstance.verifiers.get(self.traces[row].domain)
        return row if verifier is None or not verifier.alone else self.firsts[row]

    def gated(self, rows: Sequence[int]) -> Scores:
        """The verdicts, 0 where the form is asked for and missing; what could not be judged stays None."""
        gate = self.circumstance.gate
        return [
            0.0 if score and not self.formatted[row] and gate(self.traces[row].domain) else score
            for row, score in zip(rows, self.verdicts(rows), strict=True)
        ]


def accuracy(traces: Sequence[Trace], verifiers: Mapping[str, Verifier]) -> Scores:
    """The verdicts' scores; None where the verifier could not judge, or the domain has none."""
    scores: Scores = [None] * len(traces)
    for domain in {trace.domain for trace in traces} & set(verifiers):
        rows = [row for row, trace in enumerate(traces) if trace.domain == domain]
        for row, verdict in zip(
            rows, verifiers[domain].grade_all([traces[row] for row in rows]), strict=True
        ):
            scores[row] = verdict.score
    return scores
