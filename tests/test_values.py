"""Values by column are those that whole rows give, and damaged bytes are noticed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from distillkit import values
from distillkit.artifact import Artifact, Manifest
from distillkit.errors import StageError
from distillkit.reader import View, look_up
from distillkit.spec import digest
from distillkit.stages.base import Job, write_shards
from distillkit.stages.selection import decided, selection_schema
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema
from distillkit.values import values_of

SHARDS = 3
TEXT = pa.string()
FIELDS = [
    "domain",
    "score",
    "judged.score",
    "measures.language.share",
    "again.measures.language",
    "extra.hard",
    "nil",
]


def traces(origin: str = "o", count: int = 30) -> list[Trace]:
    ask = [{"role": "user", "content": "?"}]
    return [
        Trace(
            f"{n // 2:016x}",
            ask,
            f"text {n} " * 50,
            "",
            "",
            origin=origin,
            index=n % 2,
            domain="ab"[n % 2],
            extra={"hard": n},
        )
        for n in range(count)
    ]


def seal(
    store: Store, stage: str, type_: str, rows: list[dict[str, Any]], schema: pa.Schema, **inputs: Any
) -> Artifact:
    with store.building(type_, digest([stage, type_]), print) as out:
        write_shards(Job(store, out, {}, shards=SHARDS), rows, schema)
        return store.seal(out, Manifest(stage, type_, type_, "", "", inputs=inputs))


@pytest.fixture
def view(tmp_path: Path) -> View:
    """A text of two labels, one of which says nothing of some rows."""
    store = Store(tmp_path)
    text = seal(store, "own", "traces", [to_row(each) for each in traces()], trace_schema())
    scores = [{"id": each.id, "score": n / 7} for n, each in enumerate(traces()) if n % 3]
    measures = [
        {"id": each.id, "measures": json.dumps({"language": {"share": n}}) if n % 5 else None}
        for n, each in enumerate(traces())
    ]
    judged = seal(store, "judged", "labels", scores, pa.schema([("id", TEXT), ("score", pa.float64())]))
    schema = pa.schema([("id", TEXT), ("measures", TEXT)])
    return View([text], [judged, seal(store, "again", "labels", measures, schema)])


@pytest.mark.parametrize("chosen", [False, True])
def test_the_same_as_by_rows(view: View, chosen: bool, tmp_path: Path) -> None:
    if chosen:
        rows = [decided(each.id, ["x"] if n % 4 else [], 3) for n, each in enumerate(traces())]
        view = View(
            view.texts, view.labels, seal(Store(tmp_path), "kept", "selection", rows, selection_schema())
        )
    for shard in range(SHARDS):
        rows = view.shard(shard)
        found = values_of(view, shard, FIELDS)
        assert found["id"] == [row["id"] for row in rows]
        assert found["copies"] == [3 if chosen else 1] * len(rows)
        for field in FIELDS:
            assert found[field] == [look_up(row, field) for row in rows], field


def test_a_row_of_two_texts_is_there_once(view: View, tmp_path: Path) -> None:
    other = [to_row(each) for each in traces(count=36)]
    more = seal(
        Store(tmp_path), "more", "traces", [row | {"domain": "late"} for row in other], trace_schema()
    )
    both = View([*view.texts, more], view.labels)
    found = [values_of(both, shard, ["domain"]) for shard in range(SHARDS)]
    domains = {id: domain for each in found for id, domain in zip(each["id"], each["domain"], strict=True)}
    assert sum(len(each["id"]) for each in found) == len(domains) == 36
    assert sum(domain == "late" for domain in domains.values()) == 6, "the first text counts"
    assert [len(both.shard(shard)) for shard in range(SHARDS)] == [len(each["id"]) for each in found]


def test_other_bytes_than_were_sealed_are_noticed(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "SMALL_BYTES", 0)  # else the whole file is checked
    [text] = view.texts
    path = text.path / text.manifest.tables["rows"][0].file
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    noticed = 0
    for at in range(4, footer, 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        try:
            found = values_of(view, 0, ["domain", "extra.hard"])
        except StageError as error:
            assert "is corrupt" in str(error)
            noticed += 1
            continue
        path.write_bytes(data)
        assert found == values_of(view, 0, ["domain", "extra.hard"]), f"byte {at} changed a value unnoticed"
    assert noticed


def test_a_missing_file_is_said(view: View) -> None:
    [text] = view.texts
    (text.path / text.manifest.tables["rows"][0].file).unlink()
    with pytest.raises(StageError, match="is corrupt"):
        values_of(view, 0, ["domain"])


def test_labels_of_other_shards_are_refused(view: View, tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = [{"id": each.id, "grade": "a"} for each in traces()]
    with store.building("labels", digest("odd"), print) as out:
        write_shards(Job(store, out, {}, shards=2), rows, pa.schema([("id", TEXT), ("grade", TEXT)]))
        odd = store.seal(out, Manifest("odd", "odd", "labels", "", ""))
    with pytest.raises(StageError, match="odd: has 2 shards, its text 3"):
        values_of(View(view.texts, [odd]), 0, ["grade"])
