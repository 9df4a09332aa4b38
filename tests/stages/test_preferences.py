"""Pairs from every layout in use, from the toy world, and from two models' answers; what is no pair has its reason."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.recipe import load
from distillkit.spec import digest
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.pairing import PairColumns, said
from distillkit.stages.preferences import Preferences
from distillkit.stages.verify import Verify
from distillkit.store import Store
from distillkit.toy.chat import is_rude
from distillkit.trace import Pair, Trace, pair_of, to_row, trace_schema
from distillkit.verifiers.exact import Exact
from distillkit.wiring import resolve

SHARDS = 3
HELLO = [{"role": "user", "content": "hello"}]


def made(root: Path, inputs: dict[str, list[Input]] | None = None, **fields: Any) -> Artifact:
    store, stage = Store(root), Preferences(name="likes", **fields)
    stage.check(root)
    with store.building("preferences", digest(fields), print) as out:
        stage.run(Job(store, out, inputs or {}, shards=SHARDS))
        return store.seal(out, Manifest("likes", "preferences", "pairs", digest(fields), ""))


def pairs(artifact: Artifact) -> list[Pair]:
    return [pair_of(row) for row in artifact.rows()]


def lines(folder: Path, rows: list[Any]) -> str:
    file = folder / "pairs.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def turn(text: str, role: str = "assistant") -> dict[str, str]:
    return {"role": role, "content": text}


LAYOUTS = {
    "text": ({"prompt": "hello", "chosen": "hi you", "rejected": "go"}, {}),
    "messages": ({"prompt": HELLO, "chosen": [turn("hi you")], "rejected": [turn("go")]}, {}),
    "whole conversations": ({"chosen": [*HELLO, turn("hi you")], "rejected": [*HELLO, turn("go")]}, {}),
    "prompt text and whole conversations": (
        {"prompt": "hello", "chosen": [*HELLO, turn("hi you")], "rejected": [*HELLO, turn("go")]},
        {},
    ),
    "one text of a dialogue": (
        {"chosen": "\n\nHuman: hello\n\nAssistant: hi you", "rejected": "\n\nHuman: hello\n\nAssistant: go"},
        {},
    ),
    "two answers and a number": (
        {"prompt": "hello", "a": "go", "b": "hi you", "safer": 1},
        {"prompt": "prompt", "answers": ["a", "b"], "better": "safer"},
    ),
    "nested, with scores": (
        {"x": {"q": "hello"}, "chosen": "hi you", "rejected": "go", "s": [], "s1": 9.5, "s2": 3},
        {"prompt": "x.q", "margin": ["s1", "s2"]},
    ),
}


@pytest.mark.parametrize(("row", "columns"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_gives_the_same_pair(
    row: dict[str, Any], columns: dict[str, Any], tmp_path: Path
) -> None:
    artifact = made(tmp_path / "store", file=lines(tmp_path, [row]), columns=columns)
    [pair] = pairs(artifact)
    assert (pair.messages, pair.chosen, pair.rejected) == (HELLO, "hi you", "go")
    assert pair.id == Pair(HELLO, "hi you", "go").id
    assert pair.id.startswith(pair.problem_id + "/")
    assert pair.margin == (6.5 if "margin" in columns else None)
    assert (pair.domain, pair.source) == ("chat", "pairs.jsonl")
    assert artifact.manifest.summary == {"pairs": 1, "prompts": 1, "longer": 1.0}


def test_a_dialogue_of_several_turns_keeps_them(tmp_path: Path) -> None:
    before = "\n\nHuman: a\n\nAssistant: b: c\n\nHuman: d"
    row = {"chosen": f"{before}\n\nAssistant: e\n\nmore", "rejected": f"{before}\n\nAssistant: f"}
    [pair] = pairs(made(tmp_path / "store", file=lines(tmp_path, [row])))
    assert [each["role"] for each in pair.messages] == ["user", "assistant", "user"]
    assert pair.messages[1]["content"] == "b: c"
    assert pair.chosen == "e\n\nmore"


def test_what_is_no_pair_is_left_out_with_its_reason(tmp_path: Path) -> None:
    good = {"prompt": "p", "chosen": "a", "rejected": "b", "m": 1}
    rows = [
        "{broken",
        good,
        good,
        good | {"rejected": "c"},
        good | {"prompt": " "},
        good | {"chosen": None},
        good | {"chosen": [turn("q", "user")]},
        good | {"rejected": " a "},
        good | {"chosen": "x" * 300},
        good | {"m": 0},
        good | {"m": -1},
        good | {"m": "much"},
        {"prompt": None, "chosen": [*HELLO, turn("a")], "rejected": [turn("hey", "user"), turn("b")]},
    ]
    artifact = made(
        tmp_path / "store", file=lines(tmp_path, rows), max_characters=200, columns={"margin": "m"}
    )
    assert artifact.manifest.rejected == {
        "unreadable": 2,
        "duplicate": 1,
        "same_prompt": 1,
        "no_prompt": 1,
        "no_answer": 2,
        "same_text": 1,
        "too_long": 1,
        "tie": 1,
        "wrong_margin": 1,
        "prompts_differ": 1,
    }
    assert (artifact.manifest.rows_in, artifact.manifest.rows_kept) == (13, 1)
    assert artifact.manifest.telemetry["rejected_examples"]["unreadable"] == "pairs.jsonl:1"


def test_more_pairs_of_a_prompt_where_they_are_wanted(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": f"a{n}", "rejected": "b"} for n in range(5)]
    artifact = made(tmp_path / "store", file=lines(tmp_path, rows), per_prompt=3)
    assert artifact.manifest.rows_kept == 3
    assert artifact.manifest.rejected == {"same_prompt": 2}
    assert artifact.manifest.summary["prompts"] == 1


def test_a_parquet_file_is_read_by_its_columns(tmp_path: Path) -> None:
    conversation = pa.array([[*HELLO, turn("hi you")]])
    table = pa.table(
        {"chosen": conversation, "rejected": pa.array([[*HELLO, turn("go")]]), "huge": ["x" * 99]}
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    [pair] = pairs(made(tmp_path / "store", file=str(tmp_path / "pairs.parquet")))
    assert (pair.messages, pair.chosen, pair.rejected) == (HELLO, "hi you", "go")


def test_a_random_choice_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(40)]
    few = made(tmp_path / "s", file=lines(tmp_path, rows), limit=5, shuffle=True)
    more = made(tmp_path / "s", file=lines(tmp_path, rows[::-1]), limit=9, shuffle=True)
    first = made(tmp_path / "s", file=lines(tmp_path, rows), limit=5)
    ids = [{pair.id for pair in pairs(each)} for each in (few, more, first)]
    assert ids[0] < ids[1] and ids[0] != ids[2] == {
        Pair([turn(f"p{n}", "user")], "a", "b").id for n in range(5)
    }
    assert few.manifest.rejected == {"over_limit": 35}


@pytest.mark.parametrize("about", ["helpful", "harmless"])
def test_the_toy_world_has_pairs_of_both_kinds(about: str, tmp_path: Path) -> None:
    artifact = made(tmp_path, toy=about, limit=60)
    found = pairs(artifact)
    assert len(found) == 60 == len({pair.problem_id for pair in found})
    assert {pair.domain for pair in found} == {"chat"}
    if about == "harmless":
        assert not any(is_rude(pair.chosen) for pair in found)
        assert all(is_rude(pair.rejected) for pair in found)
    again = made(tmp_path / "again", toy=about, limit=60)
    assert artifact.content == again.content != made(tmp_path, toy=about, limit=60, seed=1).content


def trace(problem: int, text: str, origin: str, **fields: Any) -> Trace:
    return Trace(
        f"{problem:016x}",
        [turn(f"p{problem}", "user")],
        text,
        "",
        text,
        **{"reference": "3", "domain": "chain", "source": "own", "origin": origin, **fields},
    )


class Judged:
    """Traces with their verdicts in a store."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)

    def text(self, name: str, traces: list[Trace]) -> Input:
        traces = [Trace(**{**to_row(each), "index": n, "id": "", "reference": "3", "extra": {}, "sampling": {}, "telemetry": {}}) for n, each in enumerate(traces)]  # fmt: skip
        return self._sealed(
            name, "traces", lambda job: write_shards(job, [to_row(t) for t in traces], trace_schema())
        )

    def verdicts(self, text: Input, name: str) -> Input:
        stage = Verify(name=name)
        return self._sealed(name, "labels", stage.run, {"input": [text]})

    def _sealed(
        self, name: str, kind: str, write: Any, inputs: dict[str, list[Input]] | None = None
    ) -> Input:
        named = {
            slot: [
                {"name": e.name, "type": e.type, "content": e.content, "artifact": e.artifact} for e in ends
            ]
            for slot, ends in (inputs or {}).items()
        }
        with self.store.building(kind, digest(name), print) as out:
            write(Job(self.store, out, inputs or {}, shards=SHARDS, verifiers={"chain": Exact()}))
            made = self.store.seal(out, Manifest(name, kind, kind, digest(name), "", inputs=named))
        return Input(name, kind, made.content, artifact=made.path.name)

    def compare(self, texts: list[Input], labels: list[Input], **fields: Any) -> Artifact:
        names = [text.name for text in texts]
        return made(self.store.root, {"input": texts, "labels": labels}, input=names, **fields)


