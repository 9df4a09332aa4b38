"""Measure what a newcomer waits for: start-up, `check`, the quickstart, and the quickstart again from the store.

Prints wall seconds, and the peak resident memory of the whole process tree (proportional set size, sampled
every 100 ms, so that pages shared after a fork count once). Run it on an idle machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "quickstart.yaml"
COMMAND = [sys.executable, "-m", "distillkit"]


def children(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def resident_mib(pid: int) -> float:
    """Proportional set size of a process tree in MiB."""
    total = 0
    for each in children(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total / 1024


def watched(arguments: Sequence[str], look: Callable[[int], None], every_s: float = 0.1) -> float:
    """Wall seconds of one command, while `look` sees its process id now and then; ends this script where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, env=os.environ | {"COLUMNS": "120"}
    )
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every_s):
            look(process.pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        raise SystemExit(f"{' '.join(arguments)}: exit code {status}")
    return time.perf_counter() - started


def timed(*arguments: str) -> tuple[float, float]:
    """(wall seconds, peak MiB) of one command."""
    sizes = [0.0]
    seconds = watched(arguments, lambda pid: sizes.append(resident_mib(pid)))
    return seconds, max(sizes)


def main() -> None:
    for arguments in (["--help"], ["check", str(RECIPE)]):
        times = sorted(timed(*arguments)[0] for _ in range(5))
        print(
            f"distillkit {arguments[0]:<10} {times[2]:6.2f} s (median of 5; {times[0]:.2f} to {times[-1]:.2f})"
        )
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        for name in ("quickstart", "again"):
            seconds, peak = timed("run", str(RECIPE), "--store", str(store))
            print(f"{name:<21} {seconds:6.2f} s, peak resident {peak:,.0f} MiB")
        record = json.loads((store / "runs" / "quickstart" / "1" / "run.json").read_text())
        for stage in record["stages"]:
            print(f"  {stage['name']:<12} {stage['kind']:<10} {stage['seconds']:6.2f} s")


if __name__ == "__main__":
    main()
