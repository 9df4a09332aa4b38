"""What cards say of where rows and weights came from, read from real manifests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distillkit.artifact import Manifest
from distillkit.publication import (
    DATA,
    MODEL,
    conditions,
    decontamination,
    lineage,
    made_by,
    named_teachers,
    public,
    public_recipe,
    row_funnel,
    sources,
    teachers,
    trainings,
)

WORLD = Path(__file__).parent / "report" / "world.py"


@pytest.fixture(scope="module")
def worlds() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publication_world", WORLD)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["publication_world"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(worlds: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return worlds.make_world(tmp_path_factory.mktemp("world"), until="chosen")


def stages(artifacts: list[Any]) -> list[str]:
    return [artifact.stage for artifact in artifacts]


def test_lineage_is_everything_behind_an_artifact_sources_first(world: Any) -> None:
    found = stages(lineage(world.store, world.artifacts["chosen"]))
    assert sorted(found) == ["chosen", "judged", "measured", "problems", "right", "traces", "twins"]
    assert found.index("problems") < found.index("traces") < found.index("judged") < found.index("right")
    assert found[-1] == "chosen"


def test_lineage_of_rows_leaves_labels_out(world: Any) -> None:
    assert stages(lineage(world.store, world.artifacts["chosen"], DATA)) == [
        "problems",
        "traces",
        "right",
        "chosen",
    ]
    assert stages(lineage(world.store, world.artifacts["chosen"], MODEL)) == ["chosen"]


def test_the_funnel_of_rows_is_that_of_their_stages(world: Any) -> None:
    found = row_funnel(world.store, world.artifacts["chosen"])
    assert [(step["stage"], step["rows_in"], step["rows_kept"]) for step in found] == [
        ("problems", 50, 50),
        ("traces", 50, 200),
        ("right", 200, 100),
        ("chosen", 100, 100),
    ]
    assert found[2]["rejected"] == {"mixed_language": 50, "wrong": 50}


def test_sources_are_named_without_folders(world: Any) -> None:
    found = sources(lineage(world.store, world.artifacts["chosen"]))
    assert found == [{"stage": "problems", "kind": "problems", "source": "file: problems.jsonl", "rows": 50}]


def seal(world: Any, name: str, kind: str, type: str, inputs: Any, declared: Any = None, **facts: Any) -> Any:
    with world.store.building(kind, f"{name:0>16}", print) as out:
        out.summary = facts
        draft = Manifest(name, kind, type, f"{name:0>16}", "", inputs=inputs, declared=declared or {})
        artifact = world.store.seal(out, draft)
    artifact.stage = name
    return artifact


def end(artifact: Any) -> dict[str, str]:
    return {
        "name": artifact.stage,
        "type": artifact.type,
        "content": artifact.content,
        "artifact": artifact.path.name,
    }


def test_teachers_are_told_with_their_commit_or_their_training(world: Any) -> None:
    hub = {"name": "Qwen/Qwen3-8B@main", "type": "weights", "content": "c", "revision": "a" * 40}
    cold = seal(
        world, "cold", "sft", "weights", {"model": [hub], "input": [end(world.artifacts["chosen"])]}, steps=9
    )
    zero = seal(world, "zero", "grpo", "weights", {"model": [end(cold)]}, steps=25)
    declared = {"n": 4, "temperature": 0.6, "top_p": None, "max_tokens": 64, "engine": {"kind": "vllm"}}
    bought = seal(world, "bought", "sample", "traces", {"model": [hub]}, declared)
    own = seal(world, "own", "sample", "traces", {"model": [end(zero)]}, declared)
    foreign, home = teachers(world.store, [world.artifacts["problems"], bought, own])
    assert foreign == {
        "name": "Qwen/Qwen3-8B@main",
        "revision": "a" * 40,
        "stage": "bought",
        "sampling": {"n": 4, "temperature": 0.6, "max_tokens": 64},
        "trainings": [],
    }
    assert home["name"] == "zero"
    assert home["revision"] == ""
    assert [(step["stage"], step["kind"], step["base"]) for step in home["trainings"]] == [
        ("cold", "sft", "Qwen/Qwen3-8B@main"),
        ("zero", "grpo", "cold"),
    ]
    assert [step["summary"]["steps"] for step in home["trainings"]] == [9, 25]
    assert trainings(lineage(world.store, zero, MODEL)) == home["trainings"]


def test_conditions_are_the_rules_in_words(world: Any) -> None:
    assert conditions(lineage(world.store, world.artifacts["chosen"], DATA)) == [
        {"stage": "right", "condition": "score at least 1", "reason": "wrong"},
        {"stage": "right", "condition": "measures.language.share at least 1", "reason": "mixed_language"},
        {
            "stage": "right",
            "condition": "completion_tokens at most 12",
            "reason": "long<img src=x onerror=window.hacked=55>",
        },
        {"stage": "chosen", "condition": "one per cluster of near duplicates", "reason": "duplicate"},
        {"stage": "chosen", "condition": "at most 2 per problem", "reason": "over_per_problem"},
    ]


def test_every_kind_of_rule_has_words(world: Any) -> None:
    rules = [
        {"field": "score", "min": 0.5, "max": 1.0, "reason": "a"},
        {"field": "finish_reason", "is": ["stop", "unknown"], "reason": "b"},
        {"field": "leak", "is": [None], "reason": "c"},
        {"field": "domain", "is_not": ["code"], "reason": "d"},
        {"preset": "r1_readable", "field": "", "is": [], "is_not": [], "reason": ""},
    ]
    strict = seal(world, "strict", "filter", "selection", {"input": []}, {"rules": rules})
    declared = {"pass_rate": [0.25, 0.75], "limit": 1200, "balance": {"by": "domain"}, "max_tokens": 9000}
    few = seal(world, "few", "select", "selection", {"input": []}, declared)
    assert [(each["condition"], each["reason"]) for each in conditions([strict, few])] == [
        ("score at least 0.5 and at most 1", "a"),
        ("finish_reason is stop or unknown", "b"),
        ("leak is null", "c"),
        ("domain is not code", "d"),
        ("preset r1_readable", "several"),
        ("at most 9,000 tokens", "too_long"),
        ("share of the problem's traces that are right within 0.25 to 0.75", "pass_rate"),
        ("no domain outweighs the others", "over_quota"),
        ("at most 1,200 in all, drawn at random", "over_limit"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/me/data/x.jsonl", "x.jsonl"),
        ("./weights/base", "base"),
        ("~/base", "base"),
        ("org/name@v1", "org/name@v1"),
        ("toy:base", "toy:base"),
    ],
)
def test_folders_of_the_author_stay_at_home(name: str, shown: str) -> None:
    assert public(name) == shown


def test_a_public_recipe_says_the_same_without_folders() -> None:
    recipe = "name: x\nstages:\n- kind: problems\n  file: /home/me/p.jsonl\n  'on': 'yes'\n- engine:\n    file: /a/b.jsonl\n"
    assert public_recipe(recipe) == recipe.replace("/home/me/", "").replace("/a/", "")


def test_a_public_recipe_says_nothing_of_the_machine() -> None:
    assert public_recipe("name: x\nexecution:\n  workers: 4\n") == "name: x\n"


RECIPE = """
name: x
seed: 1
engine: {kind: vllm}
stages:
- {name: problems, kind: problems, file: /home/me/p.jsonl}
- {name: kept, kind: filter}
- {name: dataset, kind: publish, scores: null}
"""


def test_what_made_rows_is_all_that_stands_before_them() -> None:
    made = made_by(RECIPE, "kept")
    for same in (
        RECIPE.replace("name: x", "name: y"),
        RECIPE.replace("/home/me", "/elsewhere"),
        RECIPE.replace("scores: null", "scores: scores") + "- {name: scores, kind: evaluate}\n",
        RECIPE + "execution: {workers: 4}\nbudget: {gpus: 1}\n",
    ):
        assert made_by(same, "kept") == made
    for other in (
        RECIPE.replace("seed: 1", "seed: 2"),
        RECIPE.replace("vllm", "replay"),
        RECIPE.replace("p.jsonl", "q.jsonl"),
        RECIPE.replace("kind: filter", "kind: select"),
    ):
        assert made_by(other, "kept") != made
    assert made_by(RECIPE, "nobody") is None
    assert made_by("", "kept") is None


def test_teachers_that_only_rows_name_are_named_once() -> None:
    known = [{"name": "org/teacher@v1"}]
    [found] = named_teachers(["org/teacher", "org/other"], known)
    assert found == {"name": "org/other", "revision": "", "stage": "", "sampling": {}, "trainings": []}


def test_what_was_searched_for_is_told_by_name(world: Any) -> None:
    against = ["aime24", {"file": "data/mine.jsonl", "columns": {}}]
    leaks = seal(
        world, "leaks", "decontaminate", "labels", {"input": []}, {"against": against, "on": "prompt"}
    )
    [found] = decontamination([world.artifacts["problems"], leaks])
    assert (found["stage"], found["against"], found["on"]) == ("leaks", ["aime24", "mine.jsonl"], "prompt")
    assert found["found"] == {}
