"""An OpenAI-compatible server on loopback that goes wrong on demand.

It speaks /v1/models, /v1/chat/completions, /v1/completions, /v1/files and /v1/batches over real HTTP, answers a
request alike each time, and keeps a log, so that tests can say what was asked, what was answered, and how often.
Run as a program it prints its URL and serves until its input ends: benchmarks give it a process of its own.
"""

import asyncio
import hashlib
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

Body = dict[str, Any]
Style = Literal["reasoning_content", "reasoning", "inline", "hidden", "none"]


@dataclass(frozen=True)
class Fault:
    """What happens to one call in place of a whole answer, or (a delay alone) before it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is."""
    delay_s: float = 0.0
    hang: bool = False
    """Read, and never answered."""
    drop: bool = False
    """The connection is closed in the middle of the body."""
    change: Body = field(default_factory=dict)
    """Replaces fields of the answer."""


@dataclass
class Call:
    """A call for one completion."""

    path: str
    body: Body
    key: str
    """Digest of what decides the answer."""
    answered: bool = False
    """A whole, good answer went out."""


Plan = Callable[[Call], Fault | None]


def nothing(call: Call) -> Fault | None:
    """No fault at all."""
    return None


def script(*faults: Fault | None) -> Plan:
    """These, call by call, and nothing afterwards."""
    left = iter(faults)
    return lambda call: next(left, None)


def dice(seed: int, rates: Iterable[tuple[float, Fault]], delay_s: tuple[float, float] = (0, 0)) -> Plan:
    """Each call meets a fault with its probability, and else a delay between two bounds."""
    rng, table = random.Random(seed), list(rates)

    def roll(call: Call) -> Fault:
        share, delay = rng.random(), rng.uniform(*delay_s)
        for rate, fault in table:
            if share < rate:
                return fault
            share -= rate
        return Fault(delay_s=delay)

    return roll


def key_of(body: Body) -> str:
    """Digest of what decides an answer."""
    decisive = [body.get("messages"), body.get("prompt"), body.get("seed")]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


