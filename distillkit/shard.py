"""One Parquet shard of rows: written a row group at a time, described, and checked.

Memory stays flat whatever a shard's size. That its content (the sum of its rows' digests) stands in the footer lets
a label cache and an interrupted run take a shard as it is.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Counts, Row, Shard, add_contents, content_of
from distillkit.durable import parquet_writer
from distillkit.errors import StageError
from distillkit.spec import canonical, file_digest

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_CHARACTERS = 16 * 2**20
GROUP_ROWS = 100_000
"""A row group ends at the first of these. A trace has its text twice (whole, and split), so this is memory: about
four times it while a group is written."""
_CONTENT_ROWS = 256
"""Rows that are digested at a time."""


def write_shard(file: Path, rows: Iterable[Row], schema: "pa.Schema", table: str, counts: Counts) -> None:
    """What `Writer.stream` promises."""
    import pyarrow as pa

    names = schema.names
    contents: list[str] = []
    domains: Counter[str] = Counter()
    with parquet_writer(file, schema) as out:
        for group in _row_groups(_ascending(rows, table)):
            body = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in group], schema)
            domains.update(row["domain"] for row in group if "domain" in names)
            group.clear()  # the table holds their text now
            contents += [content_of(part.to_pylist()) for part in body.to_batches(_CONTENT_ROWS)]
            out.write_table(body, body.num_rows)
            del body  # before the next group is gathered
        found = {**counts, "domain": dict(domains)} if "domain" in names else counts
        out.add_key_value_metadata(
            {"distillkit.content": add_contents(contents), "distillkit.counts": canonical(found)}
        )


def read_entry(file: Path, name: str) -> Shard:
    """The manifest's entry of a shard, under the name that it has there."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    extra = metadata.metadata
    return Shard(
        file=name,
        rows=metadata.num_rows,
        bytes=file.stat().st_size,
        digest=file_digest(file),
        content=extra[b"distillkit.content"].decode(),
        counts=json.loads(extra[b"distillkit.counts"]),
    )


def _ascending(rows: Iterable[Row], table: str) -> Iterator[Row]:
    """The same rows; raises where an id does not follow the one before it."""
    before = None
    for row in rows:
        if before is not None and row["id"] <= before:
            if row["id"] == before:
                raise StageError(f"{table}: two rows have the id {before}")
            raise ValueError(f"{table}: row {row['id']} comes behind {before}; rows must ascend by id")
        before = row["id"]
        yield row


def _row_groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in runs of at most `GROUP_ROWS` rows, each ended by the row that fills `GROUP_CHARACTERS`."""
    group: list[Row] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += characters_of(row)
        if characters >= GROUP_CHARACTERS or len(group) == GROUP_ROWS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def characters_of(value: Any) -> int:
    """Roughly what a value takes, in characters of text."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(characters_of, value.values()))
    return sum(map(characters_of, value)) if isinstance(value, list) else 8


def is_intact(file: Path) -> bool:
    """Whether a shard holds the rows that were written to it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parts:
            contents = [content_of(part.to_pylist()) for part in parts.iter_batches(_CONTENT_ROWS)]
            recorded = parts.metadata.metadata[b"distillkit.content"].decode()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return False
    return bool(add_contents(contents) == recorded)
