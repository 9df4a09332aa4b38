"""What each row stage makes of the same rows, held as digests: equal declarations have to mean equal rows.

A stage's result is looked up by its declaration and its VERSION. So a change of code that changes rows under an
unchanged VERSION would take stale artifacts for fresh ones, here and in every store there is. After an intended
change and a raised VERSION: `DISTILLKIT_WRITE_GOLDENS=1 pytest tests/test_goldens.py`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import DATA
from pydantic import TypeAdapter

from distillkit.artifact import Artifact, Manifest
from distillkit.spec import Strict, digest
from distillkit.stages import AnyStage
from distillkit.stages.base import LABELS, TRACES, Input, Job, write_shards
from distillkit.store import Store
from distillkit.text import split_think
from distillkit.trace import Trace, problem_id, to_row, trace_schema
from distillkit.verifiers import KINDS

GOLDENS = DATA / "goldens.json"
WRITE = "DISTILLKIT_WRITE_GOLDENS"
SHARDS = 3

RULES = [
    {"field": "finish_reason", "is_not": "length", "reason": "truncated"},
    {"field": "score", "min": 1.0, "reason": "wrong"},
    {"field": "measures.language.share", "min": 0.9, "reason": "mixed_language"},
    {"preset": "r1_readable"},
]
STAGES: dict[str, dict[str, Any]] = {
    "problems/toy": {"kind": "problems", "toy": "chain", "limit": 20},
    "problems/file": {"kind": "problems", "file": str(DATA / "traces.jsonl")},
    "preferences/toy": {"kind": "preferences", "toy": "harmless", "limit": 20},
    "verify/exact": {"kind": "verify"},
    "verify/math": {"kind": "verify"},
    "measure/language": {"kind": "measure", "measures": [{"kind": "language"}]},
    "measure/readability": {"kind": "measure", "measures": [{"kind": "readability"}]},
    "measure/repetition": {"kind": "measure", "measures": [{"kind": "repetition"}]},
    "measure/length": {"kind": "measure", "measures": [{"kind": "length"}]},
    "measure/reflection": {"kind": "measure", "measures": [{"kind": "reflection"}]},
    "dedup": {"kind": "dedup", "on": "completion", "threshold": 0.8},
    "filter": {"kind": "filter", "rules": RULES},
    "select/random": {"kind": "select", "unique": True, "per_problem": 1, "pass_rate": [0.0, 1.0]},
    "select/shortest": {"kind": "select", "per_problem": 1, "prefer": "shortest", "limit": 9},
    "select/diverse": {"kind": "select", "per_problem": 2, "prefer": "diverse"},
}
"""Name -> declaration; one per component that can change for itself."""


def traces() -> Iterator[Trace]:
    for index, line in enumerate((DATA / "traces.jsonl").read_text("utf-8").splitlines()):
        row = json.loads(line)
        messages = [{"role": "user", "content": row["prompt"]}]
        reasoning, response = split_think(row["completion"])
        yield Trace(
            problem_id(messages, row["reference"]), messages, row["completion"], reasoning, response,
            reference=row["reference"], finish_reason=row["finish_reason"], language=row.get("language"),
            index=index, origin="golden", seed=index, completion_tokens=len(row["completion"]),
        )  # fmt: skip


class World:
    """A store with the rows, and what the label stages said of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.building("traces", digest("traces"), print) as out:
            write_shards(Job(store, out, {}, shards=SHARDS), [to_row(t) for t in traces()], trace_schema())
            self.text = _input(store.seal(out, Manifest("traces", "traces", TRACES, "", "")))
        self.labels: list[Input] = []
        """Labels that filter and select read; each is also a golden of its own."""

    def make(self, name: str) -> tuple[AnyStage, Artifact]:
        """Run a stage over the rows and the labels so far."""
        stage: AnyStage = TypeAdapter(AnyStage).validate_python({"name": "golden", **STAGES[name]})
        judge = {"math": KINDS[name.partition("/")[2]]()} if stage.JUDGES else {}
        inputs = {"input": [self.text], "labels": self.labels if stage.MAKES != LABELS else []}
        with self.store.building(stage.kind, digest(name), print) as out:
            stage.run(Job(self.store, out, inputs, seed=7, shards=SHARDS, verifiers=judge))
            made = self.store.seal(out, Manifest(name, stage.kind, stage.MAKES, digest(name), ""))
        return stage, made


