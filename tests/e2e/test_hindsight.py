"""`check` tells what an earlier run of the recipe has measured of its caps."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
from inprocess import distillkit

from distillkit.stages.evaluate import Evaluate

RECIPE = """\
name: capped
engine: {kind: replay, file: recorded.jsonl}
verifiers: {math: {kind: exact}}
stages:
  - {name: easy, kind: problems, file: recorded.jsonl, split: heldout}
  - {name: scores, kind: evaluate, models: [toy:base], problems: easy, n: 4, max_tokens: 512}
"""
CUT = "stages.scores: in run 1 max_tokens 512 cut 25.0% of the 8 completions of toy:base on easy, so it scores too low; raise it"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of four completions of each of two problems the last is cut."""
    rows = [
        {"prompt": f"What is {number}?", "reference": str(number), "completion": f"\\boxed{{{number}}}",
         "finish_reason": reason, "completion_tokens": 9}
        for number in range(2) for reason in ("stop", "stop", "stop", "length")
    ]  # fmt: skip
    (tmp_path / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    path = tmp_path / "capped.yaml"
    path.write_text(RECIPE, "utf-8")
    return path


def warnings(recipe: Path, *sets: str) -> list[str]:
    words = [word for each in sets for word in ("--set", each)]
    answer = distillkit("check", recipe, "--store", recipe.parent / "store", "--json", *words)
    assert answer.code == 0, answer.err
    found: list[str] = json.loads(answer.out)["warnings"]
    return [line for line in found if " cut " in line]


def ran(recipe: Path) -> None:
    with patch.object(Evaluate, "CHILD", False):
        answer = distillkit("run", recipe, "--store", recipe.parent / "store")
    assert answer.code == 0, answer.err


def test_a_cap_that_cut_is_told_until_it_is_raised(recipe: Path) -> None:
    assert warnings(recipe) == []
    assert not (recipe.parent / "store").exists()  # a check leaves nothing behind
    ran(recipe)
    assert warnings(recipe) == [CUT]
    assert warnings(recipe, "stages.scores.max_tokens=256") == [CUT]
    assert warnings(recipe, "stages.scores.max_tokens=1024") == []
    assert warnings(recipe, "stages.scores.models=[toy:tiny]") == []
    elsewhere = "{name: scores, kind: evaluate, models: [toy:base], benchmarks: [gpqa_diamond]}"
    recipe.write_text(recipe.read_text("utf-8").rpartition("  - ")[0] + f"  - {elsewhere}\n", "utf-8")
    assert warnings(recipe) == []


def test_of_several_sets_each_is_told_apart(recipe: Path) -> None:
    more = (
        "  - {name: hard, kind: problems, file: recorded.jsonl, split: heldout, limit: 1}\n  - {name: scores"
    )
    text = recipe.read_text("utf-8").replace("  - {name: scores", more)
    recipe.write_text(text.replace("problems: easy", "problems: [easy, hard]"), "utf-8")
    ran(recipe)
    assert warnings(recipe) == [CUT, CUT.replace("the 8", "the 4").replace("easy", "hard")]


def test_what_is_no_longer_there_tells_nothing(recipe: Path) -> None:
    ran(recipe)
    store = recipe.parent / "store"
    (store / "runs" / "capped" / "2").mkdir()  # killed before it wrote anything
    assert warnings(recipe) == [CUT]
    [scores] = (store / "artifacts").glob("evaluate-*")
    (scores / "manifest.json").unlink()
    assert warnings(recipe) == []
