"""Lay a dataset or a model out as the folder that is byte for byte its Hub repository.

The folder holds the card, the manifest, the recipe and the data; nothing in it depends on when or where it was
made, so equal content is equal bytes. Its base name carries its digest, because `datasets` caches local
folders by base name.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.artifact import Artifact, Row, link_or_copy, write_parquet, write_text
from distillkit.errors import StageError
from distillkit.publication import (
    Portrait,
    front_matter,
    funnel_rows,
    lineage,
    render_card,
    sources,
    teachers,
)
from distillkit.reader import View
from distillkit.report import plots
from distillkit.show import scores_of
from distillkit.spec import canonical
from distillkit.stages.base import LABELS, PUBLICATION, SCORES, SELECTION, TRACES, WEIGHTS, Job, Stage, Wire
from distillkit.trace import JSON_COLUMNS

TEXT_COLUMNS = (
    "id", "problem_id", "messages", "reference", "domain", "source", "language", "finish_reason", "prompt_tokens",
    "completion_tokens", "seed", "index", "model", "template", "sampling",
)  # fmt: skip


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
        shutil.rmtree(job.out.path / "tree", ignore_errors=True)  # half of an interrupted run
        tree = job.out.path / "tree"
        tree.mkdir()
        facts = self._model(job, source, tree) if source.type == WEIGHTS else self._dataset(job, source, tree)
        if job.recipe:
            write_text(tree / "recipe.yaml", job.recipe)
        files = {
            str(path.relative_to(tree)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(tree.rglob("*"))
            if path.is_file()
        }
        manifest = {"name": self.repository, "version": self.version, **facts, "files": files}
        write_text(tree / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))
        basename = (
            f"{self.repository.rpartition('/')[2]}-{hashlib.sha256(canonical(manifest)).hexdigest()[:12]}"
        )
        shutil.rmtree(job.out.path / basename, ignore_errors=True)
        tree.rename(job.out.path / basename)
        job.out.summary = {"folder": basename, "repository": self.repository, "version": self.version}

    def _dataset(self, job: Job, source: Artifact, tree: Path) -> dict[str, Any]:
        view = View.of(job.store, source, job.artifacts("labels"))
        portrait = Portrait()
        full = [shard for shard in range(view.shards) if view.shard(shard, labels=False)]
        for position, shard in enumerate(full):
            rows = [published_row(row) for row in view.shard(shard)]
            for row in rows:
                portrait.add(row)
            _write(rows, tree / "data" / f"train-{position:05d}-of-{len(full):05d}.parquet")
            job.progress(position + 1, len(full), unit="shards")
        if portrait.rows == 0:
            raise StageError(f"{self.name}: no rows to publish; loosen the filters before it")
        if self.rejected:
            _write(list(_rejected(view)), tree / "rejected" / "train-00000-of-00001.parquet")
        behind = lineage(job.store, source)
        facts = {
            "rows": portrait.rows,
            "problems": len(portrait.problems),
            "tokens": sum(portrait.tokens),
            "domains": dict(portrait.domains),
            "languages": dict(portrait.languages),
            "teachers": teachers(behind),
            "sources": sources(behind),
            "funnel": funnel_rows(behind),
        }
        plots.save_png(plots.funnel(facts["funnel"]), tree / "funnel.png")
        plots.save_png(plots.length_histogram({"published": portrait.tokens}), tree / "lengths.png")
        header = front_matter(self.repository, portrait.rows, sorted(portrait.languages), self.license)
        card = render_card(
            "dataset_card.md.j2",
            header=header,
            stage=self,
            facts=facts,
            scores=self._scores(job),
            recipe=job.recipe,
        )
        write_text(tree / "README.md", card)
        job.out.rows_in, job.out.rows_kept = view.count, portrait.rows
        return facts

    def _model(self, job: Job, source: Artifact, tree: Path) -> dict[str, Any]:
        for path in sorted((source.path / "model").iterdir()):
            link_or_copy(path, tree / path.name)
        behind = lineage(job.store, source)
        facts = {
            "weights": source.content,
            "trained": [
                {"stage": a.stage, "kind": a.manifest.kind, "base": _base(a)}
                for a in behind
                if a.type == WEIGHTS
            ],
            "funnel": funnel_rows(behind),
        }
        card = render_card(
            "model_card.md.j2", stage=self, facts=facts, scores=self._scores(job), recipe=job.recipe
        )
        write_text(tree / "README.md", card)
        return facts

    def _scores(self, job: Job) -> dict[str, Any]:
        return scores_of(job.artifacts("scores"))


def published_row(row: Row) -> Row:
    """A row of the dataset: the conversation with the completion as its last message, provenance, labels."""
    answer = {"role": "assistant", "content": row["completion"]}
    text = {name: row[name] for name in TEXT_COLUMNS} | {"messages": [*row["messages"], answer]}
    labels = {
        name: value
        for name, value in row.items()
        if name not in row_columns() and ("." not in name or name.rpartition(".")[2] not in row)
    }
    return text | {
        name: canonical(value).decode()
        if isinstance(value, dict | list) and name.rpartition(".")[2] in JSON_COLUMNS
        else value
        for name, value in labels.items()
    }


def row_columns() -> frozenset[str]:
    """Columns of a trace's text."""
    from distillkit.trace import trace_schema

    return frozenset(trace_schema().names)


def _rejected(view: View) -> Iterator[Row]:
    everything = View(view.texts, view.labels)
    if view.selection is None:
        return
    for shard in range(view.shards):
        verdicts = {row["id"]: row for row in view.selection.read(shard).to_pylist()}
        for row in everything.shard(shard):
            verdict = verdicts.get(row["id"])
            if verdict is None or not verdict["kept"]:
                yield published_row(row) | {
                    "reject_reason": verdict["reason"] if verdict else "rejected_before"
                }


def _write(rows: list[Row], path: Path) -> None:
    import pyarrow as pa

    write_parquet(pa.Table.from_pylist(rows), path)


def _base(artifact: Artifact) -> str:
    ends = artifact.manifest.inputs.get("model", [])
    return ", ".join(
        f"{end['name']}@{end['revision']}" if end.get("revision") else end["name"] for end in ends
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
