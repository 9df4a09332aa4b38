import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from distillkit import toy
from distillkit.artifact import Artifact, Manifest, content_of
from distillkit.errors import MissingError, RecipeError
from distillkit.executor import Processes
from distillkit.measures import Measure
from distillkit.stages.base import LABELS, TRACES, WEIGHTS, Input, Job, write_shards
from distillkit.stages.measure import MeasureStage
from distillkit.store import Store, Writer
from distillkit.trace import Trace, to_row, trace_schema

TEXTS = [
    "8 + 2 = 0 so 0 - 2 = 8 所以 8 + 8 = 6",
    "8 + 2 = 0 so 0 - 2 = 8",
    "",
    "lone surrogates \ud800 and \x00 controls",
    "Wait, let me check. " * 20,
]
GOLDEN = {
    "language": (2, "26988e0baa9d50b246329a07744d32c34bcef4de72f9ee5ddbe79e3ff4f64e75"),
    "readability": (2, "f5d58fd97a80f66e2b5bb9f1aa92df4c532b0d186d691d4d55253241ab81cd06"),
    "repetition": (2, "a2cc0e7d6a49e1b654a546cb5e95118b8ff460e6d5400af2ca3c682cee1290ac"),
    "length": (2, "729e0cab18da94895216dad44bf76d4aa2bcc3a2c77d291f3d36fa6df6a1442d"),
    "reflection": (2, "42a6215867ca84216c234ebdb7f62e486f2821be22493754285d52547961d4c7"),
    "structure": (1, "a84be04f836abc1fc852faf5a6a36670850f399d064616b3f41c23d0227657dc"),
}
"""Kind -> VERSION and content of its labels of TEXTS."""


def traces() -> list[Trace]:
    return [
        Trace(f"p{i}", [{"role": "user", "content": "q"}], text, reasoning="", response=text, origin="o")
        for i, text in enumerate(TEXTS)
    ]


def run(store: Store, stage: MeasureStage, rows: list[Trace], workers: int = 1) -> Artifact:
    """The stage's labels over a sealed text of 4 shards."""
    with store.building("traces", "a" * 16, print) as writer:
        write_shards(Job(store, writer, {}, shards=4), [to_row(row) for row in rows], trace_schema())
        text = store.seal(writer, Manifest("own", "sample", TRACES, "a" * 16, ""))
    inputs = {"input": [Input("own", TRACES, text.content, artifact=text.path.name)]}
    with store.building("measure", "b" * 16, print) as writer:
        job = Job(store, writer, inputs, shards=4)
        job.executor = Processes(workers) if workers > 1 else job.executor
        stage.run(job)
        return store.seal(writer, Manifest(stage.name, stage.kind, LABELS, "b" * 16, ""))


def test_each_trace_gets_every_declared_key(tmp_path: Path) -> None:
    stage = MeasureStage(name="measured")
    rows = [row for row in traces() if "\ud800" not in row.completion]
    made = run(Store(tmp_path), stage, rows)
    found = {row["id"]: json.loads(row["measures"]) for row in made.rows()}
    assert found.keys() == {row.id for row in rows}
    fields = {f"measures.{kind}.{key}" for kind, labels in found["p0/o/0"].items() for key in labels}
    assert fields == set(stage.fields())
    assert found["p0/o/0"]["language"]["share"] == round(1 / 3, 4)
    assert found["p1/o/0"]["language"]["mixed"] is False
    assert found["p4/o/0"]["repetition"]["tail_loop"] == len(TEXTS[4].rstrip())


def test_labels_of_odd_text_can_be_written() -> None:
    labels = MeasureStage(name="m").label(traces(), None)
    for label in labels:
        json.loads(label["measures"].encode("utf-8"))


@pytest.mark.parametrize("measure", MeasureStage(name="m").measures, ids=lambda measure: measure.kind)
def test_changed_labels_need_a_new_version(measure: Measure) -> None:
    rows = [Trace("p", [], text, "", text, index=i) for i, text in enumerate(TEXTS)]
    labels = [{"id": row.id, "labels": measure.measure(row)} for row in rows]
    assert GOLDEN[measure.kind] == (measure.VERSION, content_of(labels)), "raise the VERSION of what changed"


