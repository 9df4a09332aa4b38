"""Editions: published folders as they were sealed, and the shelf that keeps those of one name.

The local twin of a repository: versions known by their content, `main`, tags that cannot move, and a log. It needs no
account; the Hub is its copy. Files that two versions share lie on the disk once.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distillkit.durable import link_or_copy, locked, sync_folder, write_text
from distillkit.errors import MissingError, StageError
from distillkit.spec import canonical

MANIFEST = "manifest.json"
REQUIRED = {"name", "version", "kind", "content", "files"}
MAIN = "main"
DATASET, MODEL = "dataset", "model"
WORDS = ("README.md", "recipe.yaml")
"""Files that tell of an edition and are no part of what it holds; figures (.png) are others."""
_DIGITS = 12
_SEALED_NAME = re.compile(rf".+-(?P<digest>[0-9a-f]{{{_DIGITS}}})")


@dataclass(frozen=True)
class Edition:
    """A published folder and its manifest: {name, version, kind, files: {path: {bytes, sha256}}, ...}."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Self:
        """The edition in a folder.

        Raises:
            MissingError: there is none.
            StageError: its manifest is none of a published folder.
        """
        try:
            manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        except OSError:
            raise MissingError(
                f"{path}: no published folder there (no {MANIFEST}); name one that `publish` made"
            ) from None
        except ValueError:
            manifest = None
        if not _is_ours(manifest):
            raise StageError(f"{path / MANIFEST}: not the manifest of a published folder")
        return cls(path, manifest)

    @property
    def name(self) -> str:
        """The repository that its card speaks of."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def kind(self) -> str:
        """ "dataset" or "model"."""
        return str(self.manifest["kind"])

    @property
    def digest(self) -> str:
        """12 hex digits over the manifest, and so over every file."""
        return version_digest(self.manifest)

    @property
    def payload(self) -> str:
        """Digest of the rows or weights alone: what a tag stands for, whatever the card tells by now."""
        return payload_digest(self.manifest)

    @property
    def bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(int(each["bytes"]) for each in self.manifest["files"].values())

    def verify(self) -> None:
        """Read every file again.

        Raises:
            StageError: one was edited, added or removed since the folder was sealed; the text names it.
        """
        files: dict[str, dict[str, Any]] = self.manifest["files"]
        named = _SEALED_NAME.fullmatch(self.path.name)
        if named and named["digest"] != self.digest:
            raise self._edited(MANIFEST, "was edited")
        present = set(_files_in(self.path)) - {MANIFEST}
        for name in sorted(present ^ files.keys()):
            raise self._edited(name, "was added" if name in present else "is missing")
        for name, sealed in files.items():
            file = self.path / name
            if file.stat().st_size != sealed["bytes"] or sha256_of(file) != sealed["sha256"]:
                raise self._edited(name, "was edited")

    def _edited(self, name: str, how: str) -> StageError:
        return StageError(
            f"{self.path / name}: {how} since the folder was sealed; change the recipe and publish again, "
            "or restore the file"
        )


def _is_ours(manifest: Any) -> bool:
    if not (isinstance(manifest, dict) and manifest.keys() >= REQUIRED):
        return False
    files = manifest["files"]
    return isinstance(files, dict) and all(
        isinstance(each, dict) and each.keys() >= {"bytes", "sha256"} for each in files.values()
    )


def version_digest(manifest: dict[str, Any]) -> str:
    """12 hex digits that name a version by its content."""
    return hashlib.sha256(canonical(manifest)).hexdigest()[:_DIGITS]


def payload_digest(manifest: dict[str, Any]) -> str:
    """Digest of a manifest's rows or weights: paths and contents of the files that are no words about them."""
    return hashlib.sha256(
        canonical({path: each["sha256"] for path, each in manifest["files"].items() if is_payload(path)})
    ).hexdigest()


def is_payload(path: str) -> bool:
    """Whether a file of an edition holds rows or weights, rather than words and figures about them."""
    return path not in WORDS and not path.endswith(".png")


def sha256_of(path: Path) -> str:
    """64 hex digits over the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_name(repository: str) -> str:
    """A repository's name without its owner."""
    return repository.rpartition("/")[2]


def seal(tree: Path, facts: dict[str, Any]) -> Edition:
    """Write the manifest of a finished tree; `facts` may add to the entry of a file under `files`.

    The folder is not renamed: its name is `folder_name` of the edition.
    """
    more = facts.get("files", {})
    files = {}
    for name in sorted(_files_in(tree)):
        if name != MANIFEST:
            file = tree / name
            with file.open("rb") as handle:
                sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
                os.fsync(handle.fileno())
            files[name] = {"bytes": file.stat().st_size, "sha256": sha256, **more.get(name, {})}
    manifest = facts | {"files": files}
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    write_text(tree / MANIFEST, text)
    return Edition(tree, json.loads(text))


