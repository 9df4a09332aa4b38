"""What a person sees while a run works: one live table on a terminal, plain lines elsewhere.

Both listen to the same events that are kept in `events.jsonl`.
"""

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distillkit.budget import money_text
from distillkit.events import Event

PLAIN_EVERY_S = 30.0
PLAIN_WIDTH = 160
"""Columns where nobody says how many there are."""
SHOWN_FACTS: dict[str, Callable[[Any], str]] = {
    "rate": "{:,.3g}/s".format,
    "tokens_per_s": "{:,.0f} tokens/s".format,
    "accepted": "{:.0%} accepted".format,
    "cost": lambda amount: f"cost {money_text(amount)}",
    "reward": "reward {:.3g}".format,
    "loss": "loss {:.3g}".format,
    "waiting_for": "waiting for {}".format,
}
"""Facts worth a glance, and how they read."""


def console() -> Console:
    """Standard output; wide where it is no terminal, so that a file or a pipe gets whole lines."""
    usual = Console(highlight=False)
    told = usual.is_terminal or "COLUMNS" in os.environ
    return usual if told else Console(highlight=False, width=PLAIN_WIDTH)


class Watcher:
    """A listener for `Events`; use it as a context manager around the run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: dict[str, Event] = {}
        self.last_line = time.monotonic()
        self.live = (
            Live(console=console, refresh_per_second=4, transient=True, get_renderable=self.table)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        name = event["event"]
        if name == "stage_started":
            self.rows[event["stage"]] = dict(event)
        elif name == "progress":
            self.rows.setdefault(event["stage"], {"time": event["time"]}).update(
                {k: v for k, v in event.items() if k != "time"}
            )
            self._plain_progress(event)
        elif name == "stage_finished":
            self.rows.pop(event["stage"], None)
            self.console.print(finished_line(event), highlight=False)
        elif name == "warning":
            self.console.print(Text(f"  warning: {event['stage']}: {event['text']}", style="yellow"))
        elif name == "waiting":
            self.console.print(
                f"  {event['stage']}: {event['owner']} works on it in this store; waiting for it",
                highlight=False,
            )

    def _plain_progress(self, event: Event) -> None:
        if self.live is None and time.monotonic() - self.last_line >= PLAIN_EVERY_S:
            self.last_line = time.monotonic()
            self.console.print(f"  {event['stage']}: {progress_text(event)}", highlight=False)

    def table(self) -> Table:
        """The stages at work, with done/total, facts and time left."""
        table = Table.grid(padding=(0, 2))
        for stage, event in self.rows.items():
            passed = time.time() - event["time"]
            table.add_row(
                Text(stage, style="bold"),
                event.get("kind", ""),
                progress_text(event),
                f"{passed:.0f} s",
                left_text(event, passed),
            )
        return table


def finished_line(event: Event) -> Text:
    """One line for a finished stage: rows kept of rows in, seconds, or where it came from."""
    source = "from the store" if event["cached"] else f"{event['seconds']:.1f} s"
    kept, came = event["rows_kept"], event["rows_in"]
    rows = f"{kept:,} of {came:,}" if came >= max(kept, 1) else f"{kept:,}" if kept else ""
    line = Text("  ")
    line.append(f"{event['stage']:<12} ", style="bold")
    line.append(f"{event['kind']:<10} ", style="dim")
    line.append(f"{rows:>14}  ")
    line.append(f"{source:>14}", style="green" if not event["cached"] else "dim")
    return line


def progress_text(event: Event) -> str:
    """`done/total unit` and the facts worth a glance."""
    if "done" not in event:
        return "starting"
    facts = "  ".join(form(event[key]) for key, form in SHOWN_FACTS.items() if event.get(key) is not None)
    return f"{event['done']:,}/{event['total']:,} {event.get('unit', '')}  {facts}".rstrip()


def left_text(event: Event, passed_s: float) -> str:
    """Estimated time left: from the rate, where one is told (what the store had came for free), else the share done."""
    done, total, rate = event.get("done", 0), event.get("total", 0), event.get("rate")
    if not 0 < done < total:
        return ""
    return f"~{(total - done) / (rate or done / passed_s):.0f} s left"
