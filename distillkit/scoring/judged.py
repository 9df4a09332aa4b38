"""Completions judged and measured: what every metric reads.

Each completion is judged once by the verifier of its domain; equal ones of a problem share a verdict.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from distillkit.artifact import Manifest, Row
from distillkit.errors import RecipeError, StageError
from distillkit.measures.language import Language
from distillkit.measures.reflection import Reflection
from distillkit.spec import EXECUTION, Strict
from distillkit.store import Writer
from distillkit.text import THINK, is_formatted
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Verifier

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Judged:
    """What the metrics read of one completion."""

    id: str
    problem_id: str
    domain: str
    score: float | None
    reason: str
    answer: str | None
    finish_reason: str
    tokens: int | None
    """Generated tokens; None where the engine does not count them."""
    mixed: bool
    """Whether it holds words of two or more languages."""
    language_share: float
    reflections: int
    formatted: bool = False
    """Whether it is reasoning, then one answer, and nothing else (text.is_formatted)."""
    shares: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """What else its verdict says (Verifier.shares)."""

    @property
    def correct(self) -> bool:
        """Whether it is right in full; partial credit is not."""
        return self.score == 1.0


Group = list[Judged]
"""All completions of one problem by one model."""


class Scoring(Strict):
    """How completions become numbers; a stage that scores inherits it."""

    limit: Annotated[int | None, Field(ge=1)] = None
    """At most so many problems, the first by id (an id is a hash, so this is a fixed random draw)."""
    max_unjudged: Annotated[float, EXECUTION, Field(ge=0, le=1)] = 0.05
    """Largest share of completions that may stay without a score (gold unparseable, grader out of time)."""
    language: Language = Language()
    """How the mixing of languages is measured."""
    reflection: Reflection = Reflection()
    """How reflection is measured."""

    def judge(self, traces: Sequence[Trace], verifiers: Mapping[str, Verifier]) -> list[Judged]:
        """Every trace judged by its domain's verifier and measured, in order.

        Equal completions of one problem are judged once: of 128 samples of a small base most are equal.

        Raises RecipeError for a verifier that takes its gold from the very answers that are to be scored.
        """
        for domain in sorted({trace.domain for trace in traces}):
            if not verifiers[domain].alone:
                raise RecipeError(
                    f"verifiers.{domain}: {verifiers[domain].kind} labels traces by what most of them answer, which "
                    "scores no model; give the problems a reference and another verifier"
                )
        firsts = {_key(trace): trace for trace in reversed(traces)}
        verdicts = _grade(firsts, verifiers)
        found = {
            key: (verdicts[key], verifiers[trace.domain].shares(verdicts[key]), *self._measure(trace))
            for key, trace in firsts.items()
        }
        return [_judged(trace, *found[_key(trace)]) for trace in traces]

    def _measure(self, trace: Trace) -> tuple[bool, float, int]:
        language = self.language.measure(trace)
        return language["mixed"], language["share"], self.reflection.measure(trace)["count"]

    def check_unjudged(self, stage: str, manifest: Manifest) -> None:
        """Raises StageError where more than `max_unjudged` of the completions have no score."""
        unjudged = manifest.counts.get("unjudged", {})
        total = sum(unjudged.values())
        if total > self.max_unjudged * manifest.rows_in:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in Counter(unjudged).most_common())
            raise StageError(
                f"{stage}: {total:,} of {manifest.rows_in:,} completions have no score ({reasons}); "
                f"{self.max_unjudged:.0%} may; {_remedy(unjudged)}, or raise max_unjudged"
            )


def _remedy(unjudged: Mapping[str, int]) -> str:
    """What to mend, where most of what has no score has none for the first of these reasons."""
    if unjudged.get("failed", 0) * 2 > sum(unjudged.values()):
        return "see why the engine failed (a server, or prompts that fill the context)"
    return "mend the references or the verifier"


_Key = tuple[str, str, str]


def _key(trace: Trace) -> _Key:
    """What decides the judgement of a trace: its problem, its text, and whether it finished."""
    return trace.problem_id, trace.finish_reason, trace.completion


def _grade(traces: Mapping[_Key, Trace], verifiers: Mapping[str, Verifier]) -> dict[_Key, Verdict]:
    """The verdict on each trace: one batch per domain, since a verifier's workers like it whole."""
    found: dict[_Key, Verdict] = {}
    for domain in sorted({trace.domain for trace in traces.values()}):
        keys = [key for key, trace in traces.items() if trace.domain == domain]
        found |= zip(keys, verifiers[domain].grade_all([traces[key] for key in keys]), strict=True)
    return found


def _judged(
    trace: Trace,
    verdict: Verdict,
    shares: Mapping[str, tuple[int, int]],
    mixed: bool,
    share: float,
    reflections: int,
) -> Judged:
    return Judged(
        id=trace.id,
        problem_id=trace.problem_id,
        domain=trace.domain,
        score=verdict.score,
        reason=verdict.reason,
        answer=verdict.answer,
        finish_reason=trace.finish_reason,
        tokens=trace.completion_tokens,
        mixed=mixed,
        language_share=share,
        reflections=reflections,
        # A prompt that opened the reasoning leaves a completion that closes it only.
        formatted=is_formatted(
            trace.completion, prefilled=bool(trace.reasoning) and THINK not in trace.completion
        ),
        shares=shares,
    )


def warn_failed(traces: Sequence[Trace], warn: Callable[[str], None]) -> None:
    """Tell of completions that the engine could not give: they say nothing about the model, so no score counts them."""
    failed = [trace for trace in traces if trace.finish_reason == "error"]
    if failed:
        why = failed[0].extra.get("error", "unknown")
        warn(f"{len(failed):,} of {len(traces):,} completions failed and count in no score ({why})")


def by_problem(judged: Iterable[Judged]) -> list[Group]:
    """One group per problem, sorted by problem id."""
    groups: dict[str, Group] = {}
    for each in judged:
        groups.setdefault(each.problem_id, []).append(each)
    return [groups[problem] for problem in sorted(groups)]


def count_judged(out: Writer, judged: Sequence[Judged]) -> None:
    """Tell an artifact how many completions came in, how many got a score, and why the others did not."""
    reasons = Counter(each.reason for each in judged if each.score is None)
    out.rows_in = len(judged)
    out.rows_kept = len(judged) - reasons.total()
    out.counts = {"unjudged": dict(reasons)} if reasons else {}


def outcome(group: Group) -> Row:
    """n (judged samples), correct, and their pass_rate, which is None where none was judged."""
    scores = [each.correct for each in group if each.score is not None]
    return {"n": len(scores), "correct": sum(scores), "pass_rate": fmean(scores) if scores else None}


def verdict_row(each: Judged) -> Row:
    """The row of a verdicts table."""
    return {
        "id": each.id,
        "score": each.score,
        "reason": each.reason,
        "answer": each.answer,
        "mixed": each.mixed,
        "language_share": each.language_share,
        "reflections": each.reflections,
    }


def verdict_schema(*names: str) -> "pa.Schema":
    """Arrow schema of a verdicts table, keyed by trace id; `names` are further text columns."""
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            *((name, pa.string()) for name in names),
            ("score", pa.float64()),
            ("reason", pa.string()),
            ("answer", pa.string()),
            ("mixed", pa.bool_()),
            ("language_share", pa.float64()),
            ("reflections", pa.int32()),
        ]
    )
