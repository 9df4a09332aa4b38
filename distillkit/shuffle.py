"""A file-based shuffle: rows in any order become shards in the order of their keys, in bounded memory.

Each producer spills its rows, compressed one by one, to a file per shard; a shard is read back by an index of its
keys. A part appears whole or not at all, so that work goes on by part and by shard after a kill.
"""

import json
import shutil
import struct
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.artifact import Row, shard_of
from distillkit.durable import disk_error, sync_folder, write_text

BUFFER_BYTES = 16 * 2**20
"""Compressed rows of one producer that wait in memory."""
PARTS = 64
"""Most parts of a shuffle: a shard is read from as many open files."""
_HEAD = struct.Struct("<HII")
"""Bytes of the key, of the row as it is stored, and of the row."""
_FACTS = "facts.json"


class Spill:
    """The rows of one producer on their way to the shards; sealed, they are part number `part` of the folder."""

    def __init__(self, folder: Path, part: int, shards: int) -> None:
        import pyarrow as pa

        self._codec = pa.Codec("zstd", compression_level=1)
        self._final = _place(folder, part)
        self._work = self._final.with_suffix(".part")
        shutil.rmtree(self._work, ignore_errors=True)  # what a killed producer left
        self._work.mkdir(parents=True)
        self._buffers = [bytearray() for _ in range(shards)]
        self._held = 0

    def add(self, key: str, body: bytes) -> None:
        """Take a row as JSON. The key decides the shard (by the problem that it begins with) and the order there."""
        name, stored = key.encode(), self._codec.compress(body, asbytes=True)
        buffer = self._buffers[shard_of(key, len(self._buffers))]
        buffer += _HEAD.pack(len(name), len(stored), len(body)) + name + stored
        self._held += _HEAD.size + len(name) + len(stored)
        if self._held >= BUFFER_BYTES:
            self._flush()

    def seal(self, facts: Any) -> None:
        """End the part; `facts` is JSON that is kept with it."""
        self._flush()
        write_text(self._work / _FACTS, json.dumps(facts))
        self._work.replace(self._final)
        sync_folder(self._final.parent)

    def _flush(self) -> None:
        for shard, buffer in enumerate(self._buffers):
            if buffer:
                file = self._work / f"{shard:05d}"
                try:
                    with file.open("ab") as out:
                        out.write(buffer)
                except OSError as error:
                    raise disk_error(file, error) from None
                buffer.clear()
        self._held = 0


def facts_of(folder: Path, part: int) -> Any:
    """What a part was sealed with, None where it is not there yet."""
    file = _place(folder, part) / _FACTS
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def _place(folder: Path, part: int) -> Path:
    return folder / f"{part:03d}"


@dataclass(frozen=True)
class Shuffled:
    """One shard of sealed parts."""

    folder: Path
    parts: int
    shard: int

    def _index(self) -> list[tuple[bytes, int, int, int, int]]:
        """(key, part, byte where the row begins, its stored bytes, its bytes), by ascending key."""
        found = []
        for part in range(self.parts):
            file = _place(self.folder, part) / f"{self.shard:05d}"
            if not file.exists():
                continue
            with file.open("rb") as spilled:
                while head := spilled.read(_HEAD.size):
                    name, stored, size = _HEAD.unpack(head)
                    key = spilled.read(name)
                    found.append((key, part, spilled.tell(), stored, size))
                    spilled.seek(stored, 1)
        return sorted(found)

    def remove(self) -> None:
        """Give back its space on the disk: it was written, and nobody asks again."""
        for part in range(self.parts):
            (_place(self.folder, part) / f"{self.shard:05d}").unlink(missing_ok=True)

    def keys(self) -> list[str]:
        """Every key, ascending; equal ones stand side by side."""
        return [key.decode() for key, *_ in self._index()]

    def rows(self, chosen: Collection[int] | None = None) -> Iterator[tuple[str, Row]]:
        """(key, row) by ascending key, a row in memory at a time; `chosen`: only those at these places of `keys`."""
        import pyarrow as pa

        codec, index = pa.Codec("zstd"), self._index()
        with ExitStack() as stack:
            files = {
                part: stack.enter_context((_place(self.folder, part) / f"{self.shard:05d}").open("rb"))
                for part in sorted({part for _, part, *_ in index})
            }
            for at, (key, part, start, stored, size) in enumerate(index):
                if chosen is None or at in chosen:
                    files[part].seek(start)
                    body = codec.decompress(files[part].read(stored), size, asbytes=True)
                    yield key.decode(), json.loads(body)
