"""The contract of a verifier: a trace in, a verdict out; and the rules that all of them share.

A verifier is a frozen declaration. What it needs alive (worker processes) stays in `pool.shared`, so that a
GRPO step grades with the same warm workers as the step before.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from distillkit import text
from distillkit.spec import Strict
from distillkit.trace import Trace, Verdict

Answered = tuple[Trace, str]
"""A trace and the final answer that was read from it."""


class Verifier(Strict):
    """Base of all verifiers. A subclass declares `kind` and its fields and writes `judge`."""

    votes: ClassVar[bool] = True
    """Whether `same` can tell two answers apart; without it there is no cons@k."""
    learned: ClassVar[bool] = False
    """Whether a model's opinion decides: then it can be gamed, and whatever it touches says so."""

    kind: str
    marker: str | None = None
    """What the line of the final answer starts with ("A:"); left out: the last box or `<answer>` is read."""

    def answer(self, trace: Trace) -> str | None:
        """What it reads as the final answer of a trace; None where the response states none."""
        return text.final_answer(trace.response, self.marker)

    def grade(self, trace: Trace) -> Verdict:
        """The verdict on one trace."""
        return self.grade_all([trace])[0]

    def grade_all(self, traces: Sequence[Trace]) -> list[Verdict]:
        """One verdict per trace, in order; far cheaper than one by one where workers grade.

        Rules that no verifier can bend: a truncated completion is `truncated`, whatever it holds; without an
        answer it is `no_answer`.
        """
        answers = [self.answer(trace) for trace in traces]
        verdicts = [_without_judging(trace, answer) for trace, answer in zip(traces, answers, strict=True)]
        open_rows = [row for row, verdict in enumerate(verdicts) if verdict is None]
        judged = self.judge([(traces[row], answers[row] or "") for row in open_rows])
        for row, verdict in zip(open_rows, judged, strict=True):
            verdicts[row] = verdict
        return [verdict for verdict in verdicts if verdict is not None]

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        """One verdict per trace that finished and has an answer, in order."""
        raise NotImplementedError

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are one, for voting; symmetric."""
        raise NotImplementedError

    def check_reference(self, reference: Any) -> str | None:
        """Why a problem's reference cannot be graded against; None if it can."""
        return self.check_references([reference])[0]

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """`check_reference` of each, in order; far cheaper than one by one where workers check."""
        return [None for _ in references]

    def check(self) -> None:
        """Refuse what cannot work on this machine; no network, no heavy import, well under a second.

        Raises MissingError for a program or package that is not there, with the command that installs it, and
        RecipeError for a declaration that makes no sense.
        """

    def foreign(self) -> list[str]:
        """What in it would run code of the recipe's author, one phrase each."""
        return []

    def close(self) -> None:
        """End worker processes; the next grading starts them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _without_judging(trace: Trace, answer: str | None) -> Verdict | None:
    if trace.finish_reason == "length":
        return Verdict.of("truncated")
    if not (answer and answer.strip()):
        return Verdict.of("no_answer")
    return None


NO_ANSWER_IN_IT = "no answer in it: it must be a string, a number or an object with `answer`"


def gold_answer(reference: Any) -> str | None:
    """The answer in a reference: a string, a number, or an object with `answer`; None for anything else."""
    if isinstance(reference, dict):
        return gold_answer(reference.get("answer"))
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        return None
    return str(reference).strip() or None
