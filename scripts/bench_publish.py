"""Publish rows of 20 kB: laid out only, and pushed to the test server while they are written.

Each size has a store of its own with a traces artifact of 16 shards; the stage runs in a process of its own, the server
(tests/hubserver) in another, on loopback. Prints the seconds, the peak resident memory of the process that publishes,
and the bytes of the folder. `--rows` is the largest size, a tenth of it the other: memory has to be the same.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from distillkit.artifact import Manifest, shard_of
from distillkit.stages.base import TRACES
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

ROOT = Path(__file__).parent.parent
SHARDS = 16
WORDS = 2_900
"""Of about 7 characters: 20 kB."""
MOST_MIB = 1024.0
PUBLISH = """
import resource, shutil, sys, time
from pathlib import Path
from distillkit.stages.base import Input, Job
from distillkit.stages.publish import Publish
from distillkit.store import Store, Writer
root, place = Path(sys.argv[1]), sys.argv[2]
store = Store(root)
[text] = store.all()
out = Writer(root / "work" / place)
name = {"hub": "alice/" + place} if place == "pushed" else {"repository": place}
inputs = {"input": [Input(text.stage, text.type, text.content, text.path.name)]}
started = time.monotonic()
Publish(name="dataset", version="1.0.0", license="mit", **name).run(Job(store, out, inputs))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
size = sum(path.stat().st_size for path in out.path.rglob("*") if path.is_file())
print(f"{time.monotonic() - started:.1f} {peak:.0f} {size / 1e6:.0f}")
"""


def make(root: Path, rows: int) -> None:
    """A store with one traces artifact, four traces a problem."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    problems = [f"{draw.getrandbits(64):016x}" for _ in range(rows // 4)]

    def shard(number: int) -> Iterator[dict[str, object]]:
        for problem in sorted(each for each in problems if shard_of(each, SHARDS) == number):
            for index in range(4):
                text = " ".join(draw.choices(words, k=WORDS))
                yield to_row(
                    Trace(
                        problem, [{"role": "user", "content": problem}], f"<think>{text}</think>{index}", text,
                        str(index), reference="1", origin="0" * 12, index=index, completion_tokens=5_000,
                    )
                )  # fmt: skip

    store = Store(root)
    with store.building("sample", "0" * 16, print) as out:
        for number in range(SHARDS):
            out.stream(number, shard(number), trace_schema())
        store.seal(out, Manifest("traces", "sample", TRACES, "", ""))


def publish(root: Path, place: str, address: str) -> tuple[float, float, float]:
    """(seconds, peak MiB, MB of the folder)."""
    environment = {
        "HF_ENDPOINT": address,
        "HF_TOKEN": "hf_alice",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(root / "hf"),
    }
    answer = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(root), place],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak, size = map(float, answer.stdout.split())
    return seconds, peak, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    worst = 0.0
    print("| rows | text MB | place | seconds | text MB/s | peak MiB | folder MB |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for size in (rows // 10, rows):
        with tempfile.TemporaryDirectory(prefix="distillkit-") as folder:
            root = Path(folder)
            make(root / "store", size)
            server = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "hubserver"), str(root / "hub")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            for place in ("laid-out", "pushed"):
                seconds, peak, made = publish(root / "store", place, address)
                text = size * 20_000 / 1e6
                cells = f"{size:,} | {text:,.0f} | {place} | {seconds:.1f} | {text / seconds:.1f}"
                print(f"| {cells} | {peak:,.0f} | {made:,.0f} |")
                worst = max(worst, peak)
            server.communicate("")
    print(f"\npeak {worst:,.0f} MiB, at most {MOST_MIB:,.0f}: {'yes' if worst <= MOST_MIB else 'NO'}")


if __name__ == "__main__":
    main()
