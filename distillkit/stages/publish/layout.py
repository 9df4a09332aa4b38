"""How rows look in a published dataset, and the files that they become: one per shard that has rows.

A shard is written row group by row group in bounded memory, anywhere; a run that goes on takes those that are there.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Artifact, Row, Shard
from distillkit.durable import write_text
from distillkit.portrait import Portrait
from distillkit.reader import View
from distillkit.shard import read_entry, write_shard
from distillkit.show.fate import fates_in
from distillkit.spec import canonical
from distillkit.stages.selection import selection_schema, upsampled
from distillkit.trace import JSON_COLUMNS, Trace, trace_of, trace_schema
from distillkit.training.examples import answer_of

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_COLUMNS = (
    "id", "problem_id", "messages", "reference", "domain", "source", "language", "finish_reason", "prompt_tokens",
    "completion_tokens", "seed", "index", "model", "template", "sampling", "extra",
)  # fmt: skip
READ_COLUMNS = (*TEXT_COLUMNS, "completion", "reasoning")
"""Columns of the text that a published row is made from; the response stands in the completion."""
REJECTION = ("reject_stage", "reject_reason")
DATA, REJECTED = "data", "rejected"
"""Folders of the two configs."""


@dataclass(frozen=True)
class Column:
    """One column of the published rows."""

    name: str
    key: str
    """Its name in a row of the view."""
    type: "pa.DataType"
    stage: str = ""
    """The label stage that made it; empty for the text's own."""

    def value(self, row: Row) -> Any:
        """The value to publish: JSON labels as canonical text."""
        found = row.get(self.key)
        if self.stage and found is not None and self.key.rpartition(".")[2] in JSON_COLUMNS:
            return canonical(found).decode()
        return found


def published_columns(view: View) -> list[Column]:
    """Columns of the text, then those of the labels: bare where the name is unique, else `<stage>.<name>`."""
    schema = trace_schema()
    found = [Column(name, name, schema.field(name).type) for name in TEXT_COLUMNS]
    for artifact in view.labels:
        for label in list(artifact.schema())[1:]:
            if label.name == "telemetry":  # of the machine that ran it, not of the data
                continue
            key = f"{artifact.stage}.{label.name}"
            name = label.name if label.name in view.fields else key
            found.append(Column(name, key, label.type, artifact.stage))
    if view.selection is not None and upsampled(view.selection):
        found.append(Column("copies", "copies", selection_schema().field("copies").type))
    return found


def published_row(row: Row, columns: Sequence[Column]) -> Row:
    """A row of the dataset; the completion is the last message, with the `<think>` that its template opened."""
    answer = {"role": "assistant", "content": answer_of(_trace(row))}
    return {column.name: column.value(row) for column in columns} | {"messages": [*row["messages"], answer]}


def _trace(row: Row) -> Trace:
    return trace_of({"response": "", **row})


@dataclass(frozen=True)
class Piece:
    """One file of a config: picklable, so that any executor can write it."""

    view: View
    columns: list[Column]
    shard: int
    chain: list[Artifact]
    """Selections, the earliest first: the file holds the rows that they dropped; empty: those that stayed."""
    name: str
    """Path below the folder of the dataset, e.g. `data/train-00000-of-00002.parquet`."""
    tree: Path
    notes: Path
    """Where the portraits of finished pieces are kept while the work lasts."""

    @property
    def file(self) -> Path:
        return self.tree / self.name

    @property
    def folder(self) -> str:
        """That of its config."""
        return self.name.partition("/")[0]

    @property
    def schema(self) -> "pa.Schema":
        """Arrow schema of the rows."""
        import pyarrow as pa

        fields = [(column.name, column.type) for column in self.columns]
        return pa.schema([*fields, *((name, pa.string()) for name in REJECTION if self.chain)])

    def rows(self, portrait: Portrait) -> Iterator[Row]:
        """The published rows by ascending id, each counted in the portrait as it comes."""
        view = View(self.view.texts, self.view.labels) if self.chain else self.view
        fates = fates_in(self.chain, self.shard)
        for row in view.stream(self.shard, columns=READ_COLUMNS):
            fate = fates.get(row["id"])
            if self.chain and fate is None:
                continue
            published = published_row(row, self.columns)
            if not portrait.rows:
                portrait.example = _example(row["id"], published)
            portrait.add(row)
            yield published | (dict(zip(REJECTION, fate[:2], strict=True)) if fate else {})


def _example(id: str, published: Row) -> dict[str, str]:
    *before, answer = published["messages"]
    prompt = next((m["content"] for m in reversed(before) if m["role"] == "user"), "")
    return {"id": id, "prompt": prompt, "completion": answer["content"]}


def write_piece(piece: Piece) -> tuple[Piece, Shard, Portrait]:
    """Write a piece, or take it as an interrupted run left it; gives its entry and its portrait along."""
    note = piece.notes / f"{piece.name.replace('/', '--')}.json"
    if not (note.exists() and piece.file.exists()):
        portrait = Portrait()
        write_shard(piece.file, piece.rows(portrait), piece.schema, piece.name, {})
        write_text(note, json.dumps(portrait.as_json()))
    return piece, read_entry(piece.file, piece.name), Portrait(**json.loads(note.read_text("utf-8")))


def pieces(view: View, chain: Sequence[Artifact], tree: Path, notes: Path) -> list[Piece]:
    """The files to write, data first; `chain`: the selections whose dropped rows go along, if any."""
    columns = published_columns(view)
    kept = [kept_in(view, shard) for shard in range(view.shards)]
    whole = [
        sum(text.manifest.tables["rows"][shard].rows for text in view.texts) for shard in range(view.shards)
    ]
    dropped = [n - k if chain else 0 for n, k in zip(whole, kept, strict=True)]
    return [
        Piece(
            view, columns, shard, below, f"{folder}/train-{n:05d}-of-{len(filled):05d}.parquet", tree, notes
        )
        for folder, counts, below in ((DATA, kept, []), (REJECTED, dropped, list(chain)))
        for filled in [[shard for shard, rows in enumerate(counts) if rows]]
        for n, shard in enumerate(filled)
    ]


def kept_in(view: View, shard: int) -> int:
    """Rows of a shard that the view yields."""
    if view.selection is None:
        return sum(text.manifest.tables["rows"][shard].rows for text in view.texts)
    return sum(row["kept"] for row in view.selection.stream(shard, columns=("kept",)))
