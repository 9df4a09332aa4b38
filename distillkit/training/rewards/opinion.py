"""Rewards by a model's opinion: a reward model's output, a judge's mark. Both can be gamed, and are marked so.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 2.3.4: helpfulness is read off the final summary only,
harmlessness off the whole response.
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from distillkit.spec import EXECUTION
from distillkit.training.rewards.base import Reward
from distillkit.training.rewards.batch import Batch, Scores
from distillkit.verifiers.judge import Judge


class RewardModel(Reward):
    """The output of a sequence classifier: {kind: reward_model, model: helpful, on: response}."""

    waits: ClassVar[bool] = True
    learned: ClassVar[bool] = True

    kind: Literal["reward_model"] = "reward_model"
    model: Annotated[str, EXECUTION]
    """A stage of the recipe, org/name[@rev] on the Hub, or ./folder; one output."""
    on: Literal["response", "completion"] = "completion"
    """What it is shown: what follows `</think>`, or all of it."""
    squash: Literal["none", "sigmoid"] = "none"
    """Whether its output is paid as it is, or pressed into 0 to 1, so that no single one can outweigh the others."""

    @property
    def label(self) -> str:
        return self.model.partition("@")[0].rstrip("/").rpartition("/")[2]

    def names(self) -> list[str]:
        return [self.model]

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        traces = [batch.traces[row] for row in rows]
        texts = [each.response if self.on == "response" else each.said for each in traces]
        shown = [
            [*trace.messages, {"role": "assistant", "content": text}]
            for trace, text in zip(traces, texts, strict=True)
        ]
        outputs = batch.circumstance.models[self.model].scores(shown)
        return (
            outputs
            if self.squash == "none"
            else [None if each is None else _sigmoid(each) for each in outputs]
        )


class JudgeReward(Judge, Reward):
    """The mark of a language model behind an endpoint, 0 to 1; its fields are those of the verifier `judge`."""

    waits: ClassVar[bool] = True

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        return [verdict.score for verdict in self.grade_all([batch.traces[row] for row in rows])]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, value))))
