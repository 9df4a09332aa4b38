"""The contract of a reward: a batch of completions in, one number each out, or None where it has no opinion."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from distillkit.spec import Naming
from distillkit.training.rewards.batch import Batch, Scores


class Reward(Naming):
    """Base of all rewards. A subclass declares `kind` and its fields and writes `score`."""

    waits: ClassVar[bool] = False
    """Whether it waits for something outside of this thread (workers, a server): such rewards overlap."""
    learned: ClassVar[bool] = False
    """Whether a model's opinion pays: then it can be gamed, and whatever was trained by it says so."""
    verifies: ClassVar[bool] = False
    """Whether it asks the recipe's verifiers."""

    kind: Any
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Factor of it in the sum of the rewards; 0 only shows it."""
    domains: Annotated[list[str] | None, Field(min_length=1)] = None
    """Domains of the problems that it is for; for others it has no opinion. Left out: all."""

    @property
    def label(self) -> str:
        """Its name in curves and completions, where no other reward has the same."""
        return str(self.kind)

    def applies(self, domain: str) -> bool:
        """Whether it has an opinion on completions of this domain."""
        return self.domains is None or domain in self.domains

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        """One score for each of these rows of the batch, all of domains that it is for.

        Raises StageError where it cannot go on; the text names the reward, the step and the row.
        """
        raise NotImplementedError

    def check(self) -> list[str]:
        """Refuse what cannot work on this machine; no network, no heavy import."""
        return []

    def foreign(self) -> list[str]:
        """What in it would run code of the recipe's author, one phrase each."""
        return []

    def reach(self) -> None:
        """Raises MissingError for a server that is not there; asked once, before a run makes anything."""

    def close(self) -> None:
        """End worker processes."""


def named(rewards: Sequence[Reward]) -> dict[str, Reward]:
    """The rewards by name, in order: their labels, a second one of a label with `_2` and so on."""
    found: dict[str, Reward] = {}
    for reward in rewards:
        label = re.sub(r"\W+", "_", reward.label).strip("_") or str(reward.kind)
        taken = sum(name == label or re.fullmatch(rf"{label}_\d+", name) is not None for name in found)
        found[label if taken == 0 else f"{label}_{taken + 1}"] = reward
    return found
