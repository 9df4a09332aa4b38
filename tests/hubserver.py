"""A small Hub on localhost, read only: repositories, commits, refs and files over real HTTP.

It answers what `huggingface_hub` and `datasets` ask when they resolve, list and download, so that tests run
the real client with no account and no network. Set HF_ENDPOINT to its `url` and HF_HUB_DISABLE_XET=1 before
either library is imported (in a subprocess, that is).
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

DATE = "2026-01-02T03:04:05.000Z"
Files = dict[str, bytes]
Answer = tuple[HTTPStatus, dict[str, str], bytes]


@dataclass
class Repository:
    """Commits (sha -> files), refs (branch or tag -> sha), and the token that it takes to read it."""

    name: str
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private_token: str | None = None
    """Without it the repository does not seem to exist."""
    gated_token: str | None = None
    """Without it the files are refused, as those of a gated repository whose terms were not accepted."""


class HubServer:
    """A Hub in a thread; use it in a `with` statement.

    `log` holds "METHOD path" of every request. `broken`, when set, is the status of every answer.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.log: list[str] = []
        self.broken: HTTPStatus | None = None
        server = self

        class Handler(_Handler):
            hub = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def commit(self, kind: str, name: str, files: Files, *refs: str) -> str:
        """Add a commit of exactly these files, and point main and `refs` to it; returns its 40 hex digits."""
        repository = self.repositories.setdefault((kind, name), Repository(name))
        content = [[path, hashlib.sha1(body).hexdigest()] for path, body in sorted(files.items())]
        sha = hashlib.sha1(json.dumps([name, len(repository.commits), content]).encode()).hexdigest()
        repository.commits[sha] = files
        repository.refs |= dict.fromkeys(("main", *refs), sha)
        return sha

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, code: str, commit: str = "") -> None:
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": commit}


API = re.compile(r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?")
FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _serve(self, body: bytes) -> None:
        self.hub.log.append(f"{self.command} {self.path}")
        try:
            status, headers, answer = self._answer(body)
        except _Refused as refused:
            status, headers, answer = refused.status, refused.headers, b'{"error": "refused"}'
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _answer(self, body: bytes) -> Answer:
        if self.hub.broken is not None:
            raise _Refused(self.hub.broken, "Broken")
        url = urlsplit(self.path)
        if found := API.fullmatch(url.path):
            repository = self._repository(found["kind"], found["name"])
            return _json(self._api(repository, found["rest"] or "", parse_qs(url.query), body))
        if found := FILE.fullmatch(url.path):
            repository = self._repository("dataset" if found["kind"] else "model", found["name"])
            return self._file(repository, unquote(found["rev"]), unquote(found["path"]))
        raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound")

    def _repository(self, kind: str, name: str) -> Repository:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or repository.private_token not in (None, self._token()):
            raise _Refused(HTTPStatus.NOT_FOUND if self._token() else HTTPStatus.UNAUTHORIZED, "RepoNotFound")
        return repository

    def _token(self) -> str | None:
        header = self.headers.get("Authorization", "")
        return header.removeprefix("Bearer ") if header.startswith("Bearer ") else None

    def _api(self, repository: Repository, rest: str, query: dict[str, list[str]], body: bytes) -> Any:
        _, verb, rev, *path = map(unquote, f"{rest}///".split("/"))
        if verb in ("", "revision"):
            return _info(repository, _sha(repository, rev or "main"))
        if verb == "refs":
            branches = [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": s} for n, s in repository.refs.items()
            ]
            return {"branches": branches, "tags": [], "converts": [], "pullRequests": []}
        files = repository.commits[_sha(repository, rev)]
        if verb == "tree":
            recursive = query.get("recursive", [""])[0].lower() == "true"
            return _tree(files, "/".join(filter(None, path)), recursive=recursive)
        if verb == "paths-info":
            wanted = parse_qs(body.decode()).get("paths", [])
            return [entry for entry in _tree(files, "", recursive=True) if entry["path"] in wanted]
        raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound")

    def _file(self, repository: Repository, rev: str, path: str) -> Answer:
        sha = _sha(repository, rev)
        if repository.gated_token not in (None, self._token()):
            status = HTTPStatus.FORBIDDEN if self._token() else HTTPStatus.UNAUTHORIZED
            raise _Refused(status, "GatedRepo", sha)
        if path not in repository.commits[sha]:
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", sha)
        body = repository.commits[sha][path]
        headers = {"ETag": f'"{_oid(body)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if ranged := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(ranged[1]), int(ranged[2] or len(body) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            return HTTPStatus.PARTIAL_CONTENT, headers, body[start : end + 1]
        return HTTPStatus.OK, headers, body

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: tests read `HubServer.log`."""


def _sha(repository: Repository, rev: str) -> str:
    sha = repository.refs.get(rev, rev)
    if sha not in repository.commits:
        raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound")
    return sha


def _info(repository: Repository, sha: str) -> dict[str, Any]:
    return {
        "_id": sha[:24],
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.name.split("/")[0],
        "sha": sha,
        "lastModified": DATE,
        "createdAt": DATE,
        "private": repository.private_token is not None,
        "gated": "manual" if repository.gated_token is not None else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": path} for path in sorted(repository.commits[sha])],
    }


def _tree(files: Files, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    inside = {path: body for path, body in files.items() if path.startswith(prefix)}
    if folder and not inside:
        raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound")
    folders = sorted({p[:i] for p in inside for i, c in enumerate(p) if c == "/" and i > len(prefix)})
    entries: list[dict[str, Any]] = [
        *({"type": "directory", "path": p, "oid": _oid(p.encode()), "size": 0} for p in folders),
        *({"type": "file", "path": p, "oid": _oid(b), "size": len(b)} for p, b in sorted(inside.items())),
    ]
    return entries if recursive else [e for e in entries if "/" not in e["path"].removeprefix(prefix)]


def _oid(body: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _json(value: Any) -> Answer:
    return HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(value).encode()
