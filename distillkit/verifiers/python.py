"""A grader of the user's own: one function in one file, run in worker processes.

It gets a trace as a dict and returns a score in [0, 1], a bool, None for "could not judge", or
{"score": ..., "reason": ...} with a reason of the score table.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.errors import RecipeError
from distillkit.pool import Failure, StartError, close_shared, shared
from distillkit.spec import EXECUTION, SourceFile, file_digest
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.grader import CAUSES, row_of, scored
from distillkit.worker import check_function, user_function

log = logging.getLogger(__name__)


class Python(Verifier):
    """Runs `function` of `file` on each trace: {kind: python, file: my_verifier.py, function: grade}."""

    votes: ClassVar[bool] = False

    kind: Literal["python"] = "python"
    file: SourceFile
    """A self-contained Python file; its bytes, not its name, are part of the identity."""
    function: str = "grade"
    """Takes a dict: the columns of a trace, `prompt` and `answer`."""
    cpu_s: Annotated[float, Field(gt=0)] = 10.0
    """CPU seconds that one row may take; beyond it the row counts as not judged."""
    memory_gib: Annotated[float, Field(ge=1)] = 4.0
    """Address space of a worker in GiB."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer, else the whole response: what counts is the function's business."""
        return super().answer(trace) or trace.response.strip() or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        results = self._call([row_of(trace, answer) for trace, answer in answered])
        crashes = [result.detail for result in results if isinstance(result, Failure)]
        if crashes:
            log.warning("%s: failed on %d of %d rows: %s", self.file, len(crashes), len(results), crashes[0])
        return [_verdict(result, answer) for result, (_, answer) in zip(results, answered, strict=True)]

    def check(self) -> list[str]:
        check_function(self.file, self.function)
        return []

    def foreign(self) -> list[str]:
        return [f"runs {self.function}() of {self.file}"]

    def probe(self, trace: Trace) -> Verdict:
        """The verdict on one row, as a trial before a run.

        Raises:
            RecipeError: there is no such function, it fails on the row, or returns what is no score.
        """
        answer = self.answer(trace) or ""
        [result] = self._call([row_of(trace, answer)])
        if isinstance(result, Failure):
            raise RecipeError(
                f"{self.file}: {self.function}() failed on problem {trace.problem_id}: {result.detail}"
            )
        return _verdict(result, answer)

    def close(self) -> None:
        close_shared(grader)

    def _call(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        if not rows:
            return []
        args = (self.file, self.function, file_digest(Path(self.file)))
        pool = shared(grader, args, workers=self.workers, cpu_s=self.cpu_s, memory_gib=self.memory_gib)
        try:
            return pool.map(rows)
        except StartError as error:
            named = self.file in error.why
            raise RecipeError(error.why if named else f"{self.file}: {error.why}") from None


def grader(file: str, function: str, digest: str) -> Callable[[dict[str, Any]], tuple[float | None, str]]:
    """What a worker serves: the user's function, its return value checked and made a (score, reason)."""
    grade = user_function(file, function, digest)
    return lambda row: scored(grade(row))


def _verdict(result: Any, answer: str) -> Verdict:
    if isinstance(result, Failure):
        return Verdict.of(CAUSES[result.cause], answer)
    score, reason = result
    return Verdict(score, reason, answer)
