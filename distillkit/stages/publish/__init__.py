"""Lay a dataset or a model out as the folder that is byte for byte its Hub repository, and push it.

The folder holds the card, the manifest, the recipe and the data; nothing in it depends on when or where it was made,
so equal content is equal bytes. The store keeps it as an edition under its name; the Hub gets a copy: one commit, and
a tag that stays.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit import publication
from distillkit.artifact import Artifact, Shard
from distillkit.delivery import Delivery
from distillkit.durable import link_or_copy, write_text
from distillkit.edition import DATASET, MODEL, Edition, Shelf, folder_name, seal
from distillkit.errors import StageError
from distillkit.hub.target import Target, check_push
from distillkit.licence import add_licences, chosen
from distillkit.portrait import Portrait
from distillkit.publication import lineage, row_funnel
from distillkit.reader import View
from distillkit.report import card, plots
from distillkit.report.material import curves_of, points
from distillkit.show.fate import chain
from distillkit.spec import EXECUTION
from distillkit.stages.base import LABELS, PUBLICATION, SCORES, SELECTION, TRACES, WEIGHTS, Job, Stage, Wire
from distillkit.stages.publish.contest import contest
from distillkit.stages.publish.layout import DATA, REJECTED, Piece, pieces, published_columns, write_piece

RECIPE = "recipe.yaml"
CURVES = ("loss", "reward", "length")
"""Curves of a training that its card shows, where it has them."""


class Publish(Stage):
    """A selection of traces becomes a dataset, weights become a model: a folder, and a repository on the Hub."""

    VERSION: ClassVar[int] = 2
    MAKES: ClassVar[str] = PUBLICATION

    kind: Literal["publish"] = "publish"
    input: Annotated[
        str | Annotated[list[str], Field(min_length=1)] | None, Wire((SELECTION, TRACES, WEIGHTS))
    ] = None
    """Stage whose rows or weights are published; left out: the nearest earlier one. Of several trainings, the one with
    the highest pass@1 in `scores`."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = Field(default_factory=list)
    """Label stages whose columns go with the rows; left out: all over the same text."""
    scores: Annotated[str | None, Wire((SCORES,), kinds=("evaluate",), default="none")] = None
    """Evaluation whose table stands in the card."""
    repository: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """Name of what is published, with or without an owner: it is laid out in the store and not pushed."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$")
    """`owner/name` on the Hub: it is pushed there too. Give this or `repository`."""
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    """Semantic version, e.g. 1.0.0; becomes the tag v1.0.0, which stays."""
    visibility: Literal["private", "public"] = "private"
    """Who may read the repository on the Hub. One that exists is never switched: where it differs, it is refused."""
    changelog: str | None = None
    """What is new in this version; the card keeps it beside the entries of earlier versions."""
    license: str | None = None
    """Licence identifier of the result; needed where those of the teacher and the sources differ."""
    licenses: dict[str, str] = Field(default_factory=dict)
    """Licences of teachers and sources that state none themselves (files, endpoints), by their names in the card."""
    rejected: bool = False
    """Whether rejected rows go along, as a config of their own."""
    replace: Annotated[bool, EXECUTION] = False
    """Whether files in the repository that no push put there may be deleted."""

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        if (self.repository is None) == (self.hub is None):
            raise ValueError("give `hub: owner/name` to push, or `repository: name` to lay it out only")
        if isinstance(self.input, list) and len(self.input) > 1 and self.scores is None:
            raise ValueError("input: several trainings need scores:, the evaluation that says which is best")
        return self

    @property
    def title(self) -> str:
        """Name of what is published."""
        return self.hub or self.repository or ""

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    def target(self, kind: str) -> Target:
        """Where a dataset or a model is pushed to."""
        return Target(kind, self.title, self.visibility, self.tag, self.replace)

    def limited(self, rows: int) -> Self:
        return self.model_copy(
            update={"hub": None, "repository": self.title}
        )  # a smoke run is nobody's version

    def reach(self, inputs: Mapping[str, Sequence[Stage]], recipe: str) -> None:
        if self.hub is None:
            return
        source = inputs["input"][0]
        made_by = publication.made_by(recipe, source.name)

        def may_be_ours(manifest: dict[str, Any]) -> bool:
            return made_by is not None and manifest.get("made_by") == made_by

        check_push(self.target(MODEL if source.MAKES == WEIGHTS else DATASET), may_be_ours)

    def run(self, job: Job) -> None:
        chosen_by = contest(job.artifacts("input"), job.artifacts("scores"), self.name)
        source = chosen_by.winner
        if doubt := chosen_by.doubt():
            job.warn(doubt)
        with self._delivery(job, kind_of(source)) as delivery:
            edition = self.lay_out(job, source, delivery)
            if pushed := delivery.deliver(edition):
                job.out.telemetry["pushed"] = asdict(pushed)
        folder = folder_name(edition)
        edition.path.rename(job.out.path / folder)
        facts = {"folder": folder, "repository": self.title, "version": self.version}
        job.out.summary = facts | chosen_by.summary()

    def lay_out(self, job: Job, source: Artifact, delivery: Delivery) -> Edition:
        """The folder of an artifact, sealed, in the scratch folder of the job; large files are on their way by then."""
        tree, kind = _workplace(job), kind_of(source)
        facts: dict[str, Any] = {
            "name": self.title,
            "version": self.version,
            "kind": kind,
            "content": source.content,
            "made_by": publication.made_by(job.recipe, job.inputs["input"][0].name),
        }
        make = self._model if kind == MODEL else self._dataset
        facts |= make(job, source, tree, delivery)
        facts["license"] = chosen(self.license, facts)
        facts["changelog"] = delivery.changelog(self.version, self.changelog)
        return self._seal(job, tree, facts)

    def _delivery(self, job: Job, kind: str) -> AbstractContextManager[Delivery]:
        def progress(done: int, total: int) -> None:
            if total:
                job.progress(done, total, unit="bytes")

        target = self.target(kind) if self.hub is not None else None
        return Delivery.open(Shelf.of(job.store.root, kind, self.title), self.tag, job.warn, target, progress)

    def _seal(self, job: Job, tree: Path, facts: dict[str, Any]) -> Edition:
        """Write the recipe, the card and the manifest, which has the last word on every other file."""
        recipe = publication.public_recipe(job.recipe) if job.recipe else ""
        if recipe:
            write_text(tree / RECIPE, recipe)
        title = card.Title(self.title, self.version, facts["license"])
        write = card.model_card if facts["kind"] == MODEL else card.dataset_card
        write_text(tree / "README.md", write(title, facts, recipe, job.artifacts("scores")))
        return seal(tree, {name: fact for name, fact in facts.items() if name != "example"})

    def _dataset(self, job: Job, source: Artifact, tree: Path, delivery: Delivery) -> dict[str, Any]:
        view = View.of(job.store, source, job.artifacts("labels"))
        portrait, files = self._write_rows(job, view, tree, delivery)
        behind = lineage(job.store, source, publication.DATA)
        facts = {
            **portrait.facts(),
            "rejected": sum(shard.rows for name, shard in files.items() if name.startswith(REJECTED)),
            **self._origin(job, behind, portrait.models),
            "conditions": publication.conditions(behind),
            "decontamination": publication.decontamination(lineage(job.store, source)),
            **publication.judged(lineage(job.store, source)),
            "funnel": row_funnel(job.store, source),
            "columns": {column.name: column.stage for column in published_columns(view)},
            "files": {name: _described(shard) for name, shard in files.items()},
            "example": portrait.example,
        }
        steps = [step for step in facts["funnel"] if step["kind"] != "problems"]
        plots.save_png(plots.funnel(steps), tree / "funnel.png")
        histogram = plots.length_histogram({"published": portrait.length}, portrait.length_unit)
        plots.save_png(histogram, tree / "lengths.png")
        return facts

    def _origin(self, job: Job, behind: Sequence[Artifact], models: Iterable[str] = ()) -> dict[str, Any]:
        """Teachers and sources of rows, with their licences; models: what the rows name as their teacher."""
        teachers = publication.teachers(job.store, behind)
        teachers += publication.named_teachers(models, teachers)
        found = {"teachers": teachers, "sources": publication.sources(behind)}
        add_licences(found, self.licenses, online=self.hub is not None)
        return found

    def _write_rows(
        self, job: Job, view: View, tree: Path, delivery: Delivery
    ) -> tuple[Portrait, dict[str, Shard]]:
        """Write data/ and rejected/, each finished file on its way to the Hub while the next one is made."""
        dropping = chain(job.store, view.selection) if self.rejected and view.selection else []
        todo = pieces(view, dropping, tree, job.out.scratch / "portraits")
        if not any(piece.folder == DATA for piece in todo):
            raise StageError(f"{self.name}: no rows to publish; loosen the filters before it")
        portrait, files = Portrait(), {}
        for piece, shard, part in job.executor.map(write_piece, todo):
            delivery.add(piece.file)
            files[piece.name] = shard
            portrait = portrait + part if piece.folder == DATA else portrait
            job.progress(len(files), len(todo), unit="files")
        _remove_others(tree, todo)
        job.out.rows_in, job.out.rows_kept = view.count, portrait.rows
        return portrait, files

    def _model(self, job: Job, source: Artifact, tree: Path, delivery: Delivery) -> dict[str, Any]:
        for path in sorted((source.path / "model").iterdir()):
            link_or_copy(path, tree / path.name)
            if path.suffix == ".safetensors":
                delivery.add(tree / path.name)
        trained = lineage(job.store, source, publication.MODEL)
        fed = [
            job.store.open(end["artifact"], end["name"])
            for one in trained
            for end in publication.rows_of(one)
        ]
        data = [each for one in fed for each in lineage(job.store, one, publication.DATA)]
        trainings = publication.trainings(trained)
        facts = {
            "trainings": trainings,
            "datasets": publication.published_as(job.store.root, fed),
            **self._origin(job, list({each.path.name: each for each in data}.values())),
            "funnel": row_funnel(job.store, source),
            **publication.judged(lineage(job.store, source)),
        }
        add_licences({"trainings": trainings}, self.licenses, online=self.hub is not None)
        facts["curves"] = _draw_curves(source, tree)
        return facts


def kind_of(source: Artifact) -> str:
    """What an artifact is published as."""
    return MODEL if source.type == WEIGHTS else DATASET


def _draw_curves(source: Artifact, tree: Path) -> list[str]:
    """Names of the training's curves, each drawn as `curve-<name>.png`."""
    curves = curves_of(source)
    drawn = {name: points(curves, name) for name in CURVES if name in curves}
    for name, line in drawn.items():
        if line:
            plots.save_png(plots.lines({source.stage: line}), tree / f"curve-{name}.png")
    return [name for name, line in drawn.items() if line]


def _described(shard: Shard) -> dict[str, Any]:
    """What the manifest says of a file of rows besides its bytes."""
    return {"rows": shard.rows, "content": shard.content, "counts": shard.counts}


def _workplace(job: Job) -> Path:
    """The folder to build in: finished files of rows stay from an interrupted run, all else is made anew."""
    tree = job.out.scratch / "tree"
    for path in [*(tree.iterdir() if tree.exists() else ()), *job.out.path.iterdir()]:
        if path.name in (DATA, REJECTED) and path.parent == tree:
            continue
        if path.is_dir() and path != job.out.scratch:
            shutil.rmtree(path)
        elif path.parent == tree:
            path.unlink()
    tree.mkdir(exist_ok=True)
    return tree


def _remove_others(tree: Path, written: list[Piece]) -> None:
    """Remove what lies among the rows and is none of theirs."""
    files = {piece.file for piece in written}
    for folder in (DATA, REJECTED):
        for path in (tree / folder).glob("*"):
            if path not in files:
                path.unlink()
