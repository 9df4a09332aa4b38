"""A toy dataset and its student: pushed, tagged, changed, pushed again, compared, pulled on a fresh store, trained from.

Real processes and real training; and a push that is killed three times ends with one commit.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hubserver import TOKEN, Account, Fault, HubServer
from patience import PATIENCE_S
from runs import command

TRACES, STUDENT = "alice/show-traces", "alice/show-student"
MADE = """
name: show
seed: 5
shards: 2
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 24}
  - {name: heldout, kind: problems, toy: chain, limit: 8, split: heldout}
  - {name: traces, kind: sample, model: toy:base, input: problems, n: 8, max_tokens: 48}
  - {name: judged, kind: verify}
  - {name: kept, kind: filter, rules: [{field: score, min: 1.0, reason: wrong}]}
  - {name: dataset, kind: publish, input: kept, hub: alice/show-traces, version: 1.0.0, changelog: The first., rejected: true}
"""
TRAINED = """
  - {name: student, kind: sft, model: toy:base, input: kept, learning_rate: 1.0e-3, epochs: 2, batch: 8, max_length: 96}
  - {name: scores, kind: evaluate, models: [toy:base, student], problems: heldout, n: 2, k: [2], max_tokens: 48}
  - {name: model, kind: publish, input: student, scores: scores, hub: alice/show-student, version: 1.0.0}
"""
FRESH = """
name: fresh
seed: 5
shards: 2
verifiers: {chain: {kind: exact}}
stages:
  - {name: bought, kind: traces, hub: alice/show-traces@v1.1.0, preset: published}
  - {name: student, kind: sft, model: alice/show-student@v1.0.0, learning_rate: 1.0e-3, epochs: 1, batch: 8, max_length: 96}
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.accounts[TOKEN] = Account("alice")
        yield server


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """Processes that see this Hub and no cache of anyone's."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }


def written(path: Path, text: str, *changes: tuple[str, str]) -> Path:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")
    return path


def ran(*arguments: str | Path, environment: dict[str, str]) -> str:
    answer = command(*arguments, **environment)
    assert answer.returncode == 0, answer.stderr + answer.stdout
    assert TOKEN not in answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_published_changed_compared_pulled_and_trained_from(
    hub: HubServer, environment: dict[str, str], tmp_path: Path
) -> None:
    store, fresh = tmp_path / "store", tmp_path / "fresh"
    first = written(tmp_path / "show.yaml", MADE + TRAINED)
    ran("run", first, "--store", store, environment=environment)
    changes = (("n: 8", "n: 12"), ("1.0.0, changelog: The first.", "1.1.0, changelog: More samples."))
    second = written(tmp_path / "more.yaml", MADE, *changes)
    ran("run", second, "--store", store, environment=environment)

    dataset, model = hub.repositories["dataset", TRACES], hub.repositories["model", STUDENT]
    assert dataset.private
    assert model.private
    later, earlier = hub.history("dataset", TRACES)
    assert dataset.tags == {"v1.0.0": earlier.id, "v1.1.0": later.id}
    card = hub.bytes_of("model", STUDENT, "v1.0.0")["README.md"].decode()
    assert f"- Dataset: `{TRACES}` at `{earlier.id}` (v1.0.0)" in card
    for part in (
        "![loss by step](curve-loss.png)",
        "pass@1",
        "temperature",
        "| `student` | sft | `toy:base` |",
    ):
        assert part in card
    told = json.loads(
        ran(
            "diff",
            f"{TRACES}@v1.0.0",
            f"{TRACES}@v1.1.0",
            "--store",
            store,
            "--json",
            environment=environment,
        )
    )
    assert told

    ran("pull", f"{TRACES}@v1.1.0", "--store", fresh, environment=environment)
    [pulled] = (fresh / "published").glob("datasets--*/versions/*")
    assert _files(pulled) == hub.bytes_of("dataset", TRACES, "v1.1.0")
    ran("run", written(tmp_path / "fresh.yaml", FRESH), "--store", fresh, environment=environment)
    [bought] = (path for path in (fresh / "artifacts").glob("traces-*"))
    assert _texts(bought / "tables" / "rows") == _published(pulled / "data")
    _loads_alike(hub, environment, store, tmp_path)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _rows(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def _texts(folder: Path) -> list[tuple[str, str, str]]:
    return sorted(
        (row["messages"][-1]["content"], row["completion"], row["reference"]) for row in _rows(folder)
    )


def _published(folder: Path) -> list[tuple[str, str, str]]:
    return sorted(
        (row["messages"][-2]["content"], row["messages"][-1]["content"], row["reference"])
        for row in _rows(folder)
    )


def _loads_alike(hub: HubServer, environment: dict[str, str], store: Path, folder: Path) -> None:
    """The student as `from_pretrained` has it is the one that was trained."""
    [trained] = (store / "artifacts").glob("sft-*")
    program = f"""
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
here, there = ({str(trained / "model")!r}, {{}}), ({STUDENT!r}, {{"revision": "v1.0.0"}})
models = [AutoModelForCausalLM.from_pretrained(name, **more) for name, more in (here, there)]
tokenizers = [AutoTokenizer.from_pretrained(name, **more) for name, more in (here, there)]
assert tokenizers[0].chat_template == tokenizers[1].chat_template
ids = tokenizers[1]("1 + 1", return_tensors="pt").input_ids
assert torch.equal(models[0](ids).logits, models[1](ids).logits)
"""
    subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, check=True, timeout=PATIENCE_S
    )


def _run_and_kill(
    hub: HubServer, fault: Fault, arguments: list[str | Path], environment: dict[str, str]
) -> None:
    """Kill a process with all its children at the moment at which a request of its arrives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "distillkit", *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    fault.call = lambda: os.killpg(process.pid, signal.SIGKILL)
    hub.faults = [fault]
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGKILL, fault.route


