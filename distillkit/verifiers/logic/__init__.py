"""The puzzles and drills of reasoning-gym, by the package's own scorers: only full marks count.

Its scorers pay partial credit for wrong text and one pays full marks for any text, so a task is tried with junk
before it is trusted. They run in worker processes: they raise, hang, and evaluate what a model wrote.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from distillkit import text
from distillkit.errors import MissingError
from distillkit.pool import Failure, close_shared, shared
from distillkit.spec import EXECUTION
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.grader import CAUSES
from distillkit.verifiers.logic.gym import serve_scores

_WORDS = re.compile(r"\s*\\(?:text|texttt|textbf|mathrm|mathtt)\{([^{}]*)\}\s*")


class Logic(Verifier):
    """Correct when the task's scorer gives 1.0.

    A reference is what a problems stage with `logic:` makes:
    {"task": "gcd", "settings": {}, "answer": "6", "metadata": {...}}.
    """

    kind: Literal["logic"] = "logic"
    whole_response: bool = False
    """Whether a response without box, tag or marker is an answer as it stands."""
    cpu_s: Annotated[float, Field(gt=0)] = 10.0
    """CPU seconds that scoring one answer may take; beyond it the row counts as not judged."""
    memory_gib: Annotated[float, Field(ge=1)] = 4.0
    """Address space of a worker in GiB."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        found = super().answer(trace)
        if found is None and self.whole_response:
            found = trace.response.strip()
        return found or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        results = self._ask([(trace.reference, plain(answer)) for trace, answer in answered])
        return [_verdict(result, answer) for result, (_, answer) in zip(results, answered, strict=True)]

    def same(self, a: str, b: str) -> bool:
        return text.normalise(plain(a)) == text.normalise(plain(b))

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        results = self._ask([(reference, None) for reference in references])
        return [
            f"its scorer failed: {each.detail}" if isinstance(each, Failure) else each for each in results
        ]

    def check(self) -> list[str]:
        check_package()
        return []

    def close(self) -> None:
        close_shared(serve_scores)

    def _ask(self, pairs: Sequence[tuple[Any, str | None]]) -> list[Any]:
        """Of each reference and answer: right or wrong, or a text that says why the reference is none."""
        results: list[Any] = [_complaint(reference) for reference, _ in pairs]
        sound = [row for row, complaint in enumerate(results) if complaint is None]
        if sound:
            check_package()
            pool = shared(serve_scores, workers=self.workers, cpu_s=self.cpu_s, memory_gib=self.memory_gib)
            for row, result in zip(sound, pool.map([_question(*pairs[row]) for row in sound]), strict=True):
                results[row] = result
        return results


def check_package() -> None:
    """Raises MissingError where reasoning-gym is not installed."""
    if find_spec("reasoning_gym") is None:
        raise MissingError("reasoning-gym is not installed; pip install 'distillkit[logic]'")


def reference_of(task: str, settings: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """What an answer to an entry of the package is judged against."""
    return {"task": task, "settings": settings, "answer": entry["answer"], "metadata": entry["metadata"]}


def plain(answer: str) -> str:
    r"""The answer without a \text{...} around all of it: models dress words up in a box."""
    words = _WORDS.fullmatch(answer)
    return (words[1] if words else answer).strip()


def _complaint(reference: Any) -> str | None:
    match reference:
        case {"task": str(), "settings": dict(), "answer": str() | None, "metadata": dict()}:
            return None
    return "not a reference of logic: it must be an object with task, settings, answer and metadata"


def _question(reference: dict[str, Any], answer: str | None) -> list[Any]:
    entry = {"answer": reference["answer"], "metadata": reference["metadata"]}
    return [reference["task"], reference["settings"], entry, answer]


def _verdict(result: Any, answer: str) -> Verdict:
    if isinstance(result, Failure):
        return Verdict.of(CAUSES[result.cause], answer, error=result.detail)
    if isinstance(result, str):
        return Verdict.of("unparseable_gold", answer, error=result)
    return Verdict.of("correct" if result else "wrong", answer)
