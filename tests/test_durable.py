import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distillkit.durable import disk_error, link_or_copy, parquet_writer, write_parquet, write_text
from distillkit.errors import MissingError


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "below" / "note.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [each.name for each in path.parent.iterdir()] == ["note.txt"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "one"


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    full = disk_error(tmp_path / "x", OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, MissingError) and "no disk space left" in str(full)
    other = OSError(errno.EACCES, "Permission denied")
    assert disk_error(tmp_path / "x", other) is other


def test_a_link_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    link_or_copy(tmp_path / "a", tmp_path / "below" / "b")
    assert (tmp_path / "a").samefile(tmp_path / "below" / "b")


def test_parquet_is_whole_or_not_there(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"id": str(i), "text": "x" * i} for i in range(100)])
    path = tmp_path / "below" / "rows.parquet"
    write_parquet(table, path)
    whole = path.read_bytes()
    with pytest.raises(KeyError), parquet_writer(path, table.schema) as writer:
        writer.write_table(table)
        raise KeyError
    assert path.read_bytes() == whole
    assert [each.name for each in path.parent.iterdir()] == ["rows.parquet"]
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table.slice(0, 50))
        writer.write_table(table.slice(50))
    assert pq.ParquetFile(path).num_row_groups == 2
    assert pq.ParquetFile(path).read().equals(table)


def test_parquet_on_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.Table.from_pylist([{"id": "a"}])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("distillkit.durable.os.fsync", full)
    with pytest.raises(MissingError, match="no disk space left"):
        write_parquet(table, tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []
