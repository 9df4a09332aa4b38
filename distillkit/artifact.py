"""Artifacts: sealed directories, found by what was asked for and known by what they hold.

`request` names an intent (a stage's identity over its inputs' contents); `content` names the rows or weights
that came out. Downstream keys on content, so that a stage rebuilt with equal output rebuilds nothing after it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_128

from distillkit.errors import MissingError, StageError
from distillkit.spec import canonical, digest, file_digest

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
Counts = dict[str, dict[str, int]]
"""group -> name -> n, e.g. {"rejected": {"wrong": 12}}"""
MANIFEST = "manifest.json"
FORMAT = 1
STREAMED_ROWS = 256
"""Rows that `stream` turns into Python objects at a time."""
_MODULUS = 2**256


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a table: rows, bytes on disk, digest of its bytes, content of its rows, counts."""

    file: str
    rows: int
    bytes: int
    digest: str
    content: str
    counts: Counts = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What an artifact is, where it came from and what it holds; the last file written."""

    stage: str
    kind: str
    type: str
    request: str
    content: str
    inputs: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """slot -> [{name, type, content, artifact}]; artifact is a directory name of this store or empty."""
    tables: dict[str, list[Shard]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Relative path -> digest of every file that is no table (weights, pages, curves)."""
    counts: Counts = field(default_factory=dict)
    rows_in: int = 0
    rows_kept: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    """The stage's results as JSON: scores, curves, chosen thresholds. Part of the content."""
    declared: dict[str, Any] = field(default_factory=dict)
    """The stage as the recipe declared it."""
    telemetry: dict[str, Any] = field(default_factory=dict)
    """Seconds, tokens, host, library versions, git commit: differs from run to run, outside the content."""
    format: int = FORMAT

    @property
    def rejected(self) -> dict[str, int]:
        """Reject reason -> rows."""
        return self.counts.get("rejected", {})


