"""A sample of what a GRPO run wrote, for the report: a few completions of a few steps.

TRL keeps the completions of every step in a file of that step; a step that is repeated after a kill writes
the same file again, so that the sample is whole whatever happened.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distillkit.store import Writer

STEPS = 8
PER_STEP = 4


def write_completions(folder: Path, rewards: Sequence[str], out: Writer) -> None:
    """Write `completions.jsonl` from TRL's files in `folder`.

    One line each: {step, prompt, completion, rewards: {name: score or null}, advantage}.
    """
    files = sorted(folder.glob("completions_*.parquet"))
    lines = [line for file in spread(files, STEPS) for line in _lines(file, rewards)]
    out.add_text("completions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many items, the first and the last among them, evenly apart."""
    if len(items) <= most:
        return list(items)
    return [items[round(at * (len(items) - 1) / (most - 1))] for at in range(most)]


def _lines(file: Path, rewards: Sequence[str]) -> list[dict[str, Any]]:
    """The first completion of each of the first prompts of a step."""
    import pyarrow.parquet as pq

    rows = pq.read_table(file).to_pylist()
    firsts = {json.dumps(row["prompt"]): row for row in reversed(rows)}
    return [
        {
            "step": row["step"],
            "prompt": _text(row["prompt"]),
            "completion": _text(row["completion"]),
            "rewards": {name: _score(row[name]) for name in rewards},
            "advantage": row.get("advantage"),
        }
        for row in list(reversed(firsts.values()))[:PER_STEP]
    ]


def _text(said: str | list[dict[str, str]]) -> str:
    """What was said last: one trainer of TRL's logs text, the other messages."""
    return said if isinstance(said, str) else said[-1]["content"]


def _score(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
