"""The store: a folder of artifacts, runs and work in progress, and the writer of what is in progress.

A directory becomes an artifact by one rename, after its `manifest.json` was written last: a kill at any
moment leaves either a whole artifact or work that the next run continues.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import (
    CHECKPOINTS,
    MANIFEST,
    Artifact,
    Counts,
    Manifest,
    Row,
    Shard,
    add_contents,
    load_manifest,
    weights_content,
)
from distillkit.durable import link_or_copy, locked, sync_folder, write_text
from distillkit.errors import MissingError, StageError
from distillkit.shard import is_intact, read_entry, write_shard
from distillkit.spec import digest, file_digest

if TYPE_CHECKING:
    import pyarrow as pa


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
        """Write one shard of rows in any order; what `stream` says of it holds."""
        return self.stream(shard, sorted(rows, key=lambda row: row["id"]), schema, table, counts)

    def stream(
        self,
        shard: int,
        rows: Iterable[Row],
        schema: "pa.Schema",
        table: str = "rows",
        counts: Counts | None = None,
    ) -> Shard:
        """Write one shard of rows that come by ascending id: zstd, the same bytes for the same rows.

        No more than a row group is in memory at a time. `counts` is read behind the last row, so that it may grow
        while they are made.

        Raises:
            StageError: two rows share an id.
            ValueError: an id that is smaller than the one before it.
            MissingError: the disk is full.
        """
        file = self._file(shard, table)
        write_shard(file, rows, schema, table, {} if counts is None else counts)
        return self._entry(file)

    def link(self, shard: int, source: Path, table: str = "rows") -> bool:
        """Take a shard that was made before (a label cache) instead of writing it again.

        A damaged one is removed instead, and False returned: sealing it would make the damage good.
        """
        if not is_intact(source):
            source.unlink(missing_ok=True)
            return False
        file = self._file(shard, table)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part")
        temporary.unlink(missing_ok=True)
        link_or_copy(source, temporary)
        temporary.replace(file)
        return True

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
        return read_entry(file, str(file.relative_to(self.path)))


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
        earlier = {each.name: each for each in (writer.path / CHECKPOINTS).glob("*")}
        named = {k: v for k, v in files.items() if not k.startswith(("model/", f"{CHECKPOINTS}/"))}
        content = digest(
            {
                "tables": sums,
                "files": named,
                "weights": weights_content(weights) if weights.exists() else None,
                "summary": writer.summary,
                "salt": writer.salt,
                **(
                    {CHECKPOINTS: {s: weights_content(each) for s, each in earlier.items()}}
                    if earlier
                    else {}
                ),
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
