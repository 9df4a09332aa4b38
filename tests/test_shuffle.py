"""The shuffle: every row once, in the order of its key, whatever the order it came in and whoever was killed."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit import shuffle
from distillkit.artifact import shard_of
from distillkit.shuffle import Shuffled, Spill, facts_of

KEYS = st.text(alphabet="abcdef0/ é", min_size=1, max_size=12)
ROWS = st.lists(
    st.tuples(KEYS, st.dictionaries(st.text(max_size=5), st.text(max_size=50), max_size=3)), max_size=60
)


def body(row: object) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def spilled(folder: Path, parts: list[list[tuple[str, dict[str, str]]]], shards: int) -> list[Shuffled]:
    for number, rows in enumerate(parts):
        spill = Spill(folder, number, shards)
        for key, row in rows:
            spill.add(key, body(row))
        spill.seal({"rows": len(rows)})
    return [Shuffled(folder, len(parts), shard) for shard in range(shards)]


class TestShuffled:
    @settings(max_examples=40)
    @given(ROWS, st.integers(1, 5), st.integers(1, 3), st.integers(1, 400))
    def test_every_row_once_by_ascending_key(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list, shards: int, parts: int, buffer: int
    ) -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(shuffle, "BUFFER_BYTES", buffer)
        found = spilled(tmp_path_factory.mktemp("s"), [rows[at::parts] for at in range(parts)], shards)
        patch.undo()
        out = [[*each.rows()] for each in found]
        for shard, read in enumerate(out):
            keys = [key for key, _ in read]
            assert [key.encode() for key in keys] == sorted(key.encode() for key in keys)
            assert keys == found[shard].keys() and all(shard_of(key, shards) == shard for key in keys)
        count = Counter((key, body(row)) for read in out for key, row in read)
        assert count == Counter((key, body(row)) for key, row in rows)

    def test_a_choice_takes_places_of_the_keys(self, tmp_path: Path) -> None:
        [found] = spilled(tmp_path, [[(f"k{n}", {"n": str(n)}) for n in range(9)]], 1)
        assert [row["n"] for _, row in found.rows({2, 5})] == ["2", "5"]

    def test_a_part_without_rows_is_a_part(self, tmp_path: Path) -> None:
        [found] = spilled(tmp_path, [[], [("a", {})]], 1)
        assert found.keys() == ["a"] and facts_of(tmp_path, 0) == {"rows": 0}

    def test_removing_leaves_no_bytes(self, tmp_path: Path) -> None:
        first, second = spilled(tmp_path, [[(f"k{n}", {"n": "x"}) for n in range(9)]], 2)
        assert first.keys() and second.keys()
        first.remove()
        assert not Shuffled(tmp_path, 1, 0).keys() and len(Shuffled(tmp_path, 1, 1).keys()) == len(
            second.keys()
        )


class TestSpill:
    def test_what_was_not_sealed_is_not_there(self, tmp_path: Path) -> None:
        killed = Spill(tmp_path, 0, 1)
        killed.add("a", body({"from": "the killed one"}))
        killed._flush()
        assert facts_of(tmp_path, 0) is None
        [found] = spilled(tmp_path, [[("b", {})]], 1)
        assert found.keys() == ["b"]

    def test_memory_is_bounded_by_the_buffer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shuffle, "BUFFER_BYTES", 1000)
        spill = Spill(tmp_path, 0, 3)
        for n in range(500):
            spill.add(f"k{n}", body({"n": n}))
            assert sum(map(len, spill._buffers)) < 1000 + 100
        spill.seal({})
        assert sum(len(Shuffled(tmp_path, 1, shard).keys()) for shard in range(3)) == 500
