"""Measure what the sample stage costs beside a bare loop over vLLM's async engine.

One engine is started per model; then rounds alternate on it: the whole sample stage (plan, window, ledger, shards,
every completion written durably before it counts) and a bare loop that keeps the same requests in flight and keeps
their texts in a list. Two models: one of random weights big enough to be busy (--layers, --hidden), and the toy
base, where next to nothing is left but the overhead of each request. Runs on a CPU build as on a GPU.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.artifact import Manifest, Model
from distillkit.engines.base import Request, encode, load_tokenizer
from distillkit.engines.vllm import VllmEngine, VllmSession, api
from distillkit.sampling import Plan
from distillkit.stages.base import PROBLEMS, WEIGHTS, Input, Job
from distillkit.stages.sample import Sample
from distillkit.store import Store, Writer
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import problem_schema, to_row


@dataclass
class Held:
    """Gives the stage an engine that is open already, in the place of replicas on a cluster."""

    session: VllmSession

    @contextlib.contextmanager
    def open(self, *_: Any) -> Iterator[VllmSession]:
        yield self.session


@dataclass(frozen=True)
class Round:
    """One side of one round."""

    seconds: float
    cpu_s: float
    """Of this process; the engine's arithmetic is in another."""
    requests: int
    tokens: int

    @property
    def rate(self) -> float:
        """Output tokens per second."""
        return self.tokens / self.seconds


def make_random_model(folder: Path, layers: int, hidden: int) -> int:
    """A Qwen3 of random weights with the toy's tokenizer; returns how many weights it has."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    toy = json.loads((BASE / "config.json").read_text())
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=toy["vocab_size"],
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 128,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        shutil.copy(BASE / name, folder / name)
    return sum(weight.numel() for weight in model.parameters())


def prepared(root: Path, problems: int, model: Model) -> tuple[Store, dict[str, list[Input]]]:
    """A store that holds the problems, and the inputs of a stage that samples them."""
    store = Store(root)
    with store.building("problems", "a" * 64, print) as writer:
        rows = [to_row(problem) for problem in generate(problems, seed=1, split="train")]
        writer.write(0, rows, problem_schema())
        found = store.seal(writer, Manifest("problems", "problems", PROBLEMS, "a" * 64, ""))
    weights = Input(model.name, WEIGHTS, model.content, path=model.path)
    return store, {
        "input": [Input("problems", PROBLEMS, found.content, artifact=found.path.name)],
        "model": [weights],
    }


def run_stage(stage: Sample, session: VllmSession, job: Job) -> Round:
    """The whole stage over an engine that is open."""
    started, cpu = time.perf_counter(), time.process_time()
    stage.run(job)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return Round(seconds, cpu_s, job.out.summary["traces"], job.out.summary["completion_tokens"])


def run_bare(session: VllmSession, requests: list[Request], stage: Sample) -> Round:
    """The same requests in the same window, with vLLM's own text; nothing is recorded."""
    ids = {prompt: encode(session.tokenizer, prompt) for prompt in {each.prompt for each in requests}}
    texts: list[str] = []
    tokens = 0

    async def ask(request: Request, window: asyncio.Semaphore) -> None:
        nonlocal tokens
        async with window:
            parameters = api.sampling_params(stage.parameters, request.seed, stage.max_tokens)
            parameters.detokenize = True
            answers = session.engine.generate(api.prompt_of(ids[request.prompt]), parameters, request.key)
            async for answer in answers:
                texts.append(answer.outputs[0].text)
                tokens += len(answer.outputs[0].token_ids)

    async def everything() -> None:
        window = asyncio.Semaphore(session.window)
        await asyncio.gather(*(ask(request, window) for request in requests))

    started, cpu = time.perf_counter(), time.process_time()
    session.stream.run(everything())
    return Round(time.perf_counter() - started, time.process_time() - cpu, len(texts), tokens)


