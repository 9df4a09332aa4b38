"""Judge every trace by its domain's verifier; nothing is dropped.

The verdict goes beside the text with its reason, so that a later threshold or a better verifier costs no
sampling.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from distillkit.artifact import Counts, Manifest, Row
from distillkit.errors import RecipeError, StageError
from distillkit.spec import EXECUTION, canonical
from distillkit.stages.base import Job, Labeler
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import AnyVerifier

if TYPE_CHECKING:
    import pyarrow as pa


class Verify(Labeler):
    """Labels: verdicts, score, reason, answer, problem_n, problem_pass_rate.

    `verdicts` is {domain: {score, reason, answer}}. `problem_n` counts the traces of the same problem and
    origin; `problem_pass_rate` is the share of the judged ones among them that are right in full, null where
    none was judged, and where `until` ended the sampling at a success: then it says nothing about the model.
    """

    JUDGES: ClassVar[bool] = True
    PARALLEL: ClassVar[bool] = False  # verifiers have workers of their own

    kind: Literal["verify"] = "verify"
    max_unjudged: Annotated[float, Field(ge=0, le=1), EXECUTION] = 0.05
    """Largest share of traces that may stay without a score (unreadable gold, grader out of time)."""

    def label_schema(self) -> "pa.Schema":
        import pyarrow as pa

        text, number = pa.string(), pa.float64()
        return pa.schema(
            [
                ("id", text),
                ("verdicts", text),
                ("score", number),
                ("reason", text),
                ("answer", text),
                ("problem_n", pa.int32()),
                ("problem_pass_rate", number),
            ]
        )

    def fields(self) -> list[str]:
        return ["verdicts.*", "score", "reason", "answer", "problem_n", "problem_pass_rate"]

    def run(self, job: Job) -> None:
        try:
            super().run(job)
        finally:
            for verifier in job.verifiers.values():
                verifier.close()

    def label(self, traces: list[Trace], verifiers: dict[str, AnyVerifier]) -> list[Row]:
        verdicts = judge(traces, verifiers)
        groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for trace, verdict in zip(traces, verdicts, strict=True):
            groups[trace.problem_id, trace.origin].append(verdict)
        return [
            _row(trace, verdict, groups[trace.problem_id, trace.origin])
            for trace, verdict in zip(traces, verdicts, strict=True)
        ]

    def counts(self, labels: list[Row]) -> Counts:
        unjudged = Counter(row["reason"] for row in labels if row["score"] is None)
        return {"reason": dict(Counter(row["reason"] for row in labels)), "unjudged": dict(unjudged)}

    def lasting(self, labels: list[Row]) -> bool:
        return not any(row["reason"] == "grader_timeout" for row in labels)

    def accept(self, manifest: Manifest) -> None:
        unjudged = manifest.counts.get("unjudged", {})
        total, rows = sum(unjudged.values()), manifest.rows_kept
        if total > self.max_unjudged * rows:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(unjudged.items()))
            raise StageError(
                f"{self.name}: {total:,} of {rows:,} traces have no score ({reasons}), max_unjudged is "
                f"{self.max_unjudged:g}; mend the references (`check --data`) or the verifier, or raise it"
            )


def judge(traces: Sequence[Trace], verifiers: dict[str, AnyVerifier]) -> list[Verdict]:
    """One verdict per trace, in order; each domain goes to its verifier in one batch.

    Raises:
        RecipeError: a domain has no verifier.
    """
    by_domain: dict[str, list[int]] = defaultdict(list)
    for row, trace in enumerate(traces):
        by_domain[trace.domain].append(row)
    found: dict[int, Verdict] = {}
    for domain, rows in by_domain.items():
        if domain not in verifiers:
            known = ", ".join(sorted(verifiers)) or "none"
            raise RecipeError(f"no verifier for domain {domain!r} (there is {known}); add it to `verifiers:`")
        found |= zip(rows, verifiers[domain].grade_all([traces[row] for row in rows]), strict=True)
    return [found[row] for row in range(len(traces))]


def _row(trace: Trace, verdict: Verdict, group: list[Verdict]) -> Row:
    judged = [each.score for each in group if each.score is not None]
    one = {"score": verdict.score, "reason": verdict.reason, "answer": verdict.answer}
    known = bool(judged) and not trace.sampling.get("until")
    return {
        "verdicts": canonical({trace.domain: one}).decode("utf-8", "surrogatepass"),
        **one,
        "problem_n": len(group),
        "problem_pass_rate": judged.count(1.0) / len(judged) if known else None,
    }
