"""What GRPO is paid for: the recipe's own verifiers, form, language; each a callable as TRL wants it.

The gate of a dataset, the reward and the metric of an evaluation are one verifier, so that they cannot drift
apart. Beside the rewards every batch is described (language mixing, reflection), as curves for the report.

Sources: DeepSeek-R1, arXiv:2501.12948v2, section 2.2.2 (accuracy and format), 3.2.1 equation 7 (language);
DAPO, arXiv:2503.14476, equation 13 (overlong).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from distillkit.measures.language import Language
from distillkit.measures.reflection import Reflection
from distillkit.text import is_formatted, split_think
from distillkit.trace import Problem, Trace, to_row
from distillkit.verifiers import AnyVerifier

RewardName = Literal["accuracy", "format", "language", "overlong"]

Scores = list[float | None]
"""One per completion, in order; None: no opinion, TRL leaves it out of the sum."""

OVERLONG_SHARE = 0.2
"""Of max_completion_length, the last part, in which a completion's reward falls from 0 to -1; DAPO's 4,096 of 20,480."""


def dataset_row(problem: Problem) -> dict[str, Any]:
    """A row of the dataset for GRPOTrainer: `prompt`, and the columns that the rewards read."""
    row = to_row(problem)
    return {"prompt": row.pop("messages")} | {key: row[key] for key in ("id", "reference", "domain", "source", "language")}


@dataclass
class Rollouts:
    """Turns what TRL hands to a reward into traces, once per batch for all rewards, and describes the batch."""

    prefilled: bool
    """Whether the template opened `<think>`, so that the completions do not."""
    max_completion_length: int
    end_ids: frozenset[int]
    """Tokens that end a completion; one of full length without them was cut off."""
    _seen: Any = None
    _traces: list[Trace] = field(default_factory=list)

    def traces(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        log_metric: Callable[[str, float], None],
        **columns: Sequence[Any],
    ) -> list[Trace]:
        """The batch as traces, in order."""
        if completions is not self._seen:
            self._traces = [
                self._trace(prompt, completion[0]["content"], ids, {name: values[row] for name, values in columns.items()})
                for row, (prompt, completion, ids) in enumerate(zip(prompts, completions, completion_ids, strict=True))
            ]
            self._seen = completions
            for name, value in describe(self._traces).items():
                log_metric(name, value)
        return self._traces

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


METRICS = ("mixed", "reflection", "reasoned", "truncated")
"""Names of what `describe` gives."""


def describe(traces: Sequence[Trace]) -> dict[str, float]:
    """Means over a batch: share of traces that mix languages, reflections per trace, shares with reasoning and cut off."""
    language, reflection = Language(), Reflection()
    n = len(traces)
    return {
        "mixed": sum(language.measure(trace)["mixed"] for trace in traces) / n,
        "reflection": sum(reflection.measure(trace)["count"] for trace in traces) / n,
        "reasoned": sum(bool(trace.reasoning) for trace in traces) / n,
        "truncated": sum(trace.finish_reason == "length" for trace in traces) / n,
    }


class Reward:
    """One reward function for TRL, named in its metrics by `__name__`."""

    def __init__(self, name: str, rollouts: Rollouts, score: Callable[[list[Trace]], Scores]) -> None:
        self.__name__ = name
        self.rollouts = rollouts
        self.score = score

    def __call__(self, *, trainer_state: Any = None, log_extra: Any = None, **batch: Any) -> Scores:
        return self.score(self.rollouts.traces(**batch))


def rewards_of(
    names: Sequence[RewardName], rollouts: Rollouts, verifiers: Mapping[str, AnyVerifier]
) -> list[Reward]:
    """The reward functions of these names, in order."""
    scores: dict[RewardName, Callable[[list[Trace]], Scores]] = {
        "accuracy": lambda traces: accuracy(traces, verifiers),
        "format": lambda traces: [float(is_formatted(t.completion, rollouts.prefilled)) for t in traces],
        "language": language,
        "overlong": lambda traces: overlong(traces, rollouts.max_completion_length),
    }
    return [Reward(name, rollouts, scores[name]) for name in names]


def accuracy(traces: Sequence[Trace], verifiers: Mapping[str, AnyVerifier]) -> Scores:
    """The verdicts' scores; None where the verifier could not judge or the domain has none."""
    scores: Scores = [None] * len(traces)
    for domain, verifier in verifiers.items():
        rows = [row for row, trace in enumerate(traces) if trace.domain == domain]
        for row, verdict in zip(rows, verifier.grade_all([traces[row] for row in rows]), strict=True):
            scores[row] = verdict.score
    return scores


def language(traces: Sequence[Trace]) -> Scores:
    """Share of the reasoning's words that are in the problem's language; 0.0 where there is no reasoning."""
    measure = Language()
    return [float(measure.measure(trace)["share"]) if trace.reasoning else 0.0 for trace in traces]


def overlong(traces: Sequence[Trace], max_completion_length: int) -> Scores:
    """DAPO's soft punishment of completions near the limit, -1 to 0."""
    from trl.rewards import get_soft_overlong_punishment

    punish = get_soft_overlong_punishment(max_completion_length, round(OVERLONG_SHARE * max_completion_length))
    found: list[float] = punish(completion_ids=[range(trace.completion_tokens or 0) for trace in traces])
    return [float(score) for score in found]
