"""The pinned pull against a real server: the client libraries run as they are, in a subprocess, over HTTP."""

import io
import json
import os
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hubserver import Account
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S

from distillkit.errors import RecipeError
from distillkit.hub import HubRef, parse_reference

DATA = "lab/chains"
MODEL = "lab/tiny"
SECRET = "hf_thisIsTheSecretToken"

ASK = """
import json, sys
from itertools import islice
from distillkit.errors import DistillkitError
from distillkit.hub import HubRef, dataset_rows, model_folder, parse_reference, resolve

def ask(question):
    try:
        return ["value", question()]
    except DistillkitError as error:
        return [type(error).__name__, str(error)]

def data(reference, *rest):
    return list(dataset_rows(parse_reference(reference, "dataset"), *rest))

def files(reference):
    return sorted(path.name for path in model_folder(parse_reference(reference, "model")).iterdir())

def commit(reference, kind="dataset"):
    return resolve(parse_reference(reference, kind))

print(json.dumps([ask(question) for question in eval(sys.argv[1])]))
"""


def ask(hub: Any, home: Path, *questions: str, cwd: Path | None = None, **env: str) -> list[list[Any]]:
    """[kind, text or value] of each question, asked in a fresh interpreter whose Hub is `hub`."""
    code = f"[{', '.join(f'lambda: {question}' for question in questions)}]"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    path = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", ASK, code],
        env=kept | settings | path | env,
        cwd=cwd or home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return json.loads(done.stdout)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def chains(*answers: int) -> bytes:
    return parquet([{"question": f"{n} + 0", "gold": {"answer": str(n)}, "notes": "x" * 10} for n in answers])


CARD = b"""---
configs:
- config_name: short
  data_files: [{split: train, path: short/train-*.parquet}, {split: test, path: short/test-*.parquet}]
- config_name: long
  data_files: long/*.parquet
---
"""


