"""The tables of a stage that scores models: each completion and its verdict, once, by trace id.

No stage itself. What two benchmarks, or two names of equal weights, share stands under the first of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Row
from distillkit.scoring import Judged, Spending, count_judged, verdict_row
from distillkit.stages.base import Job, write_shards
from distillkit.trace import Trace, to_row, trace_schema

if TYPE_CHECKING:
    import pyarrow as pa

LARGE_REFERENCE = 65_536
"""Characters from which a reference (a suite of tests) is not repeated with each of its completions."""


@dataclass
class Book:
    """What models said, and the verdicts on it."""

    completions: dict[str, Row] = field(default_factory=dict)
    verdicts: dict[str, Row] = field(default_factory=dict)
    """Both by trace id."""
    judged: list[Judged] = field(default_factory=list)
    """All of them, those that share a row too."""
    spending: Spending = field(default_factory=Spending)

    def add(self, traces: Sequence[Trace], judged: Sequence[Judged], **where: Any) -> None:
        """Take in traces and the verdict on each; `where`: further columns of the verdicts, such as the model."""
        self.spending.add(traces)
        self.judged += judged
        for trace, each in zip(traces, judged, strict=True):
            self.completions.setdefault(trace.id, _row(trace))
            self.verdicts.setdefault(trace.id, {**where, **verdict_row(each)})

    def aside(self) -> "Book":
        """Further tables that are told of together with these."""
        return Book(judged=self.judged, spending=self.spending)

    @property
    def tokens(self) -> int:
        """Of all completions, whenever they were sampled."""
        return sum(row["completion_tokens"] or 0 for row in self.completions.values())

    def write(self, job: Job, verdicts: "pa.Schema", prefix: str = "") -> None:
        """Write the tables `completions` and `verdicts`; the schema is that of the latter."""
        write_shards(job, list(self.completions.values()), trace_schema(), f"{prefix}completions")
        write_shards(job, list(self.verdicts.values()), verdicts, f"{prefix}verdicts")

    def tell(self, job: Job) -> None:
        """Tell the artifact how many completions got a score, why others did not, and what they took."""
        count_judged(job.out, self.judged)
        job.out.telemetry |= self.spending.as_telemetry()


def _row(trace: Trace) -> Row:
    row = to_row(trace)
    if len(row["reference"]) > LARGE_REFERENCE:
        return to_row(replace(trace, reference={"omitted": len(row["reference"])}))
    return row
