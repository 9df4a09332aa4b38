"""The files of a folder, the files of a repository at a commit, and what lies between them."""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillkit.errors import StageError
from distillkit.hub.client import api, patiently
from distillkit.hub.reference import HubRef

HUBS_OWN = ".gitattributes"
"""The Hub makes it with the repository and needs it to tell large files."""
MANIFEST = "manifest.json"
HASHING = min(4, os.cpu_count() or 1)
"""Files that are read at once."""


@dataclass(frozen=True)
class LocalFile:
    """A file here."""

    path: Path
    bytes: int
    sha256: str

    def git_sha1(self) -> str:
        """Git's name of its content."""
        with self.path.open("rb") as file:
            found = hashlib.sha1(b"blob %d\0" % self.bytes)
            while chunk := file.read(2**20):
                found.update(chunk)
        return found.hexdigest()


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit."""

    bytes: int
    sha256: str | None
    """Of a large file; of others the Hub tells git's name only."""
    git_sha1: str

    def holds(self, local: LocalFile) -> bool:
        """Whether it has the content of a file here."""
        if self.bytes != local.bytes:
            return False
        return self.sha256 == local.sha256 if self.sha256 else self.git_sha1 == local.git_sha1()


Key = tuple[int, int, int, int]


@dataclass
class Digests:
    """sha256 of files, each read once: a file that was renamed or linked is known by its inode, size and time."""

    known: dict[Key, str] = field(default_factory=dict)

    def of(self, path: Path) -> LocalFile:
        """The file with its digest."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if key not in self.known:
                self.known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return LocalFile(path, status.st_size, self.known[key])


def sealed_files(folder: Path, digests: Digests | None = None) -> dict[str, LocalFile]:
    """Path in the repository -> file, of a whole folder, compared with its manifest.json where it has one.

    Raises:
        StageError: a file was edited, added or removed since the manifest was written; the message names it.
    """
    digests = digests or Digests()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(HASHING) as pool:  # hashlib lets go of the interpreter
        found = {
            path.relative_to(folder).as_posix(): file
            for path, file in zip(paths, pool.map(digests.of, paths), strict=True)
        }
    if MANIFEST in found:
        _compare(folder, found, listed_files(json.loads((folder / MANIFEST).read_text("utf-8"))))
    if not found:
        raise StageError(f"{folder}: no files to push")
    return found


def listed_files(manifest: object) -> dict[str, dict[str, object]]:
    """Path -> {bytes, sha256}, as a manifest lists its files; empty where it is no manifest of ours."""
    files = manifest.get("files") if isinstance(manifest, dict) else None
    return (
        {str(name): entry for name, entry in files.items() if isinstance(entry, dict)}
        if isinstance(files, dict)
        else {}
    )


def _compare(
    folder: Path, found: Mapping[str, LocalFile], listed: Mapping[str, Mapping[str, object]]
) -> None:
    why = "edited since the folder was sealed; publish again, and never edit a sealed folder"
    for name in sorted(listed.keys() | found.keys() - {MANIFEST}):
        if name not in found:
            raise StageError(f"{folder}: {name} is missing; {why}")
        if name not in listed:
            raise StageError(f"{folder}: {name} is in no manifest; {why}")
        if found[name].sha256 != listed[name].get("sha256"):
            raise StageError(f"{folder}: {name} has another digest than its manifest says; {why}")


def remote_files(ref: HubRef) -> dict[str, RemoteFile]:
    """Path -> file of a repository at a commit, without the Hub's own."""
    from huggingface_hub.hf_api import RepoFile

    def ask() -> dict[str, RemoteFile]:
        entries = api().list_repo_tree(
            ref.repository, recursive=True, revision=ref.revision, repo_type=ref.kind
        )
        return {
            entry.path: RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
            for entry in entries
            if isinstance(entry, RepoFile) and entry.path != HUBS_OWN
        }

    return patiently(ask)


def manifest_at(ref: HubRef) -> dict[str, Any] | None:
    """manifest.json of a repository at a commit; None where there is none, or it is no manifest of ours."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    def ask() -> str:
        return str(api().hf_hub_download(ref.repository, MANIFEST, repo_type=ref.kind, revision=ref.revision))

    try:
        text = Path(patiently(ask)).read_text("utf-8")
    except RemoteEntryNotFoundError:
        return None
    try:
        manifest = json.loads(text)
    except ValueError:
        return None
    return manifest if listed_files(manifest) else None


@dataclass(frozen=True)
class Difference:
    """Paths by what a push would do to them, each list sorted."""

    added: list[str]
    changed: list[str]
    deleted: list[str]
    unchanged: list[str]

    @property
    def is_none(self) -> bool:
        """The repository holds exactly the folder."""
        return not (self.added or self.changed or self.deleted)


def difference(local: Mapping[str, LocalFile], remote: Mapping[str, RemoteFile]) -> Difference:
    """What lies between a folder and a repository."""
    same = {name for name in local.keys() & remote.keys() if remote[name].holds(local[name])}
    return Difference(
        sorted(local.keys() - remote.keys()),
        sorted((local.keys() & remote.keys()) - same),
        sorted(remote.keys() - local.keys()),
        sorted(same),
    )
