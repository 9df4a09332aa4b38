"""Finished completions, kept store-wide, so that nothing is ever paid for twice.

One append-only file of JSON lines per (weights, engine, parameters). Why not one artifact per stage: a killed
run, more problems, a higher n or another recipe find here what they share with what was done before.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from distillkit.durable import disk_error, locked
from distillkit.engines.base import Completion

SYNC_S = 1.0
"""Lines are forced to the disk at most this far apart."""


class Ledger:
    """Key -> completion, in a file.

    A line is written whole, at once, when its completion is finished: a killed process loses at most the line it
    was writing, whose torn tail is cut when the file is next opened; a power cut loses the last second. A
    line that cannot be read is as good as not there.

    A line {"draw": name} says that a draw began there: what it found missing then are the keys that no line
    above it has. So a resumed draw knows what an uninterrupted one would have sampled together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.added = 0
        """Completions added since it was opened."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: dict[str, int] = {}
        self._draws: dict[str, int] = {}
        self._file = path.open("ab", buffering=0)
        self._end = self._load()
        self._reader = path.open("rb")
        self._synced = time.monotonic()

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
        return key in self._lines

    def __getitem__(self, key: str) -> Completion:
        self._reader.seek(self._lines[key])
        line = json.loads(self._reader.readline())
        del line["key"]
        return Completion(**line)

    def add(self, key: str, completion: Completion) -> None:
        """Record a finished completion; raises MissingError where the disk is full."""
        self._lines[key] = self._append({"key": key, **asdict(completion)})
        self.added += 1
        if time.monotonic() - self._synced >= SYNC_S:
            self.sync()

    def begin(self, draw: str, keys: Iterable[str]) -> set[str]:
        """Those of a draw's keys that were missing when it first began, also where they are there by now."""
        if draw not in self._draws:
            self._draws[draw] = self._append({"draw": draw})
        start = self._draws[draw]
        return {key for key in keys if self._lines.get(key, start) >= start}

    def sync(self) -> None:
        """Force what was added to the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(self.path, error) from None
        self._synced = time.monotonic()

    def close(self) -> None:
        self.sync()
        self._file.close()
        self._reader.close()

    def _append(self, line: dict[str, object]) -> int:
        """Write one line; returns where it begins."""
        start = self._end
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise disk_error(self.path, error) from None
        self._end = self._file.tell()
        return start

    def _load(self) -> int:
        """Index the file and cut a torn tail; returns its end."""
        end = 0
        with self.path.open("rb") as file:
            for data in file:
                if not data.endswith(b"\n"):
                    self._file.truncate(end)
                    break
                self._index(data, end)
                end += len(data)
        return end

    def _index(self, data: bytes, start: int) -> None:
        try:
            line = json.loads(data)
        except ValueError:
            return
        match line:
            case {"draw": str(name)}:
                self._draws.setdefault(name, start)
            case {"key": str(key), "text": str()}:
                self._lines.setdefault(key, start)
