import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from distillkit.artifact import Artifact, Manifest
from distillkit.errors import StageError
from distillkit.reader import View, look_up
from distillkit.spec import digest
from distillkit.stages.base import Input, Job, write_shards
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

TEXT, SHARDS = pa.string(), 3


def traces(count: int = 12) -> list[Trace]:
    return [
        Trace(
            f"{i // 2:x}",
            [{"role": "user", "content": f"q{i // 2}"}],
            f"c{i}",
            "",
            f"c{i}",
            index=i % 2,
            origin="o",
        )
        for i in range(count)
    ]


def seal(
    store: Store, stage: str, type_: str, rows: list[dict[str, Any]], schema: pa.Schema, **inputs: Any
) -> Artifact:
    request = digest([stage, len(rows), sorted(inputs)])
    with store.building(stage, request, print) as writer:
        write_shards(Job(store, writer, {}, shards=inputs.pop("shards", SHARDS)), rows, schema)
        writer.rows_kept = sum(1 for row in rows if row.get("kept", True))
        return store.seal(writer, Manifest(stage, stage, type_, request, "", inputs=inputs))


def end(artifact: Artifact) -> dict[str, str]:
    return {"name": artifact.stage, "artifact": artifact.path.name}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def text(store: Store) -> Artifact:
    return seal(store, "own", "traces", [to_row(t) for t in traces()], trace_schema())


def labels(store: Store, stage: str, column: str, values: list[Any], **more: Any) -> Artifact:
    rows = [{"id": t.id, column: v} for t, v in zip(traces(), values, strict=True)]
    return seal(
        store, stage, "labels", rows, pa.table({"id": [""], column: pa.array(values[:1])}).schema, **more
    )


def test_text_and_labels_are_joined_by_id(store: Store, text: Artifact) -> None:
    judged = labels(store, "judged", "score", [float(i) for i in range(12)])
    rows = list(View([text], [judged]).rows())
    assert len(rows) == 12
    assert all(
        row["completion"] == f"c{row['score']:.0f}" and row["judged.score"] == row["score"] for row in rows
    )


def test_a_column_of_two_stages_has_no_bare_name(store: Store, text: Artifact) -> None:
    view = View(
        [text], [labels(store, "first", "score", [0.0] * 12), labels(store, "second", "score", [1.0] * 12)]
    )
    row = next(iter(view.rows()))
    assert "score" not in row and (row["first.score"], row["second.score"]) == (0.0, 1.0)
    assert set(view.fields) == {"first.score", "second.score"}


def test_a_label_named_like_a_column_of_the_text_leaves_it_alone(store: Store, text: Artifact) -> None:
    row = next(iter(View([text], [labels(store, "guessed", "model", ["another"] * 12)]).rows()))
    assert (row["model"], row["guessed.model"]) == ("", "another")


def test_json_labels_are_parsed_and_looked_up(store: Store, text: Artifact) -> None:
    measures = labels(
        store, "measured", "measures", [json.dumps({"language": {"share": i / 11}}) for i in range(12)]
    )
    row = next(iter(View([text], [measures]).rows()))
    assert look_up(row, "measures.language.share") == row["measures"]["language"]["share"]
    assert look_up(row, "measured.measures.language.share") == row["measures"]["language"]["share"]
    assert look_up(row, "measures.nothing.share") is None
    assert look_up(row, "nothing") is None


def test_a_selection_narrows_and_brings_its_labels(store: Store, text: Artifact) -> None:
    judged = labels(store, "judged", "score", [1.0] * 12)
    later = labels(store, "later", "grade", ["a"] * 12)
    rows = [{"id": t.id, "kept": t.index == 0, "reason": None if t.index == 0 else "wrong"} for t in traces()]
    schema = pa.schema([("id", TEXT), ("kept", pa.bool_()), ("reason", TEXT)])
    kept = seal(store, "kept", "selection", rows, schema, input=[end(text)], labels=[end(judged)])
    view = View.of(store, kept, [later])
    found = list(view.rows())
    assert view.count == len(found) == 6
    assert all(row["index"] == 0 and row["score"] == 1.0 and row["grade"] == "a" for row in found)
    assert "score" not in next(iter(view.rows(labels=False)))


def test_a_label_of_a_row_that_was_not_labelled_is_null(store: Store, text: Artifact) -> None:
    rows = [{"id": t.id, "score": 1.0} for t in traces()[:4]]
    part = seal(store, "part", "labels", rows, pa.schema([("id", TEXT), ("score", pa.float64())]))
    scores = [row["score"] for row in View([text], [part]).rows()]
    assert scores.count(None) == 8 and scores.count(1.0) == 4


def test_shards_that_do_not_match_are_refused(store: Store, text: Artifact) -> None:
    with pytest.raises(StageError, match="has 2 shards, its text 3"):
        list(View([text], [labels(store, "judged", "score", [1.0] * 12, shards=2)]).rows())


def test_the_name_in_the_recipe_at_hand_wins(store: Store, text: Artifact) -> None:
    judged = labels(store, "judged", "score", [1.0] * 12)
    job = Job(
        store,
        None,
        {
            "input": [Input("own", "traces", "", text.path.name)],
            "labels": [Input("marks", "labels", "", judged.path.name)],
        },
    )  # type: ignore[arg-type]
    assert "marks.score" in next(iter(job.view().rows()))
