"""One shard of traces that came in: how a trace is spilled, and how a shard is written of what was.

No stage itself. A trace's text is spilled once; the two halves of its completion are made when it is written.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from distillkit.artifact import Row
from distillkit.shuffle import Shuffled
from distillkit.store import Writer
from distillkit.text import split_think
from distillkit.trace import Trace, to_row, trace_schema

MADE = ("id", "reasoning", "response")
"""Columns that are made when a shard is written: of the row's place, and of its completion."""


@dataclass(frozen=True)
class TraceShard:
    """A shard to write: all of its traces, or those at the chosen places; picklable, for any executor."""

    shuffled: Shuffled
    out: Writer
    chosen: frozenset[int] | None


def body_of(trace: Trace) -> bytes | None:
    """A trace's row as JSON; None where it holds what no text file can: half of a surrogate pair, bytes."""
    try:
        row = {name: value for name, value in to_row(trace).items() if name not in MADE}
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, TypeError):
        return None


def write_trace_shard(task: TraceShard) -> None:
    """Write a shard, and give the space of what was spilled of it back."""
    task.out.stream(task.shuffled.shard, _rows(task), trace_schema())
    if task.chosen is None:  # a draw is over all shards, and made again after a kill
        task.shuffled.remove()


def _rows(task: TraceShard) -> Iterator[Row]:
    """The rows by ascending id; a repeat has its number behind the id."""
    before, repeat = "", 0
    for key, row in task.shuffled.rows(task.chosen):
        base = key.partition(" ")[0]
        before, repeat = base, repeat + 1 if base == before else 0
        reasoning, response = split_think(row["completion"])
        yield row | {
            "id": f"{base}.{repeat:06d}" if repeat else base,
            "index": repeat or row["index"],
            "reasoning": reasoning,
            "response": response,
        }
