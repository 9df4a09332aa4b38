"""A version of a repository becomes a folder here: at one commit, digested again, nothing fetched that is here."""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path, PurePosixPath
from typing import Any

from distillkit.durable import sync_folder
from distillkit.errors import RecipeError, StageError
from distillkit.hub.client import api, patiently
from distillkit.hub.failure import explained
from distillkit.hub.read import resolve
from distillkit.hub.reference import HubRef
from distillkit.hub.tree import MANIFEST, Digests, listed_files, manifest_at

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fetched:
    """A version that is here, verified."""

    commit: str
    """40 hex digits"""
    manifest: dict[str, Any]
    downloaded_bytes: int
    reused_bytes: int
    """Of files that were here already."""


def remote_manifest(ref: HubRef) -> dict[str, Any]:
    """manifest.json of a repository at a revision, with its `commit` added; no other file is fetched.

    Raises:
        RecipeError: no such revision, or a repository that distillkit did not push.
        MissingError: no such repository, no access, or the Hub cannot be reached.
    """
    pinned = changed(ref, revision=resolve(ref))
    with explained(ref):
        manifest = manifest_at(pinned)
    if manifest is None:
        raise RecipeError(
            f"{ref}: no {MANIFEST} of distillkit in it; read it by a problems or traces stage (hub: {ref.repository})"
        )
    return manifest | {"commit": pinned.revision}


def fetch(
    ref: HubRef, folder: Path, known: Sequence[Path] = (), progress: Callable[[int, int], None] | None = None
) -> Fetched:
    """Fill `folder` (which must not exist) with a version: every file of its manifest, byte for byte.

    known: folders that hold a manifest.json; their files of equal digest are copied instead of
    downloaded. A fetch that was cut goes on where it stood, in `folder` + ".part".
    progress: gets (bytes here, bytes in all).

    Raises:
        RecipeError, MissingError: as `remote_manifest`, and where `folder` exists.
        StageError: a file is not what the manifest says.
    """
    if folder.exists():
        raise RecipeError(f"{folder}: exists; name a new folder")
    manifest = remote_manifest(ref)
    pinned = changed(ref, revision=manifest.pop("commit"))
    listed = {name: _sha256(ref, name, entry) for name, entry in listed_files(manifest).items()}
    total = sum(int(str(entry.get("bytes", 0))) for entry in listed_files(manifest).values())
    here, digests = _known(known), Digests()
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    done = downloaded = 0
    for name, sha256 in listed.items():
        path = part / name
        if not _is(path, sha256, digests):
            downloaded += _bring(pinned, name, part, sha256, here.get(sha256), digests)
        here.setdefault(sha256, path)
        done += path.stat().st_size
        if progress is not None:
            progress(done, total)
    _download(pinned, MANIFEST, part)
    _seal(part, {*listed, MANIFEST}, folder)
    return Fetched(pinned.revision, manifest, downloaded, done - downloaded)


def remote_file(pinned: HubRef, name: str, manifest: dict[str, Any]) -> Path:
    """One file of a version at a commit, in the Hub's local cache.

    Raises:
        MissingError: the Hub cannot be reached, or may not be read.
        StageError: the file is not what the manifest says.
    """
    sha256 = _sha256(pinned, name, manifest["files"][name])
    with explained(pinned):
        path = Path(
            patiently(
                lambda: api().hf_hub_download(
                    pinned.repository, name, repo_type=pinned.kind, revision=pinned.revision
                )
            )
        )
    if not _is(path, sha256, Digests()):
        raise StageError(f"{pinned}: {name} is not what its manifest says ({sha256[:12]}); run again")
    return path


def _bring(pinned: HubRef, name: str, part: Path, sha256: str, source: Path | None, digests: Digests) -> int:
    """Copy a file that is here, or fetch it; returns the bytes fetched."""
    path = part / name
    path.unlink(missing_ok=True)
    if source is not None and _is(source, sha256, digests):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)  # no link: a hand that edits one folder must not edit the other
        return 0
    _download(pinned, name, part)
    if not _is(path, sha256, digests):
        path.unlink(missing_ok=True)
        raise StageError(f"{pinned}: {name} is not what its manifest says ({sha256[:12]}); run again")
    return path.stat().st_size


def _sha256(ref: HubRef, name: str, entry: dict[str, object]) -> str:
    """The digest of a listed file, its name proven to lie inside the folder."""
    path = PurePosixPath(name)
    sha256 = str(entry.get("sha256"))
    if path.is_absolute() or ".." in path.parts or "\\" in name or not SHA256.fullmatch(sha256):
        raise StageError(f"{ref}: its manifest lists {name!r}, which is no file of a version; not fetched")
    return sha256


def _known(folders: Sequence[Path]) -> dict[str, Path]:
    """sha256 -> file, of folders that tell what they hold."""
    found: dict[str, Path] = {}
    for folder in folders:
        manifest = folder / MANIFEST
        if not manifest.is_file():
            continue
        for name, entry in listed_files(_json(manifest)).items():
            found.setdefault(str(entry.get("sha256")), folder / name)
    return found


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError:
        return None


def _is(path: Path, sha256: str, digests: Digests) -> bool:
    return path.is_file() and digests.of(path).sha256 == sha256


def _download(pinned: HubRef, name: str, part: Path) -> None:
    """Fetch one file to its place; a download that was cut is gone on with."""

    def ask() -> None:
        api().hf_hub_download(
            pinned.repository, name, repo_type=pinned.kind, revision=pinned.revision, local_dir=part
        )

    with explained(pinned):
        patiently(ask)


def _seal(part: Path, names: set[str], folder: Path) -> None:
    """Everything safely on the disk, nothing but the version in it, then its final name."""
    shutil.rmtree(part / ".cache", ignore_errors=True)  # the client's notes on its downloads
    for path in sorted(part.rglob("*")):
        if path.is_file() and path.relative_to(part).as_posix() not in names:
            path.unlink()
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    part.rename(folder)
    sync_folder(folder.parent)
