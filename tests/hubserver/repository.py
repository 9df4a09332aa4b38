"""What the Hub keeps: blobs by digest, commits that hold whole trees, branches and tags that name them."""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

DATE = "2026-01-02T03:04:05.000Z"
Files = dict[str, bytes]
LARGE = (".parquet", ".safetensors", ".bin", ".arrow", ".zst", ".png")
"""Names that are large files whatever their size, as the Hub's first .gitattributes says."""
LARGE_BYTES = 10 * 2**20


class Refused(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None):
        self.status = HTTPStatus(status)
        self.headers = {"X-Error-Code": code, "X-Error-Message": message or code} | (headers or {})
        self.message = message or code or self.status.phrase


@dataclass(frozen=True)
class Account:
    """Who a token belongs to, and what it may do."""

    name: str
    orgs: dict[str, str] = field(default_factory=dict)
    """Organization -> role in it."""
    role: str = "write"
    """Of the token: read, write or fineGrained."""
    scopes: tuple[tuple[str, str], ...] = ()
    """Of a fine-grained token: (entity, permission)."""

    def may_write(self, repository: str) -> bool:
        """Whether the token may change a repository."""
        owner = repository.partition("/")[0]
        if self.role == "fineGrained":
            return any(entity in (owner, repository) and p == "repo.write" for entity, p in self.scopes)
        return self.role == "write" and (owner == self.name or self.orgs.get(owner, "read") != "read")

    def may_read(self, repository: str) -> bool:
        """Whether the token sees a private repository."""
        return repository.partition("/")[0] in {self.name, *self.orgs}


@dataclass(frozen=True)
class Blob:
    """The content of a file."""

    sha256: str
    bytes: int
    git_sha1: str
    large: bool

    @property
    def oid(self) -> str:
        """What the Hub calls it: sha256 of a large file, git's name of another."""
        return self.sha256 if self.large else self.git_sha1


class Blobs:
    """Contents in a folder, each under its sha256."""

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="hubserver-")
        self.folder = folder or Path(self._temporary.name)

    def has(self, sha256: str) -> bool:
        return (self.folder / sha256).exists()

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def write(self, chunks: Any, sha256: str | None = None) -> str:
        """Keep a content; refuses one that is not what it is said to be."""
        digest = hashlib.sha256()
        handle, name = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            found = digest.hexdigest()
            if sha256 is not None and found != sha256:
                raise Refused(422, "BadDigest", "the content is not what its oid says")
            Path(name).replace(self.folder / found)
            return found
        finally:
            Path(name).unlink(missing_ok=True)

    def open(self, sha256: str) -> BinaryIO:
        return (self.folder / sha256).open("rb")

    def small(self, body: bytes) -> Blob:
        """A blob of git."""
        git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        return Blob(self.write([body]), len(body), git, large=False)

    def large(self, sha256: str) -> Blob:
        """A stored content as a large file: git keeps a pointer."""
        size = self.path(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        git = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()
        return Blob(sha256, size, git, large=True)


@dataclass(frozen=True)
class Commit:
    """A whole tree, and what it came after."""

    id: str
    parent: str | None
    title: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repository:
    """Commits and the refs that name them."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    """Its files are for accounts in `accepted` (and its owner) only."""
    accepted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sha(self, revision: str) -> str:
        """The commit that a branch, tag, pull request or (shortened) commit names."""
        named = self.branches | self.pulls | self.tags
        if revision in named:
            return named[revision]
        found = [sha for sha in self.commits if sha.startswith(revision)] if len(revision) >= 7 else []
        if len(found) != 1:
            raise Refused(404, "RevisionNotFound")
        return found[0]

    def files(self, revision: str) -> dict[str, Blob]:
        return self.commits[self.sha(revision)].files

    def log(self, revision: str) -> list[Commit]:
        """Commits behind a revision, newest first."""
        found, at = [], self.sha(revision)
        while at is not None:
            found.append(self.commits[at])
            at = self.commits[at].parent
        return found

    def add(self, files: dict[str, Blob], parent: str | None, title: str, message: str = "") -> Commit:
        """A new commit of exactly these files; no ref names it yet."""
        tree = [[path, blob.oid] for path, blob in sorted(files.items())]
        facts = [self.kind, self.name, parent, len(self.commits), title, message, tree]
        made = Commit(hashlib.sha1(json.dumps(facts).encode()).hexdigest(), parent, title, message, files)
        self.commits[made.id] = made
        return made

    def commit(
        self, branch: str, header: dict[str, Any], change: Callable[[dict[str, Blob]], None], *, pull: bool
    ) -> tuple[Commit, str]:
        """Change a branch (or open a pull request) by one commit: all of it, or an error and nothing."""
        with self.lock:
            head = self.sha(branch)
            expected = header.get("parentCommit")
            if expected and not head.startswith(expected):
                raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
            files = dict(self.commits[head].files)
            change(files)
            made = self.add(files, head, header["summary"], header.get("description", ""))
            if pull:
                branch = f"refs/pr/{len(self.pulls) + 1}"
                self.pulls[branch] = made.id
            else:
                self.branches[branch] = made.id
            return made, branch

    def info(self, revision: str) -> dict[str, Any]:
        """What the API tells about it."""
        sha = self.sha(revision)
        return {
            "_id": sha[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.split("/")[0],
            "sha": sha,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": None,
            "siblings": [{"rfilename": path} for path in sorted(self.commits[sha].files)],
        }

    def tree(self, revision: str, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        """Entries of a folder, sub-folders first."""
        prefix = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in self.files(revision).items() if path.startswith(prefix)}
        if folder and not inside:
            raise Refused(404, "EntryNotFound")
        folders = sorted({p[:i] for p in inside for i, c in enumerate(p) if c == "/" and i > len(prefix)})
        entries: list[dict[str, Any]] = [
            *(
                {"type": "directory", "path": p, "oid": hashlib.sha1(p.encode()).hexdigest(), "size": 0}
                for p in folders
            ),
            *(entry(path, blob) for path, blob in sorted(inside.items())),
        ]
        return entries if recursive else [e for e in entries if "/" not in e["path"].removeprefix(prefix)]


def entry(path: str, blob: Blob) -> dict[str, Any]:
    """A file in a listing."""
    found = {"type": "file", "path": path, "oid": blob.git_sha1, "size": blob.bytes}
    if blob.large:
        found["lfs"] = {"oid": blob.sha256, "size": blob.bytes, "pointerSize": 134}
    return found


def is_large(path: str, size: int) -> bool:
    """Whether the Hub keeps a file outside git."""
    return path.endswith(LARGE) or size > LARGE_BYTES
