"""Artifacts: sealed directories, found by what was asked for and known by what they hold.

`request` names an intent (a stage's identity over its inputs' contents); `content` names the rows or weights
that came out. Downstream keys on content, so that a stage rebuilt with equal output rebuilds nothing after it.
A directory becomes an artifact by one rename, after its `manifest.json` was written last: a kill at any
moment leaves either a whole artifact or work that the next run continues.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.errors import MissingError, StageError
from distillkit.spec import canonical, digest, file_digest

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
Counts = dict[str, dict[str, int]]
"""group -> name -> n, e.g. {"rejected": {"wrong": 12}}"""

MANIFEST = "manifest.json"
FORMAT = 1
ROW_GROUP_BYTES = 100 * 2**20
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

        entry = self.manifest.tables[table][shard]
        try:
            data = (self.path / entry.file).read_bytes()
        except OSError:
            raise self.corrupt(entry.file, "is missing") from None
        if hashlib.blake2b(data, digest_size=32).hexdigest() != entry.digest:
            raise self.corrupt(entry.file, "has other bytes than were sealed")
        # not read_table, which imports pyarrow.dataset and pandas: half a second per process
        return pq.ParquetFile(io.BytesIO(data)).read(columns=columns)

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


def add_contents(contents: Sequence[str]) -> str:
    """Content of the union of disjoint row sets."""
    return f"{sum(int(content, 16) for content in contents) % _MODULUS:064x}"


def shard_of(row_id: str, shards: int) -> int:
    """Shard of a row: all traces of a problem are together (a trace id begins with its problem's id)."""
    problem = row_id.split("/", 1)[0]
    return int.from_bytes(hashlib.blake2b(problem.encode(), digest_size=8).digest(), "big") % shards


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


class Writer:
    """The work directory of one artifact: shards appear whole or not at all, and survive a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counts = {}
        self.rows_in = 0
        self.rows_kept: int | None = None
        self.summary: dict[str, Any] = {}
        self.telemetry: dict[str, Any] = {}
        self.salt: dict[str, Any] = {}
        """Further JSON that is part of the content (contents of the texts a selection points to)."""
        path.mkdir(parents=True, exist_ok=True)

    def has(self, shard: int, table: str = "rows") -> bool:
        """Whether an earlier, interrupted run wrote this shard."""
        return self._file(shard, table).exists()

    def write(
        self,
        shard: int,
        rows: Sequence[Row],
        schema: "pa.Schema",
        table: str = "rows",
        counts: Counts | None = None,
    ) -> Shard:
        """Write one shard, sorted by id: zstd, content-defined chunks, the same bytes for the same rows.

        Raises:
            StageError: two rows share an id.
            MissingError: the disk is full.
        """
        import pyarrow as pa

        ordered = sorted(rows, key=lambda row: row["id"])
        for first, second in pairwise(ordered):
            if first["id"] == second["id"]:
                raise StageError(f"{table}: two rows have the id {first['id']}")
        names = schema.names
        body = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in ordered], schema)
        content = content_of(body.to_pylist())
        found = dict(counts or {})
        if "domain" in names:
            found["domain"] = dict(Counter(row["domain"] for row in ordered))
        body = body.replace_schema_metadata(
            {"distillkit.content": content, "distillkit.counts": canonical(found)}
        )
        file = self._file(shard, table)
        write_parquet(body, file)
        return self._entry(file)

    def link(self, shard: int, source: Path, table: str = "rows") -> None:
        """Take a shard that was made before (a label cache) instead of writing it again."""
        file = self._file(shard, table)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part")
        temporary.unlink(missing_ok=True)
        link_or_copy(source, temporary)
        temporary.replace(file)

    def add_text(self, name: str, text: str) -> Path:
        """Write a small file of the artifact (a card, a curve) atomically."""
        path = self.path / name
        write_text(path, text)
        return path

    def tables(self) -> dict[str, list[Shard]]:
        """Every shard written so far, by table."""
        folder = self.path / "tables"
        names = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
        return {name: [self._entry(p) for p in sorted((folder / name).glob("*.parquet"))] for name in names}

    def files(self) -> dict[str, str]:
        """Digest of every file that is no table shard and no leftover of the work (names starting with a dot)."""
        return {
            str(path.relative_to(self.path)): file_digest(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
            and path.relative_to(self.path).parts[0] not in ("tables", MANIFEST)
            and not _scratch(path, self.path)
        }

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints and logs: kept while the work lasts, not part of the artifact."""
        folder = self.path / ".scratch"
        folder.mkdir(exist_ok=True)
        return folder

    def _file(self, shard: int, table: str) -> Path:
        return self.path / "tables" / table / f"{shard:05d}.parquet"

    def _entry(self, file: Path) -> Shard:
        import pyarrow.parquet as pq

        metadata = pq.read_metadata(file)
        extra = metadata.metadata
        return Shard(
            file=str(file.relative_to(self.path)),
            rows=metadata.num_rows,
            bytes=file.stat().st_size,
            digest=file_digest(file),
            content=extra[b"distillkit.content"].decode(),
            counts=json.loads(extra[b"distillkit.counts"]),
        )


def _scratch(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


class Store:
    """A folder of artifacts, runs and work in progress; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.work = root / "work"
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            self.work.mkdir(exist_ok=True)
        except OSError as error:
            raise MissingError(
                f"{root}: cannot make the store there ({error.strerror}); give --store DIR"
            ) from None

    def find(self, kind: str, request: str) -> Artifact | None:
        """The artifact of a request, or None where it was never built."""
        path = self.artifacts / directory_name(kind, request)
        return self.open(path.name) if (path / MANIFEST).exists() else None

    def open(self, name: str, stage: str = "") -> Artifact:
        """An artifact by its directory name; its files' presence and sizes are checked here, bytes on reading.

        `stage` is the name that it goes by in the recipe at hand.

        Raises:
            StageError: the manifest cannot be read, is of a later format, or a file is missing or cut short.
        """
        path = self.artifacts / name
        try:
            artifact = Artifact(path, load_manifest(path / MANIFEST), stage)
        except (OSError, ValueError, TypeError, KeyError):
            raise StageError(
                f"{path}: manifest cannot be read: the artifact is corrupt; remove it (rm -r {path}) and run again"
            ) from None
        for shards in artifact.manifest.tables.values():
            for shard in shards:
                file = path / shard.file
                if not file.exists() or file.stat().st_size != shard.bytes:
                    raise artifact.corrupt(shard.file, "is missing or cut short")
        for file_name in artifact.manifest.files:
            if not (path / file_name).exists():
                raise artifact.corrupt(file_name, "is missing")
        return artifact

    def all(self) -> list[Artifact]:
        """Every sealed artifact that can be opened, by directory name."""
        return [self.open(p.name) for p in sorted(self.artifacts.iterdir()) if (p / MANIFEST).exists()]

    @contextmanager
    def building(self, kind: str, request: str, on_wait: Callable[[str], None]) -> Iterator[Writer]:
        """Exclusive use of the work directory of a request; `on_wait` is told the owner when another run has it."""
        name = directory_name(kind, request)
        with locked(self.work / f"{name}.lock", on_wait):
            yield Writer(self.work / name)

    def seal(self, writer: Writer, draft: Manifest) -> Artifact:
        """Complete the manifest from what was written, and make the work directory an artifact by one rename."""
        tables = writer.tables()
        files = writer.files()
        counts = merge_counts(
            [writer.counts, *(shard.counts for shards in tables.values() for shard in shards)]
        )
        kept = (
            writer.rows_kept if writer.rows_kept is not None else sum(s.rows for s in tables.get("rows", []))
        )
        sums = {name: add_contents([shard.content for shard in shards]) for name, shards in tables.items()}
        weights = writer.path / "model"
        named = {k: v for k, v in files.items() if not k.startswith("model/")}
        content = digest(
            {
                "tables": sums,
                "files": named,
                "weights": weights_content(weights) if weights.exists() else None,
                "summary": writer.summary,
                "salt": writer.salt,
            }
        )
        manifest = replace(
            draft,
            content=content,
            tables=tables,
            files=files,
            counts=counts,
            rows_in=writer.rows_in,
            rows_kept=kept,
            summary=writer.summary,
            telemetry={**draft.telemetry, **writer.telemetry},
        )
        shutil.rmtree(writer.path / ".scratch", ignore_errors=True)
        write_text(writer.path / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True))
        final = self.artifacts / writer.path.name
        if final.exists():  # its manifest is missing, else `find` had returned it
            shutil.rmtree(final)
        writer.path.rename(final)
        sync_folder(self.artifacts)
        return Artifact(final, manifest)


def load_manifest(path: Path) -> Manifest:
    """The manifest in a file; raises ValueError for one of a later format."""
    data = json.loads(path.read_text("utf-8"))
    if data["format"] > FORMAT:
        raise ValueError(f"{path}: written by a later version")
    data["tables"] = {name: [Shard(**shard) for shard in shards] for name, shards in data["tables"].items()}
    return Manifest(**data)


def directory_name(kind: str, request: str) -> str:
    """`<kind>-<16 hex digits of the request>`: the digits decide, the kind is for people."""
    return f"{kind}-{request[:16]}"


def merge_counts(parts: Sequence[Counts]) -> Counts:
    """Sum of counts, group by group."""
    total: Counts = {}
    for part in parts:
        for group, names in part.items():
            for name, n in names.items():
                total.setdefault(group, {})[name] = total.get(group, {}).get(name, 0) + n
    return total


@contextmanager
def locked(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold an advisory lock on `path`; the kernel frees it when the process dies, however it dies."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            on_wait(file.read().strip() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def write_parquet(table: "pa.Table", path: Path) -> None:
    """Write a Parquet file durably: temporary name, fsync, rename."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    per_row = max(1, table.nbytes // max(1, table.num_rows))
    with _durable(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            row_group_size=max(1, ROW_GROUP_BYTES // per_row),
            use_content_defined_chunking=True,
        )


def write_text(path: Path, text: str) -> None:
    """Write a text file durably: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _durable(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def _durable(path: Path) -> Iterator[Path]:
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from None


def disk_error(path: Path, error: OSError) -> Exception:
    """MissingError for a full disk, the error itself for anything else."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free / 2**20
        return MissingError(
            f"{path.parent}: no disk space left ({free:.0f} MiB free); free some (distillkit gc) or give --store DIR; "
            "finished shards are safe"
        )
    return error


def link_or_copy(source: Path, target: Path) -> None:
    """Hard link, or copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync_folder(path: Path) -> None:
    """Make a rename in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
