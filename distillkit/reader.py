"""The one place where text and labels are joined.

A view is a text artifact (or a selection over one or several), with the label artifacts that lie beside it.
Trainers and `publish` read rows through it; `filter` and `select` read labels through it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import merge
from operator import itemgetter
from typing import Any

from distillkit.artifact import Artifact, Row, problem_in
from distillkit.errors import StageError
from distillkit.shard import characters_of
from distillkit.store import Store
from distillkit.trace import JSON_COLUMNS

TEXT_TYPES = ("traces", "problems")
BATCH_CHARACTERS = 8 * 2**20
_id = itemgetter("id")


@dataclass(frozen=True)
class View:
    """Rows of one or more texts, each id once, narrowed by a selection, joined with labels.

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
        ends = [each for slot in ("input", "inputs") for each in inputs.get(slot, [])]
        below = [cls.of(store, store.open(each["artifact"], each["name"])) for each in ends]
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
        """The rows of one shard, all at once; else as `stream`."""
        return list(self.stream(shard, labels=labels, columns=columns))

    def batches(
        self,
        shard: int,
        *,
        labels: bool = True,
        columns: Sequence[str] | None = None,
        characters: int = BATCH_CHARACTERS,
    ) -> Iterator[list[Row]]:
        """The rows of one shard in lists of whole problems, each ended by the problem that fills `characters`."""
        batch: list[Row] = []
        held = 0
        for row in self.stream(shard, labels=labels, columns=columns):
            if held >= characters and problem_in(row["id"]) != problem_in(batch[-1]["id"]):
                yield batch
                batch, held = [], 0
            batch.append(row)
            held += characters_of(row)
        if batch:
            yield batch

    def stream(
        self, shard: int, *, labels: bool = True, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        """The rows of one shard by ascending id; label columns are parsed JSON or plain values, null where absent.

        A row of a selection has `copies`: how often a trainer is to see it. No more than a row group of each artifact
        is in memory. columns: those of the text to read, `id` among them; left out, all.
        """
        rows = _once(merge(*(text.stream(shard, columns=columns) for text in self.texts), key=_id))
        if self.selection is not None:
            rows = _selected(rows, _Beside(self.selection.stream(shard)))
        return self._joined(rows, shard) if labels and self.labels else rows

    def rows(self, *, labels: bool = True) -> Iterator[Row]:
        """All rows, shard by shard."""
        for shard in range(self.shards):
            yield from self.stream(shard, labels=labels)

    def _joined(self, rows: Iterator[Row], shard: int) -> Iterator[Row]:
        """The rows with their labels, under the names of `fields`."""
        for artifact in self.labels:
            self.require_shards(artifact)
        named = [
            (_Beside(artifact.stream(shard)), [(column, self._names(artifact, column)) for column in columns])
            for artifact in self.labels
            for columns in [label_columns(artifact)]
        ]
        for row in rows:
            for beside, columns in named:
                found = beside.row(row["id"]) or {}
                for column, names in columns:
                    row |= dict.fromkeys(names, _parsed(column, found.get(column)))
            yield row

    def require_shards(self, artifact: Artifact) -> None:
        """Raises StageError for labels that were sharded otherwise than their text."""
        if artifact.shards() != self.shards:
            raise StageError(
                f"{artifact.stage}: has {artifact.shards()} shards, its text {self.shards}; "
                "run both with one `shards:`"
            )

    def _names(self, artifact: Artifact, column: str) -> list[str]:
        """What a label column is called in a row."""
        bare = self.fields.get(column) == artifact.stage
        return [f"{artifact.stage}.{column}", *([column] if bare else [])]


class _Beside:
    """Rows by ascending id, looked up by ascending id."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._at = next(rows, None)

    def row(self, wanted: str) -> Row | None:
        """The row of an id, None where there is none; ids may repeat but not go back."""
        while self._at is not None and self._at["id"] < wanted:
            self._at = next(self._rows, None)
        return self._at if self._at is not None and self._at["id"] == wanted else None


def _once(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows by ascending id without those whose id came just before: two texts may hold one trace."""
    before = None
    for row in rows:
        if row["id"] != before:
            yield row
        before = row["id"]


def _selected(rows: Iterator[Row], selection: _Beside) -> Iterator[Row]:
    for row in rows:
        decided = selection.row(row["id"])
        if decided is not None and decided["kept"]:
            yield row | {"copies": decided.get("copies") or 1}  # none in a selection of an earlier version


def label_columns(artifact: Artifact) -> list[str]:
    """Names of the columns that a label artifact adds."""
    return columns_of(artifact)[1:]


def columns_of(artifact: Artifact) -> list[str]:
    """Names of the columns of an artifact's rows."""
    return list(artifact.schema().names)


def _parsed(column: str, value: Any) -> Any:
    return json.loads(value) if column in JSON_COLUMNS and isinstance(value, str) else value


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
