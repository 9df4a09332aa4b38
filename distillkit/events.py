"""What happened in a run, one JSON line each, and who is told of it while it happens.

The terminal view, the report and a person reading `events.jsonl` all see the same facts.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from distillkit.errors import redacted

Event = dict[str, Any]
"""{"time": seconds since the epoch, "event": name, ...facts}"""


class Progress(Protocol):
    """Told how far a stage is; further facts (tokens, accepted, loss) are shown and kept as events."""

    def __call__(self, done: int, total: int, **facts: Any) -> None: ...


def silent(done: int, total: int, **facts: Any) -> None:
    """A Progress that tells nobody."""


class Events:
    """An append-only `events.jsonl`; every listener hears each event as it is written."""

    def __init__(self, path: Path, *listeners: Callable[[Event], None]) -> None:
        self.path = path
        self.listeners = list(listeners)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("ab") as file:  # a killed run tore its last line
                file.write(b"\n")

    def tell(self, event: str, **facts: Any) -> None:
        """Append one event and tell the listeners."""
        text = redacted(
            json.dumps({"time": round(time.time(), 3), "event": event, **facts}, ensure_ascii=False)
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        line: Event = json.loads(text)
        for listener in self.listeners:
            listener(line)


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Whole lines after byte `offset` and the offset behind them; a torn or foreign line is skipped."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    found = [event for line in whole.splitlines() if (event := _parsed(line)) is not None]
    return found, offset + len(whole)


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