def compare(
    name: str, model: Model, engine: VllmEngine, problems: int, n: int, tokens: int, rounds: int
) -> float:
    """Alternate the two sides on one engine, print them, and return the median ratio of their rates."""
    stage = Sample(name="own", model=model.name, engine=engine, n=n, max_tokens=tokens)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-vllm-") as folder:
        store, inputs = prepared(Path(folder), problems, model)
        with engine.open(model, load_tokenizer(model)) as session:
            print(f"\n{name}: {problems} problems x {n}, max_tokens {tokens}, window {session.window}")
            print(f"engine {session.build}, started in {time.perf_counter() - began:.1f} s")
            print(
                f"{'round':>5} {'side':<6} {'requests':>8} {'tokens':>8} {'seconds':>8} {'CPU s':>6} {'tokens/s':>9}"
            )
            pairs: list[tuple[Round, Round]] = []
            for number in range(rounds + 1):  # the first warms up
                job = Job(
                    store, Writer(store.work / str(number)), inputs, seed=number, replicas=Held(session)
                )  # type: ignore[arg-type]
                plan = Plan.of(stage, model, job.problems(), n, number)
                requests = [plan.request(want) for ask in plan.asks for want in plan.wants(ask)]
                sides: dict[str, Round] = {}
                for side in ("stage", "bare") if number % 2 else ("bare", "stage"):
                    session.stream.run(session.engine.reset_prefix_cache())
                    sides[side] = (
                        run_stage(stage, session, job)
                        if side == "stage"
                        else run_bare(session, requests, stage)
                    )
                if number == 0:
                    continue
                pairs.append((sides["stage"], sides["bare"]))
                for side, each in sides.items():
                    counts = f"{each.requests:>8,} {each.tokens:>8,}"
                    times = f"{each.seconds:>8.2f} {each.cpu_s:>6.2f} {each.rate:>9,.0f}"
                    print(f"{number:>5} {side:<6} {counts} {times}", flush=True)
    return report(name, pairs)


def report(name: str, pairs: list[tuple[Round, Round]]) -> float:
    ratios = [stage.rate / bare.rate for stage, bare in pairs]
    overheads = [(stage.seconds - bare.seconds) / stage.requests * 1e6 for stage, bare in pairs]
    cpu = statistics.median((stage.cpu_s - bare.cpu_s) / stage.requests * 1e6 for stage, bare in pairs)
    ratio = statistics.median(ratios)
    print(
        f"{name}: stage / bare = {ratio:.3f} (median of {len(pairs)}; {min(ratios):.3f} to {max(ratios):.3f}); "
        f"overhead {statistics.median(overheads):,.0f} us per request, {cpu:,.0f} us of CPU"
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=640)
    parser.add_argument("--problems", type=int, default=64, help="of the random model")
    parser.add_argument("--tokens", type=int, default=128, help="max_tokens of the random model")
    parser.add_argument("--toy-problems", type=int, default=1000)
    parser.add_argument("--n", type=int, default=4, help="samples of a problem")
    parser.add_argument("--only", choices=("random", "toy"))
    options = parser.parse_args()
    common = {"max_model_len": 512, "enforce_eager": True} if api.require().on_cpu else {"max_model_len": 512}
    missed = []
    with tempfile.TemporaryDirectory(prefix="bench-vllm-model-") as folder:
        if options.only != "toy":
            weights = make_random_model(Path(folder), options.layers, options.hidden)
            engine = VllmEngine(dtype="bfloat16", **common)
            name = f"random weights, {weights / 1e6:.0f} M"
            model = Model("random", folder, "random")
            ratio = compare(name, model, engine, options.problems, options.n, options.tokens, options.rounds)
            missed += [f"{name}: {ratio:.3f} is below 0.97"] if ratio < 0.97 else []
        if options.only != "random":
            engine = VllmEngine(dtype="float32", **common)
            model = Model("toy:base", str(BASE), "toy")
            ratio = compare("toy base", model, engine, options.toy_problems, options.n, 64, options.rounds)
            missed += [f"toy base: {ratio:.3f} is below 0.85"] if ratio < 0.85 else []
    print("; ".join(missed) or "both bars hold")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
