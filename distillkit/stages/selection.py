"""What filter, select and mix have in common: a selection says of every row whether it stays, and if not, why.

No stage itself. A selection holds ids and reasons only and the text stays where it is, so the text's content
is salted into the selection's: the same ids over another text are another selection.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distillkit.artifact import Artifact, Counts, Row
from distillkit.errors import RecipeError, StageError
from distillkit.reader import View
from distillkit.stages.base import Job
from distillkit.store import Writer
from distillkit.trace import trace_schema

if TYPE_CHECKING:
    import pyarrow as pa


def selection_schema() -> "pa.Schema":
    """Arrow schema of a selection.

    `reason` is that of the first rule that the row failed and `reasons` those of all, each once; null and empty where
    it is kept. `copies` is how often a trainer sees the row: 0 where it is dropped.
    """
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("id", text),
            ("kept", pa.bool_()),
            ("reason", text),
            ("reasons", pa.list_(text)),
            ("copies", pa.int32()),
        ]
    )


def decided(id: str, reasons: Sequence[str], copies: int = 1) -> Row:
    """The row of a selection; it is kept where there is no reason against it."""
    kept = not reasons
    return {
        "id": id,
        "kept": kept,
        "reason": None if kept else reasons[0],
        "reasons": list(dict.fromkeys(reasons)),
        "copies": copies if kept else 0,
    }


def draw(step: str, seed: int, id: str) -> tuple[int, str]:
    """A key to sort by: the same anywhere, and no other row's draw depends on it."""
    found = hashlib.blake2b(f"{step}/{seed}/{id}".encode(), digest_size=8).digest()
    return int.from_bytes(found, "big"), id


def write(out: Writer, shard: int, rows: Sequence[Row], counts: Counts) -> None:
    """Write one shard of a selection; counts how often a trainer sees its rows."""
    copies = {"copies": {"all": sum(row["copies"] for row in rows)}}
    out.write(shard, rows, selection_schema(), counts=counts | copies)


def upsampled(selection: Artifact) -> bool:
    """Whether a trainer is to see some row more than once."""
    manifest = selection.manifest
    return sum(manifest.counts.get("copies", {}).values()) > manifest.rows_kept


def finish(job: Job, views: Sequence[View], name: str) -> None:
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
    job.out.salt = {"texts": sorted({text.content for view in views for text in view.texts})}
    if job.out.rows_kept == 0:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.most_common(5))
        why = f" ({reasons}); loosen what rejects most, or mend what comes in" if reasons else ""
        raise StageError(f"stages.{name}: none of {job.out.rows_in:,} rows is left{why}")


def require_fields(view: View, fields: Sequence[str], name: str) -> None:
    """Raises RecipeError for a field that no column of the text or of its labels leads to."""
    known = [*view.fields, *trace_schema().names]
    for field in fields:
        if not any(field == column or field.startswith(f"{column}.") for column in known):
            names = sorted(dict.fromkeys(known))
            raise RecipeError(f"stages.{name}: no field {field!r}; there are {', '.join(names)}")
