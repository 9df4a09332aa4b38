"""Plain lines where there is no terminal, a table where there is one, both from the same events."""

import io
import time

import pytest
from rich.console import Console

from distillkit.events import Event
from distillkit.live import (
    PLAIN_EVERY_S,
    PLAIN_WIDTH,
    Watcher,
    console,
    finished_line,
    left_text,
    progress_text,
)


def event(name: str, **facts: object) -> Event:
    return {"event": name, "time": time.time(), "stage": "own", "kind": "sample", **facts}


def finished(kept: int, came: int, *, cached: bool = False) -> str:
    line = event("stage_finished", rows_in=came, rows_kept=kept, cached=cached, seconds=3.25)
    return " ".join(finished_line(line).plain.split())


def test_a_finished_stage_is_one_line() -> None:
    assert finished(1234, 5678) == "own sample 1,234 of 5,678 3.2 s"
    assert finished(0, 48) == "own sample 0 of 48 3.2 s"
    assert finished(384, 24) == "own sample 384 3.2 s"  # more rows than came in: no share of them
    assert finished(0, 0) == "own sample 3.2 s"
    assert finished(5, 5, cached=True) == "own sample 5 of 5 from the store"


def test_progress_shows_facts_worth_a_glance() -> None:
    line = event("progress", done=1200, total=4000, unit="rows", reward=0.51234, loss=None, other=7)
    assert progress_text(line) == "1,200/4,000 rows  reward 0.512"
    assert progress_text(event("stage_started")) == "starting"


def test_a_sampling_stage_tells_speed_acceptance_and_cost() -> None:
    line = event(
        "progress",
        done=12,
        total=40,
        unit="completions",
        rate=3.5,
        tokens_per_s=4321.0,
        accepted=0.61,
        cost=1.234,
    )
    assert progress_text(line) == "12/40 completions  3.5/s  4,321 tokens/s  61% accepted  cost 1.23"
    assert left_text(line, 1.0) == "~8 s left"  # from the rate: what the store had came for free


@pytest.mark.parametrize(("done", "total", "says"), [(25, 100, "~30 s left"), (0, 100, ""), (100, 100, "")])
def test_time_left(done: int, total: int, says: str) -> None:
    assert left_text(event("progress", done=done, total=total), 10.0) == says


def plain(*events: Event, wait: bool = False) -> str:
    out = io.StringIO()
    with Watcher(Console(file=out, width=120)) as watcher:
        for each in events:
            if wait:
                watcher.last_line -= PLAIN_EVERY_S
            watcher(each)
    return out.getvalue()


def test_elsewhere_a_line_now_and_then() -> None:
    steps = [event("progress", done=n, total=100, unit="rows") for n in range(1, 50)]
    assert plain(*steps) == ""
    assert plain(event("stage_started"), steps[6], wait=True) == "  own: 7/100 rows\n"
    assert plain(event("warning", text="3 rows [odd]")) == "  warning: own: 3 rows [odd]\n"
    waiting = plain(event("waiting", owner="process 12"))
    assert waiting == "  own: process 12 works on it in this store; waiting for it\n"


def test_a_terminal_has_a_live_table() -> None:
    out = io.StringIO()
    with Watcher(Console(file=out, force_terminal=True, width=100)) as watcher:
        watcher(event("stage_started"))
        watcher(event("progress", done=30, total=100, unit="rows"))
        watcher.live.refresh()  # type: ignore[union-attr]
        assert list(watcher.rows) == ["own"]
        watcher(event("stage_finished", rows_in=100, rows_kept=90, cached=False, seconds=1.0))
        assert watcher.rows == {}
    assert "30/100 rows" in out.getvalue() and "90 of 100" in out.getvalue()


def test_a_pipe_gets_wide_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert console().width == PLAIN_WIDTH
    monkeypatch.setenv("COLUMNS", "60")
    assert console().width == 60
