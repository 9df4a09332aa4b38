"""Rewards by a model's opinion: a reward model's output, a judge's mark. Both can be gamed, and are marked so.

A completion that says nothing (reasoning without an end leaves no response) must not pay better than an answer. A
judge's scale has a bottom for it. A reward model's has none, and what it makes of an empty text is anybody's guess;
no opinion would do no better: TRL takes it for 0 in a sum, which is more than a bad answer may get, and where no
other reward is for the domain the completion would teach nothing, so that endless reasoning went unpunished.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 2.3.4: helpfulness is read off the final summary only,
harmlessness off the whole response.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from distillkit.spec import EXECUTION
from distillkit.trace import Trace
from distillkit.training.rewards.base import Reward
from distillkit.training.rewards.batch import Batch, Scores
from distillkit.verifiers.judge import Judge

SILENCE = 1.0
"""So far below the worst answer lies no answer: of outputs that are log-odds (Bradley-Terry), 1 means that the worst
answer would be liked better in 73 % of comparisons."""


class RewardModel(Reward):
    """The output of a sequence classifier: {kind: reward_model, model: helpful, on: response}.

    An empty text is not shown to it: it pays SILENCE less than the lowest output for that problem's completions in the
    batch (of this process), and 0 where outputs are pressed into 0 to 1.
    """

    VERSION: ClassVar[int] = 2

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
        texts = {row: self._shown(batch.traces[row]) for row in {batch.firsts[row] for row in rows}}
        spoken = sorted(row for row, text in texts.items() if text.strip())
        shown = [
            [*batch.traces[row].messages, {"role": "assistant", "content": texts[row]}] for row in spoken
        ]
        outputs = batch.circumstance.models[self.model].scores(shown)
        paid = {row: self._pressed(output) for row, output in zip(spoken, outputs, strict=True)}
        answers: dict[str, list[float]] = defaultdict(list)
        for row, output in paid.items():
            if output is not None:
                answers[batch.traces[row].problem_id].append(output)
        for row in texts.keys() - paid.keys():
            paid[row] = self._silence(answers[batch.traces[row].problem_id])
        return [paid[batch.firsts[row]] for row in rows]

    def _pressed(self, output: float | None) -> float | None:
        return output if output is None or self.squash == "none" else _sigmoid(output)

    def _silence(self, answers: Sequence[float]) -> float:
        """What an empty text pays where the answers to its problem pay this; a negative weight turns it around."""
        if self.squash == "sigmoid":
            return 0.0 if self.weight >= 0 else 1.0
        if self.weight >= 0:
            return min(answers, default=0.0) - SILENCE
        return max(answers, default=0.0) + SILENCE

    def _shown(self, trace: Trace) -> str:
        return trace.response if self.on == "response" else trace.said


class JudgeReward(Judge, Reward):
    """The mark of a language model behind an endpoint, 0 to 1; its fields are those of the verifier `judge`.

    A completion that was cut off, or of which there is nothing to show, is not shown and pays 0.
    """

    waits: ClassVar[bool] = True

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        return [verdict.score for verdict in self.grade_all([batch.traces[row] for row in rows])]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, value))))
