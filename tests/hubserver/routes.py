"""What each request of the Hub's protocol means. Source: what huggingface_hub 1.33 to 2.4 and datasets 5 send and read."""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlencode

import yaml

from hubserver.repository import DATE, Account, Blob, Refused, Repository, is_large

if TYPE_CHECKING:
    from hubserver.server import HubServer

API = re.compile(r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?")
FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
BATCH = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
STORAGE = re.compile(r"/storage/(?P<oid>[0-9a-f]{64})(?P<rest>/.*)?")


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    method: str
    path: str
    query_text: str
    headers: Mapping[str, str]
    chunks: Callable[[], Iterator[bytes]]
    account: Account | None
    token: str | None

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_text)

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def json(self) -> Any:
        return json.loads(self.body() or b"{}")


@dataclass(frozen=True)
class Answer:
    """What it gets: the body as bytes, or as a file to be copied from where it stands."""

    status: int
    headers: dict[str, str]
    body: bytes | BinaryIO = b""
    size: int | None = None

    @property
    def length(self) -> int:
        if isinstance(self.body, bytes) and self.size is None:
            return len(self.body)
        return self.size or 0


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, {"Content-Type": "application/json"} | (headers or {}), json.dumps(value).encode())


def answer(hub: "HubServer", request: Request) -> Answer:
    """The answer to a request; raises Refused for an error."""
    fixed = FIXED.get((request.method, request.path))
    if fixed is not None:
        return fixed(hub, request)
    if found := STORAGE.fullmatch(request.path):
        return _storage(hub, request, found["oid"], found["rest"] or "")
    if found := API.fullmatch(request.path):
        return _api(hub, request, found["kind"], found["name"], found["rest"] or "")
    if found := BATCH.fullmatch(request.path):
        return _batch(hub, request, _kind(found), found["name"])
    if found := FILE.fullmatch(request.path):
        repository = _seen(hub, request, _kind(found), found["name"])
        return _file(hub, request, repository, unquote(found["rev"]), unquote(found["path"]))
    raise Refused(404, "EntryNotFound")


def _kind(found: re.Match[str]) -> str:
    return "dataset" if found["kind"] else "model"


def _seen(hub: "HubServer", request: Request, kind: str, name: str) -> Repository:
    """The repository, where the account may see it."""
    repository = hub.repositories.get((kind, name))
    hidden = repository is not None and repository.private
    if repository is None or (hidden and not (request.account and request.account.may_read(name))):
        raise Refused(404 if request.token else 401, "RepoNotFound", "Repository not found")
    return repository


def _writable(hub: "HubServer", request: Request, kind: str, name: str) -> Repository:
    repository = _seen(hub, request, kind, name)
    _require_write(request, name)
    return repository


def _require_write(request: Request, name: str) -> None:
    if request.account is None:
        raise Refused(401, "", "Invalid username or password.")
    if not request.account.may_write(name):
        raise Refused(403, "", "You don't have the rights to write to this repository")


