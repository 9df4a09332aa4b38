"""The contract of a verifier: a trace in, a verdict out; and the rules that all of them share.

A verifier is a frozen declaration. What it needs alive (worker processes) stays in `pool.shared`, so that a
GRPO step grades with the same warm workers as the step before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from distillkit import text
from distillkit.spec import Strict
from distillkit.trace import Problem, Trace, Verdict

Answered = tuple[Trace, str]
"""A trace and the final answer that was read from it."""


class Verifier(Strict):
    """Base of all verifiers. A subclass declares `kind` and its fields and writes `judge`."""

    votes: ClassVar[bool] = True
    """Whether `same` can tell two answers apart; without it there is no cons@k."""
    learned: ClassVar[bool] = False
    """Whether a model's opinion decides: then it can be gamed, and whatever it touches says so."""
    alone: ClassVar[bool] = True
    """Whether a verdict depends on its trace alone; else on the other traces of its problem too."""

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

        Rules that no verifier can bend: a truncated completion is `truncated`, whatever it holds; one that the
        engine could not give is `failed`; without an answer it is `no_answer`.
        """
        answers = [self.answer(trace) for trace in traces]
        verdicts = [_without_judging(trace, answer) for trace, answer in zip(traces, answers, strict=True)]
        return completed(
            verdicts, lambda rows: self.judge([(traces[row], answers[row] or "") for row in rows])
        )

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        """One verdict per trace that finished and has an answer, in order."""
        raise NotImplementedError

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are one, for voting; symmetric."""
        raise NotImplementedError

    def shares(self, verdict: Verdict) -> Mapping[str, tuple[int, int]]:
        """Further metrics that a verdict adds to, name -> (how many did, of how many): a score is the ratio of sums."""
        return {}

    def check_reference(self, reference: Any) -> str | None:
        """Why a problem's reference cannot be graded against; None if it can."""
        return self.check_references([reference])[0]

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """`check_reference` of each, in order; far cheaper than one by one where workers check."""
        return [None for _ in references]

    def check(self) -> list[str]:
        """Refuse what cannot work on this machine, else say what it offers (the level of a sandbox), a phrase each.

        No network, no heavy import, well under a second. Raises MissingError for a program or package that is not
        there, with the command that installs it, and RecipeError for a declaration that makes no sense.
        """
        return []

    def probe(self, trace: Trace) -> Verdict:
        """The verdict on one row, as a trial before a run (`trial` makes such a row of a problem).

        Raises RecipeError where code of the recipe's author fails on it, or returns what is no score.
        """
        return self.grade(trace)

    def foreign(self) -> list[str]:
        """What in it would run code of the recipe's author, one phrase each."""
        return []

    def reach(self) -> None:
        """Raises MissingError for a server that is not there; asked once, before a run makes anything."""

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        """This verifier with the contents of its models, which are part of its identity.

        `commit_of("model", "org/name@rev")` gives 40 hex digits. Raises MissingError for a model that is not there.
        """
        return self

    def close(self) -> None:
        """End worker processes; the next grading starts them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unfinished(trace: Trace) -> Verdict | None:
    """The verdict on a completion that was cut, or that never came; None where it is to be judged."""
    return {"length": Verdict.of("truncated"), "error": Verdict.of("failed")}.get(trace.finish_reason)


def _without_judging(trace: Trace, answer: str | None) -> Verdict | None:
    return unfinished(trace) or (None if answer and answer.strip() else Verdict.of("no_answer"))


def completed(
    verdicts: Sequence[Verdict | None], judge: Callable[[list[int]], Iterable[Verdict]]
) -> list[Verdict]:
    """The verdicts, None filled in order with what `judge` gives for these positions."""
    judged = iter(judge([row for row, verdict in enumerate(verdicts) if verdict is None]))
    return [next(judged) if verdict is None else verdict for verdict in verdicts]


def reason_of(score: float | None) -> str:
    """The plain reason of a score."""
    return {None: "judge_unavailable", 0.0: "wrong", 1.0: "correct"}.get(score, "partial")


def learned_by(verifiers: Mapping[str, Verifier], domains: Iterable[str]) -> dict[str, Any]:
    """{learned: true, judges: {domain: kind}} where a model's opinion decides some of the domains, else {}.

    For manifests and reports: what a model judges can be gamed, and no number of it may hide that.
    """
    known = [domain for domain in sorted(set(domains)) if domain in verifiers]
    judges = {domain: verifiers[domain].kind for domain in known if verifiers[domain].learned}
    return {"learned": True, "judges": judges} if judges else {}


def trial(problem: Problem) -> Trace:
    """A finished trace of a problem that states its gold, boxed, to try a grader on."""
    gold = gold_answer(problem.reference) or "0"
    response = f"The answer is \\boxed{{{gold}}}."
    return Trace(
        problem_id=problem.id,
        messages=problem.messages,
        completion=f"<think>So it is.</think>\n\n{response}",
        reasoning="So it is.",
        response=response,
        reference=problem.reference,
        domain=problem.domain,
        source=problem.source,
        language=problem.language,
        finish_reason="stop",
        extra=problem.extra,
    )


NO_ANSWER_IN_IT = "no answer in it: it must be a string, a number or an object with `answer`"


def gold_answer(reference: Any) -> str | None:
    """The answer in a reference: a string, a number, or an object with `answer`; None for anything else."""
    if isinstance(reference, dict):
        return gold_answer(reference.get("answer"))
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        return None
    return str(reference).strip() or None
