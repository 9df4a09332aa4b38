"""What duplicates are found by, shard by shard: the digests of each text and its MinHash signature.

Sketches are kept store-wide: a shard that is as it was is not read again, and where rows were added only new texts
are signed. They know no threshold and no scope, so that both can be moved without reading any text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from distillkit.artifact import Row, problem_in
from distillkit.durable import shared, write_parquet
from distillkit.reader import View
from distillkit.shingles import WORDS, runs
from distillkit.stages.cached import Cached
from distillkit.stages.dedup.signature import ALGORITHMS, PERMUTATIONS, SEED, Library, signatures
from distillkit.text import normalise

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from distillkit.stages.dedup.signature import Signature

Part = Literal["prompt", "completion", "both", "reasoning", "response"]
COLUMNS: dict[Part, list[str]] = {
    "prompt": ["messages"],
    "completion": ["completion"],
    "both": ["messages", "completion"],
    "reasoning": ["reasoning"],
    "response": ["response"],
}
VERSION = 2
"""Raise it when a text would be given other digests or shingles."""
NOTHING = bytes(16)
"""Digest of a text that is empty or white space."""


@dataclass(frozen=True)
class Unit:
    """What is compared as one: a trace, or on prompts all traces of a problem."""

    traces: list[str]
    """Ids, ascending."""
    text: str

    @property
    def first(self) -> str:
        return self.traces[0]


@dataclass(frozen=True)
class Texts:
    """The texts of one shard; picklable, so that any executor can take it."""

    view: View
    shard: int
    on: Part

    def batches(self) -> Iterator[list[Unit]]:
        """Units by ascending first id, so many at a time as fit a batch of the reader's."""
        columns = ["id", *COLUMNS[self.on]]
        for rows in self.view.batches(self.shard, labels=False, columns=columns):
            units: dict[str, Unit] = {}
            for row in rows:
                key = problem_in(row["id"]) if self.on == "prompt" else row["id"]
                units.setdefault(key, Unit([], _text(row, self.on))).traces.append(row["id"])
            yield list(units.values())


def _text(row: Row, on: Part) -> str:
    if on not in ("prompt", "both"):
        return row[on] or ""
    prompt = next((m["content"] for m in reversed(row["messages"]) if m["role"] == "user"), "")
    return f"{prompt}\n\n{row['completion']}" if on == "both" else prompt


@dataclass(frozen=True)
class SketchTask:
    """One shard to sketch into the store's cache."""

    texts: Texts
    library: Library
    cache: Path

    @cached_property
    def cached(self) -> Cached:
        """Where the sketches of these texts are kept."""
        algorithm = [VERSION, WORDS, self.library, ALGORITHMS[self.library], PERMUTATIONS, SEED]
        maker = ["sketch", *algorithm, self.texts.on]
        return Cached(self.cache, maker, self.texts.view, self.texts.shard)

    @property
    def file(self) -> Path:
        """The file of the sketches."""
        return self.cached.file


@dataclass(frozen=True)
class Sketches:
    """The units of a shard by ascending first id, one row each."""

    traces: "pa.ListArray"
    raw: "NDArray[np.void]"
    """Digest of the text as it is, 16 bytes."""
    exact: "NDArray[np.void]"
    """Digest of the normalised text; NOTHING for an empty one."""
    words: "NDArray[np.void]"
    """Digest of the shingles in their order: equal where texts differ in case and punctuation only."""
    signature: "Signature"

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def firsts(self) -> "pa.StringArray":
        """Smallest trace id of each unit."""
        return self.traces.flatten().take(self.traces.offsets[:-1])


def load(file: Path) -> Sketches | None:
    """The sketches in a file; None where there is none or it is damaged."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parts:
            table = parts.read()
    except (pa.ArrowException, OSError):
        return None
    metadata = table.schema.metadata or {}
    if metadata.get(b"distillkit.check") != _check(table):
        return None
    columns = [_flat(table[name]) for name in ("raw", "exact", "words", "signature")]
    traces = table["traces"].combine_chunks() if table.num_rows else pa.array([], pa.list_(pa.string()))
    raw, exact, words = (column.view("V16") for column in columns[:3])
    return Sketches(traces, raw, exact, words, columns[3].view(np.uint32).reshape(-1, PERMUTATIONS))


def _flat(column: "pa.ChunkedArray") -> "NDArray[np.uint8]":
    """The bytes of a column of fixed-size binary."""
    import numpy as np

    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[
            chunk.offset * chunk.type.byte_width : (chunk.offset + len(chunk)) * chunk.type.byte_width
        ]
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def _check(table: "pa.Table") -> bytes:
    ids = "\n".join(",".join(traces) for traces in table["traces"].to_pylist())
    parts = [ids.encode(), *(_flat(table[name]).tobytes() for name in ("raw", "exact", "words", "signature"))]
    return xxh3_128_hexdigest(b"".join(map(xxh3_128_digest, parts))).encode()


def sketch_shard(task: SketchTask) -> None:
    """Sketch one shard, if it is not in the cache."""
    if load(task.file) is None:
        last = task.cached.last()
        parts = _Signer(task.library, load(last) if last else None)
        for units in task.texts.batches():
            parts.add(units)
        with shared(task.file) as file:
            write_parquet(parts.table(), file)
    task.cached.note()


class _Signer:
    """Takes in units and makes the table of their sketches; texts that a donor has are not signed again."""

    def __init__(self, library: Library, donor: Sketches | None) -> None:
        self._library: Library = library
        self._traces: list[list[str]] = []
        self._rows: list[tuple[bytes, bytes, bytes, bytes]] = []
        self._known: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        if donor is not None:
            rows = zip(
                *(column.tolist() for column in (donor.exact, donor.words)), donor.signature, strict=True
            )
            keys = donor.raw.tolist()
            self._known = {
                raw: (exact, words, row.tobytes())
                for raw, (exact, words, row) in zip(keys, rows, strict=True)
            }

    def add(self, units: Sequence[Unit]) -> None:
        digests = [xxh3_128_digest(unit.text.encode("utf-8", "surrogatepass")) for unit in units]
        fresh = {raw: unit.text for raw, unit in zip(digests, units, strict=True) if raw not in self._known}
        made = dict(zip(fresh, self._signed(list(fresh.values())), strict=True))
        for raw, unit in zip(digests, units, strict=True):
            self._traces.append(unit.traces)
            self._rows.append((raw, *(made[raw] if raw in made else self._known[raw])))

    def _signed(self, texts: list[str]) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(exact, words, signature) of each text."""
        normal = [normalise(text) for text in texts]
        shingled = runs(normal)
        for text, words, row in zip(normal, shingled, signatures(shingled, self._library), strict=True):
            if text:
                exact = xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
                yield exact, xxh3_128_digest(words.tobytes()), row.tobytes()
            else:
                yield NOTHING, NOTHING, row.tobytes()

    def table(self) -> "pa.Table":
        import pyarrow as pa

        columns = list(zip(*self._rows, strict=True)) or [(), (), (), ()]
        widths = (16, 16, 16, 4 * PERMUTATIONS)
        made = {"traces": pa.array(self._traces, pa.list_(pa.string()))} | {
            name: pa.array(values, pa.binary(width))
            for name, values, width in zip(
                ("raw", "exact", "words", "signature"), columns, widths, strict=True
            )
        }
        table = pa.table(made)
        return table.replace_schema_metadata({"distillkit.check": _check(table)})
