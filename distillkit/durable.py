"""Files that are whole or not there: temporary name, fsync, rename; and locks that die with their process."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from distillkit.errors import MissingError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_BYTES = 100 * 2**20


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


@contextmanager
def parquet_writer(path: Path, schema: "pa.Schema") -> Iterator["pq.ParquetWriter"]:
    """Write a Parquet file durably, row group by row group: temporary name, fsync, rename.

    zstd, and content-defined chunks (equal runs of rows are equal bytes, whatever stands before them).
    """
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _durable(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_content_defined_chunking=True,
            write_page_checksum=True,  # what reads single columns checks those
        ) as writer,
    ):
        yield writer


def write_parquet(table: "pa.Table", path: Path) -> None:
    """Write a whole table as a Parquet file, durably."""
    per_row = max(1, table.nbytes // max(1, table.num_rows))
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table, max(1, ROW_GROUP_BYTES // per_row))


def write_text(path: Path, text: str) -> None:
    """Write a text file durably: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _durable(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def shared(path: Path) -> Iterator[Path]:
    """A place to write a file of a cache, which others may write at the same time: the last one stays, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{token_hex(8)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _durable(path: Path) -> Iterator[Path]:
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


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
