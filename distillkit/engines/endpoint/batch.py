"""The batch API: requests are handed in as a file, and their answers fetched hours later at half the price.

A batch is marked with the digest of what its requests share, and each line has the key of its request. So a run that
was killed finds at the provider what it has handed in and paid for; nothing of it is kept here.
Source: OpenAI's API reference, /v1/files and /v1/batches.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from distillkit.engines.endpoint.answer import Answer, BadAnswer, read
from distillkit.engines.endpoint.lane import pause_s
from distillkit.engines.endpoint.server import Server, Trouble

T = TypeVar("T")
Outcome = Answer | Trouble

LARGEST, LARGEST_BYTES = 50_000, 100_000_000
"""Requests and bytes that providers take as one batch."""
MARK = "distillkit"
"""Name of the digest among a batch's metadata."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
GATHER_S = 0.5
"""A batch is handed in when no request has come for so long."""
TRANSFER_S = 600.0
"""Longest that a file may take."""
TRIES = 8


class Desk:
    """Gathers requests, hands them in, and gives each its answer when the batch has ended. For one event loop."""

    def __init__(self, server: Server, path: str, mark: str, poll_s: float) -> None:
        self.server, self.path, self.mark, self.poll_s = server, path, mark, poll_s
        self._gathered: dict[str, tuple[bytes, asyncio.Future[Outcome]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._settling: set[asyncio.Task[None]] = set()

    async def answer(self, key: str, body: dict[str, Any]) -> Outcome:
        """What became of a request. Raises Trouble where the provider takes no batches."""
        loop = asyncio.get_running_loop()
        line = {"custom_id": key, "method": "POST", "url": f"/v1{self.path}", "body": body}
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        future: asyncio.Future[Outcome] = loop.create_future()
        self._gathered[key] = data, future
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(GATHER_S, self._begin)
        return await future

    def _begin(self) -> None:
        lines, self._gathered = self._gathered, {}
        task = asyncio.get_running_loop().create_task(self._settle(lines))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, lines: dict[str, tuple[bytes, "asyncio.Future[Outcome]"]]) -> None:
        """Find what was handed in before, hand in the rest, and give every line its outcome."""
        futures = {key: future for key, (_, future) in lines.items()}
        try:
            running = [(batch, keys) async for batch, keys in self._known(futures)]
            covered = set().union(*(keys for _, keys in running))
            left = {
                key: lines[key][0]
                for key, future in futures.items()
                if key not in covered and not future.done()
            }
            running += [(await self._hand_in(chunk), set(chunk)) for chunk in chunks(left)]
            await asyncio.gather(*(self._fetch(batch, keys, futures) for batch, keys in running))
        except Trouble as trouble:
            for future in futures.values():
                if not future.done():
                    future.set_exception(trouble)

    async def _known(
        self, futures: "dict[str, asyncio.Future[Outcome]]"
    ) -> AsyncIterator[tuple[Any, set[str]]]:
        """Batches of an earlier run that are still at work, with what they cover; answers of ended ones are given."""
        async for batch in self._listed():
            if batch.status in ENDED:
                for key, outcome in (await self._outcomes(batch)).items():
                    if isinstance(outcome, Answer) and key in futures and not futures[key].done():
                        futures[key].set_result(outcome)
                continue
            asked = await self._lines(batch.input_file_id)
            keys = {str(line.get("custom_id")) for line in asked} & futures.keys()
            if keys:
                yield batch, keys

    async def _listed(self) -> AsyncIterator[Any]:
        """All batches with our mark, the newest first."""
        after: dict[str, str] = {}
        while True:
            page = await self._patiently(partial(self._page, after))
            for batch in page.data:
                if (batch.metadata or {}).get(MARK) == self.mark:
                    yield batch
            if not page.data or not page.has_more:
                return
            after = {"after": page.data[-1].id}

    async def _page(self, after: dict[str, str]) -> Any:
        return await self.server.client.batches.list(limit=100, **after)

    async def _hand_in(self, chunk: dict[str, bytes]) -> Any:
        """A new batch of these lines, one alone even where the answer to creating it is lost."""
        client = self.server.client
        file = await self._patiently(
            lambda: client.files.create(file=("requests.jsonl", b"".join(chunk.values())), purpose="batch")
        )
        for attempt in range(1, TRIES + 1):
            try:
                return await self.server.whole(
                    client.batches.create(
                        input_file_id=file.id,
                        endpoint=f"/v1{self.path}",
                        completion_window="24h",
                        metadata={MARK: self.mark},
                    ),
                    TRANSFER_S,
                )
            except Trouble as trouble:
                if attempt == TRIES or not (trouble.busy or trouble.broken):
                    raise
            await asyncio.sleep(pause_s(attempt))
            async for batch in self._listed():
                if batch.input_file_id == file.id:
                    return batch
        raise AssertionError("the last try raises")

    async def _fetch(self, batch: Any, keys: set[str], futures: "dict[str, asyncio.Future[Outcome]]") -> None:
        """Wait for a batch to end, and give its lines their outcomes."""
        name = batch.id
        while batch.status not in ENDED:
            await asyncio.sleep(self.poll_s)
            batch = await self._patiently(lambda: self.server.client.batches.retrieve(name))
        found = await self._outcomes(batch)
        lacking = _why(batch)
        for key in keys:
            if not futures[key].done():
                futures[key].set_result(found.get(key, lacking))

    async def _outcomes(self, batch: Any) -> dict[str, Outcome]:
        """Custom id -> outcome, of all lines that an ended batch got to."""
        lines = [
            line
            for name in (batch.output_file_id, batch.error_file_id)
            if name
            for line in await self._lines(name)
        ]
        return {str(line.get("custom_id")): _outcome(line) for line in lines}

    async def _lines(self, file_id: str) -> list[dict[str, Any]]:
        """The lines of a file at the provider; none where it is there no more."""
        try:
            content = await self._patiently(lambda: self.server.client.files.content(file_id))
        except Trouble as trouble:
            if trouble.status == 404:
                return []
            raise
        return [line for line in map(_parsed, content.content.splitlines()) if line]

    async def _patiently(self, asking: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for again where the server breaks: a batch takes hours, and a hiccup must not end it."""
        for attempt in range(1, TRIES + 1):
            try:
                return await self.server.whole(asking(), TRANSFER_S)
            except Trouble as trouble:
                if attempt == TRIES or not (trouble.busy or trouble.broken):
                    raise
                await asyncio.sleep(trouble.wait_s or pause_s(attempt))
        raise AssertionError("the last try raises")


def chunks(lines: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Lines in batches that are not too large."""
    chunk: dict[str, bytes] = {}
    size = 0
    for key, line in lines.items():
        if chunk and (len(chunk) == LARGEST or size + len(line) > LARGEST_BYTES):
            yield chunk
            chunk, size = {}, 0
        chunk[key] = line
        size += len(line)
    if chunk:
        yield chunk


def _outcome(line: dict[str, Any]) -> Outcome:
    """What a line of an output or error file says."""
    response = line.get("response")
    if not isinstance(response, dict):
        error = line.get("error")
        return Trouble(str(error.get("message") if isinstance(error, dict) else "no response"))
    status, body = response.get("status_code"), response.get("body")
    if status != 200:
        error = body.get("error") if isinstance(body, dict) else None
        said = error.get("message") if isinstance(error, dict) else body
        return Trouble(f"{status}: {said}", status if isinstance(status, int) else None)
    try:
        return read(body)
    except BadAnswer as bad:
        return Trouble(str(bad), bad.status)


def _why(batch: Any) -> Trouble:
    """Why a line has no outcome: its batch was refused as a whole, or was not done in time."""
    if batch.status == "failed":
        errors = batch.errors.data if batch.errors and batch.errors.data else []
        said = "; ".join(str(error.message) for error in errors[:3]) or "no reason given"
        return Trouble(f"the batch was refused: {said}", 400)
    return Trouble(f"the batch ended ({batch.status}) before this request was done")


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        line = json.loads(data)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
