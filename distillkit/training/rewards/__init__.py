"""What GRPO is paid for; each kind one class. A new one is its class, its name here, and its test."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from distillkit.errors import nearest
from distillkit.training.rewards.base import Reward, named
from distillkit.training.rewards.batch import (
    COLUMNS,
    Batch,
    Circumstance,
    Scores,
    accuracy,
    dataset_row,
)
from distillkit.training.rewards.description import METRICS, VERDICT_METRICS
from distillkit.training.rewards.function import Function, Rollouts, functions_of
from distillkit.training.rewards.opinion import JudgeReward, RewardModel
from distillkit.training.rewards.python import PythonReward
from distillkit.training.rewards.rule import (
    Accuracy,
    Format,
    LanguageConsistency,
    Length,
    Overlong,
    Repetition,
)

AnyReward = Annotated[
    Accuracy
    | Format
    | LanguageConsistency
    | Repetition
    | Length
    | Overlong
    | RewardModel
    | JudgeReward
    | PythonReward,
    Field(discriminator="kind"),
]

ShortName = Literal["accuracy", "format", "language_consistency", "repetition", "length", "overlong"]
"""Kinds that need no more than a weight."""


def _listed(given: Any) -> Any:
    """`{accuracy: 1.0, format: 0.1}` as the list that it is short for."""
    if not isinstance(given, Mapping):
        return given
    for name in given:
        if name not in get_args(ShortName):
            known = nearest(str(name), get_args(ShortName), f"there are {', '.join(get_args(ShortName))}")
            raise ValueError(
                f"{name!r} is no reward that a weight alone makes{known}, or write a list of rewards"
            )
    return [{"kind": name, "weight": weight} for name, weight in given.items()]


Rewards = Annotated[
    list[AnyReward],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=list[AnyReward] | dict[ShortName, float]),
]
"""A list of rewards; `{accuracy: 1.0, format: 0.1}` is short for a list of kinds and weights."""

__all__ = [
    "COLUMNS",
    "METRICS",
    "VERDICT_METRICS",
    "Accuracy",
    "AnyReward",
    "Batch",
    "Circumstance",
    "Format",
    "Function",
    "JudgeReward",
    "LanguageConsistency",
    "Length",
    "Overlong",
    "PythonReward",
    "Repetition",
    "Reward",
    "RewardModel",
    "Rewards",
    "Rollouts",
    "Scores",
    "accuracy",
    "dataset_row",
    "functions_of",
    "named",
]
