"""The values of some fields of a view, read by column: what a rule or a choice needs, and nothing else.

A threshold has to move in seconds, and the text is hundreds of times what its labels are. So only the named columns
are read, and of a large file their bytes are checked page by page (Parquet's checksums), not by the whole's digest.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Artifact
from distillkit.reader import View, columns_of
from distillkit.trace import JSON_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

SMALL_BYTES = 32 * 2**20
"""Up to this size a file is checked whole: labels mostly are, text is not."""
Keys = tuple[str, ...]
"""Where a value lies in a JSON column, from its top on; empty for the whole."""


def values_of(view: View, shard: int, fields: Sequence[str]) -> dict[str, list[Any]]:
    """Of the rows of one shard by ascending id: `id`, `copies`, and the value of each dotted field; null where absent.

    A field is named as in `View`, keys of a JSON column behind it with dots. All values of the shard are in memory,
    its text is not, unless a field names it.

    Raises:
        StageError: a file is missing or damaged.
    """
    ids, copies = _ids(view, shard)
    found: dict[str, list[Any]] = {"id": ids, "copies": copies}
    texts = {column for text in view.texts for column in columns_of(text)}
    wanted: dict[str, dict[str, dict[str, Keys]]] = {}
    for field in fields:
        owner, column, keys = _place(field, view.fields, texts)
        wanted.setdefault(owner, {}).setdefault(column, {})[field] = keys
    for owner, columns in wanted.items():
        sources = [each for each in view.labels if each.stage == owner] if owner else view.texts
        for each in sources:
            view.require_shards(each)
        found |= _read(sources, shard, columns, ids)
    return found


def _ids(view: View, shard: int) -> tuple[list[str], list[int]]:
    """Ids of the rows that the view has, ascending, and how often a trainer sees each."""
    if view.selection is not None:
        wanted = {"id", "kept", "copies"}.intersection(columns_of(view.selection))
        kept = [row for row in narrow(view.selection, shard, sorted(wanted)).to_pylist() if row["kept"]]
        return [row["id"] for row in kept], [row.get("copies") or 1 for row in kept]
    ids = sorted({id for text in view.texts for id in narrow(text, shard, ["id"])["id"].to_pylist()})
    return ids, [1] * len(ids)


def _place(field: str, labels: dict[str, str], texts: set[str]) -> tuple[str, str, Keys]:
    """(stage of the label or "" for the text, column, keys): the longest prefix that is a column."""
    parts = field.split(".")
    for end in range(len(parts), 0, -1):
        name, keys = ".".join(parts[:end]), tuple(parts[end:])
        if name in labels:
            return labels[name], name.removeprefix(f"{labels[name]}."), keys
        if name in texts:
            return "", name, keys
    return "", field, ()


def _read(
    sources: Sequence[Artifact], shard: int, columns: dict[str, dict[str, Keys]], ids: list[str]
) -> dict[str, list[Any]]:
    """Field -> its values in the order of `ids`, from artifacts of which the first one that has a row counts."""
    import pyarrow as pa

    there = [column for column in columns if all(column in columns_of(each) for each in sources)]
    table = pa.concat_tables(narrow(each, shard, ["id", *there]) for each in sources)
    rows = table["id"].to_pylist()
    at = None if rows == ids else {id: n for n, id in reversed(list(enumerate(rows)))}
    found = {field: [None] * len(ids) for fields in columns.values() for field in fields}
    for column in there:
        raw = table[column].to_pylist()
        if at is not None:
            raw = [None if (n := at.get(id)) is None else raw[n] for id in ids]
        found |= _values(raw, columns[column], json_text=column in JSON_COLUMNS)
    return found


def _values(raw: list[Any], fields: dict[str, Keys], *, json_text: bool) -> dict[str, list[Any]]:
    """Field -> the value at its keys in each of the raw ones; a JSON text is parsed once for all of them."""
    found: dict[str, list[Any]] = {field: [] for field in fields}
    wanted = [(found[field].append, keys) for field, keys in fields.items()]
    for each in raw:
        whole = json.loads(each) if json_text and isinstance(each, str) else each
        for add, keys in wanted:
            value = whole
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            add(value)
    return found


def narrow(artifact: Artifact, shard: int, columns: list[str], table: str = "rows") -> "pa.Table":
    """Some columns of a shard.

    Raises:
        StageError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    entry = artifact.manifest.tables[table][shard]
    if entry.bytes <= SMALL_BYTES:
        artifact.checked(shard, table)
    try:
        with pq.ParquetFile(artifact.path / entry.file, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except FileNotFoundError:
        raise artifact.corrupt(entry.file, "is missing") from None
    except (pa.ArrowException, OSError, ValueError):
        raise artifact.corrupt(entry.file, "has other bytes than were sealed") from None
