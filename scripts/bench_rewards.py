"""What the rewards of a GRPO step cost: CPU milliseconds per batch, each reward and the description apart.

    python scripts/bench_rewards.py [--prompts 16] [--group 16] [--repeats 20]

The completions are those of the toy world, half of them right, all of them different. The budget is 10 ms a step.
"""

import argparse
import asyncio
import inspect
import random
import time
from statistics import median
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from distillkit.toy.problems import generate
from distillkit.training.rewards import Circumstance, Rewards, Rollouts, dataset_row, functions_of, named
from distillkit.verifiers import Exact

KINDS = ("accuracy", "format", "language_consistency", "repetition", "length", "overlong")
WORDS = ("so", "then", "wait", "check", "所以", "那么")


def batch(prompts: int, group: int) -> dict[str, Any]:
    """What TRL hands to a reward."""
    draw = random.Random(0)
    rows = [dataset_row(each) for each in generate(prompts, 1, "train") for _ in range(group)]
    texts = [text(row, draw) for row in rows]
    return {
        "prompts": [row["prompt"] for row in rows],
        "completions": [[{"role": "assistant", "content": each}] for each in texts],
        "completion_ids": [list(range(len(each.split()))) for each in texts],
        "log_metric": lambda name, value: None,
        **{name: [row[name] for row in rows] for name in rows[0] if name != "prompt"},
    }


def text(row: dict[str, Any], draw: random.Random) -> str:
    """A chain of steps in the words of the toy world, and an answer."""
    steps = [
        f"{draw.randrange(10)} + {draw.randrange(10)} = {draw.randrange(10)} {draw.choice(WORDS)}"
        for _ in range(6)
    ]
    answer = row["reference"].strip('"') if draw.random() < 0.5 else "x"
    return f"<think> {' '.join(steps)} </think> <answer> {answer} </answer>"


def milliseconds(act: Any, repeats: int) -> float:
    """Median CPU time of a call."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        act()
        times.append(1000 * (time.process_time() - began))
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    handed = batch(given.prompts, given.group)
    circumstance = Circumstance(
        prefilled=False, max_completion_length=64, end_ids=frozenset({4}), verifiers={"chain": Exact()}
    )

    def paid(kinds: tuple[str, ...]) -> None:
        """All of these rewards on a batch that is read anew."""
        rollouts = Rollouts(circumstance)
        declared = TypeAdapter(Rewards).validate_python(dict.fromkeys(kinds, 1.0))
        for function in functions_of(named(declared), rollouts):
            found = function(**handed)
            if inspect.iscoroutine(found):
                asyncio.run(found)

    columns = {name: value for name, value in handed.items() if name != "log_extra"}
    table = Table(
        "part",
        "CPU ms",
        title=f"rewards of {given.prompts} x {given.group} completions, median of {given.repeats}",
    )
    reading = milliseconds(lambda: Rollouts(circumstance).read(**columns), given.repeats)
    table.add_row("reading and describing a batch", f"{reading:.1f}")
    for kind in KINDS:
        table.add_row(kind, f"{milliseconds(lambda kind=kind: paid((kind,)), given.repeats) - reading:.1f}")
    for some in (KINDS[:2], KINDS[:3]):
        whole = milliseconds(lambda some=some: paid(some), given.repeats)
        table.add_row(f"{', '.join(some)}, with reading", f"{whole:.1f}")
    table.add_row("all six, with reading", f"{milliseconds(lambda: paid(KINDS), given.repeats):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
