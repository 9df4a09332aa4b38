"""Measure how soon a killed sample stage goes on when a million completions are recorded already.

Runs `distillkit run` on a recipe that samples with the replay engine and kills it (SIGKILL, all its processes) once
`--count` completions are in the ledger. Then runs it again and takes the time from the start of the command to the
first new completion in the ledger, and the memory needed until then. Does so once with the ledger's index and
once without it, where all lines have to be read.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench_memory import SAMPLES, largest_mib, write_inputs
from bench_quickstart import children, resident_mib

MOST_S = 20.0
MOST_MIB = 1024.0
RECORD_BYTES = 32
"""Of a completion in the ledger's index."""


class Cost(NamedTuple):
    """Wall and CPU seconds, and peak MiB: of the largest process, and of all together."""

    seconds: float
    cpu_s: float
    largest: float
    tree: float


def start(recipe: Path, store: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "distillkit", "run", str(recipe), "--store", str(store)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"COLUMNS": "120"})


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to a command and to every process that it started."""
    for each in reversed(children(process.pid)):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def size(store: Path, ending: str) -> int:
    """Bytes of the store's one ledger, or of its index."""
    return sum(file.stat().st_size for file in (store / "completions").glob(f"*.{ending}"))


def cpu_s(pid: int) -> float:
    """CPU seconds that a process tree has used: what a busy machine does not stretch."""
    ticks = 0
    for each in children(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def watch(process: "subprocess.Popen[bytes]", until: Callable[[], bool]) -> Cost:
    """What it takes until something holds."""
    started = told = time.perf_counter()
    tree = largest = 0.0
    while not until():
        if process.poll() is not None:
            raise SystemExit(f"it ended too soon, exit code {process.returncode}")
        if time.perf_counter() - told > 0.2:
            told = time.perf_counter()
            tree, largest = max(tree, resident_mib(process.pid)), max(largest, largest_mib(process.pid))
        time.sleep(0.005)
    seconds, cpu = time.perf_counter() - started, cpu_s(process.pid)
    return Cost(seconds, cpu, max(largest, largest_mib(process.pid)), max(tree, resident_mib(process.pid)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="completions that are recorded")
    parser.add_argument("--chars", type=int, default=200, help="characters of a completion")
    options = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="bench-resume-") as folder:
        store = Path(folder) / "store"
        wanted = options.count + 50_000  # the index is a second behind the lines
        recipe = write_inputs(Path(folder), wanted, options.chars)
        process = start(recipe, store)
        made = watch(process, lambda: size(store, "index") >= RECORD_BYTES * (options.count + 1))
        kill(process)
        recorded = size(store, "index") // RECORD_BYTES - 1
        text = size(store, "jsonl") / 2**20
        print(
            f"{wanted // SAMPLES:,} problems x {SAMPLES}; killed after {made.seconds:.1f} s: {recorded:,} completions "
            f"of {options.chars:,} characters are recorded ({text:,.0f} MiB)"
        )
        for name in ("with its index", "without"):
            if name == "without":
                for file in (store / "completions").glob("*.index"):
                    file.unlink()
            before = size(store, "jsonl")
            process = start(recipe, store)
            cost = watch(process, lambda before=before: size(store, "jsonl") > before)
            kill(process)
            verdict = "holds" if cost.seconds <= MOST_S and max(cost[2:]) <= MOST_MIB else "MISSED"
            print(
                f"resume {name}: {cost.seconds:.1f} s ({cost.cpu_s:.1f} s of CPU) to the first new completion (bar "
                f"{MOST_S:.0f} s); peak {cost.largest:,.0f} MiB in one process, {cost.tree:,.0f} MiB in all (bar "
                f"{MOST_MIB:,.0f} MiB): {verdict}",
                flush=True,
            )


if __name__ == "__main__":
    main()
