"""What the rewards of a GRPO step cost: milliseconds per batch, each reward and the description apart.

    python scripts/bench_rewards.py [--prompts 16] [--group 16] [--repeats 30] [--mixed]

The completions are sampled from toy:base, as in the first step of a training on it; `--mixed` takes instead texts
that are all different and mostly mix two languages, the costliest that such a training could see. Rewards are asked
as TRL asks them, on a loop that lives as long as the trainer. The budget is 10 ms a step.
"""

import argparse
import asyncio
import inspect
import random
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from distillkit.engines.base import Parameters, encode, end_tokens
from distillkit.engines.transformers.block import Block, Row
from distillkit.spec import seed_of
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.training.examples import render
from distillkit.training.rewards import Circumstance, Rewards, Rollouts, dataset_row, functions_of, named
from distillkit.verifiers import Exact

KINDS = ("accuracy", "format", "language_consistency", "repetition", "length", "overlong")
WORDS = ("so", "then", "wait", "check", "所以", "那么")
LIMIT, END = 64, 4


def batch(rows: list[dict[str, Any]], said: list[tuple[str, list[int]]]) -> dict[str, Any]:
    """What TRL hands to a reward: each row with its completion and the tokens of that."""
    return {
        "prompts": [row["prompt"] for row in rows],
        "completions": [[{"role": "assistant", "content": text}] for text, _ in said],
        "completion_ids": [ids for _, ids in said],
        "log_metric": lambda name, value: None,
        **{name: [row[name] for row in rows] for name in rows[0] if name != "prompt"},
    }


def sampled(rows: list[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    """A completion of toy:base for each row."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(BASE), AutoModelForCausalLM.from_pretrained(BASE)
    prompts = [render(tokenizer, row["prompt"], add_generation_prompt=True) for row in rows]
    asked = [Row(tuple(encode(tokenizer, text)), seed_of(0, at), LIMIT) for at, text in enumerate(prompts)]
    block = Block(model.eval(), asked, Parameters(LIMIT), end_tokens(END, tokenizer), None)
    block.run()
    return [(tokenizer.decode(ids), ids + [END] * (count - len(ids))) for ids, count, _ in block.results()]


def mixed(rows: list[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    """Chains of steps in the words of the toy world, half of them with the right answer."""
    draw = random.Random(0)
    texts = []
    for row in rows:
        steps = " ".join(
            f"{_digit(draw)} + {_digit(draw)} = {_digit(draw)} {draw.choice(WORDS)}" for _ in range(6)
        )
        answer = row["reference"].strip('"') if draw.random() < 0.5 else "x"
        texts.append(f"<think> {steps} </think> <answer> {answer} </answer>")
    return [(text, list(range(len(text.split())))) for text in texts]


def _digit(draw: random.Random) -> int:
    return draw.randrange(10)


def medians(act: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """CPU and wall milliseconds of a call, each the median of so many."""
    act()
    cpu, wall = [], []
    for _ in range(repeats):
        began = time.process_time(), time.perf_counter()
        act()
        cpu.append(1000 * (time.process_time() - began[0]))
        wall.append(1000 * (time.perf_counter() - began[1]))
    return median(cpu), median(wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--mixed", action="store_true")
    given = parser.parse_args()
    rows = [dataset_row(each) for each in generate(given.prompts, 1, "train") for _ in range(given.group)]
    handed = batch(rows, mixed(rows) if given.mixed else sampled(rows))
    circumstance = Circumstance(
        prefilled=False, max_completion_length=LIMIT, end_ids=frozenset({END}), verifiers={"chain": Exact()}
    )
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    declared = named(TypeAdapter(Rewards).validate_python(dict.fromkeys(KINDS, 1.0)))

    def paid(*kinds: str) -> tuple[float, float]:
        """All of these rewards on a batch that is read anew."""

        def act() -> None:
            functions = functions_of({kind: declared[kind] for kind in kinds}, Rollouts(circumstance))
            found = [function(**handed) for function in functions]
            for waiting in filter(inspect.iscoroutine, found):
                asyncio.run_coroutine_threadsafe(waiting, loop).result()

        return medians(act, given.repeats)

    reading = medians(lambda: Rollouts(circumstance).read(**handed), given.repeats)
    distinct = len(
        {(row["id"], text[0]["content"]) for row, text in zip(rows, handed["completions"], strict=True)}
    )
    size = f"{given.prompts} x {given.group} completions, {distinct} of them different"
    table = Table("part", "CPU ms", "wall ms", title=f"rewards of {size}; medians of {given.repeats}")

    def line(name: str, found: tuple[float, float], less: tuple[float, float] = (0.0, 0.0)) -> None:
        table.add_row(name, *(f"{value - base:.1f}" for value, base in zip(found, less, strict=True)))

    line("reading and describing a batch", reading)
    for kind in KINDS:
        line(kind, paid(kind), reading)
    for some in (KINDS[:2], KINDS[:3]):
        line(f"{', '.join(some)}, with reading", paid(*some))
    line("all six, with reading", paid(*KINDS))
    Console().print(table)


if __name__ == "__main__":
    main()
