"""What a person names as a version of a dataset, as the parts that `difference` compares."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distillkit.artifact import Artifact, Row
from distillkit.difference import Difference, Part, Sums, Version, compare
from distillkit.edition import DATASET, Edition, Shelf
from distillkit.errors import RecipeError
from distillkit.reader import View
from distillkit.run_folder import find_artifact
from distillkit.show.fate import fates
from distillkit.spec import digest
from distillkit.store import Store

ROWS = ("problems", "traces", "labels", "pairs")
"""Artifact types whose rows are compared as they are."""
FEW = ("id", "domain", "completion_tokens")
REJECTED = ("reject_stage", "reject_reason")


def diff(store: Store, before: str, after: str) -> Difference:
    """Compare two versions: `RUN/STAGE`, an artifact's or a published folder, or `org/name@revision`.

    Raises:
        RecipeError: one of them has no rows.
        MissingError: there is none of that name.
        StageError: it is corrupt.
    """
    old, new = _found(store, before), _found(store, after)
    if isinstance(old, View) and isinstance(new, View):
        brief = _texts(old) == _texts(new)  # then rows are equal where ids are, and no text need be read
        return compare(_of_view(store, before, old, brief), _of_view(store, after, new, brief))
    return compare(_version(store, before, old), _version(store, after, new))


def _found(store: Store, name: str) -> Artifact | View | Edition:
    if (Path(name) / "README.md").exists():
        return _dataset(Edition.open(Path(name)))
    repository, at, revision = name.partition("@")
    if at:
        edition = Shelf.of(store.root, DATASET, repository).find(revision)
        if edition is not None:
            return _dataset(edition)
    artifact = find_artifact(store, name)
    if artifact.type == "selection":
        return View.of(store, artifact)
    if artifact.type == "publication":
        return _dataset(Edition.open(artifact.path / artifact.manifest.summary["folder"]))
    if artifact.type not in ROWS:
        raise RecipeError(
            f"{name}: holds {artifact.type}, which have no rows; `distillkit show` compares scores"
        )
    return artifact


def _dataset(edition: Edition) -> Edition:
    if edition.kind != DATASET:
        raise RecipeError(f"{edition.path}: holds a {edition.kind}, which has no rows")
    return edition


def _version(store: Store, name: str, found: Artifact | View | Edition) -> Version:
    if isinstance(found, View):
        return _of_view(store, name, found, brief=False)
    return _of_edition(found) if isinstance(found, Edition) else _of_artifact(name, found)


def _of_artifact(name: str, artifact: Artifact) -> Version:
    entries = artifact.manifest.tables.get("rows", [])
    few = [column for column in FEW if column in artifact.schema().names]
    return Version(
        name,
        [
            Part(
                entry.content,
                partial(artifact.stream, shard),
                partial(_sums, partial(artifact.stream, shard, columns=few)),
            )
            for shard, entry in enumerate(entries)
        ],
    )


def _texts(view: View) -> list[str]:
    return sorted(text.content for text in view.texts)


def _of_view(store: Store, name: str, view: View, brief: bool) -> Version:
    assert view.selection is not None
    few = partial(view.stream, labels=False, columns=FEW)
    rows = few if brief else partial(view.stream, labels=False)
    parts = [
        Part(digest(view.content(shard)), partial(rows, shard), partial(_sums, partial(few, shard)))
        for shard in range(view.shards)
    ]
    selection = view.selection
    return Version(name, parts, lambda: {id: fate[1] for id, fate in fates(store, selection).items() if fate})


def _of_edition(edition: Edition) -> Version:
    files: dict[str, dict[str, Any]] = edition.manifest["files"]
    kept = [name for name in files if name.startswith("data/")]
    dropped = [edition.path / name for name in files if name.startswith("rejected/")]
    return Version(
        f"{edition.name}@v{edition.version}",
        [
            Part(
                files[name]["sha256"],
                partial(_file_rows, edition.path / name),
                partial(_sums, partial(_file_rows, edition.path / name, FEW)),
            )
            for name in kept
        ],
        lambda: {
            row["id"]: row["reject_reason"] for file in dropped for row in _file_rows(file, ("id", *REJECTED))
        },
    )


def _file_rows(file: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as rows:
        for batch in rows.iter_batches(256, columns=columns):
            yield from batch.to_pylist()


def _sums(rows: Callable[[], Iterator[Row]]) -> Sums:
    return Sums.over(rows())
