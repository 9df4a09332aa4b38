"""Kill a run that samples, at named points and at random: nothing that was finished is lost or sampled again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from runs import command, contents, events, kill_when

ADAPTIVE = Path(__file__).parent / "adaptive.yaml"
PLAIN = ("--set", "stages.traces.until=null", "--set", "stages.traces.continue_truncated=null")
Events = list[dict[str, Any]]

pytestmark = pytest.mark.slow


def ledger(store: Path) -> list[bytes]:
    """The whole lines of finished completions."""
    lines = [
        line
        for path in (store / "completions").glob("*.jsonl")
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [line for line in lines if b'"key"' in line]


def finished(store: Path, at_least: int) -> Callable[[Events], bool]:
    """The point where so many completions are finished."""
    return lambda _: len(ledger(store)) >= at_least


def compacting(store: Path) -> Callable[[Events], bool]:
    """The point where the first shard of traces is there."""
    return lambda _: any((store / "work").glob("sample-*/tables/rows/*.parquet"))


POINTS: dict[str, Callable[[Path], Callable[[Events], bool]]] = {
    "after the first completions": lambda store: finished(store, 1),
    "in a later round": lambda store: finished(store, 200),
    "while shards are written": compacting,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that nobody disturbed."""
    store = tmp_path_factory.mktemp("adaptive") / "store"
    answer = command("run", ADAPTIVE, "--store", store)
    assert answer.returncode == 0, answer.stderr
    return store


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_killed_at_a_named_point_it_ends_the_same(
    point: Callable[[Path], Callable[[Events], bool]], whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert kill_when(["run", ADAPTIVE, "--store", store], store, point(store))
    before = ledger(store)
    assert before
    answer = command("run", ADAPTIVE, "--store", store)
    assert answer.returncode == 0, answer.stderr
    after = ledger(store)
    assert after[: len(before)] == before
    keys = [json.loads(line)["key"] for line in after]
    assert len(keys) == len(set(keys)) == len(ledger(whole))
    assert contents(store) == contents(whole)


def test_told_to_stop_it_keeps_what_is_finished_and_goes_on_later(whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, "-m", "distillkit", "run", str(ADAPTIVE), "--store", str(store)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    reached = finished(store, 50)
    while process.poll() is None and not reached([]):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode not in (0, -signal.SIGKILL), said
    assert "Traceback" not in said
    before = ledger(store)
    assert len(before) >= 50
    answer = command("run", ADAPTIVE, "--store", store)
    assert answer.returncode == 0, answer.stderr
    assert ledger(store)[: len(before)] == before
    assert contents(store) == contents(whole)
    assert any(event["event"] == "progress" and "accepted" in event for event in events(store))


@pytest.mark.soak
def test_thirty_random_kills_of_two_thousand_completions(tmp_path: Path) -> None:
    size = ("--set", "stages.problems.limit=250", "--set", "stages.traces.n=8", *PLAIN, "--until", "traces")
    whole, store, dice = tmp_path / "whole", tmp_path / "store", random.Random(30)
    assert command("run", ADAPTIVE, "--store", whole, *size).returncode == 0
    kills, before = 0, []
    while kills < 30:
        ticks = iter(range(dice.randrange(200, 900)))  # of 20 ms
        run = ["run", ADAPTIVE, "--store", store, *size]
        if not kill_when(run, store, lambda _, ticks=ticks: next(ticks, None) is None):
            assert contents(store) == contents(whole)
            shutil.rmtree(store)  # it got through: begin anew
            before = []
            continue
        kills += 1
        after = ledger(store) if (store / "completions").exists() else []
        assert after[: len(before)] == before
        before = after
    answer = command("run", ADAPTIVE, "--store", store, *size)
    assert answer.returncode == 0, answer.stderr
    keys = [json.loads(line)["key"] for line in ledger(store)]
    assert len(keys) == len(set(keys)) == 2000
    assert contents(store) == contents(whole)