class TestReference:
    def test_forms(self) -> None:
        assert parse_reference("a/b", "model") == HubRef("model", "a/b", "main")
        assert parse_reference("a/b@v1.0", "dataset") == HubRef("dataset", "a/b", "v1.0")
        assert parse_reference("a/b@refs/convert/parquet", "dataset").revision == "refs/convert/parquet"

    def test_only_a_whole_commit_is_pinned(self) -> None:
        assert parse_reference("a/b@" + "0f" * 20, "model").commit == "0f" * 20
        assert parse_reference("a/b@" + "0f" * 19, "model").commit is None
        assert parse_reference("a/b", "model").commit is None

    @pytest.mark.parametrize(
        "text", ["", "gpt2", "a/b/c", "a/b@", "@v1", "a b/c", "https://huggingface.co/a/b", "a/b@x y"]
    )
    def test_other_forms_are_refused_by_name(self, text: str) -> None:
        with pytest.raises(RecipeError, match="org/name"):
            parse_reference(text, "dataset")

    @given(st.from_regex(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[A-Za-z0-9_./-]+", fullmatch=True))
    def test_reads_back_what_it_shows(self, text: str) -> None:
        assert str(parse_reference(text, "model")) == text


def test_names_resolve_to_commits(hub, tmp_path) -> None:
    first = hub.commit("dataset", DATA, {"train.jsonl": b"{}"}, "v1")
    second = hub.commit("dataset", DATA, {"train.jsonl": b"{}\n{}"})
    found = ask(
        hub,
        tmp_path,
        f"commit('{DATA}')",
        f"commit('{DATA}@v1')",
        f"commit('{DATA}@{first}')",
        f"commit('{DATA}@v2')",
    )
    assert found[:3] == [["value", second], ["value", first], ["value", first]]
    assert found[3][0] == "RecipeError"
    assert "no revision 'v2'" in found[3][1] and f"{hub.url}/datasets/{DATA}" in found[3][1]


def test_rows_of_a_config_and_split_at_a_commit(hub, tmp_path) -> None:
    old = hub.commit(
        "dataset",
        DATA,
        {"README.md": CARD, "short/train-0.parquet": chains(1, 2), "short/test-0.parquet": chains(3)},
    )
    hub.commit(
        "dataset",
        DATA,
        {"README.md": CARD, "short/train-0.parquet": chains(9), "short/test-0.parquet": chains(9)},
    )
    (tmp_path / DATA).mkdir(parents=True)  # a folder of that name must not be taken for the Hub's
    (tmp_path / DATA / "train.jsonl").write_text('{"question": "a decoy"}')
    found = ask(
        hub,
        tmp_path,
        f"data('{DATA}@{old}', 'short', 'train', lambda names: [n for n in names if n != 'notes'])",
        f"[row['question'] for row in data('{DATA}@{old}', 'short', 'test')]",
        f"data('{DATA}@{old}', 'short', 'heldout')",
        f"data('{DATA}@{old}', 'middle')",
        f"data('{DATA}@{old}')",
        f"data('{DATA}')",
    )
    assert found[0] == ["value", [{"question": f"{n} + 0", "gold": {"answer": str(n)}} for n in (1, 2)]]
    assert found[1] == ["value", ["3 + 0"]]
    assert found[2][0] == "RecipeError" and "no split 'heldout'; there are train, test" in found[2][1]
    assert found[3][0] == "RecipeError" and "short" in found[3][1] and "long" in found[3][1]
    assert found[4][0] == "RecipeError" and "'short', 'long'" in found[4][1]
    assert found[5][0] == "RecipeError" and "at a commit only" in found[5][1]


def test_offline_never_takes_another_commit(hub, tmp_path) -> None:
    first = hub.commit("dataset", DATA, {"train.jsonl": b'{"n": 1}\n'})
    second = hub.commit("dataset", DATA, {"train.jsonl": b'{"n": 2}\n'})
    assert ask(hub, tmp_path, f"data('{DATA}@{first}')") == [["value", [{"n": 1}]]]
    before = len(hub.log)
    found = ask(
        hub,
        tmp_path,
        f"data('{DATA}@{first}')",
        f"data('{DATA}@{second}')",
        f"commit('{DATA}')",
        HF_HUB_OFFLINE="1",
    )
    assert found[0] == ["value", [{"n": 1}]]
    for kind, text in found[1:]:
        assert kind == "MissingError" and "offline" in text and "run once online" in text
    assert len(hub.log) == before


def test_data_that_is_no_data(hub, tmp_path) -> None:
    program = hub.commit("dataset", "lab/program", {"program.py": b"raise SystemExit"})
    broken = hub.commit("dataset", "lab/broken", {"train.parquet": b"PAR1 and then nothing"})
    empty = hub.commit("dataset", "lab/empty", {"README.md": b"nothing yet"})
    found = ask(
        hub,
        tmp_path,
        *[f"data('lab/{n}@{c}')" for n, c in [("program", program), ("broken", broken), ("empty", empty)]],
    )
    assert found[0][0] == "RecipeError" and "lab/program@refs/convert/parquet" in found[0][1]
    assert found[1][0] == "StageError" and "cannot be read" in found[1][1]
    assert found[2][0] in ("StageError", "RecipeError") and "lab/empty" in found[2][1]


def test_missing_private_and_gated(hub, tmp_path) -> None:
    private = hub.commit("dataset", "lab/private", {"train.jsonl": b'{"n": 1}\n'})
    hub.repositories["dataset", "lab/private"].private = True
    gated = hub.commit("dataset", "lab/gated", {"train.jsonl": b'{"n": 1}\n'})
    hub.repositories["dataset", "lab/gated"].gated = True
    model = hub.commit("model", "lab/gated", {"model.safetensors": b"w", "config.json": b"{}"})
    hub.repositories["model", "lab/gated"].gated = True
    hub.accounts |= {SECRET: Account("dora", {"lab": "read"}), "hf_ofSomebodyElse": Account("eve")}
    for repository in hub.repositories.values():
        repository.accepted.add("dora")
    questions = [
        "commit('lab/none')",
        "commit('lab/private')",
        f"data('lab/private@{private}')",
        f"data('lab/gated@{gated}')",
        f"files('lab/gated@{model}')",
    ]
    found = ask(hub, tmp_path / "a", *questions, cwd=tmp_path)
    assert {kind for kind, _ in found} == {"MissingError"}
    for _, text in found[:3]:
        assert "no such dataset, or a private one" in text and "set HF_TOKEN" in text
    assert f"accept its terms at {hub.url}/datasets/lab/gated," in found[3][1]
    assert f"accept its terms at {hub.url}/lab/gated," in found[4][1]
    denied = ask(hub, tmp_path / "b", *questions, cwd=tmp_path, HF_TOKEN="hf_ofSomebodyElse")
    assert {kind for kind, _ in denied} == {"MissingError"}
    assert all("may read it" in text and "hf_of" not in text for _, text in denied)
    allowed = ask(hub, tmp_path / "c", *questions[1:], cwd=tmp_path, HF_TOKEN=SECRET)
    assert allowed == [
        ["value", private],
        ["value", [{"n": 1}]],
        ["value", [{"n": 1}]],
        ["value", ["config.json", "model.safetensors"]],
    ]


def test_only_safetensors_of_a_model(hub, tmp_path) -> None:
    files = {
        "model.safetensors": b"weights",
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "pytorch_model.bin": b"pickle",
        "modeling_tiny.py": b"raise SystemExit",
        "onnx/model.safetensors": b"another format",
    }
    good = hub.commit("model", MODEL, files)
    pickled = hub.commit("model", "lab/pickled", {"pytorch_model.bin": b"pickle", "config.json": b"{}"})
    found = ask(hub, tmp_path, f"files('{MODEL}@{good}')", f"files('lab/pickled@{pickled}')")
    assert found[0] == [
        "value",
        ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"],
    ]
    assert found[1][0] == "MissingError" and "no safetensors" in found[1][1]
    fetched = [line for line in hub.log if "/resolve/" in line]
    assert not [line for line in fetched if line.endswith((".bin", ".py")) or "onnx" in line]
    hub.log.clear()
    assert ask(hub, tmp_path, f"files('{MODEL}@{good}')", HF_HUB_OFFLINE="1") == found[:1]
    assert hub.log == []


def test_a_snapshot_cut_short_is_not_taken_for_the_model(hub, tmp_path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    commit = hub.commit(
        "model",
        MODEL,
        {"model.safetensors.index.json": index, "model-1.safetensors": b"a", "model-2.safetensors": b"b"},
    )
    assert ask(hub, tmp_path, f"files('{MODEL}@{commit}')")[0][0] == "value"
    next(tmp_path.rglob("snapshots/*/model-2.safetensors")).unlink()
    [[kind, text]] = ask(hub, tmp_path, f"files('{MODEL}@{commit}')", HF_HUB_OFFLINE="1")
    assert kind == "MissingError" and MODEL in text


def test_a_hub_that_fails_or_is_not_there(hub, tmp_path) -> None:
    commit = hub.commit("model", MODEL, {"model.safetensors": b"w"})
    hub.broken = HTTPStatus.SERVICE_UNAVAILABLE
    [[kind, text]] = ask(hub, tmp_path, f"commit('{MODEL}', 'model')")
    assert kind == "MissingError" and "answered 503; wait and run again" in text
    for url in ("http://127.0.0.1:9", "http://nowhere.invalid"):
        found = ask(
            hub, tmp_path, f"commit('{MODEL}', 'model')", f"files('{MODEL}@{commit}')", HF_ENDPOINT=url
        )
        assert [kind for kind, _ in found] == ["MissingError", "MissingError"]
        assert all("cannot be reached" in text for _, text in found)
