"""Judge every trace by its domain's verifier; nothing is dropped.

The verdict goes beside the text with its reason, so that a later threshold or a better verifier costs no
sampling.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.artifact import Counts, Manifest, Row
from distillkit.errors import RecipeError, StageError
from distillkit.reader import BATCH_CHARACTERS
from distillkit.spec import EXECUTION, canonical, identity
from distillkit.stages.base import Job
from distillkit.stages.labeler import Given, Labeler
from distillkit.trace import BLAMELESS, IMPORTED, Trace, Verdict
from distillkit.verifiers import AnyVerifier
from distillkit.verifiers.base import learned_by

if TYPE_CHECKING:
    import pyarrow as pa


PASSING = frozenset({"grader_timeout", "judge_unavailable"})
"""Reasons that the load of the machine or of a server gave: another run may find another."""
WHOLE_FILE = "file"
"""Origin of what `apply` reads: there the file is taken for all that was sampled."""


class Verify(Labeler):
    """Labels: verdicts, score, reason, answer, problem_n, problem_pass_rate, telemetry.

    `verdicts` is {domain: {score, reason, answer, detail}}, and `<domain>/<part>` for every verifier that a verdict
    was made of, so both stay where one looks again at what another rejected; `detail` is there where the verifier
    has more to say. `imported/<name>` is what the source of a trace set said of it. `telemetry` has under the same
    names what may differ from run to run (cost, sandbox level).

    `problem_n` counts the traces of the same problem and origin; `problem_pass_rate` is the share of the judged ones
    among them that are right in full. It is null where it would say nothing about the model: where none was judged,
    where `until` ended the sampling at a success, and for traces without a seed, which somebody chose and imported.

    Summary: where a model's opinion decides (judge, reward_model), `learned: true` and the `judges` by domain.
    """

    VERSION: ClassVar[int] = 2
    JUDGES: ClassVar[bool] = True
    PARALLEL: ClassVar[bool] = False  # verifiers have workers of their own
    BATCH: ClassVar[int] = 8 * BATCH_CHARACTERS  # they wait for a batch's slowest

    kind: Literal["verify"] = "verify"
    max_unjudged: Annotated[float, Field(ge=0, le=1), EXECUTION] = 0.05
    """Largest share of traces that may stay without a score (unreadable gold, grader out of time); those that the
    engine could not give, and those of problems without a majority, are counted apart."""

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
                ("telemetry", text),
            ]
        )

    def fields(self) -> list[str]:
        return ["verdicts.*", "score", "reason", "answer", "problem_n", "problem_pass_rate"]

    def run(self, job: Job) -> None:
        domains = {d for text in job.view().texts for d in text.manifest.counts.get("domain", {})}
        for domain in sorted(domains & job.verifiers.keys()):
            job.verifiers[
                domain
            ].check()  # `apply` has no check before it; else every row would say that it is not there
        try:
            super().run(job)
        finally:
            for verifier in job.verifiers.values():
                verifier.close()
        job.out.summary = learned_by(job.verifiers, domains)
        reasons = [shard.counts.get("reason", {}) for shard in job.out.tables().get("rows", [])]
        cost = _cost(job) if job.out.summary else None
        if cost is not None:
            job.out.telemetry["cost"] = cost
        failed = sum(each.get("failed", 0) for each in reasons)
        if failed:
            job.warn(
                f"{failed:,} of {job.out.rows_in:,} traces hold no completion (the engine failed): no score"
            )

    def given(self, job: Job) -> Given:
        return Given(job.verifiers, {domain: identity(each) for domain, each in job.verifiers.items()})

    def label(self, traces: list[Trace], given: dict[str, AnyVerifier]) -> list[Row]:
        verdicts = judge(traces, given)
        groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for trace, verdict in zip(traces, verdicts, strict=True):
            groups[trace.problem_id, trace.origin].append(verdict)
        return [
            _row(trace, verdict, groups[trace.problem_id, trace.origin])
            for trace, verdict in zip(traces, verdicts, strict=True)
        ]

    def counts(self, labels: list[Row]) -> Counts:
        found = {
            "reason": dict(Counter(row["reason"] for row in labels)),
            "unjudged": dict(Counter(row["reason"] for row in labels if row["score"] is None)),
        }
        polled = Counter(
            row["reason"] for row, told in zip(labels, map(_told, labels), strict=True) if _polled(told)
        )
        return found | ({"majority": dict(polled)} if polled else {})

    def lasting(self, labels: list[Row]) -> bool:
        return not any(each["reason"] in PASSING for row in labels for each in _told(row))

    def accept(self, manifest: Manifest) -> None:
        unjudged = manifest.counts.get("unjudged", {})
        blamed = {reason: n for reason, n in unjudged.items() if reason not in BLAMELESS}
        total, rows = sum(blamed.values()), manifest.rows_kept
        if total > self.max_unjudged * rows:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(blamed.items()))
            raise StageError(
                f"{self.name}: {total:,} of {rows:,} traces have no score ({reasons}), max_unjudged is "
                f"{self.max_unjudged:g}; mend the references (`check --data`) or the verifier, or raise it"
            )


def _cost(job: Job) -> float | None:
    """Money that the judges of all rows took, None where none of them has prices."""
    import pyarrow.parquet as pq

    files = [job.out.path / shard.file for shard in job.out.tables().get("rows", [])]
    columns = [pq.ParquetFile(file).read(columns=["telemetry"]).column(0).to_pylist() for file in files]
    told = [each for column in columns for text in column if text for each in json.loads(text).values()]
    costs = [each["cost"] for each in told if "cost" in each]
    return round(sum(costs), 6) if costs else None


def _told(row: Row) -> list[Row]:
    """Every verdict of our own on a trace, those of the parts too."""
    verdicts = json.loads(row["verdicts"])
    return [each for name, each in verdicts.items() if not name.startswith(IMPORTED)]


def _polled(verdicts: list[Row]) -> bool:
    """Whether a majority stood in for the gold."""
    return any(each.get("detail", {}).get("majority") for each in verdicts)


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
    every = dict(_flat(trace.domain, verdict))
    telemetry = {name: each.telemetry for name, each in every.items() if each.telemetry}
    return {
        "verdicts": _json({name: _shown(each) for name, each in every.items()} | _imported(trace)),
        "score": verdict.score,
        "reason": verdict.reason,
        "answer": verdict.answer,
        "problem_n": len(group),
        "problem_pass_rate": judged.count(1.0) / len(judged) if judged and _all_kept(trace) else None,
        "telemetry": _json(telemetry) if telemetry else None,
    }


def _imported(trace: Trace) -> Row:
    """What the source of a trace said of it, as verdicts."""
    found = trace.extra.get("verdicts")
    given = found.items() if isinstance(found, dict) else ()
    return {f"{IMPORTED}{name}": each for name, each in given if isinstance(each, dict) and "score" in each}


def _all_kept(trace: Trace) -> bool:
    """Whether a trace stands among all that its model gave to the problem, right or wrong."""
    chosen = trace.seed is None and trace.origin != WHOLE_FILE
    return not (chosen or trace.sampling.get("until"))


def _flat(name: str, verdict: Verdict) -> Iterator[tuple[str, Verdict]]:
    """A verdict and those that it was made of, each under its path."""
    yield name, verdict
    for part, each in verdict.parts.items():
        yield from _flat(f"{name}/{part}", each)


def _shown(verdict: Verdict) -> dict[str, Any]:
    shown = {"score": verdict.score, "reason": verdict.reason, "answer": verdict.answer}
    return shown | ({"detail": verdict.detail} if verdict.detail else {})


def _json(value: dict[str, Any]) -> str:
    return canonical(value).decode("utf-8", "surrogatepass")
