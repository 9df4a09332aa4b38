"""Verifiers made of verifiers: any of them, all of them, a weighted sum. Every part's verdict is kept.

The parts are asked in order, and a later one only about what is still open, so the cheap and strict one stands
first and a paid judge last: OpenR1-Math's way, a rule first and a judge for what it rejected, both verdicts kept.

| | any_of | all_of | weighted |
|---|---|---|---|
| a part is asked about | what none before called fully right | what none before scored 0 | everything |
| score | the highest | the lowest | the weighted mean |
| could not judge (None) | where the last part could not | where one could not and none scored 0 | where any could not |
| reason, answer | of the (first) part that decided | the same | by the score |

any_of: a part that could not judge leaves it to the next; if the last one asked could not, what it might have
accepted stays open. all_of: a 0 of one part stands whatever the others would have said.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distillkit.spec import Strict
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Verifier, completed, reason_of, unfinished

if TYPE_CHECKING:
    from distillkit.verifiers import AnyVerifier

Rounds = list[Verdict]
"""The verdicts on one trace of the parts that were asked about it, in their order."""


class Composite(Verifier):
    """Base of the three: asks its parts and keeps what they said; a subclass decides."""

    @model_validator(mode="after")
    def _check_marker(self) -> Self:
        if self.marker is not None:
            raise ValueError("marker: belongs to the verifiers in `of`, each reads its own answer")
        return self

    @property
    def parts(self) -> Sequence[Verifier]:
        """What it is made of, in the order of asking."""
        raise NotImplementedError

    def asks_on(self, said: Rounds) -> bool:
        """Whether the next part is asked about a trace of which the parts so far said this."""
        raise NotImplementedError

    def decide(self, said: Rounds) -> Verdict:
        """What the parts' verdicts come to."""
        raise NotImplementedError

    @property
    def names(self) -> list[str]:
        """What the parts go by in the verdicts: their kinds, numbered where one stands there again."""
        kinds = [part.kind for part in self.parts]
        return [
            kind if kind not in kinds[:at] else f"{kind}-{kinds[: at + 1].count(kind)}"
            for at, kind in enumerate(kinds)
        ]

    @property
    def votes(self) -> bool:  # type: ignore[override]
        return any(part.votes for part in self.parts)

    @property
    def learned(self) -> bool:  # type: ignore[override]
        return any(part.learned for part in self.parts)

    @property
    def alone(self) -> bool:  # type: ignore[override]
        return all(part.alone for part in self.parts)

    def answer(self, trace: Trace) -> str | None:
        return self._reader.answer(trace)

    def same(self, a: str, b: str) -> bool:
        return self._reader.same(a, b)

    @property
    def _reader(self) -> Verifier:
        """The part whose answers are compared: the first that can."""
        return next((part for part in self.parts if part.votes), self.parts[0])

    def grade_all(self, traces: Sequence[Trace]) -> list[Verdict]:
        """One verdict per trace, in order, the parts' own in `parts`."""
        return completed(
            [unfinished(trace) for trace in traces], lambda rows: self._ask([traces[row] for row in rows])
        )

    def _ask(self, traces: Sequence[Trace]) -> list[Verdict]:
        said: list[Rounds] = [[] for _ in traces]
        asked: list[dict[str, Verdict]] = [{} for _ in traces]
        for name, part in zip(self.names, self.parts, strict=True):
            rows = [row for row, rounds in enumerate(said) if not rounds or self.asks_on(rounds)]
            for row, verdict in zip(rows, part.grade_all([traces[row] for row in rows]), strict=True):
                said[row].append(verdict)
                asked[row][name] = verdict
        return [_with_parts(self.decide(rounds), parts) for rounds, parts in zip(said, asked, strict=True)]

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """The first complaint of a part: each part needs a reference that it can grade against."""
        complaints = [part.check_references(references) for part in self.parts]
        return [
            next((each for each in row if each is not None), None) for row in zip(*complaints, strict=True)
        ]

    def check(self) -> list[str]:
        return [phrase for part in self.parts for phrase in part.check()]

    def reach(self) -> None:
        for part in self.parts:
            part.reach()

    def probe(self, trace: Trace) -> Verdict:
        verdicts = [part.probe(trace) for part in self.parts]
        return _with_parts(self.decide(verdicts), dict(zip(self.names, verdicts, strict=True)))

    def foreign(self) -> list[str]:
        return [phrase for part in self.parts for phrase in part.foreign()]

    def close(self) -> None:
        for part in self.parts:
            part.close()


