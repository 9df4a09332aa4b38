"""Lay a dataset or a model out as the folder that is byte for byte its Hub repository.

The folder holds the card, the manifest, the recipe and the data; nothing in it depends on when or where it was
made, so equal content is equal bytes. Its base name carries its digest, because `datasets` caches local
folders by base name.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit import publication
from distillkit.artifact import Artifact, Row
from distillkit.durable import link_or_copy, write_parquet, write_text
from distillkit.errors import StageError
from distillkit.publication import Portrait, lineage, row_funnel
from distillkit.reader import View
from distillkit.report import card, plots
from distillkit.report.traces import Fate, fates
from distillkit.spec import canonical
from distillkit.stages.base import LABELS, PUBLICATION, SCORES, SELECTION, TRACES, WEIGHTS, Job, Stage, Wire
from distillkit.store import Writer
from distillkit.trace import JSON_COLUMNS, trace_of, trace_schema
from distillkit.training.examples import answer_of

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_COLUMNS = (
    "id", "problem_id", "messages", "reference", "domain", "source", "language", "finish_reason", "prompt_tokens",
    "completion_tokens", "seed", "index", "model", "template", "sampling", "extra",
)  # fmt: skip
REJECTION = ("reject_stage", "reject_reason")


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
        found = row[self.key]
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
    return found


def published_row(row: Row, columns: Sequence[Column]) -> Row:
    """A row of the dataset; the completion is the last message, with the `<think>` that its template opened."""
    answer = {"role": "assistant", "content": answer_of(trace_of(row))}
    return {column.name: column.value(row) for column in columns} | {"messages": [*row["messages"], answer]}


class _Rows:
    """The Parquet files of one config: a file per shard that has rows, named once their number is known."""

    def __init__(self, folder: Path, columns: Sequence[Column], more: Sequence[str] = ()) -> None:
        self.folder = folder
        self.columns = columns
        self.more = more
        self.files = 0
        self.count = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Write the rows of one shard."""
        import pyarrow as pa

        if not rows:
            return
        fields = [(column.name, column.type) for column in self.columns]
        schema = pa.schema([*fields, *((name, pa.string()) for name in self.more)])
        published = [
            published_row(row, self.columns) | {name: row[name] for name in self.more} for row in rows
        ]
        write_parquet(pa.Table.from_pylist(published, schema), self.folder / f"{self.files:05d}.parquet")
        self.files += 1
        self.count += len(rows)

    def close(self) -> None:
        """Give the files the names that the Hub knows."""
        for number in range(self.files):
            name = f"train-{number:05d}-of-{self.files:05d}.parquet"
            (self.folder / f"{number:05d}.parquet").rename(self.folder / name)