def test_only_the_declared_measures_are_taken(tmp_path: Path) -> None:
    stage = MeasureStage.model_validate({"name": "m", "measures": [{"kind": "repetition", "n": 2}]})
    [label] = stage.label([traces()[1]], None)
    assert set(json.loads(label["measures"])) == {"repetition"}
    assert all(field.startswith("measures.repetition.") for field in stage.fields())


def test_a_kind_stands_once() -> None:
    with pytest.raises(ValidationError, match="length stands there twice"):
        MeasureStage.model_validate({"name": "m", "measures": [{"kind": "length"}, {"kind": "length"}]})
    with pytest.raises(ValidationError):
        MeasureStage.model_validate({"name": "m", "measures": []})


def test_processes_make_the_same_labels(tmp_path: Path) -> None:
    stage = MeasureStage.model_validate(
        {"name": "m", "measures": [{"kind": "length"}, {"kind": "reflection"}]}
    )
    rows = [row for row in traces() if "\ud800" not in row.completion]
    alone = run(Store(tmp_path / "a"), stage, rows)
    pooled = run(Store(tmp_path / "b"), stage, rows, workers=2)
    assert alone.content == pooled.content


OWN = """
def measure(row):
    if "crash" in row["text"]:
        raise ValueError("no")
    return {"n": len(row["text"])}

def other(row):
    return {"m": row["index"]}
"""


def own(folder: Path, **change: object) -> MeasureStage:
    (folder / "own.py").write_text(OWN)
    mine = {"kind": "python", "file": str(folder / "own.py"), "name": "mine", "keys": ["n"]}
    theirs = {**mine, "name": "theirs", "function": "other", "keys": ["m"]}
    return MeasureStage.model_validate(
        {"name": "m", "measures": [{"kind": "length"}, mine, {**theirs, **change}]}
    )


def test_measures_of_the_users_own(tmp_path: Path) -> None:
    stage = own(tmp_path)
    assert stage.fields()[-2:] == ["measures.mine.n", "measures.theirs.m"]
    rows = [Trace("p", [], text, "", text, index=i) for i, text in enumerate(["one", "crash", "three"])]
    made = run(Store(tmp_path / "store"), stage, rows, workers=2)
    found = {row["id"]: json.loads(row["measures"]) for row in made.rows()}
    assert [found[row.id]["mine"]["n"] for row in rows] == [3, None, 5]
    assert [found[row.id]["theirs"]["m"] for row in rows] == [0, 1, 2]
    assert made.manifest.counts == {"failed": {"mine": 1}}


def test_code_of_the_users_own_is_told_and_tried(tmp_path: Path) -> None:
    stage = own(tmp_path)
    stage.check(tmp_path)
    assert stage.foreign() == [f"runs {name}() of {tmp_path}/own.py" for name in ("measure", "other")]
    stage.probe(Trace("p", [], "one", "", "one"))
    with pytest.raises(RecipeError, match=r"own\.py: measure\(\) failed on p//0: ValueError: no"):
        stage.probe(Trace("p", [], "crash", "", "crash"))
    with pytest.raises(RecipeError, match="defines no function 'nothing'"):
        own(tmp_path, function="nothing").check(tmp_path)
    assert MeasureStage(name="m").foreign() == []


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("mine", "length"):
        with pytest.raises(ValidationError, match=f"{name} stands there twice"):
            own(tmp_path, name=name)


def test_tokens_by_the_tokenizer_of_a_model(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stage = MeasureStage.model_validate(
        {"name": "m", "measures": [{"kind": "length"}], "tokenizer": "toy:base"}
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((toy.BASE / "tokenizer.json").read_bytes())
    job = Job(
        store, Writer(store.work / "x"), {"tokenizer": [Input("toy:base", WEIGHTS, "c", path=str(toy.BASE))]}
    )
    moved = Job(
        store, Writer(store.work / "x"), {"tokenizer": [Input("./elsewhere", WEIGHTS, "d", path=str(folder))]}
    )
    assert stage.given(job).key == stage.given(moved).key
    assert MeasureStage(name="m").given(job).value is None
    [label] = stage.label([traces()[1]], stage.given(job).value)
    assert json.loads(label["measures"])["length"]["tokens"] == 11
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingError, match=r"elsewhere.*no tokenizer\.json"):
        stage.given(moved)
