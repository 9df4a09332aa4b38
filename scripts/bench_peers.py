"""Measure completions per second against two other tools, on the same requests to the same local vLLM server.

Ours is the sample stage with the endpoint engine. The peers are a distilabel pipeline (OpenAILLM, TextGeneration) and
curator (its OpenAI backend, and its LiteLLM backend for servers like this), in an environment of their own that this
script makes. Each side runs in a fresh process and is timed from the start of its run, imports left out, until all of
its results are in files. Sides alternate over the rounds. The server serves the toy base, so that what is measured is
the client: with a real teacher the server takes longer and the ratios go to 1.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from distillkit.toy import BASE
from distillkit.toy.problems import generate

PEERS = ("distilabel[openai]==1.5.3", "bespokelabs-curator==0.1.31")
BAR = 1.2
LOOK_S = 0.2

OURS = """
from pathlib import Path

import openai, pyarrow.parquet
from distillkit.artifact import Manifest
from distillkit.engines.endpoint import EndpointEngine
from distillkit.stages.base import PROBLEMS, Input, Job
from distillkit.stages.sample import Sample
from distillkit.store import Store, Writer
from distillkit.trace import Problem, problem_schema, to_row

store = Store(Path("store"))
problems = [Problem([{"role": "user", "content": row["instruction"]}]) for row in rows]
with store.building("problems", "a" * 64, print) as writer:
    writer.write(0, [to_row(problem) for problem in problems], problem_schema())
    found = store.seal(writer, Manifest("problems", "problems", PROBLEMS, "a" * 64, ""))
engine = EndpointEngine(
    base_urls=[url], served_model="toy", api="chat", concurrency=flying, require_reasoning=False
)
stage = Sample(name="own", engine=engine, max_tokens=tokens)
inputs = {"input": [Input("problems", PROBLEMS, found.content, artifact=found.path.name)], "model": []}
job = Job(store, Writer(store.work / "out"), inputs)
begin()
stage.run(job)
end(job.out.summary["finish_reasons"].get("stop", 0) + job.out.summary["finish_reasons"].get("length", 0))
"""

DISTILABEL = """
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

begin()
with Pipeline(name="bench") as pipeline:
    load = LoadDataFromDicts(data=rows, batch_size=flying)
    options = {"max_new_tokens": tokens, "temperature": 1.0}
    llm = OpenAILLM(model="toy", base_url=url, api_key="none", generation_kwargs=options)
    load >> TextGeneration(llm=llm, input_batch_size=flying)
made = pipeline.run(use_cache=False)["default"]["train"]
end(sum(text is not None for text in made["generation"]))
"""

CURATOR = """
import tiktoken
from bespokelabs import curator
from datasets import Dataset

try:
    tiktoken.get_encoding("cl100k_base")
except Exception:  # no network for its table: bytes are counted instead, which costs curator less
    table = {bytes([byte]): byte for byte in range(256)}
    count = tiktoken.Encoding("bytes", pat_str=".", special_tokens={}, mergeable_ranks=table)
    tiktoken.get_encoding = lambda name: count

class Ask(curator.LLM):
    def prompt(self, row):
        return row["instruction"]

    def parse(self, row, response):
        return {"instruction": row["instruction"], "text": response}

begin()
params = {"base_url": url, "api_key": "none", "max_concurrent_requests": flying}
params |= {"max_requests_per_minute": 10**6, "max_tokens_per_minute": 10**9}
options = {"max_tokens": tokens, "temperature": 1.0}
llm = Ask(model_name=NAME, backend=BACKEND, backend_params=params, generation_params=options)
made = llm(Dataset.from_list(rows)).dataset
end(sum(bool(text) for text in made["text"]))
"""

FRAME = """
import json, os, sys, time
url, file, flying, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rows = [json.loads(line) for line in open(file)]
began = 0.0

def begin():
    global began
    began = time.perf_counter()

def end(answered):
    print("RESULT", json.dumps({"seconds": time.perf_counter() - began, "answered": answered}), flush=True)

def main():
BODY

if __name__ == "__main__":
    main()
"""


def program(body: str, **names: str) -> str:
    """A side as a script; distilabel starts processes that import it again."""
    for name, value in names.items():
        body = body.replace(name, repr(value))
    return FRAME.replace("BODY", "\n".join("    " + line for line in body.strip().splitlines()))


SIDES = {
    "distillkit": program(OURS),
    "distilabel": program(DISTILABEL),
    "curator openai": program(CURATOR, NAME="toy", BACKEND="openai"),
    "curator litellm": program(CURATOR, NAME="hosted_vllm/toy", BACKEND="litellm"),
}


class Taken(NamedTuple):
    """One side of one round."""

    seconds: float
    """Of the run as the side times it."""
    busy_s: float
    """From the first completion to the last, as the server counts them."""
    answered: int


class Server:
    """vLLM's own server of the toy base on loopback, and how many completions it has finished."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(BASE)),
            *("--served-model-name", "toy", "--host", "127.0.0.1", "--port", self.url.rpartition(":")[2]),
            *(
                "--max-model-len",
                "256",
                "--dtype",
                "float32",
                "--enforce-eager",
                "--no-enable-chunked-prefill",
            ),
            *("--kv-cache-memory-bytes", str(2**28), "--disable-uvicorn-access-log"),
        ]
        quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
        one = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=os.environ | quiet | one, start_new_session=True
            )
        while self.get("/health") is None:
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)

    def get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None

    def finished(self) -> int:
        lines = (self.get("/metrics") or "").splitlines()
        return int(sum(float(n.split()[-1]) for n in lines if n.startswith("vllm:request_success_total")))

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


