"""A run that asks a server, killed and run again: what was answered and recorded is never asked again."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from inprocess import distillkit
from runs import contents, kill_when

if "faultserver" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "faultserver", Path(__file__).parent.parent / "faultserver.py"
    )
    sys.modules["faultserver"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["faultserver"])
from faultserver import FAULTS, Fault, FaultServer, dice

RECIPE = """
name: bought
seed: 3
shards: 2
engine: {{kind: endpoint, base_urls: ["{url}"], served_model: teacher, concurrency: 4, timeout_s: 5, api_key_env: TEACHER,
  prices: {{input: 1, output: 2}}{more}}}
stages:
  - {{name: problems, kind: problems, toy: chain, limit: 30}}
  - {{name: traces, kind: sample, n: 2, max_tokens: 48}}
"""


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEACHER", "sk-0123456789")


def write(folder: Path, server: FaultServer, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "bought.yaml"
    path.write_text(RECIPE.format(url=server.url, more=more))
    return path


def recorded(store: Path) -> set[str]:
    """What the server answered, of all whole lines in the ledgers: its key is in the text."""
    lines = [
        line for file in (store / "completions").glob("*.jsonl") for line in file.read_text().split("\n")[:-1]
    ]
    texts = [json.loads(line).get("text", "") for line in lines]
    return {text.split("about ")[1].split(".")[0] for text in texts if "about " in text}


def test_a_killed_run_asks_only_for_what_it_has_not(tmp_path: Path) -> None:
    with FaultServer(dice(1, FAULTS[:4], (0.02, 0.1)), api_key="sk-0123456789") as server:
        recipe, store = write(tmp_path, server), tmp_path / "store"
        killed = kill_when(["run", recipe, "--store", store], store, lambda _: len(server.answered()) >= 20)
        assert killed and len(server.answered()) < 60
        safe, before = recorded(store), len(server.calls)
        assert len(safe) >= 12  # those in flight and in the pipe aside
        answer = distillkit("run", recipe, "--store", store)
        assert answer.code == 0, answer.err
        again = {call.key for call in server.calls[before:]}
        assert not safe & again
        assert len(recorded(store)) == 60 == len(server.answered())
        assert sum(Counter(server.answered()).values()) <= 60 + 4  # what flew when it was killed

        server.plan = lambda call: None
        whole = tmp_path / "whole"
        assert distillkit("run", recipe, "--store", whole).code == 0
    assert contents(store) == contents(whole)
    told = "".join(path.read_text("utf-8", "replace") for path in store.rglob("*.json*"))
    assert "0123456789" not in told


def test_money_ends_a_run_in_one_line_and_more_of_it_goes_on(tmp_path: Path) -> None:
    each = (11 * 1 + 22 * 2) / 1e6
    with FaultServer(lambda call: Fault(delay_s=0.01), api_key="sk-0123456789") as server:
        store = tmp_path / "store"
        answer = distillkit("run", write(tmp_path, server, f", max_cost: {20 * each}"), "--store", store)
        assert answer.code == 4 and "max_cost" in answer.mistake
        assert "0.0011" in answer.mistake
        assert 20 <= len(server.calls) <= 20 + 4
        answer = distillkit("run", write(tmp_path, server, ", max_cost: 1"), "--store", store)
        assert answer.code == 0, answer.err
        assert len(server.calls) == 60


@pytest.mark.parametrize("more", ["", ", api: completions"])
def test_what_cannot_work_is_one_line(tmp_path: Path, more: str) -> None:
    with FaultServer(api_key="another") as server:
        answer = distillkit("run", write(tmp_path, server, more), "--store", tmp_path / "store")
        assert not server.calls
    assert answer.code == (2 if more else 3)
    assert ("model" if more else "refuses the key") in answer.mistake
    assert "0123456789" not in answer.err + answer.out
