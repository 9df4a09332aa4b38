"""Finished completions, kept store-wide, so that nothing is ever paid for twice.

One append-only file of JSON lines per (weights, engine, parameters). Why not one artifact per stage: a killed
run, more problems, a higher n or another recipe find here what they share with what was done before.
"""

import hashlib
import json
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distillkit.durable import disk_error, locked, sync_folder
from distillkit.engines.base import Completion
from distillkit.errors import MissingError, StageError
from distillkit.index import Index, Place, append_records, load_records

SYNC_S = 1.0
"""Lines are forced to the disk at most this far apart."""
FORMAT = 1
"""Of the lines; the first one of a file names it."""
SAVE_AT = 2**16
"""Lines that are scanned before their places are saved."""


class Ledger:
    """Key (32 hex digits) -> completion, in a file.

    A line is written whole, at once, when its completion is finished: a killed process loses at most the line it
    was writing, whose torn tail is cut when the file is next opened; a power cut loses the last second. Each line
    has a checksum; one whose bytes rotted is as good as not there.

    A line {"draw": name} says that a draw began there: what it found missing then are the keys that no line
    above it has. So a resumed draw knows what an uninterrupted one would have sampled together.

    Beside the lines stands their index. It only saves time: where it is missing, torn, damaged or not of these
    lines, it is made again from them, and what they have behind its end is always read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.added = 0
        """Completions added since it was opened."""
        self._unsaved: deque[tuple[int, Place]] = deque()
        self._saves = True
        self._syncing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        require_format(path)
        self._file = path.open("a+b", buffering=0)
        self._end = self._load()
        if not self._end:
            self._write(b'{"ledger":%d}\n' % FORMAT)
            sync_folder(path.parent)

    @classmethod
    @contextmanager
    def alone(cls, path: Path, on_wait: Callable[[str], None]) -> Iterator["Ledger"]:
        """The ledger for this process alone; `on_wait` is told the owner when another one has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), on_wait):
            ledger = cls(path)
            try:
                yield ledger
            finally:
                ledger.close()

    def __contains__(self, key: str) -> bool:
        return self._index.find(int(key, 16)) is not None

    def __len__(self) -> int:
        """Completions."""
        return len(self._index)

    def __getitem__(self, key: str) -> Completion:
        """Raises KeyError where it is not there, StageError where its line has rotted since it was indexed."""
        number = int(key, 16)
        place = self._index.find(number)
        if place is None:
            raise KeyError(key)
        start, length = place
        data = os.pread(self._file.fileno(), length, start)
        if key_of(data) != number:
            self._forget()
            raise StageError(
                f"{self.path}: the completion at byte {start} is damaged; run again, and it is sampled anew"
            )
        line = json.loads(data)
        del line["crc"], line["key"]
        return Completion(**line)

    def add(self, key: str, completion: Completion) -> None:
        """Record a finished completion; one that is there already stays as it is.

        The disk is waited for in another thread. Raises MissingError where it is full.
        """
        if self._failure is not None:
            raise self._failure
        if key in self:
            return
        self._append(int(key, 16), {name: getattr(completion, name) for name in completion.__slots__})
        self.added += 1

    def begin(self, draw: str, keys: Iterable[str]) -> set[str]:
        """Those of a draw's keys that were missing when it first began, also where they are there by now."""
        number = _number_of(draw)
        place = self._index.find(number)
        start = self._append_draw(draw, number) if place is None else place[0]
        found = ((key, self._index.find(int(key, 16))) for key in keys)
        return {key for key, place in found if place is None or place[0] >= start}

    def sync(self) -> None:
        """Force what was added to the disk, then tell the index of it."""
        with self._syncing:
            if self._failure is not None:
                raise self._failure
            batch = list(self._unsaved)
            if not batch:
                return
            try:
                os.fsync(self._file.fileno())
                if self._saves:
                    append_records(self._index_path, batch)
                # Only now: what an interruption here writes twice is seen as damage, what it left out would not be.
                for _ in batch:
                    self._unsaved.popleft()
            except (OSError, MissingError) as error:
                # No later sync may mend it: the index would have a gap.
                self._failure = disk_error(self.path, error) if isinstance(error, OSError) else error
                raise self._failure from None

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.sync()
        finally:
            self._file.close()

    @property
    def _index_path(self) -> Path:
        return self.path.with_suffix(".index")

    def _append(self, number: int, fields: dict[str, object]) -> None:
        line = _line({"key": f"{number:032x}", **fields})
        self._remember(number, (self._write(line), len(line)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._sync_often, name="ledger", daemon=True)
            self._thread.start()

    def _append_draw(self, draw: str, number: int) -> int:
        start = self._write(_line({"draw": draw}))
        self._remember(number, (start, 0))
        return start

    def _remember(self, number: int, place: Place) -> None:
        if self._index.add(number, place):
            self._unsaved.append((number, place))

    def _write(self, data: bytes) -> int:
        """Write one line; returns where it begins."""
        start = self._end
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(start)
            raise disk_error(self.path, error) from None
        self._end = self._file.tell()
        return start

    def _sync_often(self) -> None:
        """Sync until closed, a second from the beginning of one to that of the next."""
        spent = 0.0
        while not self._closing.wait(max(0.0, SYNC_S - spent)):
            began = time.monotonic()
            try:
                self.sync()
            except (OSError, MissingError):
                return  # `add` and `close` raise it
            spent = time.monotonic() - began

    def _forget(self) -> None:
        """Drop an index that shows to a damaged line: the next one to open the ledger reads all lines."""
        with self._syncing:
            self._saves = False
            self._index_path.unlink(missing_ok=True)

    def _load(self) -> int:
        """Take in the index and the lines behind it, and cut a torn tail; returns the end of the lines."""
        self._index, end = self._load_index()
        return self._scan(end)

    def _load_index(self) -> tuple[Index, int]:
        """The index, and the end of the lines that it knows."""
        records = load_records(self._index_path)
        if not len(records):
            return Index(), 0
        high, low, start, length, _ = records[-1].tolist()
        if self._key_at(start) != (high << 64) + low:  # it was made of other lines
            self._index_path.unlink()
            return Index(), 0
        return Index(records), start + length

    def _scan(self, end: int) -> int:
        with self.path.open("rb") as file:
            file.seek(end)
            for line in file:
                if not line.endswith(b"\n"):
                    self._file.truncate(end)
                    break
                number = key_of(line)
                if number is not None:
                    self._remember(number, (end, len(line) if _is_completion(line) else 0))
                    if len(self._unsaved) >= SAVE_AT:
                        self.sync()
                end += len(line)
        self.sync()
        return end

    def _key_at(self, start: int) -> int | None:
        with self.path.open("rb") as file:
            file.seek(start)
            return key_of(file.readline())


HEAD = b'{"crc":"%08x",'
_HEAD_BYTES = len(HEAD % 0)
_KEY = b'"key":"'


def _line(fields: dict[str, object]) -> bytes:
    """A line whose checksum stands first, over all bytes behind it."""
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    body = body[1:] + b"\n"
    return HEAD % zlib.crc32(body) + body


def key_of(line: bytes) -> int | None:
    """The key of a line, also that of one that begins a draw; None where its bytes are not those written."""
    body = memoryview(line)[_HEAD_BYTES:]
    if line[:_HEAD_BYTES] != HEAD % zlib.crc32(body):
        return None
    if _is_completion(line):
        at = _HEAD_BYTES + len(_KEY)
        return int(line[at : at + 32], 16)
    return _number_of(json.loads(line)["draw"])


def _is_completion(line: bytes) -> bool:
    return line.startswith(_KEY, _HEAD_BYTES)


def _number_of(draw: str) -> int:
    """The key that a draw stands under: as long as a completion's, and none of theirs."""
    return int.from_bytes(hashlib.blake2b(f"draw {draw}".encode(), digest_size=16).digest(), "big")


def require_format(path: Path) -> None:
    """Raises StageError for a file of a later format; a first line that cannot be read says nothing."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(64))
    except (FileNotFoundError, ValueError):
        return
    match first:
        case {"ledger": int(found)} if found > FORMAT:
            raise StageError(
                f"{path}: written by a later version (format {found}, this one reads {FORMAT}); "
                "install that version or give another --store"
            )
