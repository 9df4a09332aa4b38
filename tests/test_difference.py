"""Rows are matched by id, whatever part they are in; equal parts are not opened."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distillkit.difference import ABSENT, KEPT, Part, Sums, Version, compare, grids

Rows = list[dict[str, Any]]


def part(rows: Rows, digest: str = "") -> Part:
    return Part(digest or repr(rows), len(rows), lambda: iter(rows))


def version(name: str, *parts: Rows, dropped: dict[str, str] | None = None) -> Version:
    every = [row for rows in parts for row in rows]
    return Version(name, [part(rows) for rows in parts], lambda: Sums.over(every), lambda: dropped or {})


def row(id: str, text: str = "t", **more: Any) -> dict[str, Any]:
    return {"id": id, "text": text, "domain": "math", "completion_tokens": 10} | more


def unreadable() -> Iterator[dict[str, Any]]:
    raise AssertionError("an equal part was opened")


def test_what_changed_is_told_by_its_columns_and_telemetry_is_no_change() -> None:
    before = version("a", [row("1"), row("2"), row("3", telemetry={"host": "x"})])
    after = version(
        "b", [row("2", "u", new=1), row("3", telemetry={"host": "y"}), row("4", completion_tokens=5)]
    )
    found = compare(before, after)
    assert (found.added, found.removed, found.changed, found.same) == (["4"], ["1"], ["2"], 1)
    assert found.columns == {"text": 1, "new": 1}
    assert [each.tokens for each in found.sums] == [30, 25]
    assert found.moved == Counter({(KEPT, ABSENT): 1, (ABSENT, KEPT): 1})


def test_an_equal_part_is_not_opened() -> None:
    equal = Part("same", 2, unreadable)
    found = compare(Version("a", [equal], Sums), Version("b", [part([row("9")]), equal], Sums))
    assert found.same == 2 and found.added == ["9"] and found.parts_same == 1


def test_a_fate_moves_between_reasons() -> None:
    before = version("a", [row("1"), row("2")], dropped={"3": "wrong", "4": "long", "5": "long"})
    after = version("b", [row("1"), row("4")], dropped={"3": "wrong", "2": "mixed", "5": "mixed"})
    assert compare(before, after).moved == Counter(
        {(KEPT, "mixed"): 1, ("long", KEPT): 1, ("long", "mixed"): 1}
    )


def test_where_one_version_tells_no_drops_only_rows_that_came_or_went_are_told() -> None:
    before = version("a", [row("1"), row("2")], dropped={"3": "wrong", "4": "long"})
    after = version("b", [row("1"), row("4")])
    assert compare(before, after).moved == Counter({("long", KEPT): 1, (KEPT, ABSENT): 1})
    assert compare(after, before).moved == Counter({(KEPT, "long"): 1, (ABSENT, KEPT): 1})


ids = st.dictionaries(st.integers(0, 30).map(str), st.sampled_from("xyz"), max_size=20)


@given(ids, ids, st.integers(1, 4), st.integers(1, 4))
def test_counts_add_up_however_rows_are_parted(
    old: dict[str, str], new: dict[str, str], a: int, b: int
) -> None:
    def parted(name: str, texts: dict[str, str], parts: int) -> Version:
        rows = [row(id, text) for id, text in sorted(texts.items())]
        return version(name, *(rows[start::parts] for start in range(parts)))

    found = compare(parted("a", old, a), parted("b", new, b))
    assert found.added == sorted(new.keys() - old.keys())
    assert found.removed == sorted(old.keys() - new.keys())
    assert found.changed == sorted(id for id in old.keys() & new.keys() if old[id] != new[id])
    assert found.same + len(found.changed) + len(found.added) == len(new) == found.sums[1].rows


def test_a_column_of_one_kind_is_no_change_and_tokens_that_nobody_counted_are_no_zero() -> None:
    before = version("a", [{"id": "1", "text": "t"}, {"id": "2", "text": "t"}])
    after = version("b", [{"id": "1", "text": "t", "score": 1.0}, {"id": "2", "text": "u", "score": 1.0}])
    assert len(compare(before, after).changed) == 2
    found = compare(before, after, shared_columns=True)
    assert (found.same, found.changed, found.columns) == (1, ["2"], Counter({"text": 1}))
    told = found.as_json()
    assert told["before"]["tokens"] is None
    assert ["tokens", "not counted", "not counted", ""] in grids(told)[0].rows
