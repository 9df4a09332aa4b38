"""The one place where text and labels are joined.

A view is a text artifact (or a selection over one or several), with the label artifacts that lie beside it.
Trainers and `publish` read rows through it; `filter` and `select` read labels through it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from distillkit.artifact import Artifact, Row
from distillkit.errors import StageError
from distillkit.store import Store
from distillkit.trace import JSON_COLUMNS

TEXT_TYPES = ("traces", "problems")


@dataclass(frozen=True)
class View:
    """Rows of one or more texts, narrowed by a selection, joined with labels.

    A label column `c` of stage `s` is `s.c` in a row, and bare `c` where no other column has that name, of another
    label or of the text.
    """

    texts: list[Artifact]
    labels: list[Artifact] = field(default_factory=list)
    selection: Artifact | None = None

    @classmethod
    def of(cls, store: Store, artifact: Artifact, labels: Sequence[Artifact] = ()) -> "View":
        """The view that an artifact of type traces, problems or selection stands for.

        A selection brings the labels that it was made from; `labels` adds later ones.
        """
        if artifact.type in TEXT_TYPES:
            return cls([artifact], list(labels))
        inputs = artifact.manifest.inputs
        below = [cls.of(store, store.open(each["artifact"], each["name"])) for each in inputs["input"]]
        own = [store.open(each["artifact"], each["name"]) for each in inputs.get("labels", [])]
        found = {a.path.name: a for view in below for a in view.labels}
        found |= {a.path.name: a for a in [*own, *labels]}
        texts = {text.path.name: text for view in below for text in view.texts}
        return cls(list(texts.values()), list(found.values()), artifact)

    @property
    def shards(self) -> int:
        return max(text.shards() for text in self.texts)

    @property
    def count(self) -> int:
        """Rows that the view yields."""
        if self.selection is not None:
            return self.selection.manifest.rows_kept
        return sum(text.count() for text in self.texts)

    def content(self, shard: int) -> list[str]:
        """What decides the rows of a shard, labels aside: contents of the text shards and of the selection's."""
        parts = [*self.texts, *([self.selection] if self.selection is not None else [])]
        return [part.manifest.tables["rows"][shard].content for part in parts]

    @cached_property
    def fields(self) -> dict[str, str]:
        """Name of every label column in a row -> the stage that made it."""
        names: dict[str, str] = {}
        bare: dict[str, list[str]] = {}
        for artifact in self.labels:
            for column in label_columns(artifact):
                names[f"{artifact.stage}.{column}"] = artifact.stage
                bare.setdefault(column, []).append(artifact.stage)
        texts = {column for text in self.texts for column in columns_of(text)}
        return names | {
            column: stages[0] for column, stages in bare.items() if len(stages) == 1 and column not in texts
        }

    def shard(self, shard: int, *, labels: bool = True, columns: Sequence[str] | None = None) -> list[Row]:
        """The rows of one shard, sorted by id; label columns are parsed JSON or plain values, null where absent.

        columns: those of the text to read, `id` among them; left out, all.
        """
        rows = [row for text in self.texts for row in text.read(shard, columns=columns).to_pylist()]
        if self.selection is not None:
            kept = {row["id"]: row for row in self.selection.read(shard).to_pylist() if row["kept"]}
            rows = [row for row in rows if row["id"] in kept]
        if labels and self.labels:
            self._join(rows, shard)
        return sorted(rows, key=lambda row: str(row["id"]))

    def rows(self, *, labels: bool = True) -> Iterator[Row]:
        """All rows, one shard in memory at a time."""
        for shard in range(self.shards):
            yield from self.shard(shard, labels=labels)

    def _join(self, rows: list[Row], shard: int) -> None:
        bare = self.fields
        for artifact in self.labels:
            if artifact.shards() != self.shards:
                raise StageError(
                    f"{artifact.stage}: has {artifact.shards()} shards, its text {self.shards}; "
                    "run both with one `shards:`"
                )
            columns = label_columns(artifact)
            by_id = {row["id"]: _parsed(row) for row in artifact.read(shard).to_pylist()}
            for row in rows:
                found = by_id.get(row["id"], {})
                for column in columns:
                    row[f"{artifact.stage}.{column}"] = found.get(column)
                    if column in bare:
                        row[column] = found.get(column)


def label_columns(artifact: Artifact) -> list[str]:
    """Names of the columns that a label artifact adds."""
    return columns_of(artifact)[1:]


def columns_of(artifact: Artifact) -> list[str]:
    """Names of the columns of an artifact's rows."""
    return list(artifact.schema().names)


def _parsed(row: Row) -> Row:
    return {k: json.loads(v) if k in JSON_COLUMNS and isinstance(v, str) else v for k, v in row.items()}


def look_up(row: Row, path: str) -> Any:
    """Value of a dotted field: the longest prefix that is a column, then keys of its JSON; None where absent."""
    if path in row:
        return row[path]
    column, _, rest = path.rpartition(".")
    keys = [rest]
    while column and column not in row:
        column, _, head = column.rpartition(".")
        keys.insert(0, head)
    value = row.get(column)
    for key in keys:
        if isinstance(value, str) and column in JSON_COLUMNS:
            value = json.loads(value)
        value = value.get(key) if isinstance(value, dict) else None
    return value
