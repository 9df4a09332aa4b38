"""The toy base, as every engine gets it, and a real OpenAI-compatible server of it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from patience import PATIENCE_S

from distillkit.artifact import Model
from distillkit.engines.base import Request, load_tokenizer
from distillkit.engines.vllm import VllmEngine
from distillkit.toy import BASE
from distillkit.toy.problems import generate


@pytest.fixture(scope="session")
def model() -> Model:
    return Model("toy:base", str(BASE), "content")


@pytest.fixture(scope="session")
def tokenizer(model):
    return load_tokenizer(model)


@pytest.fixture(scope="session")
def requests(tokenizer) -> list[Request]:
    """24 problems of 3 to 8 terms, 8 samples of each."""
    return [
        Request(f"{problem.id}/{index}", prompt, 1000 * number + index, problem.id, index, problem.messages)
        for number, problem in enumerate(generate(24, seed=1, split="train"))
        for prompt in [
            tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        ]
        for index in range(8)
    ]


@pytest.fixture(scope="session")
def vllm_session(model, tokenizer):
    """vLLM in this process on the toy base, started when the first test asks for it and once for all.

    Whoever asks for it, or for the server, is marked xdist_group("vllm"), so that one worker runs them all.
    """
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    engine = VllmEngine(
        dtype="float32",
        max_model_len=256,
        enforce_eager=True,
        window=100,
        engine_args={"kv_cache_memory_bytes": 2**28},
    )
    with engine.open(model, tokenizer) as session:
        yield session


@dataclass(frozen=True)
class Server:
    """A running vLLM server of the toy base on loopback."""

    port: int
    model: str
    """The name it is served under."""
    key: str
    """The API key that it asks for."""
    max_model_len: int
    log: Path

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory) -> Iterator[Server]:
    """vLLM's own OpenAI-compatible server, started when the first test asks for it and once for all."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    log = tmp_path_factory.mktemp("vllm_server") / "log.txt"
    server = Server(free_port(), "toy", "toy-key-1234", 256, log)
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(BASE), "--served-model-name", server.model, "--api-key", server.key),
        *("--host", "127.0.0.1", "--port", str(server.port), "--max-model-len", str(server.max_model_len)),
        *(
            "--dtype",
            "float32",
            "--enforce-eager",
            "--no-enable-chunked-prefill",
            "--load-format",
            "safetensors",
        ),
        *("--kv-cache-memory-bytes", str(2**28), "--disable-log-stats", "--disable-uvicorn-access-log"),
    ]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        # A group of its own, so that its engine process ends with it.
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | quiet, start_new_session=True
        )
    try:
        await_health(server, process)
        yield server
    finally:
        stop(process)


def await_health(server: Server, process: "subprocess.Popen[bytes]", patience_s: float = PATIENCE_S) -> None:
    """Until the server answers; fails with its log where it died or never does."""
    until = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the vLLM server did not start:\n{server.log.read_text()[-4000:]}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group."""
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


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