def _input(artifact: Artifact) -> Input:
    return Input(artifact.stage, artifact.type, artifact.content, artifact=artifact.path.name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(Store(tmp_path_factory.mktemp("goldens") / "store"))
    whole = {"kind": "measure"}
    for name in ("verify/math", "dedup"):
        world.labels.append(_input(world.make(name)[1]))
    with world.store.building("measure", digest("all"), print) as out:
        stage: AnyStage = TypeAdapter(AnyStage).validate_python({"name": "golden", **whole})
        stage.run(Job(world.store, out, {"input": [world.text]}, shards=SHARDS))
        world.labels.append(_input(world.store.seal(out, Manifest("measure", "measure", LABELS, "", ""))))
    return world


def versions(name: str, stage: AnyStage) -> dict[str, int]:
    """Class -> VERSION of what decides the rows: the stage, and what it declares or is judged by."""
    parts: list[Strict] = [stage]
    if stage.kind == "measure":
        parts += stage.measures
    if stage.kind == "filter":
        parts += stage.rules
    if stage.JUDGES:
        parts.append(KINDS[name.partition("/")[2]]())
    return {type(each).__name__: type(each).VERSION for each in parts}


@pytest.mark.parametrize("name", STAGES)
def test_the_rows_are_those_of_their_version(name: str, world: World) -> None:
    stage, made = world.make(name)
    found = {"versions": versions(name, stage), "content": made.content}
    if os.environ.get(WRITE):
        _write(name, found)
    golden = json.loads(GOLDENS.read_text("utf-8")).get(name)
    rewrite = f"then write it down: {WRITE}=1 pytest tests/test_goldens.py"
    assert golden is not None, f"{name} has no golden digest; {rewrite}"
    same_rows, same_versions = golden["content"] == found["content"], golden["versions"] == found["versions"]
    classes = " or ".join(found["versions"])
    assert same_rows or not same_versions, (
        f"{name} makes other rows than its VERSION stands for: mend the code, or, if the change is meant, raise "
        f"VERSION of {classes}, {rewrite}"
    )
    assert same_versions, (
        f"VERSION of {classes} was changed ({golden['versions']} -> {found['versions']}); {rewrite}"
    )


def _write(name: str, found: dict[str, Any]) -> None:
    known = json.loads(GOLDENS.read_text("utf-8")) if GOLDENS.exists() else {}
    ordered = {each: (known | {name: found})[each] for each in STAGES if each in known | {name: found}}
    GOLDENS.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")


def test_every_golden_is_of_a_stage_that_is_tested() -> None:
    assert list(json.loads(GOLDENS.read_text("utf-8"))) == list(STAGES)


def test_the_rows_are_worth_a_golden(world: World) -> None:
    """The fixture tells the stages apart: a digest over rows that are all alike would hold nothing."""
    reasons = {row["reason"] for row in world.store.open(world.labels[0].artifact).rows()}
    assert {"correct", "wrong", "no_answer", "truncated", "unparseable_gold"} <= reasons
    clusters = [row["duplicate"] for row in world.store.open(world.labels[1].artifact).rows()]
    assert 3 <= sum(clusters) < len(clusters) / 2
    for name in ("filter", "select/random", "select/diverse"):
        kept = [row["kept"] for row in world.make(name)[1].rows()]
        assert 5 < sum(kept) < len(kept) - 5


def test_the_order_of_the_rows_and_their_shards_change_nothing(tmp_path: Path, world: World) -> None:
    other = World(Store(tmp_path / "store"))
    assert other.text.content == world.text.content
    assert other.make("dedup")[1].content == json.loads(GOLDENS.read_text("utf-8"))["dedup"]["content"]