def test_the_better_verdict_of_two_models_is_chosen(tmp_path: Path) -> None:
    world = Judged(tmp_path)
    ours = world.text(
        "ours",
        [
            trace(1, "<answer>3</answer>", "a"),
            trace(2, "<answer>4</answer>", "a"),
            trace(3, "<answer>3</answer>", "a"),
        ],
    )
    theirs = world.text(
        "theirs",
        [
            trace(1, "<answer>5</answer>", "b"),
            trace(2, "<answer>3</answer>", "b"),
            trace(3, "it is <answer>3</answer>", "b"),
            trace(4, "alone", "b"),
        ],
    )
    labels = [world.verdicts(ours, "judged_ours"), world.verdicts(theirs, "judged_theirs")]
    artifact = world.compare([ours, theirs], labels)
    found = {pair.messages[0]["content"]: pair for pair in pairs(artifact)}
    assert {name: (pair.chosen, pair.rejected) for name, pair in found.items()} == {
        "p1": ("<answer>3</answer>", "<answer>5</answer>"),
        "p2": ("<answer>3</answer>", "<answer>4</answer>"),
    }
    assert {pair.margin for pair in found.values()} == {1.0}
    assert artifact.manifest.rejected == {"tie": 1, "one_answer": 1}
    assert found["p1"].problem_id == f"{1:016x}"
    assert found["p1"].extra["chosen"].startswith(f"{1:016x}/a/")


