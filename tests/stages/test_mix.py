"""Mixing: how many rows of each input, how often, and that every reader honours it."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import distillkit
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest
from distillkit.errors import StageError
from distillkit.reader import View
from distillkit.show.fate import fates
from distillkit.spec import identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.filter import Filter
from distillkit.stages.mix import Mix, choose
from distillkit.stages.select import Select
from distillkit.stages.sft import traces_of
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

SHARDS = 3


def traces(name: str, count: int) -> list[Trace]:
    """Traces of an input: those of different names share no id."""
    ask = [{"role": "user", "content": name}]
    return [
        Trace(
            f"{name}{n:08x}",
            ask,
            f"{name} {n}",
            "",
            f"{name} {n}",
            origin=name,
            source=name,
            completion_tokens=n,
        )
        for n in range(count)
    ]


class World:
    """A store with inputs, and stages that run over them."""

    def __init__(self, root: Path, **inputs: list[Trace]) -> None:
        self.store = Store(root / "store")
        self.inputs = {name: self.text(name, rows) for name, rows in inputs.items()}

    def text(self, name: str, rows: list[Trace], shards: int = SHARDS) -> Input:
        with self.store.building("traces", f"{len(self.store.all()):016x}", print) as out:
            write_shards(
                Job(self.store, out, {}, shards=shards), [to_row(each) for each in rows], trace_schema()
            )
            return reference(self.store.seal(out, Manifest(name, "traces", "traces", "", "")))

    def run(self, stage: Any, seed: int = 0, **inputs: list[Input]) -> Artifact:
        with self.store.building(stage.kind, f"{len(self.store.all()):016x}", print) as out:
            stage.run(Job(self.store, out, inputs, seed=seed, shards=SHARDS))
            named = {
                slot: [
                    {"name": e.name, "type": e.type, "content": e.content, "artifact": e.artifact}
                    for e in ends
                ]
                for slot, ends in inputs.items()
            }
            return self.store.seal(out, Manifest(stage.name, stage.kind, "selection", "", "", inputs=named))

    def mix(self, inputs: Any, seed: int = 0, **fields: Any) -> Artifact:
        return self.run(
            Mix(name="pool", inputs=inputs, **fields),
            seed,
            inputs=[replace(self.inputs[n], name=n) for n in inputs],
        )


def reference(artifact: Artifact) -> Input:
    return Input(artifact.stage, artifact.type, artifact.content, artifact=artifact.path.name)


def copies(artifact: Artifact) -> Counter[str]:
    """Input -> rows that a trainer sees."""
    found: Counter[str] = Counter()
    for row in artifact.rows():
        assert row["kept"] == (row["copies"] > 0) == (row["reason"] is None)
        found[row["input"]] += row["copies"]
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, own=traces("own", 60), chat=traces("chat", 20))


def test_a_list_takes_all_of_each(world: World) -> None:
    found = world.mix(["own", "chat"])
    assert copies(found) == {"own": 60, "chat": 20}
    assert (found.manifest.rows_in, found.manifest.rows_kept, found.manifest.rejected) == (80, 80, {})


def test_numbers_of_rows(world: World) -> None:
    found = world.mix({"own": 15, "chat": "all"})
    assert copies(found) == {"own": 15, "chat": 20}
    assert found.manifest.rejected == {"over_share": 45}
    assert found.manifest.counts["rows"] == {"own": 15, "chat": 20}


def test_shares_of_a_size(world: World) -> None:
    assert copies(world.mix({"own": 0.7, "chat": 0.3}, size=50)) == {"own": 35, "chat": 15}


def test_shares_without_a_size_take_what_the_scarcest_allows(world: World) -> None:
    assert copies(world.mix({"own": 0.6, "chat": 0.4})) == {"own": 30, "chat": 20}
    assert copies(world.mix({"own": 0.5, "chat": 0.5}, max_copies=3)) == {"own": 60, "chat": 60}


def test_too_few_rows_are_an_error_unless_copies_are_declared(world: World) -> None:
    says = r"stages.pool: 50 rows are asked of chat, which has 20; ask for fewer, or give max_copies: 3"
    with pytest.raises(StageError, match=says):
        world.mix({"own": 0.5, "chat": 0.5}, size=100)
    found = world.mix({"own": 0.5, "chat": 0.5}, size=100, max_copies=3)
    assert copies(found) == {"own": 50, "chat": 50}
    assert Counter(row["copies"] for row in found.rows() if row["input"] == "chat") == {2: 10, 3: 10}


def test_the_reader_says_how_often(world: World) -> None:
    view = View.of(world.store, world.mix({"own": 10, "chat": 50}, max_copies=3))
    rows = list(view.rows())
    assert view.count == len(rows) == 30
    assert sum(row["copies"] for row in rows) == 60
    assert {row["source"] for row in rows} == {"own", "chat"}
    assert all(row["completion"].startswith(row["source"]) for row in rows)


def test_a_student_sees_each_row_as_often(world: World) -> None:
    mixed = world.mix({"own": 10, "chat": 50}, max_copies=3)
    with world.store.building("sft", "0" * 16, print) as out:
        seen = Counter(each.id for each in traces_of(Job(world.store, out, {"input": [reference(mixed)]})))
    assert seen == {row["id"]: row["copies"] for row in mixed.rows() if row["kept"]}


def test_what_comes_behind_keeps_the_copies(world: World) -> None:
    mixed = world.mix({"own": 10, "chat": 50}, max_copies=3)
    rule = {"field": "source", "is": "chat", "reason": "own"}
    only = world.run(Filter(name="only", rules=[rule]), input=[reference(mixed)])
    assert sum(row["copies"] for row in only.rows()) == 50
    few = world.run(Select(name="few", limit=5), input=[reference(only)])
    taken = {row["id"]: row["copies"] for row in few.rows() if row["kept"]}
    before = {row["id"]: row["copies"] for row in mixed.rows()}
    assert len(taken) == 5 and all(before[id] == n for id, n in taken.items())


def test_a_mix_of_mixes_is_one(world: World) -> None:
    first = world.mix({"own": 10, "chat": 40}, max_copies=2)
    world.inputs["first"] = reference(first)
    world.inputs["more"] = world.text("more", traces("more", 30))
    found = world.mix({"first": 100, "more": 30}, max_copies=2)
    assert copies(found) == {"first": 100, "more": 30}
    assert Counter(row["copies"] for row in found.rows()) == {4: 20, 2: 10, 1: 30}


def test_a_selection_narrows_its_part(world: World) -> None:
    rule = {"field": "completion_tokens", "max": 4, "reason": "long"}
    short = world.run(Filter(name="short", rules=[rule]), input=[world.inputs["own"]])
    world.inputs["short"] = reference(short)
    assert copies(world.mix(["short", "chat"])) == {"short": 5, "chat": 20}


def test_what_one_input_dropped_may_stay_by_another(world: World) -> None:
    rule = {"field": "completion_tokens", "max": 4, "reason": "long"}
    short = world.run(Filter(name="short", rules=[rule]), input=[world.inputs["own"]])
    world.inputs["short"] = reference(short)
    assert set(fates(world.store, world.mix(["own", "short"])).values()) == {None}
    assert sum(fate is None for fate in fates(world.store, short).values()) == 5


def test_a_row_of_two_inputs_counts_for_the_first(world: World) -> None:
    world.inputs["again"] = world.text("again", traces("own", 70))
    found = world.mix(["own", "again"])
    assert copies(found) == {"own": 60, "again": 10}
    assert len(list(View.of(world.store, found).rows())) == 70


def test_the_seed_decides_and_more_contain_the_fewer(world: World) -> None:
    few, more, other = world.mix({"own": 10}, 1), world.mix({"own": 20}, 1), world.mix({"own": 10}, 2)
    ids = [{row["id"] for row in each.rows() if row["kept"]} for each in (few, more, other)]
    assert ids[0] < ids[1] and ids[0] != ids[2]
    assert world.mix({"own": 10}, 1).content == few.content


def test_inputs_of_other_shards_are_refused(world: World) -> None:
    world.inputs["odd"] = world.text("odd", traces("odd", 5), shards=2)
    with pytest.raises(
        StageError, match=r"stages.pool: own has 3 shards, odd has 2 shards; run all with one"
    ):
        world.mix(["own", "odd"])


def test_an_empty_input_is_said(world: World) -> None:
    world.inputs["none"] = world.text("none", [])
    with pytest.raises(StageError, match=r"3 rows are asked of none, which has 0; ask for fewer$"):
        world.mix({"own": 5, "none": 3})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inputs": {}}, "at least 1"),
        ({"inputs": {"a": 0.7, "b": 3}}, "give shares"),
        ({"inputs": {"a": 0.7, "b": "all"}}, "give shares"),
        ({"inputs": {"a": 0.7, "b": 0.2}}, "add up to 0.9"),
        ({"inputs": {"a": 0}}, "greater than"),
        ({"inputs": {"a": -0.5}}, "greater than"),
        ({"inputs": {"a": 5}, "size": 5}, "size: says"),
        ({"inputs": ["a"], "max_copies": 0}, "greater than or equal to 1"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Mix(name="pool", **fields)


def test_shares_and_names_are_identity() -> None:
    one, two = Mix(name="a", inputs={"x": 1, "y": 2}), Mix(name="b", inputs={"x": 2, "y": 1})
    assert identity(one) != identity(two)
    assert identity(one) == identity(Mix(name="b", inputs={"x": 1, "y": 2}))


RECIPE = """
name: mixed
seed: 3
shards: 2
stages:
  - {name: own, kind: traces, file: own.jsonl}
  - {name: chat, kind: traces, file: chat.jsonl, domain: chat}
  - {name: pool, kind: mix, inputs: {own: 0.5, chat: 0.5}, max_copies: 3}
  - {name: measured, kind: measure, measures: [{kind: length}]}
  - {name: kept, kind: filter, rules: [{field: measures.length.words, min: 1, reason: empty}]}
  - {name: chosen, kind: select, limit: 1000}
  - {name: dataset, kind: publish, repository: mixed, version: 1.0.0}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "mixed.yaml").write_text(RECIPE, "utf-8")
    thoughts = [{"prompt": f"{n} + 1?", "completion": f"<think>one more</think> {n + 1}"} for n in range(40)]
    hellos = [{"prompt": f"hello {n}", "completion": f"Hello, friend {n}!"} for n in range(10)]
    for name, rows in (("own", thoughts), ("chat", hellos)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    answer = distillkit("run", folder / "mixed.yaml", "--store", folder / "store")
    assert answer.code == 0, answer.err
    assert "pool: rows that a trainer sees: chat 30, own 30." in answer.out
    return folder


def test_a_recipe_reads_over_a_mix(ran: Path) -> None:
    answer = distillkit("check", ran / "mixed.yaml", "--json")
    wires = {each["name"]: each["wires"] for each in json.loads(answer.out)["stages"]}
    assert wires["pool"] == {"inputs": ["own", "chat"]}
    assert wires["kept"] == {"input": ["pool"], "labels": ["measured"]}


def test_a_plan_knows_the_rows(ran: Path, tmp_path: Path) -> None:
    sized = ["--set", "stages.pool.size=50", "--store", tmp_path / "store", "--json"]
    stages = json.loads(distillkit("plan", ran / "mixed.yaml", *sized).out)["stages"]
    assert {each["name"]: each["rows"] for each in stages}["kept"] == 50


def test_what_is_published_says_how_often(ran: Path) -> None:
    [folder] = (ran / "store" / "runs" / "mixed" / "1" / "artifacts" / "dataset").glob("mixed-*")
    rows = [row for file in (folder / "data").iterdir() for row in pq.read_table(file).to_pylist()]
    assert Counter((row["domain"], row["copies"]) for row in rows) == {("math", 1): 30, ("chat", 3): 10}


def test_a_smoke_run_takes_what_there_is(ran: Path, tmp_path: Path) -> None:
    counts = ["--set", "stages.pool.inputs={own: 1000, chat: all}", "--limit", "4"]
    answer = distillkit("run", ran / "mixed.yaml", *counts, "--store", tmp_path / "store", "--until", "pool")
    assert answer.code == 0, answer.err


@given(st.integers(1, 30), st.integers(0, 90), st.integers(0, 5))
def test_a_draw_is_as_even_as_can_be(there: int, size: int, seed: int) -> None:
    found = Counter(choose([f"{n}#0" for n in range(there)], size, seed))
    assert found.total() == size
    assert set(found.values()) <= {size // there, size // there + 1}
