"""What filter and select have in common: a selection says of every row whether it stays, and if not, why.

No stage itself. A selection holds ids and reasons only and the text stays where it is, so the text's content
is salted into the selection's: the same ids over another text are another selection.
"""

from collections import Counter
from typing import TYPE_CHECKING

from distillkit.errors import RecipeError, StageError
from distillkit.reader import View
from distillkit.stages.base import Job
from distillkit.trace import trace_schema

if TYPE_CHECKING:
    import pyarrow as pa


def selection_schema() -> "pa.Schema":
    """Arrow schema of a selection; `reason` is null where the row is kept."""
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("kept", pa.bool_()), ("reason", pa.string())])


def finish(job: Job, view: View, name: str) -> None:
    """Count what was written, shards of an interrupted run included, and salt the content.

    Raises:
        StageError: nothing is kept; the message names the most frequent reasons.
    """
    shards = job.out.tables().get("rows", [])
    rejected: Counter[str] = Counter()
    for shard in shards:
        rejected.update(shard.counts.get("rejected", {}))
    job.out.rows_in = sum(shard.rows for shard in shards)
    job.out.rows_kept = job.out.rows_in - rejected.total()
    job.out.salt = {"texts": sorted(text.content for text in view.texts)}
    if job.out.rows_kept == 0:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.most_common(5))
        why = f" ({reasons}); loosen what rejects most, or mend what comes in" if reasons else ""
        raise StageError(f"stages.{name}: none of {job.out.rows_in:,} rows is left{why}")


def require_fields(view: View, fields: list[str], name: str) -> None:
    """Raises RecipeError for a field that no column of the text or of its labels leads to."""
    known = [*view.fields, *trace_schema().names]
    for field in fields:
        if not any(field == column or field.startswith(f"{column}.") for column in known):
            raise RecipeError(f"stages.{name}: no field {field!r}; there are {', '.join(known)}")
