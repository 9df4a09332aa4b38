import errno
from pathlib import Path

import pytest

from distillkit.durable import disk_error, link_or_copy, write_text
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
