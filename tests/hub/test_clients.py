"""What was pushed comes back the same through the libraries that people use, and through another version of them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hubserver import TOKEN, folders
from patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
DATA, MODEL = "alice/traces", "alice/student"
CARD = b"""---
license: mit
configs:
- config_name: default
  default: true
  data_files: [{split: train, path: data/train-*.parquet}]
- config_name: rejected
  data_files: [{split: train, path: rejected/train-*.parquet}]
---
"""
LOAD = """
import json, sys
from datasets import load_dataset
rows = {}
for name, options in {"normal": {}, "streaming": {"streaming": True}}.items():
    for tag in ("v1.0.0", "v1.1.0"):
        rows[f"{name} {tag}"] = list(load_dataset("alice/traces", revision=tag, split="train", **options))
rows["rejected"] = list(load_dataset("alice/traces", "rejected", revision="v1.0.0", split="train"))
print(json.dumps(rows))
"""
SNAPSHOT = """
from huggingface_hub import snapshot_download
print(snapshot_download("alice/traces", repo_type="dataset", revision="v1.0.0"))
"""
MODEL_LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
there = AutoModelForCausalLM.from_pretrained("alice/student", revision="v1.0.0")
here = AutoModelForCausalLM.from_pretrained(sys.argv[1])
assert there.state_dict().keys() == here.state_dict().keys()
assert all(torch.equal(there.state_dict()[name], here.state_dict()[name]) for name in here.state_dict())
tokens = [AutoTokenizer.from_pretrained(name, **more) for name, more in (("alice/student", {"revision": "v1.0.0"}), (sys.argv[1], {}))]
assert tokens[0].get_vocab() == tokens[1].get_vocab()
assert tokens[0].chat_template == tokens[1].chat_template
"""


def run(hub, home: Path, code: str, *arguments: str, **env: str) -> str:
    """Output of a program whose Hub is `hub`, in an interpreter of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=kept | settings | env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout


def rows(start: int, count: int) -> list[dict[str, object]]:
    return [
        {"id": f"{n:04d}", "messages": [{"role": "user", "content": f"{n} + 1?"}]}
        for n in range(start, start + count)
    ]


def parquet(folder: Path, some: list[dict[str, object]]) -> bytes:
    import pyarrow as pa

    from distillkit.durable import write_parquet

    path = folder / "part.parquet"
    write_parquet(pa.Table.from_pylist(some), path)
    return path.read_bytes()


@pytest.fixture
def pushed(client, tmp_path):
    from distillkit.hub import Target, push

    first = {"README.md": CARD, "rejected/train-00000-of-00001.parquet": parquet(tmp_path, rows(900, 3))}
    for n in range(2):
        first[f"data/train-{n:05d}-of-00002.parquet"] = parquet(tmp_path, rows(n * 50, 50))
    second = first | {"data/train-00001-of-00002.parquet": parquet(tmp_path, rows(50, 40))}
    for version, files in (("1.0.0", first), ("1.1.0", second)):
        folder = folders.make(tmp_path / version, files, version)
        push(folder, Target("dataset", DATA, tag=f"v{version}"), version)
    client.redirects = True  # large files come from storage, as on the real Hub
    return tmp_path / "1.0.0"


def test_datasets_reads_the_same_rows(client, pushed, tmp_path) -> None:
    """Of each tag, at once and as a stream; the rejected ones only where they are asked for."""
    found = json.loads(run(client, tmp_path, LOAD))
    for way in ("normal", "streaming"):
        assert found[f"{way} v1.0.0"] == rows(0, 100)
        assert found[f"{way} v1.1.0"] == rows(0, 90)
    assert found["rejected"] == rows(900, 3)
    assert client.tokens_at_storage == []


def test_a_snapshot_is_the_folder(client, pushed, tmp_path) -> None:
    snapshot = Path(run(client, tmp_path, SNAPSHOT).strip())
    found = folders.content(snapshot)
    del found[".gitattributes"]
    assert found == folders.content(pushed)


VLLM_LOAD = """
import hashlib, json, sys
from vllm import LLM, SamplingParams
name, revision = sys.argv[1], (sys.argv[2:] or [None])[0]
model = LLM(name, revision=revision, dtype="float32", max_model_len=128, max_num_seqs=2, enforce_eager=True,
    gpu_memory_utilization=0.1, disable_log_stats=True)
[answer] = model.generate(["1 + 1"], SamplingParams(temperature=0, max_tokens=16))
def digest(weights):
    return {n: hashlib.sha256(w.detach().numpy().tobytes()).hexdigest() for n, w in weights.named_parameters()}
print(json.dumps([list(answer.outputs[0].token_ids), model.apply_model(digest)]))
"""


def push_student(client, tmp_path) -> Path:
    """The packaged toy weights as version 1.0.0 on the Hub; returns their folder."""
    from distillkit import toy
    from distillkit.hub import Target, push

    base = Path(toy.__file__).parent / "base"
    folder = folders.make(
        tmp_path / "model", {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    )
    push(folder, Target("model", MODEL, tag="v1.0.0"), "1")
    assert client.bytes_of("model", MODEL, "v1.0.0") == folders.content(folder)
    client.redirects = True
    return folder


@pytest.mark.slow
def test_transformers_reads_the_same_weights(client, tmp_path) -> None:
    run(client, tmp_path, MODEL_LOAD, str(push_student(client, tmp_path)))


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_reads_the_same_weights(client, tmp_path) -> None:
    """Parameter by parameter, and greedy answers."""
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    folder = push_student(client, tmp_path)
    there, here = (
        json.loads(run(client, tmp_path, VLLM_LOAD, *named, **settings).splitlines()[-1])
        for named in ((MODEL, "v1.0.0"), (str(folder),))
    )
    assert there == here
    assert len(there[0]) > 0 and len(there[1][0]) > 5


@pytest.mark.slow
def test_another_version_of_the_client(tmp_path) -> None:
    """huggingface_hub 2 (httpx2) runs these tests too, in an environment with little else."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=PATIENCE_S)
    python = tmp_path / "venv" / "bin" / "python"
    needs = [
        "huggingface_hub==2.4.0",
        "datasets>=5",
        "pydantic>=2.10,<3",
        "pyyaml",
        "pyarrow",
        "pytest",
        "hypothesis",
    ]
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needs],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if installed.returncode:
        pytest.skip(f"no packages to be had: {installed.stderr.splitlines()[-1:]}")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not soak", "tests/hub"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    version = subprocess.run(
        [python, "-c", "import huggingface_hub; print(huggingface_hub.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.strip() == "2.4.0"
