"""Real runs of the command in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import PATIENCE_S

MINI = Path(__file__).parent / "mini.yaml"


def command(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `distillkit ...` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "distillkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        timeout=PATIENCE_S,
        check=False,
    )


def contents(store: Path) -> dict[str, str]:
    """Stage -> content digest of the latest run in a store."""
    [*_, run] = sorted((store / "runs").glob("*/*/run.json"), key=lambda path: int(path.parent.name))
    stages = json.loads(run.read_text("utf-8"))["stages"]
    return {
        stage["name"]: json.loads(
            (store / "artifacts" / stage["artifact"] / "manifest.json").read_text("utf-8")
        )["content"]
        for stage in stages
    }


def kill_when(
    arguments: list[str | Path],
    store: Path,
    reached: Callable[[list[dict[str, Any]]], bool],
) -> bool:
    """Start `distillkit ...` and SIGKILL its whole process group once its events satisfy `reached`.

    Returns whether it was killed; False where it ended before.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "distillkit", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if reached(events(store)):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.02)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return False


def events(store: Path) -> list[dict[str, Any]]:
    """All whole events of the latest run so far."""
    found = sorted((store / "runs").glob("*/*/events.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = found[-1].read_text("utf-8", "replace").splitlines() if found else []
    parsed = []
    for line in lines:
        try:
            parsed.append(json.loads(line))
        except ValueError:
            continue
    return parsed
