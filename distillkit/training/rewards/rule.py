"""Rewards by rule: the verifiers' verdict, the form of R1, language, repetition, length.

Sources: DeepSeek-R1, arXiv:2501.12948v2, section 2.2.2 (accuracy and format), 3.2.1 equation 7 (language);
Demystifying Long CoT, arXiv:2502.03373, appendices C.1 (length) and C.2 (repetition); DAPO, arXiv:2503.14476,
equation 13 (overlong).
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.training.rewards.base import Reward
from distillkit.training.rewards.batch import Batch, Scores
from distillkit.training.rewards.description import of_verdicts

OVERLONG_SHARE = 0.2
"""Last part of max_completion_length, over which a reward falls from 0 to -1; DAPO's 4,096 of 20,480."""


class Accuracy(Reward):
    """The score of the recipe's verifier for the domain, 0 to 1; None where it could not judge."""

    waits: ClassVar[bool] = True
    verifies: ClassVar[bool] = True

    kind: Literal["accuracy"] = "accuracy"

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        for name, value in of_verdicts(batch, rows, batch.verdicts(rows)).items():
            batch.log(name, value)
        return batch.gated(rows)


class Format(Reward):
    """1 for `<think>..</think>` and then one answer and nothing else, 0 for anything else; knows a prefilled tag."""

    kind: Literal["format"] = "format"
    gate: bool = False
    """Whether accuracy and length count only where the format holds: a form alone is then worth little."""

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        return [float(batch.formatted[row]) for row in rows]


class LanguageConsistency(Reward):
    """Share of the reasoning's words in the problem's language; 0 where there is no reasoning."""

    kind: Literal["language_consistency"] = "language_consistency"

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        return [float(batch.language(row)["share"]) if batch.traces[row].reasoning else 0.0 for row in rows]


class Repetition(Reward):
    """From 0 (no n-gram of tokens twice) towards `max_penalty`; TRL's function."""

    kind: Literal["repetition"] = "repetition"
    ngram_size: Annotated[int, Field(ge=1)] = 3
    max_penalty: Annotated[float, Field(le=0, allow_inf_nan=False)] = -1.0

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        from trl.rewards import get_repetition_penalty_reward

        penalty = get_repetition_penalty_reward(self.ngram_size, self.max_penalty)
        return [float(score) for score in penalty([batch.token_ids[row] for row in rows])]


class Length(Reward):
    """Cosine of the length: a right answer pays less the longer it is, a wrong one costs less.

    TRL's formula on our verdicts: its own function judges by itself, mathematics only, and reads the answer out of
    the reasoning. Beyond `max_length` the value stays (a cosine that goes on would pay the longest again).
    """

    waits: ClassVar[bool] = True
    verifies: ClassVar[bool] = True

    kind: Literal["length"] = "length"
    max_length: Annotated[int | None, Field(ge=1)] = None
    """Tokens at which the cosine ends; left out: max_completion_length."""
    min_wrong: Annotated[float, Field(allow_inf_nan=False)] = -1.0
    """For the shortest wrong answer."""
    max_wrong: Annotated[float, Field(allow_inf_nan=False)] = -0.5
    """For the longest wrong answer."""
    min_right: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    """For the longest right answer."""
    max_right: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """For the shortest right answer."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min_wrong > self.max_wrong or self.min_right > self.max_right:
            raise ValueError("length: min_wrong and min_right must not lie above max_wrong and max_right")
        return self

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        most = self.max_length or batch.circumstance.max_completion_length
        return [
            None if score is None else self.at(score == 1.0, len(batch.token_ids[row]) / most)
            for row, score in zip(rows, batch.gated(rows), strict=True)
        ]

    def at(self, right: bool, share: float) -> float:
        """The reward at this share of the longest length."""
        longest, shortest = (self.min_right, self.max_right) if right else (self.max_wrong, self.min_wrong)
        return longest + (shortest - longest) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


class Overlong(Reward):
    """0, and near the limit down to -1: DAPO's soft punishment; TRL's function."""

    kind: Literal["overlong"] = "overlong"
    buffer: Annotated[int | None, Field(ge=1)] = None
    """Tokens before max_completion_length from which on it falls; left out: a fifth of that."""

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        from trl.rewards import get_soft_overlong_punishment

        most = batch.circumstance.max_completion_length
        punish = get_soft_overlong_punishment(most, self.buffer or round(OVERLONG_SHARE * most))
        return [float(score) for score in punish(completion_ids=[batch.token_ids[row] for row in rows])]