class Busy:
    """Watches how long the server finishes completions."""

    def __init__(self, server: Server) -> None:
        self.server, self.first, self.last = server, 0.0, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        count = self.server.finished()
        while not self._ended.wait(LOOK_S):
            now = self.server.finished()
            if now > count:
                count, self.last = now, time.perf_counter()
                self.first = self.first or self.last - LOOK_S

    def end(self) -> float:
        self._ended.set()
        self._thread.join()
        return self.last - self.first


def peer_python(folder: Path) -> Path:
    """The peers' own environment, made where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {' and '.join(PEERS)} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    return python


def run_side(name: str, python: Path, server: Server, rows: Path, flying: int, tokens: int) -> Taken | str:
    """One side in a fresh process and folder; what went wrong where it failed."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        script = Path(folder) / "side.py"
        script.write_text(SIDES[name])
        quiet = {"TELEMETRY_ENABLED": "0", "CURATOR_VIEWER": "0", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        places = {"CURATOR_CACHE_DIR": f"{folder}/curator", "HF_HOME": f"{folder}/hf", "HF_HUB_OFFLINE": "1"}
        busy = Busy(server)
        ended = subprocess.run(
            [python, str(script), f"{server.url}/v1", str(rows), str(flying), str(tokens)],
            cwd=folder,
            env=os.environ | quiet | places,
            capture_output=True,
            text=True,
        )
        busy_s = busy.end()
    results = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    if not results:
        return next(iter(reversed((ended.stderr + ended.stdout).strip().splitlines())), "said nothing")
    found = json.loads(results[-1].removeprefix("RESULT "))
    return Taken(found["seconds"], busy_s, found["answered"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--flying", type=int, default=256, help="requests in flight (distilabel: its batch)")
    parser.add_argument("--tokens", type=int, default=64, help="max_tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-venv", type=Path, default=Path(tempfile.gettempdir()) / "distillkit-peers")
    options = parser.parse_args()
    peer = peer_python(options.peer_venv)
    taken: dict[str, list[Taken]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        rows = Path(folder) / "rows.jsonl"
        problems = generate(options.requests, seed=1, split="train")
        rows.write_text(
            "".join(json.dumps({"instruction": each.messages[-1]["content"]}) + "\n" for each in problems)
        )
        server = Server(Path(folder) / "server.log")
        try:
            print(f"{options.requests} requests, {options.flying} in flight, max_tokens {options.tokens}")
            print(f"{'round':>5} {'side':<16} {'answered':>8} {'run s':>7} {'/s':>6} {'busy s':>7} {'/s':>6}")
            for number in range(options.rounds):
                for name in list(SIDES) if number % 2 else reversed(SIDES):
                    python = Path(sys.executable) if name == "distillkit" else peer
                    found = run_side(name, python, server, rows, options.flying, options.tokens)
                    if isinstance(found, str):
                        print(f"{number:>5} {name:<16} failed: {found}", flush=True)
                        continue
                    taken.setdefault(name, []).append(found)
                    print(
                        f"{number:>5} {name:<16} {found.answered:>8,} {found.seconds:>7.2f} "
                        f"{found.answered / found.seconds:>6.0f} {found.busy_s:>7.2f} "
                        f"{found.answered / max(found.busy_s, LOOK_S):>6.0f}",
                        flush=True,
                    )
        finally:
            server.stop()
    sys.exit(report(taken))


def report(taken: dict[str, list[Taken]]) -> int:
    """Prints the ratios; 1 where the bar is missed."""
    rates = {
        name: (
            statistics.median(each.answered / each.seconds for each in rounds),
            statistics.median(each.answered / max(each.busy_s, LOOK_S) for each in rounds),
        )
        for name, rounds in taken.items()
    }
    ours = rates.pop("distillkit")
    for name, (run, busy) in rates.items():
        print(
            f"distillkit / {name}: {ours[0] / run:.2f} of the whole run, {ours[1] / busy:.2f} while it asks"
        )
    if not rates:
        print("no peer ran")
        return 1
    best = max(run for run, _ in rates.values())
    held = ours[0] >= BAR * best
    print(f"against the best: {ours[0] / best:.2f} (bar {BAR}): {'holds' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    main()
