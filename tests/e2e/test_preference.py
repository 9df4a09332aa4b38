"""From pairs to a model that is polite, and killed on the way: a reward model and a distilled student end alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from runs import command, contents, kill_when

from distillkit.toy.chat import is_rude

RECIPE = Path(__file__).parent / "preference.yaml"
Events = list[dict[str, Any]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an undisturbed run."""
    store = tmp_path_factory.mktemp("preference") / "store"
    answer = command("run", RECIPE, "--store", store)
    assert answer.returncode == 0, answer.stderr
    return store


def texts(store: Path, stage: str) -> list[str]:
    [run] = (store / "runs" / "preference").iterdir()
    files = sorted((run / "artifacts" / stage / "tables" / "rows").glob("*.parquet"))
    return [text for file in files for text in pq.read_table(file)["completion"].to_pylist()]


def test_what_a_reward_model_pays_for_is_what_there_is_more_of(whole: Path) -> None:
    before, after = (
        sum(map(is_rude, found)) / len(found) for found in (texts(whole, "before"), texts(whole, "after"))
    )
    assert before > 0.2
    assert after < before / 4
    [run] = (whole / "runs" / "preference").iterdir()
    summary = json.loads((run / "artifacts" / "polite" / "manifest.json").read_text("utf-8"))["summary"]
    assert summary["learned"] and summary["judges"] == {"harmless": "reward_model"}
    assert summary["reward_last"] > summary["reward_first"]


def reached(stage: str, done: int) -> Callable[[Events], bool]:
    return lambda events: any(
        event.get("stage") == stage and event.get("done", 0) >= done for event in events
    )


@pytest.mark.parametrize(("stage", "done"), [("harmless", 7), ("student", 3)])
def test_a_killed_training_ends_as_an_undisturbed_one(
    stage: str, done: int, whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert kill_when(["run", RECIPE, "--store", store, "--until", stage], store, reached(stage, done))
    answer = command("run", RECIPE, "--store", store, "--until", stage)
    assert answer.returncode == 0, answer.stderr
    assert contents(store)[stage] == contents(whole)[stage]