def _whoami(hub: "HubServer", request: Request) -> Answer:
    account = request.account
    if account is None:
        raise Refused(401, "", "Invalid credentials in Authorization header")
    token: dict[str, Any] = {"displayName": "t", "role": account.role}
    if account.role == "fineGrained":
        scoped = [
            {"entity": {"name": name, "type": "user"}, "permissions": [p]} for name, p in account.scopes
        ]
        token["fineGrained"] = {"global": [], "scoped": scoped}
    return as_json(
        {
            "type": "user",
            "name": account.name,
            "fullname": account.name,
            "email": f"{account.name}@example.org",
            "orgs": [{"name": name, "roleInOrg": role, "type": "org"} for name, role in account.orgs.items()],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def _named(request: Request, asked: dict[str, Any]) -> tuple[str, str]:
    """(kind, name) of a request about a repository as such."""
    owner = asked.get("organization") or (request.account.name if request.account else "nobody")
    return asked.get("type") or "model", f"{owner}/{asked['name']}"


def _create(hub: "HubServer", request: Request) -> Answer:
    asked = request.json()
    kind, name = _named(request, asked)
    _require_write(request, name)
    url = f"{hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
    told = {"url": url, "name": name, "id": name}
    if (kind, name) in hub.repositories:
        return as_json({"error": "You already created this repo"} | told, 409)
    private = asked.get("visibility", "private" if asked.get("private") else "public") == "private"
    hub.repository(kind, name, private=private)
    return as_json(told)


def _delete(hub: "HubServer", request: Request) -> Answer:
    kind, name = _named(request, request.json())
    _writable(hub, request, kind, name)
    del hub.repositories[kind, name]
    return as_json({})


def _move(hub: "HubServer", request: Request) -> Answer:
    asked = request.json()
    kind = asked.get("type") or "model"
    repository = _writable(hub, request, kind, asked["fromRepo"])
    _require_write(request, asked["toRepo"])
    if (kind, asked["toRepo"]) in hub.repositories:
        raise Refused(409, "", "it exists")
    repository.name = asked["toRepo"]
    hub.repositories[kind, repository.name] = hub.repositories.pop((kind, asked["fromRepo"]))
    return as_json({})


def _validate_yaml(hub: "HubServer", request: Request) -> Answer:
    """As strict as the parser: a header that is no mapping, or no YAML, is refused."""
    content = request.json()["content"]
    header = re.match(r"---\n(.*?)\n---(\n|$)", content, re.DOTALL)
    if header is None:
        return as_json(
            {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        )
    try:
        problem = None if isinstance(yaml.safe_load(header[1]), dict) else "metadata must be a mapping"
    except yaml.YAMLError as error:
        problem = f"YAML parsing error: {str(error).splitlines()[0]}"
    if problem:
        return as_json({"errors": [{"message": problem}], "warnings": []}, 400)
    return as_json({"errors": [], "warnings": []})


FIXED: dict[tuple[str, str], Callable[["HubServer", Request], Answer]] = {
    ("GET", "/api/whoami-v2"): _whoami,
    ("POST", "/api/repos/create"): _create,
    ("DELETE", "/api/repos/delete"): _delete,
    ("POST", "/api/repos/move"): _move,
    ("POST", "/api/validate-yaml"): _validate_yaml,
}


def _api(hub: "HubServer", request: Request, kind: str, name: str, rest: str) -> Answer:
    _, verb, *words = map(unquote, f"{rest}//".split("/"))
    first = words[0]
    if request.method in ("GET", "HEAD") or verb == "paths-info":
        return _read(hub, request, _seen(hub, request, kind, name), verb, words)
    repository = _writable(hub, request, kind, name)
    match request.method, verb:
        case "PUT", "settings":
            asked = request.json()
            if "visibility" in asked or "private" in asked:
                repository.private = asked.get("visibility") == "private" or bool(asked.get("private"))
            repository.gated = bool(asked.get("gated", repository.gated))
            return as_json({})
        case "POST", "preupload":
            return _preupload(repository, first, request.json()["files"])
        case "POST", "commit":
            return _commit(hub, request, repository, first)
        case "POST", "tag":
            return _name(repository, repository.tags, request.json()["tag"], first)
        case "DELETE", "tag":
            return _unname(repository.tags, first)
        case "POST", "branch":
            start = request.json().get("startingPoint") or "main"
            return _name(repository, repository.branches, first, start, 201)
        case "DELETE", "branch":
            if first == "main":
                raise Refused(403, "", "main cannot be deleted")
            return _unname(repository.branches, first)
        case "POST", "super-squash":
            return _squash(repository, first, request.json()["message"])
    raise Refused(404, "EntryNotFound")


def _read(hub: "HubServer", request: Request, repository: Repository, verb: str, words: list[str]) -> Answer:
    first = words[0]
    match verb:
        case "" | "revision":
            return as_json(repository.info(first or "main"))
        case "refs":
            return as_json(_refs(repository))
        case "commits":
            log = [
                {
                    "id": c.id,
                    "title": c.title,
                    "message": c.message,
                    "date": DATE,
                    "authors": [{"user": "alice"}],
                }
                for c in repository.log(first)
            ]
            return _paged(hub, request, log)
        case "tree":
            recursive = request.query.get("recursive", [""])[0].lower() == "true"
            folder = "/".join(filter(None, words[1:]))
            return _paged(hub, request, repository.tree(first, folder, recursive=recursive))
        case "paths-info":
            wanted = parse_qs(request.body().decode()).get("paths", [])
            return as_json([e for e in repository.tree(first, "", recursive=True) if e["path"] in wanted])
        case "auth-check":
            if first == "write":
                _require_write(request, repository.name)
            _require_terms(request, repository, "")
            return as_json({})
    raise Refused(404, "EntryNotFound")


def _refs(repository: Repository) -> dict[str, Any]:
    def listed(refs: dict[str, str], folder: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"{folder}{n}", "targetCommit": sha} for n, sha in refs.items()]

    return {
        "branches": listed(repository.branches, "refs/heads/"),
        "tags": listed(repository.tags, "refs/tags/"),
        "converts": [],
        "pullRequests": listed(repository.pulls, ""),
    }


def _paged(hub: "HubServer", request: Request, entries: list[Any]) -> Answer:
    start = int(request.query.get("cursor", ["0"])[0])
    end = start + hub.page
    headers = {}
    if end < len(entries):
        query = {name: values[0] for name, values in request.query.items()} | {"cursor": str(end)}
        headers["Link"] = f'<{hub.url}{request.path}?{urlencode(query)}>; rel="next"'
    return as_json(entries[start:end], headers=headers)


def _preupload(repository: Repository, revision: str, asked: list[dict[str, Any]]) -> Answer:
    there = repository.files(revision)
    found = []
    for each in asked:
        path = each["path"]
        mode = "lfs" if is_large(path, each["size"]) else "regular"
        told = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        found.append(told | ({"oid": there[path].oid} if path in there else {}))
    return as_json({"files": found})


def _commit(hub: "HubServer", request: Request, repository: Repository, branch: str) -> Answer:
    lines = [json.loads(line) for line in request.body().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")

    def change(files: dict[str, Blob]) -> None:
        for line in lines:
            _apply(hub, files, line["key"], line["value"])

    pull = bool(request.query.get("create_pr"))
    made, ref = repository.commit(branch, header, change, pull=pull)
    page = f"{hub.url}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.name}"
    told = {"success": True, "commitOid": made.id, "commitUrl": f"{page}/commit/{made.id}", "hookOutput": ""}
    return as_json(
        told | ({"pullRequestUrl": f"{page}/discussions/{ref.rpartition('/')[2]}"} if pull else {})
    )


def _apply(hub: "HubServer", files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
    path = value.get("path", "")
    match key:
        case "file":
            files[path] = hub.blobs.small(base64.b64decode(value["content"]))
        case "lfsFile":
            if not hub.blobs.has(value["oid"]):
                raise Refused(400, "", "LFS pointer pointed to a file that does not exist")
            files[path] = hub.blobs.large(value["oid"])
        case "deletedFile":
            if files.pop(path, None) is None:
                raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
        case "deletedFolder":
            inside = [each for each in files if each.startswith(f"{path.rstrip('/')}/")]
            if not inside:
                raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            for each in inside:
                del files[each]


def _name(
    repository: Repository, refs: dict[str, str], name: str, revision: str, status: int = 200
) -> Answer:
    with repository.lock:
        if name in refs:
            raise Refused(409, "", f"Reference {name} already exists")
        refs[name] = repository.sha(revision)
    return as_json({}, status)


def _unname(refs: dict[str, str], name: str) -> Answer:
    if refs.pop(name, None) is None:
        raise Refused(404, "RevisionNotFound")
    return as_json({})


def _squash(repository: Repository, branch: str, message: str) -> Answer:
    with repository.lock:
        if branch not in repository.branches:
            raise Refused(400, "", "only a branch can be squashed")
        repository.branches[branch] = repository.add(repository.files(branch), None, message).id
    return as_json({})


def _batch(hub: "HubServer", request: Request, kind: str, name: str) -> Answer:
    _writable(hub, request, kind, name)
    told = []
    for each in request.json()["objects"]:
        oid, size = each["oid"], each["size"]
        about: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if hub.blobs.has(oid):
            told.append(about)
            continue
        stored = sum(path.stat().st_size for path in hub.blobs.folder.iterdir()) if hub.quota_bytes else 0
        if hub.quota_bytes is not None and stored + size > hub.quota_bytes:
            message = "Private repository storage limit reached"
            told.append(about | {"error": {"code": 403, "message": message}})
            continue
        href = f"{hub.storage_url}/storage/{oid}"
        header: dict[str, str] = {}
        if hub.part_bytes is not None and size > hub.part_bytes:
            parts = range(1, math.ceil(size / hub.part_bytes) + 1)
            header = {"chunk_size": str(hub.part_bytes)} | {str(n): f"{href}/part/{n}" for n in parts}
            href = f"{hub.url}/storage/{oid}/complete"
        verify = {"href": f"{hub.url}/storage/{oid}/verify", "header": {}}
        told.append(about | {"actions": {"upload": {"href": href, "header": header}, "verify": verify}})
    return as_json({"transfer": "basic", "objects": told})


def _storage(hub: "HubServer", request: Request, oid: str, rest: str) -> Answer:
    """Large files on another origin, where signed addresses and no tokens are shown."""
    if request.token and request.method in ("GET", "HEAD", "PUT"):
        hub.tokens_at_storage.append(request.token)
    match request.method, rest.split("/")[1:]:
        case "PUT", []:
            hub.begun.append(oid)
            hub.blobs.write(request.chunks(), oid)
            hub.sent.append(oid)
            return Answer(200, {})
        case "PUT", ["part", number]:
            hub.begun.append(oid)
            part = hub.blobs.write(request.chunks())
            hub.sent.append(oid)
            return Answer(200, {"ETag": f'"{part}-{number}"'})
        case "POST", ["complete"]:
            asked = sorted(request.json()["parts"], key=lambda part: part["partNumber"])
            hub.blobs.write(
                (hub.blobs.path(part["etag"].strip('"')[:64]).read_bytes() for part in asked), oid
            )
            return as_json({})
        case "POST", ["verify"]:
            size = hub.blobs.path(oid).stat().st_size if hub.blobs.has(oid) else -1
            if request.json()["size"] != size:
                raise Refused(422, "", "not what was announced")
            return as_json({})
        case (("GET" | "HEAD"), []):
            return _bytes(hub, request, hub.blobs.large(oid), {"ETag": f'"{oid}"'})
    raise Refused(404, "EntryNotFound")


def _require_terms(request: Request, repository: Repository, commit: str) -> None:
    """Refuse the files of a gated repository to those who did not accept its terms."""
    name = request.account.name if request.account else None
    if repository.gated and name not in repository.accepted | {repository.name.partition("/")[0]}:
        status = 403 if request.token else 401
        raise Refused(status, "GatedRepo", "Access to it is restricted", {"X-Repo-Commit": commit})


def _file(hub: "HubServer", request: Request, repository: Repository, revision: str, path: str) -> Answer:
    sha = repository.sha(revision)
    _require_terms(request, repository, sha)
    blob = repository.commits[sha].files.get(path)
    if blob is None:
        raise Refused(404, "EntryNotFound", headers={"X-Repo-Commit": sha})
    headers = {"ETag": f'"{blob.oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    if blob.large:
        headers |= {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(blob.bytes)}
        if hub.redirects:
            return Answer(302, headers | {"Location": f"{hub.storage_url}/storage/{blob.oid}"})
    return _bytes(hub, request, blob, headers)


def _bytes(hub: "HubServer", request: Request, blob: Blob, headers: dict[str, str]) -> Answer:
    """A file, or the range of it that is asked for."""
    file = hub.blobs.open(blob.sha256)
    headers = {"Content-Type": "application/octet-stream"} | headers
    ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if ranged is None:
        return Answer(200, headers, file, blob.bytes)
    start, end = int(ranged[1]), min(int(ranged[2] or blob.bytes - 1), blob.bytes - 1)
    if start >= blob.bytes:
        file.close()
        return Answer(416, headers | {"Content-Range": f"bytes */{blob.bytes}"})
    file.seek(start)
    return Answer(
        206, headers | {"Content-Range": f"bytes {start}-{end}/{blob.bytes}"}, file, end - start + 1
    )
