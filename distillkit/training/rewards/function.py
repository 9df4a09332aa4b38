"""Rewards as TRL calls them: functions of a batch, named for its metrics; those that wait run side by side."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distillkit.training.rewards.base import Reward
from distillkit.training.rewards.batch import RATE, Batch, Circumstance, Scores
from distillkit.training.rewards.description import of_texts


class Rollouts:
    """Turns what TRL hands to its rewards into a batch, once however many ask, and tells TRL what it is like."""

    def __init__(self, circumstance: Circumstance) -> None:
        self.circumstance = circumstance
        self._seen: Any = None
        self._batch: Batch | None = None

    def read(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        log_metric: Callable[[str, float], None],
        trainer_state: Any = None,
        **columns: Sequence[Any],
    ) -> Batch:
        """A batch of TRL's."""
        if completions is not self._seen or self._batch is None:
            texts = [completion[0]["content"] for completion in completions]
            traces = self.circumstance.traces(prompts, texts, completion_ids, columns)
            step = trainer_state.global_step + 1 if trainer_state is not None else 0
            rates = columns.get(RATE) or [None] * len(traces)
            self._seen = completions
            self._batch = Batch(traces, completion_ids, rates, self.circumstance, step, log_metric)
            for name, value in of_texts(self._batch).items():
                log_metric(name, value)
        return self._batch


class Function:
    """One reward function for TRL, which names its metrics by `__name__`."""

    def __init__(self, name: str, reward: Reward, rollouts: Rollouts) -> None:
        self.__name__ = name
        self.reward = reward
        self.rollouts = rollouts

    def __call__(self, *, log_extra: Any = None, **batch: Any) -> Scores:
        return self.scores(self.rollouts.read(**batch))

    def scores(self, batch: Batch) -> Scores:
        """One per completion; None where the reward is not for the domain."""
        rows = [row for row, trace in enumerate(batch.traces) if self.reward.applies(trace.domain)]
        found: Scores = [None] * len(batch.traces)
        if rows:
            for row, score in zip(rows, self.reward.score(batch, rows), strict=True):
                found[row] = score
        return found


class Waiting(Function):
    """A reward that waits for workers or a server; TRL runs all of them at once."""

    async def __call__(self, *, log_extra: Any = None, **batch: Any) -> Scores:  # type: ignore[override]
        return await asyncio.to_thread(self.scores, self.rollouts.read(**batch))


def functions_of(rewards: Mapping[str, Reward], rollouts: Rollouts) -> list[Function]:
    """The functions of these rewards, in order."""
    return [
        (Waiting if reward.waits else Function)(name, reward, rollouts) for name, reward in rewards.items()
    ]