class FaultServer:
    """A server in a thread; use it in a `with` statement."""

    def __init__(
        self,
        plan: Plan = nothing,
        style: Style = "reasoning_content",
        api_key: str | None = None,
        model: str = "teacher",
    ) -> None:
        self.plan, self.style, self.api_key, self.model = plan, style, api_key, model
        self.calls: list[Call] = []
        self.paths: list[str] = []
        """"METHOD path" of every request, whatever it was for."""
        self.flying = self.most_flying = 0
        """Completions that are being answered now, and the most that ever were."""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Body] = {}
        self.batch_ready = threading.Event()
        """Batches are worked on once it is set."""
        self.batch_ready.set()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        # Connections that a client or a fault cuts are this server's business, and no news.
        self._loop.set_exception_handler(lambda *_: None)

    def answered(self) -> Counter[str]:
        """How often each completion was given whole."""
        return Counter(call.key for call in self.calls if call.answered)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=4096)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = first.split(" ")
                self.paths.append(f"{method} {target}")
                if not await self._serve(method, target, headers, content, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the client or this server went away
        finally:
            writer.close()

    async def _serve(
        self, method: str, target: str, headers: dict[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False where the connection is to be closed."""
        url = urlsplit(target)
        path = url.path.removeprefix("/v1")
        if self.api_key is not None and headers.get("authorization") != f"Bearer {self.api_key}":
            return await _send(writer, 401, _error(f"bad key {headers.get('authorization')}"))
        if path in ("/chat/completions", "/completions"):
            return await self._completion(path, json.loads(content), writer)
        if path == "/models":
            return await _send(
                writer, 200, {"object": "list", "data": [{"id": self.model, "object": "model"}]}
            )
        if path.startswith("/files"):
            return await self._file(method, path, headers, content, writer)
        if path.startswith("/batches"):
            return await self._batch(method, path, parse_qs(url.query), content, writer)
        return await _send(writer, 404, _error(f"no {path} here"))

    async def _completion(self, path: str, body: Body, writer: asyncio.StreamWriter) -> bool:
        call = Call(path, body, key_of(body))
        self.calls.append(call)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            fault = self.plan(call) or Fault()
            if fault.hang:
                await writer.wait_closed()  # until the client gives up
                return False
            await asyncio.sleep(fault.delay_s)
            status, answer = self._answer(call, fault)
            data = fault.body if fault.body is not None else json.dumps(answer).encode()
            if fault.drop:
                writer.write(_head(status, fault.headers, len(data)) + data[: len(data) // 2])
                await writer.drain()
                return False
            # Noted first: who asked may have read it, and look here, before this goes on.
            call.answered = status == 200 and fault.body is None and not fault.change
            await _send(writer, status, data, fault.headers)
            return True
        finally:
            self.flying -= 1

    def _answer(self, call: Call, fault: Fault) -> tuple[int, Body]:
        if fault.status != 200:
            return fault.status, _error(HTTPStatus(fault.status).phrase)
        if call.body["model"] != self.model:
            return 404, _error(f"The model `{call.body['model']}` does not exist.", code="model_not_found")
        return 200, answer(call.path, call.body, self.style) | fault.change

    async def _file(
        self, method: str, path: str, headers: dict[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        if method == "POST":
            name = self._keep(_upload(headers["content-type"], content))
            return await _send(writer, 200, {"id": name, "object": "file", "purpose": "batch"})
        name = path.split("/")[2]
        return await _send(writer, 200, self.files[name])

    def _keep(self, data: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = data
        return name

    async def _batch(
        self,
        method: str,
        path: str,
        query: dict[str, list[str]],
        content: bytes,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if method == "POST":
            batch = {"id": f"batch-{len(self.batches)}", "object": "batch", "status": "validating"}
            self.batches[batch["id"]] = batch | json.loads(content)
            return await _send(writer, 200, self.batches[batch["id"]])
        if path != "/batches":
            batch = self.batches[path.split("/")[2]]
            self._work(batch)
            return await _send(writer, 200, batch)
        newest = list(reversed(self.batches.values()))
        after = query.get("after", [""])[0]
        start = next((n + 1 for n, batch in enumerate(newest) if batch["id"] == after), 0)
        page = newest[start : start + 2]
        return await _send(writer, 200, {"object": "list", "data": page, "has_more": start + 2 < len(newest)})

    def _work(self, batch: Body) -> None:
        """Do all requests of a batch, once batches are worked on."""
        if batch["status"] != "validating" or not self.batch_ready.is_set():
            return
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            call = Call(asked["url"], asked["body"], key_of(asked["body"]))
            self.calls.append(call)
            status, body = self._answer(call, self.plan(call) or Fault())
            call.answered = status == 200
            told = {"custom_id": asked["custom_id"], "response": {"status_code": status, "body": body}}
            (good if call.answered else bad).append(json.dumps(told | {"error": None}))
        batch["status"] = "completed"
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                batch[name] = self._keep("\n".join(lines).encode())


def answer(path: str, body: Body, style: Style) -> Body:
    """What the model says: a function of the request alone."""
    key = key_of(body)
    thought, said = f"Let me think about {key}.", f"The answer is \\boxed{{{int(key, 16) % 100}}}."
    usage: Body = {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
    choice: Body = {"index": 0, "finish_reason": "stop"}
    if path.endswith("/chat/completions"):
        inline = f"<think>\n{thought}\n</think>\n\n{said}"
        message: Body = {"role": "assistant", "content": inline if style == "inline" else said}
        if style in ("reasoning", "reasoning_content"):
            message[style] = thought
        if style == "hidden":
            usage["completion_tokens_details"] = {"reasoning_tokens": 12}
        choice["message"] = message
    else:
        choice["text"] = f"<think>\n{thought}\n</think>\n\n{said}"
    return {"id": key, "object": "x", "model": body["model"], "choices": [choice], "usage": usage}


def _error(message: str, **more: Any) -> Body:
    return {"error": {"message": message, "type": "fault", "param": None, "code": None} | more}


def _head(status: int, headers: dict[str, str], length: int) -> bytes:
    lines = {"Content-Type": "application/json", "Content-Length": str(length), **headers}
    return "".join(
        [f"HTTP/1.1 {status} x\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"]
    ).encode()


async def _send(
    writer: asyncio.StreamWriter, status: int, content: Body | bytes, headers: dict[str, str] | None = None
) -> bool:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    writer.write(_head(status, headers or {}, len(data)) + data)
    await writer.drain()
    return True


def _upload(content_type: str, content: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = content_type.partition("boundary=")[2].encode()
    [part] = [part for part in content.split(b"--" + boundary) if b"filename=" in part]
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def main() -> None:
    """`faultserver.py SEED MIN_DELAY_S MAX_DELAY_S [faults]`; at the end of its input it prints what it saw."""
    seed, low, high = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    rates = FAULTS if "faults" in sys.argv else []
    with FaultServer(dice(seed, rates, (low, high))) as server:
        print(server.url, flush=True)
        sys.stdin.read()
        times = server.answered()
        twice = sum(count > 1 for count in times.values())
        told = {
            "asked": len(server.calls),
            "answered": len(times),
            "twice": twice,
            "flying": server.most_flying,
        }
        print(json.dumps(told), flush=True)


FAULTS = [
    (0.05, Fault(429)),
    (0.05, Fault(429, {"retry-after-ms": "100"})),
    (0.03, Fault(500)),
    (0.02, Fault(drop=True)),
    (0.01, Fault(hang=True)),
]


if __name__ == "__main__":
    main()