class Publish(Stage):
    """A selection of traces becomes a dataset folder, weights become a model folder."""

    MAKES: ClassVar[str] = PUBLICATION

    kind: Literal["publish"] = "publish"
    input: Annotated[str | None, Wire((SELECTION, TRACES, WEIGHTS))] = None
    """Stage whose rows or weights are published; left out: the nearest earlier one."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = Field(default_factory=list)
    """Label stages whose columns go with the rows; left out: all over the same text."""
    scores: Annotated[str | None, Wire((SCORES,), default="none")] = None
    """Evaluation whose table stands in the card."""
    repository: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """Name of the repository, with or without its owner."""
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    """Semantic version, e.g. 1.0.0."""
    license: str | None = None
    """Licence identifier of the result; left out, the card says that none was declared."""
    rejected: bool = False
    """Whether rejected rows go along, as a config of their own."""

    def run(self, job: Job) -> None:
        [source] = job.artifacts("input")
        tree = _empty(job.out)
        facts = self._model(job, source, tree) if source.type == WEIGHTS else self._dataset(job, source, tree)
        if job.recipe:
            write_text(tree / "recipe.yaml", publication.public_recipe(job.recipe))
        named = {"name": self.repository, "version": self.version, "content": source.content}
        manifest = named | facts | {"files": _seal_files(tree)}
        write_text(tree / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))
        digest = hashlib.sha256(canonical(manifest)).hexdigest()
        folder = f"{self.repository.rpartition('/')[2]}-{digest[:12]}"
        tree.rename(job.out.path / folder)
        job.out.summary = {"folder": folder, "repository": self.repository, "version": self.version}

    def _dataset(self, job: Job, source: Artifact, tree: Path) -> dict[str, Any]:
        view = View.of(job.store, source, job.artifacts("labels"))
        columns = published_columns(view)
        portrait, example = self._write_rows(job, view, columns, tree)
        behind = lineage(job.store, source, publication.DATA)
        facts = {
            **portrait.facts(),
            "teachers": publication.teachers(job.store, behind),
            "sources": publication.sources(behind),
            "conditions": publication.conditions(behind),
            **publication.judged(lineage(job.store, source)),
            "funnel": row_funnel(job.store, source),
        }
        steps = [step for step in facts["funnel"] if step["kind"] != "problems"]
        plots.save_png(plots.funnel(steps), tree / "funnel.png")
        plots.save_png(plots.length_histogram({"published": portrait.tokens}), tree / "lengths.png")
        stages = {column.name: column.stage for column in columns}
        text = card.dataset_card(self._title, facts, stages, example, job.artifacts("scores"))
        write_text(tree / "README.md", text)
        return facts

    def _write_rows(
        self, job: Job, view: View, columns: Sequence[Column], tree: Path
    ) -> tuple[Portrait, dict[str, str]]:
        """Write data/ and rejected/; returns the statistics, and the trace of smallest id as the example."""
        kept, dropped = _Rows(tree / "data", columns), _Rows(tree / "rejected", columns, REJECTION)
        decided = fates(job.store, view.selection) if self.rejected and view.selection else {}
        portrait = Portrait()
        firsts: list[Row] = []
        for shard in range(view.shards):
            mine, others = _split(view, shard, decided) if decided else (view.shard(shard), [])
            for row in mine:
                portrait.add(row)
            firsts += mine[:1]
            kept.add(mine)
            dropped.add(others)
            job.progress(shard + 1, view.shards, unit="shards")
        if not firsts:
            raise StageError(f"{self.name}: no rows to publish; loosen the filters before it")
        kept.close()
        dropped.close()
        portrait.rejected = dropped.count
        job.out.rows_in, job.out.rows_kept = view.count, portrait.rows
        first = trace_of(min(firsts, key=lambda row: str(row["id"])))
        return portrait, {"prompt": first.prompt, "completion": answer_of(first)}

    def _model(self, job: Job, source: Artifact, tree: Path) -> dict[str, Any]:
        for path in sorted((source.path / "model").iterdir()):
            link_or_copy(path, tree / path.name)
        trained = lineage(job.store, source, publication.MODEL)
        data = [each for one in trained for each in lineage(job.store, one, publication.DATA)]
        facts = {
            "trainings": publication.trainings(trained),
            "teachers": publication.teachers(job.store, data),
            "sources": publication.sources(data),
            "funnel": row_funnel(job.store, source),
            **publication.judged(lineage(job.store, source)),
        }
        write_text(tree / "README.md", card.model_card(self._title, facts, job.artifacts("scores")))
        return facts

    @property
    def _title(self) -> card.Title:
        return card.Title(self.repository, self.version, self.license)


def _empty(out: Writer) -> Path:
    """A fresh folder to build in; what an interrupted run left is removed."""
    tree = out.scratch / "tree"
    for path in [tree, *out.path.iterdir()]:
        if path.is_dir() and path != out.scratch:
            shutil.rmtree(path)
    tree.mkdir()
    return tree


def _seal_files(tree: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {bytes, sha256} of every file, each of them safely on the disk."""
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            found[str(path.relative_to(tree))] = {"bytes": path.stat().st_size, "sha256": sha256}
    return found


def _split(view: View, shard: int, decided: Mapping[str, Fate]) -> tuple[list[Row], list[Row]]:
    """Kept and rejected rows of a shard, the latter with the stage and the reason."""
    kept, dropped = [], []
    for row in View(view.texts, view.labels).shard(shard):
        fate = decided.get(row["id"])
        if fate is None:
            kept.append(row)
        else:
            dropped.append(row | dict(zip(REJECTION, fate, strict=True)))
    return kept, dropped
