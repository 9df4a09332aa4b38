"""The server itself: connections, faults, the log; what a request means is in routes.py."""

import json
import re
import socket
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from hubserver import routes
from hubserver.fault import Fault
from hubserver.repository import Account, Blobs, Commit, Files, Refused, Repository
from hubserver.routes import Answer, Request

CHUNK = 2**20


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients and faults cut connections: that is this server's business, and no news."""


class HubServer:
    """A Hub in a thread; use it in a `with` statement.

    `log` holds "METHOD path" of every request, `sent` the sha256 of every large file (or part) that arrived whole,
    `faults` what is to go wrong. `broken`, when set, is the status of every answer.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.blobs = Blobs(folder)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.accounts: dict[str, Account] = {}
        """Token -> account; a token that is not here is unknown."""
        self.log: list[str] = []
        self.sent: list[str] = []
        self.begun: list[str] = []
        """sha256 of every large file whose sending began."""
        self.tokens_at_storage: list[str] = []
        """Tokens that storage was shown: there must be none."""
        self.faults: list[Fault] = []
        self.broken: HTTPStatus | None = None
        self.quota_bytes: int | None = None
        """Bytes that all repositories together may hold."""
        self.part_bytes: int | None = None
        """Larger files arrive in parts of this size."""
        self.page = 1000
        """Entries of a listing before the next page."""
        self.redirects = False
        """Large files are served from another origin."""
        self.closing = Event()
        self.lock = Lock()
        server = self

        class Handler(_Handler):
            hub = server

        self._servers = [_Listener(("127.0.0.1", 0), Handler) for _ in range(2)]
        front, storage = (each.server_port for each in self._servers)
        self.url = f"http://127.0.0.1:{front}"
        # Another name for another origin: clients follow redirects to the same host by themselves.
        self.storage_url = f"http://localhost:{storage}"

    def repository(self, kind: str, name: str, *, private: bool = False) -> Repository:
        """A repository; made as the Hub makes it, with one commit, where it is not there."""
        with self.lock:
            if (kind, name) not in self.repositories:
                made = Repository(kind, name, private=private)
                first = {
                    ".gitattributes": self.blobs.small(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n")
                }
                made.branches["main"] = made.add(first, None, "initial commit").id
                self.repositories[kind, name] = made
            return self.repositories[kind, name]

    def commit(self, kind: str, name: str, files: Files, *refs: str) -> str:
        """Add a commit of exactly these files, and point main and tags `refs` to it; returns its 40 hex digits."""
        repository = self.repository(kind, name)
        tree = {
            path: self.blobs.large(self.blobs.write([body]))
            if path.endswith((".parquet", ".safetensors"))
            else self.blobs.small(body)
            for path, body in files.items()
        }
        with repository.lock:
            made = repository.add(tree, repository.branches["main"], "files")
            repository.branches["main"] = made.id
            repository.tags |= dict.fromkeys(refs, made.id)
        return made.id

    def history(self, kind: str, name: str) -> list[Commit]:
        """Commits of main, newest first, without the Hub's own first one."""
        return self.repositories[kind, name].log("main")[:-1]

    def bytes_of(self, kind: str, name: str, revision: str) -> Files:
        """Content of every file at a revision, without the Hub's own."""
        files = self.repositories[kind, name].files(revision)
        return {p: self.blobs.path(b.sha256).read_bytes() for p, b in files.items() if p != ".gitattributes"}

    def requests(self, route: str) -> list[str]:
        """Those of the log that a regular expression finds."""
        return [line for line in self.log if re.search(route, line)]

    def __enter__(self) -> Self:
        for each in self._servers:
            Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        for each in self._servers:
            each.shutdown()
            each.server_close()


class _Cut(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 2**16
    rbufsize = CHUNK

    def do_GET(self) -> None:
        request = f"{self.command} {self.path}"
        with self.hub.lock:
            self.hub.log.append(request)
            fault = next((each for each in self.hub.faults if each.strikes(request)), None)
        try:
            self._unread = None
            if fault is not None and not fault.late and fault.truncate is None:
                self._strike(fault)
                return
            answer = self._answer()
            if fault is not None and fault.truncate is None:
                self._strike(fault)
                return
            self._send(answer, fault.truncate if fault else None)
        except (_Cut, OSError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _strike(self, fault: Fault) -> None:
        if fault.call is not None:
            fault.call()
        if fault.status is not None:
            for _ in self._chunks():  # a client that is still writing would not hear
                pass
            self._send(Answer(fault.status, fault.headers, fault.body))
            return
        if fault.hang_s is not None:
            self.hub.closing.wait(fault.hang_s)
        if not fault.late and self.command == "PUT":
            self.rfile.read(min(1000, int(self.headers.get("Content-Length") or 1000)))
        if fault.drop or fault.hang_s is not None or fault.call is not None:
            self.connection.shutdown(socket.SHUT_RDWR)
            raise _Cut

    def _answer(self) -> Answer:
        url = urlsplit(self.path)
        request = Request(
            self.command, url.path, url.query, self.headers, self._chunks, self._account(), self._token()
        )
        try:
            if self.hub.broken is not None:
                raise Refused(self.hub.broken, "Broken")
            return routes.answer(self.hub, request)
        except Refused as refused:
            body = json.dumps({"error": refused.message}).encode()
            return Answer(refused.status, {"Content-Type": "application/json"} | refused.headers, body)
        finally:
            for _ in self._chunks():
                pass

    def _token(self) -> str | None:
        header = self.headers.get("Authorization", "")
        return header.removeprefix("Bearer ") if header.startswith("Bearer ") else None

    def _account(self) -> Account | None:
        return self.hub.accounts.get(self._token() or "")

    def _chunks(self) -> Iterator[bytes]:
        """The body, piece by piece, once."""
        if self._unread is None:
            self._unread = self._body()
        return self._unread

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self._exactly(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self._exactly(min(left, CHUNK))
            left -= len(chunk)
            yield chunk

    def _exactly(self, size: int) -> bytes:
        chunk = self.rfile.read(size)
        if len(chunk) < size:  # the client is gone
            raise _Cut
        return chunk

    def _send(self, answer: Answer, truncate: int | None = None) -> None:
        length = answer.length
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and answer.status != 304:
            if isinstance(answer.body, bytes):
                self.wfile.write(answer.body[:truncate])
            else:
                self._copy(answer.body, length if truncate is None else min(truncate, length))
        self.wfile.flush()
        if truncate is not None:
            self.connection.shutdown(socket.SHUT_RDWR)
            raise _Cut

    def _copy(self, file: BinaryIO, left: int) -> None:
        with file:
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                self.wfile.write(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: tests read `HubServer.log`."""
