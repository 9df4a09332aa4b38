"""What GRPO is paid for: the recipe's own verifiers, form, language; each a callable as TRL wants it.

The gate of a dataset, the reward and the metric of an evaluation are one verifier, so that they cannot drift
apart. Beside the rewards every batch is described (language mixing, reflection), as curves for the report.

Sources: DeepSeek-R1, arXiv:2501.12948v2, section 2.2.2 (accuracy and format), 3.2.1 equation 7 (language);
DAPO, arXiv:2503.14476, equation 13 (overlong).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from distillkit.measures.base import Labels
from distillkit.measures.language import Language
from distillkit.measures.reflection import Reflection
from distillkit.text import is_formatted, split_think
from distillkit.trace import Problem, Trace, to_row
from distillkit.verifiers import AnyVerifier

RewardName = Literal["accuracy", "format", "language", "overlong"]

Scores = list[float | None]
"""One per completion, in order; None: no opinion, TRL leaves it out of the sum."""

OVERLONG_SHARE = 0.2
"""Last part of max_completion_length, over which a reward falls from 0 to -1; DAPO's 4,096 of 20,480."""

COLUMNS = ("id", "reference", "domain", "source", "language")

METRICS = ("mixed_language", "reflections", "reasoned", "truncated")
"""Names of what `Batch.describe` gives."""


def dataset_row(problem: Problem) -> dict[str, Any]:
    """A row of the dataset for GRPOTrainer: `prompt`, and the columns that the rewards read."""
    row = to_row(problem)
    return {"prompt": row["messages"], **{name: row[name] for name in COLUMNS}}


@dataclass
class Batch:
    """The completions of one generation as traces, in order."""

    traces: list[Trace]

    @cached_property
    def language(self) -> list[Labels]:
        """Labels of the measure `language`, for the metric and the reward alike."""
        return Language().measure_all(self.traces)

    def describe(self) -> dict[str, float]:
        """Means: share that mixes languages, reflections per trace, shares with reasoning and cut off."""
        columns: dict[str, list[float]] = {
            "mixed_language": [labels["mixed"] for labels in self.language],
            "reflections": [labels["count"] for labels in Reflection().measure_all(self.traces)],
            "reasoned": [bool(trace.reasoning) for trace in self.traces],
            "truncated": [trace.finish_reason == "length" for trace in self.traces],
        }
        return {name: sum(column) / len(column) for name, column in columns.items()}


class Rollouts:
    """Turns what TRL hands to a reward into traces, and tells TRL what they are like.

    prefilled: whether the template opened `<think>`, so that the completions do not.
    end_ids: tokens that end a completion; one of full length without them at its end was cut off.
    """

    def __init__(self, *, prefilled: bool, max_completion_length: int, end_ids: frozenset[int]) -> None:
        self.prefilled = prefilled
        self.max_completion_length = max_completion_length
        self.end_ids = end_ids
        self._seen: Any = None
        self._batch = Batch([])

    def read(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        log_metric: Callable[[str, float], None],
        **columns: Sequence[Any],
    ) -> Batch:
        """A batch of TRL's, read once however many rewards ask for it."""
        if completions is not self._seen:
            values = zip(*(columns[name] for name in COLUMNS), strict=True)
            rows = [dict(zip(COLUMNS, row, strict=True)) for row in values]
            texts = [completion[0]["content"] for completion in completions]
            self._seen = completions
            self._batch = Batch(list(map(self._trace, prompts, texts, completion_ids, rows)))
            for name, value in self._batch.describe().items():
                log_metric(name, value)
        return self._batch

    def _trace(self, prompt: Any, completion: str, ids: Sequence[int], row: dict[str, Any]) -> Trace:
        reasoning, response = split_think(completion, self.prefilled)
        cut = len(ids) >= self.max_completion_length and ids[-1] not in self.end_ids
        return Trace(
            problem_id=row["id"],
            messages=prompt,
            completion=completion,
            reasoning=reasoning,
            response=response,
            reference=json.loads(row["reference"]),
            domain=row["domain"],
            source=row["source"],
            language=row["language"],
            finish_reason="length" if cut else "stop",
            completion_tokens=len(ids),
        )


class Reward:
    """One reward function for TRL, which names its metrics by `__name__`."""

    def __init__(self, name: str, rollouts: Rollouts, score: Callable[[Batch], Scores]) -> None:
        self.__name__ = name
        self.rollouts = rollouts
        self.score = score

    def __call__(self, *, trainer_state: Any = None, log_extra: Any = None, **batch: Any) -> Scores:
        return self.score(self.rollouts.read(**batch))


def rewards_of(
    names: Sequence[RewardName], rollouts: Rollouts, verifiers: Mapping[str, AnyVerifier]
) -> list[Reward]:
    """The reward functions of these names, in order."""
    limit, prefilled = rollouts.max_completion_length, rollouts.prefilled
    scores: dict[RewardName, Callable[[Batch], Scores]] = {
        "accuracy": lambda batch: accuracy(batch.traces, verifiers),
        "format": lambda batch: [float(is_formatted(each.completion, prefilled)) for each in batch.traces],
        "language": language,
        "overlong": lambda batch: overlong(batch.traces, limit),
    }
    return [Reward(name, rollouts, scores[name]) for name in names]


def accuracy(traces: Sequence[Trace], verifiers: Mapping[str, AnyVerifier]) -> Scores:
    """The verdicts' scores; None where the verifier could not judge, or the domain has none."""
    scores: Scores = [None] * len(traces)
    for domain, verifier in verifiers.items():
        rows = [row for row, trace in enumerate(traces) if trace.domain == domain]
        for row, verdict in zip(rows, verifier.grade_all([traces[row] for row in rows]), strict=True):
            scores[row] = verdict.score
    return scores


def language(batch: Batch) -> Scores:
    """Share of the reasoning's words in the problem's language; 0.0 where there is no reasoning."""
    return [
        float(labels["share"]) if trace.reasoning else 0.0
        for trace, labels in zip(batch.traces, batch.language, strict=True)
    ]


def overlong(traces: Sequence[Trace], max_completion_length: int) -> Scores:
    """DAPO's soft punishment of completions near the limit, -1 to 0."""
    from trl.rewards import get_soft_overlong_punishment

    buffer = round(OVERLONG_SHARE * max_completion_length)
    punish = get_soft_overlong_punishment(max_completion_length, buffer)
    lengths = [range(trace.completion_tokens or 0) for trace in traces]
    return [float(score) for score in punish(completion_ids=lengths)]
