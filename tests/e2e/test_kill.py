"""Kill the whole process group at a named point, run again: it ends well, with equal contents, weights included."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import MINI, command, contents, kill_when

QUICKSTART = Path(__file__).parent.parent.parent / "recipes" / "quickstart.yaml"
Events = list[dict[str, Any]]


def reached(stage: str, done: int) -> Callable[[Events], bool]:
    """The point where a stage has told of `done` units; 0 is its start."""

    def check(events: Events) -> bool:
        mine = [event for event in events if event.get("stage") == stage]
        return bool(mine) and (done == 0 or any(event.get("done", 0) >= done for event in mine))

    return check


POINTS = {
    "in the middle of sampling": reached("traces", 0),
    "in the middle of reinforcement learning": reached("zero", 2),
    "in the middle of a student's training": reached("student", 2),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_a_killed_run_ends_as_an_undisturbed_one(
    point: Callable[[Events], bool], undisturbed: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert kill_when(["run", MINI, "--store", store], store, point)
    answer = command("run", MINI, "--store", store)
    assert answer.returncode == 0, answer.stderr
    assert contents(store) == contents(undisturbed)
    assert len(list((store / "runs" / "mini").iterdir())) == 1  # the killed run went on under its own number


@pytest.mark.soak
def test_twenty_kills_of_the_quickstart(tmp_path: Path) -> None:
    whole, store = tmp_path / "whole", tmp_path / "store"
    assert command("run", QUICKSTART, "--store", whole).returncode == 0
    dice = random.Random(20)
    killed = 0
    while killed < 20:
        ticks = dice.randrange(20, 900)  # of 20 ms
        left = iter(range(ticks))
        if not kill_when(
            ["run", QUICKSTART, "--store", store], store, lambda _, left=left: next(left, None) is None
        ):
            import shutil

            assert contents(store) == contents(whole)
            shutil.rmtree(store)  # it got through: begin anew
        killed += 1
    answer = command("run", QUICKSTART, "--store", store)
    assert answer.returncode == 0, answer.stderr
    assert contents(store) == contents(whole)