CURATION = Path(__file__).parents[1] / "data"
LOCAL = "repository: curated, version: 1.0.0"


@pytest.mark.slow
def test_licences_are_read_at_the_sources_commit_and_where_they_differ_one_is_declared(
    hub: HubServer, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "traces.jsonl").write_bytes((CURATION / "traces.jsonl").read_bytes())
    text = (CURATION / "curation.yaml").read_text("utf-8")
    source = ("kind: problems, file: traces.jsonl", "kind: problems, hub: org/problems")
    files = {
        "README.md": b"---\nlicense: cc-by-4.0\n---\n",
        "train.jsonl": (tmp_path / "traces.jsonl").read_bytes(),
    }
    commit = hub.commit("dataset", "org/problems", files)
    path, store = tmp_path / "curation.yaml", tmp_path / "store"
    written(path, text, source, (LOCAL, "hub: alice/curated, version: 1.0.0"))
    told = command("run", path, "--store", store, **environment)
    assert told.returncode == 2
    named = f"hub: org/problems@{commit}: cc-by-4.0; toy:base: apache-2.0"
    assert f"stages.dataset: licences differ ({named}); read them and declare `license:`" in told.stderr
    assert hub.history("dataset", "alice/curated") == []
    written(path, text, source, (LOCAL, "hub: alice/curated, version: 1.0.0, license: mit"))
    ran("run", path, "--store", store, environment=environment)
    card = hub.bytes_of("dataset", "alice/curated", "v1.0.0")["README.md"].decode()
    assert (
        f"- Problems: hub: org/problems@{commit}, 12 of them (stage `problems`). Its licence: cc-by-4.0."
        in card
    )
    assert "- Licence of this dataset: mit" in card


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_pushes_ends_with_one_commit(
    hub: HubServer, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "traces.jsonl").write_bytes((CURATION / "traces.jsonl").read_bytes())
    text = (CURATION / "curation.yaml").read_text("utf-8")
    path = tmp_path / "curation.yaml"
    written(path, text, (LOCAL, "hub: alice/curated, version: 1.0.0, license: mit"))
    store = tmp_path / "store"
    for request, late in (("PUT ", False), ("POST .*/commit/main", True), ("POST .*/tag/", True)):
        _run_and_kill(hub, Fault(request, late=late), ["run", path, "--store", store], environment)
    hub.faults = []
    ran("run", path, "--store", store, environment=environment)
    [commit] = hub.history("dataset", "alice/curated")
    assert hub.repositories["dataset", "alice/curated"].tags == {"v1.0.0": commit.id}
    [published] = (store / "published").glob("*/versions/*")
    assert hub.bytes_of("dataset", "alice/curated", "v1.0.0") == _files(published)
    assert len(hub.sent) <= len(set(hub.sent)) + 1
