"""Labels for problems without a gold: what most traces of a problem answer is taken for right.

A problem that has a gold is judged by it. Elsewhere the traces vote, and every verdict says so in its detail
(`majority: true`): such a label tells that a model is consistent, not that it is right.

Source: self-consistency, arXiv:2203.11171; as labels: NeMo-Skills' fill_majority; TTRL, arXiv:2504.16084.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.stats import cluster
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Verifier, completed, unfinished

if TYPE_CHECKING:
    from distillkit.verifiers import AnyVerifier


class Majority(Verifier):
    """Correct when a trace answers what the majority of its problem's traces does.

    A problem's traces vote where they are judged together: all that came in by a `verify` stage, or a group of GRPO.
    Truncated traces and those without an answer have no vote.
    """

    alone: ClassVar[bool] = False

    kind: Literal["majority"] = "majority"
    of: "AnyVerifier"
    """Reads the answers, tells which are the same, and judges problems that have a gold."""
    min_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The majority must have more than this share of the votes; else there is none, and no score."""
    min_votes: Annotated[int, Field(ge=1)] = 2
    """Votes that the majority must have at least."""

    @model_validator(mode="after")
    def _check_of(self) -> Self:
        if not self.of.votes:
            raise ValueError(f"of: {self.of.kind} cannot tell whether two answers are the same")
        if not self.of.alone:
            raise ValueError("of: a majority of majorities; write the inner verifier alone")
        if self.marker is not None:
            raise ValueError("marker: belongs to the verifier in `of`, which reads the answers")
        return self

    @property
    def learned(self) -> bool:  # type: ignore[override]
        return self.of.learned

    def answer(self, trace: Trace) -> str | None:
        return self.of.answer(trace)

    def same(self, a: str, b: str) -> bool:
        return self.of.same(a, b)

    def grade_all(self, traces: Sequence[Trace]) -> list[Verdict]:
        """One verdict per trace, in order; the traces of a problem that are among them vote."""
        polled: dict[str, list[int]] = {}
        for row, trace in enumerate(traces):
            if trace.reference is None:
                polled.setdefault(trace.problem_id, []).append(row)
        found: dict[int, Verdict] = {}
        for rows in polled.values():
            found |= zip(rows, self._poll([traces[row] for row in rows]), strict=True)
        return completed(
            [found.get(row) for row in range(len(traces))],
            lambda rows: self.of.grade_all([traces[row] for row in rows]),
        )

    def _poll(self, traces: Sequence[Trace]) -> list[Verdict]:
        """The verdicts on all traces of one problem."""
        over = [unfinished(trace) for trace in traces]
        answers = [None if over[row] else self.of.answer(trace) for row, trace in enumerate(traces)]
        clusters = cluster(
            [answer if answer and answer.strip() else None for answer in answers], self.of.same
        )
        ballots = Counter(number for number in clusters if number is not None)
        winner, votes = min(ballots.items(), key=lambda item: (-item[1], item[0]), default=(-1, 0))
        cast = ballots.total()
        elected = votes >= self.min_votes and votes > self.min_share * cast and _leads(ballots, votes)
        gold = answers[clusters.index(winner)] if elected else None
        verdict = partial(Verdict.of, majority=True, gold=gold, votes=votes, of=cast)

        def judge(row: int) -> Verdict:
            if clusters[row] is None:
                return Verdict.of("no_answer")
            if not elected:
                return verdict("no_majority", answers[row])
            return verdict("correct" if clusters[row] == winner else "wrong", answers[row])

        return completed(over, lambda rows: map(judge, rows))

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """None is welcome; what is there must be a gold that can be graded against."""
        there = [reference for reference in references if reference is not None]
        complaints = iter(self.of.check_references(there))
        return [None if reference is None else next(complaints) for reference in references]

    def check(self) -> list[str]:
        return self.of.check()

    def reach(self) -> None:
        self.of.reach()

    def probe(self, trace: Trace) -> Verdict:
        return self.of.probe(trace)

    def foreign(self) -> list[str]:
        return self.of.foreign()

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        return self.model_copy(update={"of": self.of.pinned(commit_of)})

    def close(self) -> None:
        self.of.close()


def _leads(ballots: "Counter[int]", votes: int) -> bool:
    """Whether one answer alone has so many votes."""
    return list(ballots.values()).count(votes) == 1