class AnyOf(Composite):
    """Correct when one of the verifiers says so; a second opinion on what the first rejected."""

    kind: Literal["any_of"] = "any_of"
    of: Annotated[list["AnyVerifier"], Field(min_length=2)]
    """The verifiers, in the order of asking: the strict and cheap first."""

    @property
    def parts(self) -> Sequence[Verifier]:
        return self.of

    def asks_on(self, said: Rounds) -> bool:
        return said[-1].score != 1.0

    def decide(self, said: Rounds) -> Verdict:
        if said[-1].score is None:
            return said[-1]
        return max((each for each in said if each.score is not None), key=lambda each: each.score or 0.0)

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """The first part's complaint, where every part has one: another one can grade it else."""
        complaints = [part.check_references(references) for part in self.parts]
        return [row[0] if all(row) else None for row in zip(*complaints, strict=True)]

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        return self.model_copy(update={"of": [part.pinned(commit_of) for part in self.of]})


class AllOf(Composite):
    """Correct when all of the verifiers say so; with `{kind: format}` in front, a format gate."""

    kind: Literal["all_of"] = "all_of"
    of: Annotated[list["AnyVerifier"], Field(min_length=2)]
    """The verifiers, in the order of asking."""

    @property
    def parts(self) -> Sequence[Verifier]:
        return self.of

    def asks_on(self, said: Rounds) -> bool:
        return said[-1].score != 0.0

    def decide(self, said: Rounds) -> Verdict:
        if said[-1].score == 0.0:
            return said[-1]
        lowest = min(said, key=lambda each: -1.0 if each.score is None else each.score)
        return said[-1] if lowest.score == 1.0 else lowest

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        return self.model_copy(update={"of": [part.pinned(commit_of) for part in self.of]})


class Share(Strict):
    """A part of a weighted sum."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Its weight beside the others'; they need not sum to 1."""
    verifier: "AnyVerifier"


class Weighted(Composite):
    """The weighted mean of several verifiers' scores."""

    kind: Literal["weighted"] = "weighted"
    of: Annotated[list[Share], Field(min_length=2)]
    """[{weight: 0.9, verifier: {kind: math}}, {weight: 0.1, verifier: {kind: format}}]"""

    @property
    def parts(self) -> Sequence[Verifier]:
        return [share.verifier for share in self.of]

    def asks_on(self, said: Rounds) -> bool:
        return True

    def decide(self, said: Rounds) -> Verdict:
        unjudged = next((each for each in said if each.score is None), None)
        if unjudged is not None:
            return unjudged
        whole = sum(share.weight for share in self.of)
        total = sum(share.weight * (each.score or 0.0) for share, each in zip(self.of, said, strict=True))
        score = 1.0 if all(each.score == 1.0 for each in said) else round(total / whole, 6)
        if score == 0.0:
            return said[0]
        answer = next((each.answer for each in said if each.answer is not None), None)
        return Verdict(score, reason_of(score), answer)

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        of = [share.model_copy(update={"verifier": share.verifier.pinned(commit_of)}) for share in self.of]
        return self.model_copy(update={"of": of})


def _with_parts(verdict: Verdict, parts: dict[str, Verdict]) -> Verdict:
    """The verdict that was decided on, with all that it came from; what is a part's own stays there."""
    return Verdict(verdict.score, verdict.reason, verdict.answer, parts=parts)
