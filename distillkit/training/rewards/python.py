"""A reward of the user's own: one function in one file, run in worker processes.

It gets a trace as a dict and returns a number of any size, a bool, or None for no opinion.
"""

import logging
import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.errors import RecipeError, StageError
from distillkit.pool import Failure, StartError, close_shared, shared
from distillkit.spec import EXECUTION, SourceFile, file_digest
from distillkit.text import final_answer
from distillkit.training.rewards.base import Reward
from distillkit.training.rewards.batch import Batch, Scores
from distillkit.verifiers.grader import row_of
from distillkit.worker import check_function, user_function

log = logging.getLogger(__name__)


class PythonReward(Reward):
    """Pays what `function` of `file` returns: {kind: python, file: my_reward.py, function: reward}."""

    waits: ClassVar[bool] = True

    kind: Literal["python"] = "python"
    file: SourceFile
    """A self-contained Python file; its bytes, not its name, are part of the identity."""
    function: str = "reward"
    """Takes a dict: the columns of a trace, `prompt` and `answer` (the final answer, "" where there is none)."""
    cpu_s: Annotated[float, Field(gt=0)] = 10.0
    """CPU seconds that one completion may take; beyond it there is no opinion on it."""
    memory_gib: Annotated[float, Field(ge=1)] = 4.0
    """Address space of a worker in GiB."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes; left out: one per CPU."""

    @property
    def label(self) -> str:
        return Path(self.file).stem

    def score(self, batch: Batch, rows: Sequence[int]) -> Scores:
        traces = [batch.traces[row] for row in rows]
        results = self._call([row_of(trace, final_answer(trace.response) or "") for trace in traces])
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Failure) and result.cause == "raised":
                raise StageError(
                    f"reward {self.file}: {self.function}() failed at step {batch.step} on completion {row} "
                    f"(problem {batch.traces[row].problem_id}): {result.detail}"
                )
        lost = [result.detail for result in results if isinstance(result, Failure)]
        if lost:
            log.warning(
                "%s: no opinion on %d of %d completions: %s", self.file, len(lost), len(rows), lost[0]
            )
        return [None if isinstance(result, Failure) else result for result in results]

    def check(self) -> list[str]:
        check_function(self.file, self.function)
        return []

    def foreign(self) -> list[str]:
        return [f"reward runs {self.function}() of {self.file}"]

    def close(self) -> None:
        close_shared(rewarder)

    def _call(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        if not rows:
            return []
        args = (self.file, self.function, file_digest(Path(self.file)))
        pool = shared(rewarder, args, workers=self.workers, cpu_s=self.cpu_s, memory_gib=self.memory_gib)
        try:
            return pool.map(rows)
        except StartError as error:
            raise RecipeError(error.why if self.file in error.why else f"{self.file}: {error.why}") from None


def rewarder(file: str, function: str, digest: str) -> Callable[[dict[str, Any]], float | None]:
    """What a worker serves: the user's function, its return value checked."""
    reward = user_function(file, function, digest)
    return lambda row: number(reward(row))


def number(returned: Any) -> float | None:
    """What a reward gave back, as a number.

    Raises:
        TypeError: for another type, with what is allowed.
        ValueError: for NaN and infinities.
    """
    if returned is None:
        return None
    if not isinstance(returned, numbers.Real):
        raise TypeError(f"returned {type(returned).__name__}; return a number, a bool or None")
    if not math.isfinite(returned):
        raise ValueError(f"returned {returned}; return a finite number, or None for no opinion")
    return float(returned)
