import weakref
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distillkit import shard as module
from distillkit.artifact import content_of
from distillkit.errors import StageError
from distillkit.shard import is_intact, read_entry
from distillkit.store import Writer
from distillkit.trace import Trace, to_row, trace_schema

SCHEMA = pa.schema(
    [("id", pa.string()), ("domain", pa.string()), ("text", pa.string()), ("telemetry", pa.string())]
)


def rows(n, text="some text "):
    return [
        {"id": f"{i:06d}", "domain": "math" if i % 3 else "code", "text": text * (i % 7), "telemetry": f"{i}"}
        for i in range(n)
    ]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "work")


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(module, "GROUP_CHARACTERS", 1000)
    monkeypatch.setattr(module, "GROUP_ROWS", 30)


@pytest.mark.parametrize("n", [0, 1, 500])
def test_a_stream_is_what_write_makes(writer, small_groups, n):
    streamed = writer.stream(0, iter(rows(n)), SCHEMA, counts={"rejected": {"wrong": 2}})
    written = writer.write(1, rows(n)[::-1], SCHEMA, counts={"rejected": {"wrong": 2}})
    assert (streamed.digest, streamed.content, streamed.rows) == (written.digest, written.content, n)
    assert streamed.content == content_of(rows(n))
    expected = {"code": len(range(0, n, 3)), "math": n - len(range(0, n, 3))}
    assert streamed.counts == {"rejected": {"wrong": 2}, "domain": {k: v for k, v in expected.items() if v}}
    file = writer.path / streamed.file
    assert pq.ParquetFile(file).read().to_pylist() == rows(n)
    assert pq.ParquetFile(file).schema_arrow.equals(SCHEMA)
    assert is_intact(file) and read_entry(file, streamed.file) == streamed


def test_row_groups_are_bounded_in_text_and_in_rows(writer, small_groups):
    made = writer.stream(0, iter(rows(300)), SCHEMA)
    file = pq.ParquetFile(writer.path / made.file)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sum(sizes) == 300 and max(sizes) <= 30 and len(sizes) > 10
    empty = writer.stream(1, iter(rows(300, text="")), SCHEMA)
    file = pq.ParquetFile(writer.path / empty.file)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [30] * 10


def test_a_row_larger_than_a_group_is_a_group_of_its_own(writer, small_groups):
    given = rows(3)
    given[1]["text"] = "x" * 200_000
    made = writer.stream(0, iter(given), SCHEMA)
    assert pq.ParquetFile(writer.path / made.file).num_row_groups == 2
    assert pq.ParquetFile(writer.path / made.file).read().to_pylist() == given


class Living(dict):
    """A row that can be counted while it lives."""

    __hash__ = object.__hash__


def test_no_more_rows_live_than_a_group_holds(writer, small_groups):
    living, most = weakref.WeakSet(), 0

    def made():
        nonlocal most
        for row in rows(2000):
            living.add(each := Living(row))
            most = max(most, len(living))
            yield each

    writer.stream(0, made(), SCHEMA)
    assert 1 < most <= 32


def test_traces_are_streamed(writer):
    traces = [
        Trace(f"p{i}", [{"role": "user", "content": "1 + 1"}], "c", "", "c", extra={"a": [i]})
        for i in range(5)
    ]
    made = writer.stream(0, (to_row(trace) for trace in traces), trace_schema())
    assert made.content == content_of([to_row(trace) for trace in traces])
    assert is_intact(writer.path / made.file)


def test_counts_may_grow_while_rows_are_made(writer):
    counts: dict[str, dict[str, int]] = {}

    def made():
        for row in rows(9):
            counts.setdefault("kept", {"n": 0})["n"] += 1
            yield row

    assert writer.stream(0, made(), SCHEMA, counts=counts).counts["kept"] == {"n": 9}
    assert set(counts) == {"kept"}


def test_a_repeated_or_descending_id_is_refused_and_leaves_nothing(writer):
    with pytest.raises(StageError, match="rows: two rows have the id 000001"):
        writer.stream(0, iter([*rows(2), rows(2)[1]]), SCHEMA)
    with pytest.raises(ValueError, match="rows: row 000000 comes behind 000001"):
        writer.stream(0, iter([*rows(2), rows(1)[0]]), SCHEMA)
    assert not writer.has(0)
    assert [path for path in writer.path.rglob("*") if path.is_file()] == []


def test_a_stream_that_fails_leaves_nothing(writer, small_groups):
    def broken():
        yield from rows(100)
        raise StageError("no more")

    with pytest.raises(StageError, match="no more"):
        writer.stream(0, broken(), SCHEMA)
    assert [path for path in writer.path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("at", [0.01, 0.3, 0.6, 0.99])
def test_a_damaged_shard_is_not_intact(writer, small_groups, at):
    file = writer.path / writer.stream(0, iter(rows(300)), SCHEMA).file
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 255
    file.write_bytes(data)
    assert not is_intact(file)


def test_a_file_without_our_footer_is_not_intact(tmp_path):
    pq.write_table(pa.Table.from_pylist(rows(3)), tmp_path / "x.parquet")
    assert not is_intact(tmp_path / "x.parquet")
    assert not is_intact(tmp_path / "absent.parquet")
