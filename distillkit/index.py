"""Where each record of a big file lies, by a key of 128 bits: millions of them in tens of bytes each.

A dict of a million strings takes 200 MiB and seconds to fill; this is one sorted array of 32 bytes per key, and a
dict of the latest only. The ledger keeps it in a file beside its lines, so that opening one reads no text.
"""

import os
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from distillkit.durable import disk_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Records: TypeAlias = NDArray[np.void]

Place = tuple[int, int]
"""Byte where a record begins, and its bytes."""

RECORD = [("high", "<u8"), ("low", "<u8"), ("start", "<u8"), ("length", "<u4"), ("check", "<u4")]
RECORD_BYTES = 32
HEAD = b"distillkit index 1".ljust(RECORD_BYTES - 1) + b"\n"
"""What such a file begins with; one of another format is as good as none."""
_LOW = 2**64 - 1


class Index:
    """Key (an integer in [0, 2^128)) -> place; the first place of a key stays."""

    RECENT = 2**14
    """Keys that are held in a dict before they are sorted in, at least."""

    def __init__(self, records: "Records | None" = None) -> None:
        import numpy as np

        self._recent: dict[int, Place] = {}
        self._hold(np.empty(0, RECORD) if records is None else _sorted(records))

    def __len__(self) -> int:
        """Keys; those whose record is empty do not count."""
        import numpy as np

        recent = sum(length > 0 for _, length in self._recent.values())
        return int(np.count_nonzero(self._sorted["length"])) + recent

    def find(self, key: int) -> Place | None:
        """Where the record of a key lies, None where there is none."""
        place = self._recent.get(key)
        if place is not None:
            return place
        high, low = key >> 64, key & _LOW
        at = bisect_left(self._highs, high)
        while at < len(self._highs) and self._highs[at] == high:
            if self._lows[at] == low:
                return self._starts[at], self._lengths[at]
            at += 1
        return None

    def add(self, key: int, place: Place) -> bool:
        """Take in a key; False where it has a place already."""
        if self.find(key) is not None:
            return False
        self._recent[key] = place
        # In step with what is there: so that sorting costs each key a few moves only, however many there are.
        if len(self._recent) >= max(self.RECENT, len(self._highs) // 16):
            self._settle()
        return True

    def _settle(self) -> None:
        """Merge the latest keys into the sorted ones: twice their memory for a moment, where sorting takes more."""
        import numpy as np

        recent = _sorted(records_of(list(self._recent.items())))
        self._recent.clear()
        places = np.searchsorted(self._sorted["high"], recent["high"], side="right") + np.arange(len(recent))
        merged: Records = np.empty(len(self._highs) + len(recent), RECORD)
        old: NDArray[np.bool_] = np.ones(len(merged), bool)
        old[places] = False
        merged[places] = recent
        merged[old] = self._sorted
        self._hold(merged)

    def _hold(self, records: "Records") -> None:
        self._sorted = records
        # Memory views give Python integers, several times faster than arrays do.
        self._highs = memoryview(records["high"])
        self._lows = memoryview(records["low"])
        self._starts = memoryview(records["start"])
        self._lengths = memoryview(records["length"])


def _sorted(records: "Records") -> "Records":
    import numpy as np

    return records[np.argsort(records["high"], kind="stable")]


def records_of(places: Sequence[tuple[int, Place]]) -> "Records":
    """(key, place) pairs in their order, as records with a check each."""
    import numpy as np

    rows = [(key >> 64, key & _LOW, start, length, 0) for key, (start, length) in places]
    records = np.array(rows, RECORD)
    records["check"] = _check(records)
    return records


def _check(records: "Records") -> "NDArray[np.uint32]":
    """32 bits over the other fields: odd factors and a golden multiplier, so that any one bit changes them."""
    import numpy as np

    mixed = sum(
        records[name].astype(np.uint64) * np.uint64(factor)
        for name, factor in (("high", 1), ("low", 3), ("start", 5), ("length", 7))
    )
    return ((mixed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)).astype(np.uint32)


def append_records(path: Path, places: Sequence[tuple[int, Place]]) -> None:
    """Write places behind those in a file; raises MissingError where the disk is full."""
    try:
        with path.open("ab") as file:
            if file.tell() == 0:
                file.write(HEAD)
            file.write(records_of(places).tobytes())
    except OSError as error:
        raise disk_error(path, error) from None


def load_records(path: Path) -> "Records":
    """The records of a file up to the first damaged one, in their order; the rest is cut off.

    None of them where the file is missing or of another format.
    """
    import numpy as np

    try:
        with path.open("rb") as file:
            known = file.read(RECORD_BYTES) == HEAD
            records = np.fromfile(file, RECORD) if known else np.empty(0, RECORD)
    except FileNotFoundError:
        return np.empty(0, RECORD)
    good = records["check"] == _check(records)
    good[1:] &= np.diff(records["start"].astype(np.int64)) > 0
    count = len(good) if good.all() else int(np.argmin(good))
    os.truncate(path, RECORD_BYTES * (count + 1) if count else 0)
    return records[:count]
