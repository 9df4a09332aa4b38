"""A push against the bare upload of the same bytes to the same server, and how much of a new version is new.

100,000 rows of 20 kB (2 GB, `--rows` makes it smaller) of base64 noise, which zstd cannot take far below its bytes,
in shards as `publish` writes them; the server is a process of its own on loopback (tests/hubserver). The bare
upload is the client's own: `create_commit` of the same files, with one upload at a time and with its default of
five. Then 50 rows of 40,000 are removed, and the share of chunks that both versions have is counted with a gear-hash
chunker of 64 KiB on average (FastCDC's hash and mask, Xia et al. 2016; the Hub's own is a gear hash of the same mean).
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from bench_quickstart import resident_mib

ROOT = Path(__file__).parent.parent
SHARDS = 16
ROW_BYTES = 20_000
BARE = """
import sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi
folder, name, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
HfApi().create_repo(name, repo_type="dataset")
files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
HfApi().create_commit(name, [CommitOperationAdd(str(p.relative_to(folder)), p) for p in files],
    commit_message="all", repo_type="dataset", num_threads=threads)
"""
OURS = """
import sys
from pathlib import Path
from distillkit.hub import Target, push
push(Path(sys.argv[1]), Target("dataset", sys.argv[2], tag="v1.0.0"), "all")
"""


def text(number: int) -> str:
    """A row's text: the same for the same number, and as hard to compress as text can be."""
    return b64encode(random.Random(number).randbytes(ROW_BYTES * 3 // 4)).decode()


def write_shards(folder: Path, rows: list[int], shards: int) -> None:
    """Rows in shards by their number, written as `publish` writes them."""
    import pyarrow as pa

    from distillkit.durable import parquet_writer

    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    for shard in range(shards):
        mine = [row for row in rows if row % shards == shard]
        path = folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
        with parquet_writer(path, schema) as writer:
            for start in range(0, len(mine), 1000):
                some = [{"id": str(row), "text": text(row)} for row in mine[start : start + 1000]]
                writer.write_table(pa.Table.from_pylist(some, schema))


def seal(folder: Path) -> int:
    """Write the manifest; returns the bytes of the folder."""
    files = {}
    for path in sorted(folder.rglob("*.parquet")):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return sum(int(str(entry["bytes"])) for entry in files.values())


def timed(code: str, url: str, *arguments: str) -> tuple[float, float]:
    """(wall seconds, peak MiB) of a client in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_ENDPOINT": url, "HF_TOKEN": "hf_alice"}
    settings |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=kept | settings)
    sizes, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            sizes.append(resident_mib(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    if status:
        raise SystemExit(f"exit code {status}")
    return seconds, max(sizes)


def served(folder: Path, code: str, *arguments: str) -> tuple[float, float]:
    """A client against a fresh server, whose files are then removed."""
    with tempfile.TemporaryDirectory(dir=folder) as blobs:
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "hubserver"), blobs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdin is not None and server.stdout is not None
        try:
            return timed(code, server.stdout.readline().strip(), *arguments)
        finally:
            server.stdin.close()
            server.wait()


def cuts(path: Path, bits: int = 16) -> Iterator[int]:
    """Positions where the gear hash of the last 64 bytes begins with `bits` zeros.

    h[i] = sum of G[byte[i - k]] << k for k < 64, mod 2**64: six doublings give it for a whole block at once.
    """
    import numpy as np

    gear = np.array([random.Random(f"gear {n}").getrandbits(64) for n in range(256)], dtype=np.uint64)
    block, overlap, start = 4 * 2**20, 64, 0
    with path.open("rb") as file:
        tail = b""
        while body := file.read(block):
            hashes = gear[np.frombuffer(tail + body, dtype=np.uint8)]
            for back in (1, 2, 4, 8, 16, 32):
                hashes[back:] += hashes[:-back] << np.uint64(back)
            found = np.flatnonzero(hashes[len(tail) :] >> np.uint64(64 - bits) == 0)
            yield from (start + 1 + found).tolist()
            start, tail = start + len(body), body[-overlap:]
    yield start


def chunks(path: Path, least: int = 8 * 2**10, most: int = 128 * 2**10) -> Iterator[bytes]:
    """Digests of the content-defined chunks of a file."""
    with path.open("rb") as file:
        start = 0
        for cut in cuts(path):
            while cut - start > most:
                yield hashlib.sha256(file.read(most)).digest()
                start += most
            if cut - start >= least:
                yield hashlib.sha256(file.read(cut - start)).digest()
                start = cut
        if rest := file.read():
            yield hashlib.sha256(rest).digest()


def reuse(folder: Path, count: int) -> None:
    """Share of the chunks of a version that the version before it had, after 50 rows were removed."""
    rows = list(range(count))
    gone = set(random.Random(7).sample(rows, 50))
    write_shards(folder / "old", rows, 4)
    write_shards(folder / "new", [row for row in rows if row not in gone], 4)
    old = {each for path in (folder / "old").rglob("*.parquet") for each in chunks(path)}
    new = [each for path in sorted((folder / "new").rglob("*.parquet")) for each in chunks(path)]
    shared = sum(each in old for each in new)
    print(
        f"50 of {count:,} rows removed: {shared:,} of {len(new):,} chunks are reused ({shared / len(new):.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reuse-rows", type=int, default=40_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_shards(work / "v1", list(range(options.rows)), SHARDS)
        size = seal(work / "v1")
        print(
            f"{options.rows:,} rows of {ROW_BYTES:,} bytes, {SHARDS} shards, {size / 1e9:.2f} GB as Parquet"
        )
        sides = {"bare, one at a time": (BARE, "1"), "bare, five at a time": (BARE, "5"), "push": (OURS,)}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, (code, *more) in sides.items():
                found[name].append(served(work, code, str(work / "v1"), "alice/traces", *more))
        medians = {
            name: sorted(seconds for seconds, _ in each)[len(each) // 2] for name, each in found.items()
        }
        for name, each in found.items():
            ratio = medians["push"] / medians[name]
            times = ", ".join(f"{seconds:.2f}" for seconds, _ in each)
            peak = max(mib for _, mib in each)
            print(
                f"{name:<22} {medians[name]:7.2f} s (of {times}), peak {peak:,.0f} MiB; push / this = {ratio:.2f}"
            )
        reuse(work / "reuse", options.reuse_rows)


if __name__ == "__main__":
    main()
