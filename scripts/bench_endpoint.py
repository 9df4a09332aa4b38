"""Measure the endpoint engine against a server on loopback: how near it comes to the ideal, and what a storm leaves.

    python scripts/bench_endpoint.py [requests]

1. A server that answers after 20 to 2000 ms at random, 256 in flight. The ideal is what 256 slots that lose no time
   need for the very same delays, in their order (ramp-up and tail are in it), and 256 / mean delay in between. Beside
   it a bare loop of the openai client that keeps nothing; ours goes through `sampling.draw`, each completion durable.
2. The same requests with 10 % of 429 (half of them with a wait), 3 % of 500, 2 % dropped connections, 1 % hung: all
   done, none answered twice, none lost. The server is a process of its own and has the last word.
"""

import asyncio
import heapq
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from faultserver import dice  # noqa: E402

from distillkit.engines.endpoint import EndpointEngine  # noqa: E402
from distillkit.sampling import Sampling, draw  # noqa: E402
from distillkit.store import Store  # noqa: E402
from distillkit.trace import Problem  # noqa: E402

WINDOW = 256
DELAY_S = (0.02, 2.0)
STORM_DELAY_S = (0.02, 0.2)
SEED = 11


class Server:
    """The server's process."""

    def __init__(self, low_s: float, high_s: float, *more: str) -> None:
        command = [sys.executable, str(ROOT / "tests" / "faultserver.py"), str(SEED), str(low_s), str(high_s)]
        self._process = subprocess.Popen(
            [*command, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def end(self) -> dict[str, int]:
        """What it saw."""
        told, _ = self._process.communicate("")
        found: dict[str, int] = json.loads(told)
        return found


@contextmanager
def serving(*arguments: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """The URL of a running server, and what it saw, filled in at the end."""
    server, seen = Server(*arguments), {}
    try:
        yield server.url, seen
    finally:
        seen |= server.end()


def problems(count: int) -> list[Problem]:
    """Prompts of about 300 characters."""
    text = "A train leaves town at noon and meets another one on its way. " * 5
    return [Problem([{"role": "user", "content": f"{number}: {text}"}], "1") for number in range(count)]


def ours(url: str, count: int, **more: Any) -> tuple[float, list[float], Counter[str]]:
    """(Seconds from the first request to the last record, when completions were done, finish reasons)."""
    engine = EndpointEngine(base_urls=[url], served_model="teacher", concurrency=WINDOW, **more)
    sampling = Sampling(engine=engine, max_tokens=64)
    times: list[float] = []

    def progress(done: int, total: int | None = None, **facts: Any) -> None:
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        reasons: Counter[str] = Counter()
        for trace in draw(sampling, None, problems(count), 1, 1, Store(Path(folder)), progress):
            if not reasons:
                ended = time.perf_counter()  # all are recorded: what follows only reads them
            reasons[trace.finish_reason] += 1
    return ended - times[0], times, reasons


def bare(url: str, count: int) -> float:
    """Seconds of the least that can be written with the same client."""

    async def run() -> float:
        from openai import AsyncOpenAI

        client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        waiting = iter(problems(count))

        async def work() -> None:
            for number, problem in enumerate(waiting):
                await client.chat.completions.create(
                    model="teacher", messages=problem.messages, seed=number, max_tokens=64
                )

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(WINDOW)))
        seconds = time.perf_counter() - started
        await client.close()
        return seconds

    return asyncio.run(run())


def ideal(count: int) -> tuple[float, float]:
    """(Seconds that slots without any loss need for the server's own delays, mean delay)."""
    roll = dice(SEED, [], DELAY_S)
    delays = [fault.delay_s for fault in (roll(None) for _ in range(count)) if fault is not None]
    slots = [0.0] * WINDOW
    for delay in delays:
        heapq.heapreplace(slots, slots[0] + delay)
    return max(slots), sum(delays) / count


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    best_s, mean_s = ideal(count)
    print(
        f"{count:,} requests, {WINDOW} in flight, answers after {DELAY_S[0]} to {DELAY_S[1]} s (mean {mean_s:.3f})"
    )
    with serving(*DELAY_S) as (url, seen):
        cpu = time.process_time()
        seconds, _, reasons = ours(url, count)
        cpu = time.process_time() - cpu
    assert reasons == {"stop": count} and seen["answered"] == count and not seen["twice"], (reasons, seen)
    with serving(*DELAY_S) as (url, _):
        bare_s = bare(url, count)
    print(f"{'':<34}{'seconds':>9}{'per s':>8}{'of the ideal':>14}")
    for name, each in (
        ("ideal slots", best_s),
        ("distillkit, durable", seconds),
        ("bare openai loop", bare_s),
    ):
        print(f"{name:<34}{each:>9.2f}{count / each:>8.1f}{best_s / each:>14.3f}")
    print(f"256 / mean delay = {WINDOW / mean_s:.1f} per s; our CPU per request {cpu / count * 1e6:,.0f} us")

    with serving(*STORM_DELAY_S, "faults") as (url, seen):
        seconds, _, reasons = ours(url, count, timeout_s=5.0, tries=12)
    print(
        f"\nstorm (10 % 429, 3 % 500, 2 % dropped, 1 % hung): {count:,} requests in {seconds:.0f} s, "
        f"{seen['asked']:,} calls; done {reasons['stop']:,}, lost {count - reasons['stop']:,}, "
        f"answered twice {seen['twice']:,}"
    )


if __name__ == "__main__":
    main()
