"""What a person names as a version of a dataset, as the parts that `difference` compares.

An artifact of the store, a published folder, or a version on the Hub, of which only the files are fetched that the
other side has not.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distillkit.artifact import Artifact, Row
from distillkit.difference import Difference, Part, Sums, Version, compare
from distillkit.edition import DATASET, Edition, Shelf
from distillkit.errors import RecipeError
from distillkit.hub.pull import remote_file, remote_manifest
from distillkit.hub.reference import HubRef, parse_reference
from distillkit.reader import View
from distillkit.run_folder import find_artifact
from distillkit.show.fate import fates
from distillkit.spec import digest
from distillkit.store import Store

ROWS = ("problems", "traces", "labels", "pairs")
"""Artifact types whose rows are compared as they are."""
TRACE_SETS = {"traces", "a selection", "a dataset"}
"""Kinds that can be compared with each other: by the columns that both have."""
FEW = ("id", "domain", "completion_tokens")
CARD = "README.md"
Manifest = dict[str, Any]


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
    kinds = [_kind(old), _kind(new)]
    if kinds[0] != kinds[1] and not set(kinds) <= TRACE_SETS:
        raise RecipeError(f"{before} holds {kinds[0]} and {after} holds {kinds[1]}; compare two of a kind")
    return compare(
        _version(store, before, old), _version(store, after, new), shared_columns=kinds[0] != kinds[1]
    )


def _kind(found: Artifact | View | Version) -> str:
    """What a person calls it."""
    if isinstance(found, Artifact):
        return found.type
    return "a selection" if isinstance(found, View) else "a dataset"


def _found(store: Store, name: str) -> Artifact | View | Version:
    if (Path(name) / CARD).exists():
        return _of_folder(name, Edition.open(Path(name)))
    repository, at, revision = name.partition("@")
    if at:
        edition = Shelf.of(store.root, DATASET, repository).find(revision)
        return _of_folder(name, edition) if edition else _of_hub(name, parse_reference(name, DATASET))
    artifact = find_artifact(store, name)
    if artifact.type == "selection":
        return View.of(store, artifact)
    if artifact.type == "publication":
        return _of_folder(name, Edition.open(artifact.path / artifact.manifest.summary["folder"]))
    if artifact.type not in ROWS:
        raise RecipeError(
            f"{name}: holds {artifact.type}, which have no rows; `distillkit show` compares scores"
        )
    return artifact


def _version(store: Store, name: str, found: Artifact | View | Version) -> Version:
    if isinstance(found, View):
        return _of_view(store, name, found, brief=False)
    return found if isinstance(found, Version) else _of_artifact(name, found)


def _of_artifact(name: str, artifact: Artifact) -> Version:
    few = [column for column in FEW if column in artifact.schema().names]
    entries = artifact.manifest.tables.get("rows", [])
    parts = [
        Part(entry.content, entry.rows, partial(artifact.stream, shard))
        for shard, entry in enumerate(entries)
    ]
    return Version(name, parts, lambda: Sums.over(artifact.rows(columns=few)))


def _texts(view: View) -> list[str]:
    return sorted(text.content for text in view.texts)


def _of_view(store: Store, name: str, view: View, brief: bool) -> Version:
    """The kept rows of a selection; brief: without their texts."""
    selection = view.selection
    assert selection is not None
    few = partial(view.stream, labels=False, columns=FEW)
    rows = few if brief else partial(view.stream, labels=False)
    kept = [
        shard.rows - sum(shard.counts.get("rejected", {}).values())
        for shard in selection.manifest.tables["rows"]
    ]
    parts = [Part(digest(view.content(shard)), n, partial(rows, shard)) for shard, n in enumerate(kept)]
    return Version(
        name,
        parts,
        lambda: Sums.over(row for shard in range(view.shards) for row in few(shard)),
        lambda: {id: fate.reason for id, fate in fates(store, selection).items() if fate},
    )


def _of_folder(name: str, edition: Edition) -> Version:
    return _of_manifest(name, edition.manifest, lambda file: edition.path / file)


def _of_hub(name: str, ref: HubRef) -> Version:
    manifest = remote_manifest(ref)
    pinned = HubRef(ref.kind, ref.repository, manifest["commit"])
    return _of_manifest(name, manifest, lambda file: remote_file(pinned, file, manifest))


def _of_manifest(name: str, manifest: Manifest, path_of: Callable[[str], Path]) -> Version:
    """A published dataset by its manifest; a file is asked for when its rows are."""
    if manifest.get("kind") != DATASET:
        raise RecipeError(f"{name}: holds a {manifest.get('kind')}, which has no rows")
    files: dict[str, dict[str, Any]] = manifest["files"]
    rejected = [file for file in files if file.startswith("rejected/")]

    def rows(file: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(path_of(file)) as table:
            for batch in table.iter_batches(256, columns=columns):
                yield from batch.to_pylist()

    return Version(
        name,
        [
            Part(entry["content"], entry["rows"], partial(rows, file))
            for file, entry in files.items()
            if file.startswith("data/")
        ],
        lambda: Sums(manifest["rows"], manifest["tokens"], Counter(manifest["domains"])),
        lambda: {
            row["id"]: row["reject_reason"]
            for file in rejected
            for row in rows(file, ("id", "reject_reason"))
        },
    )