class Artifact:
    """A sealed directory and its manifest."""

    def __init__(self, path: Path, manifest: Manifest, stage: str = "") -> None:
        self.path = path
        self.manifest = manifest
        self.stage = stage or manifest.stage
        """Name of the stage in the recipe at hand; the artifact may have been built under another."""

    @property
    def content(self) -> str:
        return self.manifest.content

    @property
    def type(self) -> str:
        return self.manifest.type

    def shards(self, table: str = "rows") -> int:
        """Number of shards of a table; 0 where the artifact has no such table."""
        return len(self.manifest.tables.get(table, []))

    def count(self, table: str = "rows") -> int:
        """Rows of a table."""
        return sum(shard.rows for shard in self.manifest.tables.get(table, []))

    def read(self, shard: int, table: str = "rows", columns: Sequence[str] | None = None) -> "pa.Table":
        """One shard as an Arrow table, its bytes checked against the manifest.

        Raises:
            StageError: the file is missing, or its bytes are not those that were sealed.
        """
        import pyarrow.parquet as pq

        # not read_table, which imports pyarrow.dataset and pandas: half a second per process
        return pq.ParquetFile(self.checked(shard, table)).read(columns=columns)

    def stream(self, shard: int, table: str = "rows", columns: Sequence[str] | None = None) -> Iterator[Row]:
        """The rows of one shard by ascending id, a row group in memory at a time; raises what `read` raises."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.checked(shard, table)) as file:
            for batch in file.iter_batches(STREAMED_ROWS, columns=columns):
                yield from batch.to_pylist()

    def checked(self, shard: int, table: str) -> Path:
        """A shard's file whose bytes are those that were sealed."""
        entry = self.manifest.tables[table][shard]
        file = self.path / entry.file
        try:
            same = file_digest(file) == entry.digest
        except MissingError:
            raise self.corrupt(entry.file, "is missing") from None
        if not same:
            raise self.corrupt(entry.file, "has other bytes than were sealed")
        return file

    def schema(self, table: str = "rows") -> "pa.Schema":
        """Schema of a table; without columns where it has no shard. Raises StageError for a damaged one."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for entry in self.manifest.tables.get(table, [])[:1]:
            try:
                return pq.read_schema(self.path / entry.file)
            except (pa.ArrowException, OSError, ValueError):
                raise self.corrupt(entry.file, "has other bytes than were sealed") from None
        return pa.schema([])

    def rows(self, table: str = "rows", columns: Sequence[str] | None = None) -> Iterator[Row]:
        """All rows of a table, shard by shard, sorted by id within each."""
        for shard in range(self.shards(table)):
            yield from self.read(shard, table, columns).to_pylist()

    def corrupt(self, what: str, how: str) -> StageError:
        """The error for damaged contents, with the command that repairs them."""
        return StageError(
            f"{self.path / what}: {how}: artifact of stage {self.stage} is corrupt; "
            f"remove it (rm -r {self.path}) and run again"
        )


@dataclass(frozen=True)
class Model:
    """Weights ready to load: `path` is a local folder, or a Hub repository at commit `revision`."""

    name: str
    path: str
    content: str
    revision: str | None = None


def content_of(rows: Sequence[Row]) -> str:
    """64 hex digits over a set of rows, in any order and any sharding; `telemetry` is left out.

    The sum mod 2^256 of the rows' digests: adding a shard adds its sum, so that one changed row costs one
    shard and no global sort.
    """
    total = 0
    for row in rows:
        body = canonical({key: value for key, value in row.items() if key != "telemetry"})
        total += int.from_bytes(hashlib.blake2b(body, digest_size=32).digest(), "big")
    return f"{total % _MODULUS:064x}"


def state_of(rows: Iterable[Row]) -> bytes:
    """16 bytes over everything that some rows say, in their order, `telemetry` aside.

    Several times as fast as `content_of`, for telling whether rows are as they were; it names no content.
    """
    state = xxh3_128()
    for row in rows:
        for name in sorted(row):
            if name != "telemetry":
                value = row[name]
                data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else canonical(value)
                state.update(f"{name}:{type(value).__name__}:{len(data)}:".encode())
                state.update(data)
    return state.digest()


def add_contents(contents: Sequence[str]) -> str:
    """Content of the union of disjoint row sets."""
    return f"{sum(int(content, 16) for content in contents) % _MODULUS:064x}"


def problem_in(row_id: str) -> str:
    """Id of the problem that a row belongs to: what a trace's id begins with, all of a problem's."""
    return row_id.split("/", 1)[0]


def shard_of(row_id: str, shards: int) -> int:
    """Shard of a row: all traces of a problem are together."""
    problem = problem_in(row_id).encode()
    return int.from_bytes(hashlib.blake2b(problem, digest_size=8).digest(), "big") % shards


CHECKPOINTS = "checkpoints"
"""Folder of a training's artifact with weights of earlier steps, each under its number."""


def weights_content(folder: Path) -> str:
    """Content of a model folder: safetensors and tokenizer by bytes, configs as canonical JSON.

    Library versions and `_name_or_path` do not count: the same weights saved elsewhere are the same weights.
    """
    parts = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".jinja", ".model", ".txt") or path.name == "tokenizer.json":
            parts[path.name] = file_digest(path)
        elif path.name in (
            "config.json",
            "generation_config.json",
            "tokenizer_config.json",
            "adapter_config.json",
        ):
            config = json.loads(path.read_text("utf-8"))
            parts[path.name] = digest({k: v for k, v in config.items() if k not in _UNSTABLE_KEYS})
    return digest(parts)


_UNSTABLE_KEYS = frozenset(
    {
        "_name_or_path",
        "base_model_name_or_path",
        "is_local",
        "local_files_only",
        "name_or_path",
        "transformers_version",
    }
)


def load_manifest(path: Path) -> Manifest:
    """The manifest in a file; raises ValueError for one of a later format."""
    data = json.loads(path.read_text("utf-8"))
    if data["format"] > FORMAT:
        raise ValueError(f"{path}: written by a later version")
    data["tables"] = {name: [Shard(**shard) for shard in shards] for name, shards in data["tables"].items()}
    return Manifest(**data)