def folder_name(edition: Edition) -> str:
    """`<name>-<digest>`: unique, because `datasets` caches local folders by base name."""
    return f"{short_name(edition.name)}-{edition.digest}"


def _files_in(folder: Path) -> Iterator[str]:
    """Relative paths of the files below a folder; hidden ones belong to tools, not to the edition."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            yield "/".join(parts)


@dataclass(frozen=True)
class Shelf:
    """All editions of one name that a store has."""

    root: Path
    repository: str

    @classmethod
    def of(cls, store: Path, kind: str, repository: str) -> Self:
        """The shelf of a dataset or a model in a store's folder; it need not exist yet."""
        return cls(store / "published" / f"{kind}s--{repository.replace('/', '--')}", repository)

    def add(self, folder: Path) -> Edition:
        """Take a sealed folder in; files that an earlier version has are linked from there."""
        edition = Edition.open(folder)
        final = self._folder(edition.digest)
        if final.exists():
            return Edition.open(final)
        known = self._known()
        building = self._versions / f".{edition.digest}.{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        for name, each in edition.manifest["files"].items():
            link_or_copy(known.get(each["sha256"], folder / name), building / name)
        link_or_copy(folder / MANIFEST, building / MANIFEST)
        try:
            building.rename(final)
        except OSError:  # another process was first
            shutil.rmtree(building)
        sync_folder(self._versions)
        return Edition.open(final)

    def _known(self) -> dict[str, Path]:
        """sha256 -> a file that has it."""
        return {
            each["sha256"]: edition.path / name
            for edition in self.editions()
            for name, each in edition.manifest["files"].items()
        }

    @property
    def _versions(self) -> Path:
        return self.root / "versions"

    def editions(self) -> list[Edition]:
        """Every version, by the name of its folder."""
        return [Edition.open(path) for path in _visible(self._versions)]

    def refs(self) -> dict[str, str]:
        """Name (`main`, `v1.0.0`) -> digest of its version."""
        paths = [self.root / "refs" / MAIN, *_visible(self.root / "refs" / "tags")]
        return {path.name: path.read_text("utf-8").strip() for path in paths if path.exists()}

    def find(self, revision: str) -> Edition | None:
        """The version that a tag, `main` or a digest names; None where there is none."""
        digest = self.refs().get(revision, revision)
        path = self._folder(digest)
        return Edition.open(path) if path.exists() else None

    def _folder(self, digest: str) -> Path:
        return self._versions / f"{short_name(self.repository)}-{digest}"

    def advance(self, edition: Edition, **facts: Any) -> None:
        """Point `main` to a version and log it; facts: the message, the commit on the Hub."""
        with self._locked():
            self._write(self.root / "refs" / MAIN, edition, facts)

    def tag(self, tag: str, edition: Edition, **facts: Any) -> None:
        """Give a version a tag, for good.

        The tag stays at the version that first had it, also where a later one with the same rows or weights has
        another card.

        Raises:
            StageError: the tag stands for other rows or weights.
        """
        path = self.root / "refs" / "tags" / tag
        with self._locked():
            tagged = self.find(tag) if path.exists() else None
            if tagged is not None and tagged.payload != edition.payload:
                raise StageError(moved(self.repository, tag))
            if tagged is None:
                self._write(path, edition, facts)

    def _locked(self) -> AbstractContextManager[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        return locked(self.root / ".lock", lambda _: None)

    def _write(self, path: Path, edition: Edition, facts: dict[str, Any]) -> None:
        old = path.read_text("utf-8").strip() if path.exists() else None
        write_text(path, edition.digest + "\n")
        line = {
            "time": round(time.time(), 3),
            "ref": path.name,
            "old": old,
            "new": edition.digest,
            "version": edition.version,
            "content": edition.manifest["content"],
            **facts,
        }
        with (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def log(self) -> list[dict[str, Any]]:
        """Every move of a ref, the oldest first: [{time, ref, old, new, version, content, ...}]."""
        path = self.root / "log.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def loose(self) -> list[Path]:
        """Folders of versions that no ref names."""
        named = set(self.refs().values())
        return [path for path in _visible(self._versions) if path.name[-_DIGITS:] not in named]


def shelves(store: Path) -> list[Shelf]:
    """Every shelf of a store."""
    found = []
    for root in _visible(store / "published"):
        _, _, name = root.name.partition("--")
        found.append(Shelf(root, name.replace("--", "/")))
    return found


def moved(repository: str, tag: str) -> str:
    """What to say where a tag stands for something else."""
    return f"{repository}: the tag {tag} stands for other content already, and tags do not move; raise the version"


def _visible(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir()) if folder.exists() else []
    return [path for path in paths if not path.name.startswith(".")]
