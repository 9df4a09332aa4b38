"""A student, from its training to whoever asks it: by the very line that the run prints, and by `distillkit chat`."""

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from runs import command

from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import generate

pytestmark = pytest.mark.slow

RECIPE = """
name: served
seed: 3
shards: 2
stages:
  - {name: worked, kind: traces, file: FILE, domain: chain, columns: {prompt: prompt, completion: completion, reference: answer}}
  - {name: student, kind: sft, model: toy:base, learning_rate: 2.0e-3, epochs: 4, batch: 16, max_length: 96}
"""
QUESTION = "3 + 4 - 5"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a trained student, and what the run printed."""
    folder = tmp_path_factory.mktemp("serve")
    corpus, rng = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0), random.Random(1)
    rows = [
        {"prompt": each.prompt, "completion": corpus.complete(each.prompt, rng), "answer": each.reference}
        for each in generate(240, 1, "train")
    ]
    (folder / "worked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "served.yaml").write_text(RECIPE.replace("FILE", str(folder / "worked.jsonl")), "utf-8")
    answer = command("run", folder / "served.yaml", "--store", folder / "store", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder / "store", answer.stdout


def serve_line(printed: str) -> list[str]:
    """The words of the command that the run printed."""
    [line] = [line for line in printed.splitlines() if line.startswith("serve student: ")]
    return shlex.split(line.removeprefix("serve student: "))


def test_chat_answers_once_in_json_and_line_by_line(store: tuple[Path, str]) -> None:
    path, _ = store
    once = command("chat", "student", "--store", path, "--once", QUESTION, "--temperature", "0", "--json")
    assert once.returncode == 0, once.stderr
    answer = json.loads(once.stdout)
    assert answer["finish_reason"] == "stop"
    assert answer["reasoning"].startswith("3 + 4 = 7")
    assert "</think>" not in answer["response"]
    again = command(
        "chat", "student", "--run", "served/1", "--store", path, "--once", QUESTION, "--temperature", "0"
    )
    assert again.stdout.strip() == answer["completion"].strip()
    talk = subprocess.run(
        [
            sys.executable,
            "-m",
            "distillkit",
            "chat",
            "served/student",
            "--store",
            str(path),
            "--temperature",
            "0",
        ],
        input=f"{QUESTION}\n/new\n{QUESTION}\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert [line.strip() for line in talk.stdout.splitlines()] == [answer["completion"].strip()] * 2


@pytest.fixture(scope="module")
def port(store: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """vLLM serving the student, on loopback, with the printed arguments."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    vllm, serve, model, *arguments = serve_line(store[1])
    assert (vllm, serve) == ("vllm", "serve")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        found = listener.getsockname()[1]
    # The CPU build's `vllm` command does not start; what it would run does.
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *arguments]
    small = ["--host", "127.0.0.1", "--port", str(found), "--served-model-name", "student", "--enforce-eager"]
    small += ["--dtype", "float32", "--kv-cache-memory-bytes", str(2**28), "--no-enable-chunked-prefill"]
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*words, *small], stdout=out, stderr=out, env=os.environ | quiet, start_new_session=True
        )
    try:
        _await(found, process, log)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the vLLM server did not start:\n{log.read_text()[-4000:]}")


def ask(port: int, **more: Any) -> dict[str, Any]:
    body = {"model": "student", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, **more}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        found: dict[str, Any] = json.load(answer)["choices"][0]
    return found


@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_the_student_answers_over_http_thinks_apart_and_stops(store: tuple[Path, str], port: int) -> None:
    once = command("chat", "student", "--store", store[0], "--once", QUESTION, "--temperature", "0", "--json")
    expected = json.loads(once.stdout)
    choice = ask(port)
    assert choice["finish_reason"] == "stop"  # by the end token: nothing limits it but the context
    message = choice["message"]
    assert message["reasoning"].strip() == expected["reasoning"]
    assert message["content"].strip() == expected["response"]
    assert "<think>" not in message["content"]
    assert "<|end|>" not in message["content"]