def test_one_model_over_the_other_needs_no_verdicts(tmp_path: Path) -> None:
    world = Judged(tmp_path)
    ours = world.text("ours", [trace(1, "good", "a"), trace(2, "same", "a"), trace(3, "fine", "a")])
    theirs = world.text(
        "theirs", [trace(1, "bad", "b"), trace(2, "same", "b"), trace(3, "", "b", finish_reason="error")]
    )
    artifact = world.compare([ours, theirs], [], prefer="first")
    [pair] = pairs(artifact)
    assert (pair.chosen, pair.rejected, pair.margin) == ("good", "bad", None)
    assert artifact.manifest.rejected == {"one_answer": 2}


def test_the_best_goes_against_the_worst_of_one_model(tmp_path: Path) -> None:
    world = Judged(tmp_path)
    answers = [
        "<answer>3</answer> a",
        "<answer>3</answer> b",
        "<answer>5</answer>",
        "<answer>6</answer>",
        "<answer>7</answer>",
    ]
    text = world.text("ours", [trace(1, each, "a") for each in answers])
    artifact = world.compare([text], [world.verdicts(text, "judged")], per_prompt=4)
    found = pairs(artifact)
    assert len(found) == 2
    assert {pair.chosen for pair in found} == set(answers[:2])
    assert not {pair.rejected for pair in found} & set(answers[:2])


def test_a_label_that_is_not_there_is_named(tmp_path: Path) -> None:
    world = Judged(tmp_path)
    texts = [world.text(name, [trace(1, name, name)]) for name in ("ours", "theirs")]
    with pytest.raises(RecipeError, match="no field 'score'"):
        world.compare(texts, [])


def test_the_recipe_is_told_where_a_label_comes_from(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\nengine: {kind: transformers}\nverifiers: {chain: {kind: exact}}\nstages:\n"
        "  - {name: problems, kind: problems, toy: chain, limit: 4}\n"
        "  - {name: own, kind: sample, model: toy:base, max_tokens: 8}\n"
        "  - {name: judged, kind: verify}\n"
        "  - {name: likes, kind: preferences, input: own}\n"
        "  - {name: helpful, kind: reward_model, model: toy:base, learning_rate: 1.0e-3, max_length: 64}\n"
    )
    steps = {step.name: step.wires for step in resolve(load(recipe))}
    assert steps["likes"] == {"input": ["own"], "labels": ["judged"]}
    assert steps["helpful"] == {"input": ["likes"], "model": ["toy:base"]}
    recipe.write_text(recipe.read_text().replace("input: own}", "input: own, prefer: scroe}"))
    with pytest.raises(RecipeError, match="did you mean score"):
        resolve(load(recipe))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs exactly one of toy, file, hub, python, input; has none"),
        ({"toy": "helpful"}, "needs limit"),
        ({"hub": "a/b", "input": "x"}, "has hub and input"),
        ({"toy": "helpful", "limit": 4, "prefer": "length"}, "prefer: has no meaning with toy"),
        ({"input": "x", "prefer": "first"}, "name two of them"),
        ({"file": "x.jsonl", "columns": {"answers": ["a", "b"]}}, "answers and better go together"),
        ({"file": "x.jsonl", "columns": {"margin": ["a"]}}, "give one path, or two"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Preferences(name="likes", **fields)


def test_missing_files_and_columns_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        made(tmp_path, file=str(tmp_path / "gone.jsonl"))
    with pytest.raises(RecipeError, match=r"no column 'good'; there are prompt, chosen, rejected"):
        made(
            tmp_path,
            file=lines(tmp_path, [{"prompt": "p", "chosen": "a", "rejected": "b"}]),
            columns={"chosen": "good"},
        )
    with pytest.raises(StageError, match=r"no pair in 1 rows of pairs.jsonl: 1 same_text"):
        made(tmp_path, file=lines(tmp_path, [{"prompt": "p", "chosen": "a", "rejected": "a"}]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_no_row_breaks_the_reader(prompt: Any, chosen: Any, rejected: Any) -> None:
    found = PairColumns().read({"prompt": prompt, "chosen": chosen, "rejected": rejected}, "chat", "x", 100)
    assert isinstance(found, Pair | str)


@given(st.text(max_size=30))
def test_a_plain_text_is_an_answer(text: str) -> None:
    if text.strip() and not text.lstrip().startswith("Human:"):
        assert said(text) == ([], text)
