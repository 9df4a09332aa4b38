"""Labels are made once: of a shard as it was, and of a problem as it was where the shard has others, too."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pytest

from distillkit.artifact import Artifact, Manifest, Row
from distillkit.executor import Processes
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.labeler import Given, Labeler
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

SHARDS = 3
asked: list[str] = []


class Counting(Labeler):
    """Labels each trace by its length plus what is given, and tells which it was asked about."""

    BATCH: ClassVar[int] = 100
    name: str = "counting"
    kind: Literal["counting"] = "counting"
    more: int = 0
    slow: bool = False

    def label_schema(self) -> pa.Schema:
        return pa.schema([("id", pa.string()), ("length", pa.int64())])

    def given(self, job: Job) -> Given:
        return Given(self.more, self.more)

    def label(self, traces: list[Trace], given: Any) -> list[Row]:
        asked.extend(trace.id for trace in traces)
        return [{"length": len(trace.completion) + given} for trace in traces]

    def counts(self, labels: list[Row]) -> dict[str, dict[str, int]]:
        return {"seen": {"rows": len(labels)}}

    def lasting(self, labels: list[Row]) -> bool:
        return not self.slow


def trace(problem: int, index: int = 0, text: str = "") -> Trace:
    completion = text or "c" * (problem + 1)
    message = {"role": "user", "content": f"q{problem}"}
    return Trace(f"{problem:04x}", [message], completion, "", completion, index=index, origin="o")


def seal(store: Store, traces: list[Trace], stage: str = "own") -> Artifact:
    request = digest([[each.id, each.completion] for each in traces])
    with store.building("text", request, print) as writer:
        write_shards(Job(store, writer, {}, shards=SHARDS), [to_row(t) for t in traces], trace_schema())
        return store.seal(writer, Manifest(stage, "sample", "traces", request, ""))


def label(store: Store, text: Artifact, stage: Labeler, **options: Any) -> dict[str, int]:
    request = digest([text.content, identity(stage), len(list(store.artifacts.iterdir()))])
    with store.building("labels", request, print) as writer:
        end = Input(text.stage, "traces", text.content, text.path.name)
        stage.run(Job(store, writer, {"input": [end]}, shards=SHARDS, **options))
        made = store.seal(writer, Manifest(stage.name, stage.kind, "labels", request, ""))
    assert made.manifest.counts["seen"] == {"rows": text.count()}
    return {row["id"]: row["length"] for row in made.rows()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    asked.clear()
    return Store(tmp_path)


def test_a_shard_as_it_was_is_taken_as_it_was(store: Store) -> None:
    text = seal(store, [trace(i) for i in range(30)])
    first = label(store, text, Counting())
    assert len(asked) == 30
    assert label(store, text, Counting()) == first
    assert len(asked) == 30


def test_rows_that_were_added_are_the_only_ones_to_be_labelled(store: Store) -> None:
    traces = [trace(i) for i in range(60)]
    label(store, seal(store, traces[:50]), Counting())
    asked.clear()
    more = label(store, seal(store, traces), Counting())
    assert sorted(asked) == sorted(each.id for each in traces[50:])
    assert more == {each.id: len(each.completion) for each in traces}


def test_a_problem_is_labelled_anew_where_a_trace_of_it_is_new_or_other(store: Store) -> None:
    label(store, seal(store, [trace(1), trace(2), trace(3)]), Counting())
    asked.clear()
    found = label(store, seal(store, [trace(1), trace(1, 1), trace(2, text="other"), trace(3)]), Counting())
    assert sorted(asked) == [trace(1).id, trace(1, 1).id, trace(2).id]
    assert found[trace(2).id] == len("other")


def test_rows_that_are_gone_leave_no_label(store: Store) -> None:
    label(store, seal(store, [trace(i) for i in range(20)]), Counting())
    asked.clear()
    assert len(label(store, seal(store, [trace(i) for i in range(0, 20, 2)]), Counting())) == 10
    assert not asked


def test_what_is_given_decides(store: Store) -> None:
    text = seal(store, [trace(1)])
    assert list(label(store, text, Counting()).values()) == [2]
    assert list(label(store, text, Counting(more=5)).values()) == [7]


def test_labels_of_a_loaded_machine_are_made_again(store: Store) -> None:
    text = seal(store, [trace(1)])
    label(store, text, Counting(slow=True))
    label(store, text, Counting(slow=True))
    assert len(asked) == 2


def test_damaged_labels_are_made_again(store: Store) -> None:
    traces = [trace(i) for i in range(30)]
    label(store, seal(store, traces[:20]), Counting())
    for file in (store.root / "labels").rglob("*.parquet"):
        file.write_bytes(b"nothing")
    asked.clear()
    assert len(label(store, seal(store, traces), Counting())) == 30
    assert len(asked) == 30


def test_workers_make_the_same(store: Store) -> None:
    text = seal(store, [trace(i) for i in range(30)])
    assert label(store, text, Counting(more=1), executor=Processes(2)) == {
        each.id: len(each.completion) + 1 for each in [trace(i) for i in range(30)]
    }
