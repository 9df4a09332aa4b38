"""Measure near-deduplication on planted near-duplicates and near-misses, against datasketch on the same files.

Each corpus is written as a traces artifact. The stage `dedup` and datasketch's own pipeline (MinHash, MinHashLSH,
keep first, as its documentation writes it) then read that, each in a process of its own that is held on one core.
The truth is a Jaccard index over sets of 5-word tuples, worked out here and not by the package. Recall: of the planted
pairs, all of which are at least as similar as the threshold, the share that ended in one cluster (of datasketch:
whose second text was flagged). Precision: of the texts that were flagged, the share that are planted. MB/s are of
UTF-8 text, with reading it from Parquet on both sides and, here, with writing the labels; peaks are of the process
(proportional set size).

`--workers N` runs the stage alone, on cores as the system likes, for figures of a whole machine; `--again` adds 10 % of
texts and measures what that costs with the signatures of the first run.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_quickstart import resident_mib

from distillkit.artifact import Artifact, Manifest, Row
from distillkit.executor import executor_for
from distillkit.stages.base import LABELS, TRACES, Input, Job, write_shards
from distillkit.stages.dedup import Dedup
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

THRESHOLD = 0.7
PLANTED, NEAR_MISS = (0.70, 0.95), (0.45, 0.65)
SHARE = 0.05
"""Of the texts that are a planted copy, and of those that are a near-miss."""
GRAM = 5
SHARDS = 16
FLUSH = 2000


@dataclass(frozen=True)
class Pair:
    """A text and an edited copy of it, by their numbers, and their true similarity."""

    text: int
    copy: int
    similarity: float


def grams(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)}


def similarity(a: Sequence[str], b: Sequence[str]) -> float:
    one, other = grams(a), grams(b)
    return len(one & other) / len(one | other)


def edited(
    words: list[str], low: float, high: float, pool: list[str], rng: random.Random
) -> tuple[list[str], float]:
    """A copy with words replaced, put in and taken out here and there, whose similarity is within [low, high]."""
    wanted = rng.uniform(low, high)
    edits = max(1, round(len(words) * (1 - wanted) / (GRAM * (1 + wanted))))
    while True:
        copy = list(words)
        for _ in range(edits):
            at = rng.randrange(len(copy))
            match rng.randrange(4):
                case 0:
                    copy.insert(at, rng.choice(pool))
                case 1:
                    del copy[at]
                case 2 if len(copy) > at + 12:  # a phrase of its own, as a rewritten clause has
                    copy[at : at + 4] = rng.choices(pool, k=4)
                case _:
                    copy[at] = rng.choice(pool)
        found = similarity(words, copy)
        if low <= found <= high:
            return copy, found
        edits += 1 if found > high else -1
        edits = max(1, edits + rng.choice((-1, 0, 0, 1)))


def documents(count: int, characters: int, seed: int) -> tuple[list[str], list[Pair], list[Pair]]:
    """Texts in random order, the planted pairs and the near-misses."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pool = ["".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(30_000)]
    weights = [1 / (rank + 10) for rank in range(len(pool))]
    cumulative = [sum(weights[:1])]
    for weight in weights[1:]:
        cumulative.append(cumulative[-1] + weight)
    words_each = round(characters / 6.4)
    copies, misses = round(count * SHARE), round(count * SHARE)
    texts = [
        rng.choices(pool, cum_weights=cumulative, k=rng.randint(words_each * 4 // 5, words_each * 6 // 5))
        for _ in range(count - copies - misses)
    ]
    sources = rng.sample(range(len(texts)), copies + misses)
    pairs: list[tuple[int, int, float]] = []
    for number, source in enumerate(sources):
        low, high = PLANTED if number < copies else NEAR_MISS
        copy, found = edited(texts[source], low, high, pool, rng)
        pairs.append((source, len(texts), found))
        texts.append(copy)
    places = rng.sample(range(count), count)
    lines: list[str] = [""] * count
    for number, words in enumerate(texts):
        lines[places[number]] = written(words, rng)
    made = [Pair(places[a], places[b], found) for a, b, found in pairs]
    return lines, made[:copies], made[copies:]


def written(words: Sequence[str], rng: random.Random) -> str:
    """As prose: capitals, stops, commas and line breaks, which two copies do not share."""
    out = []
    for word in words:
        draw = rng.random()
        out.append(word.capitalize() if draw < 0.1 else word)
        out.append(", " if draw > 0.95 else ".\n" if draw > 0.92 else " ")
    return "".join(out)


def name_of(number: int) -> str:
    return f"p{number:07d}/bench/0"


def stored(store: Store, texts: Sequence[str], request: str) -> Artifact:
    """The texts as a traces artifact."""
    rows = (to_row(trace_of(number, text)) for number, text in enumerate(texts))
    with store.building("traces", request, print) as writer:
        write_shards(Job(store, writer, {}, shards=SHARDS), rows, trace_schema())
        return store.seal(writer, Manifest("texts", "traces", TRACES, request, ""))


def trace_of(number: int, text: str) -> Trace:
    messages = [{"role": "user", "content": f"question {number}"}]
    return Trace(f"p{number:07d}", messages, text, "", "", origin="bench")


def ours(store: Store, text: Artifact, request: str, workers: int) -> dict[str, Any]:
    """Label the artifact; {"seconds", "clusters": id -> cluster of what is a duplicate, "steps"}."""
    stage = Dedup(name="twins", threshold=THRESHOLD)
    inputs = {"input": [Input("texts", TRACES, text.content, artifact=text.path.name)]}
    started, used = time.perf_counter(), time.process_time()
    with store.building("dedup", request, print) as writer:
        job = Job(store, writer, inputs, shards=SHARDS, executor=executor_for(workers))
        stage.run(job)
        made = store.seal(writer, Manifest(stage.name, stage.kind, LABELS, request, ""))
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    clusters = {row["id"]: row["cluster"] for row in made.rows() if row["duplicate"]}
    return {"seconds": seconds, "cpu": cpu, "clusters": clusters, "content": made.content}


def theirs(text: Artifact, hashed_by: str) -> dict[str, Any]:
    """Keep first with datasketch, as its documentation does it; {"seconds", "flagged": ids}."""
    from datasketch import MinHash, MinHashLSH
    from xxhash import xxh32_intdigest

    options = {"hashfunc": xxh32_intdigest} if hashed_by == "xxh32" else {}
    started, used = time.perf_counter(), time.process_time()
    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    flagged = []
    for row in columns(text):
        words = row["completion"].lower().replace(",", " ").replace(".", " ").split()
        minhash = MinHash(num_perm=128, **options)
        minhash.update_batch(
            [" ".join(words[at : at + GRAM]).encode() for at in range(len(words) - GRAM + 1)]
        )
        if lsh.query(minhash):
            flagged.append(row["id"])
        else:
            lsh.insert(row["id"], minhash)
    cpu = time.process_time() - used
    return {"seconds": time.perf_counter() - started, "cpu": cpu, "flagged": flagged}


def columns(text: Artifact) -> Iterator[Row]:
    for shard in range(text.shards()):
        yield from text.stream(shard, columns=["id", "completion"])


def child(arguments: argparse.Namespace) -> None:
    """One side of the comparison."""
    store = Store(arguments.store)
    text = store.open(arguments.text)
    if arguments.side == "ours":
        answer = ours(store, text, arguments.request, arguments.workers)
    else:
        answer = theirs(text, arguments.side)
    Path(arguments.answer).write_text(json.dumps(answer))


def measured(side: str, store: Path, text: str, workers: int, request: str = "b" * 16) -> dict[str, Any]:
    """The answer of a side, with the peak of its process tree."""
    answer = store / f"{side}.json"
    command = [sys.executable, __file__, "--side", side, "--store", str(store), "--text", text]
    command += ["--answer", str(answer), "--workers", str(workers), "--request", request]
    held = ["taskset", "-c", "0"] if workers == 1 else []
    threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    process = subprocess.Popen([*held, *command], env=os.environ | threads)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, resident_mib(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{side}: ended with {process.returncode}")
    found: dict[str, Any] = json.loads(answer.read_text())
    return found | {"peak": peak}


def judged(
    answer: dict[str, Any], planted: Sequence[Pair], misses: Sequence[Pair]
) -> tuple[float, float, float, int]:
    """Recall, recall below 0.8, precision, and how many near-misses were flagged."""
    if "clusters" in answer:
        flagged = set(answer["clusters"])
        root = answer["clusters"]
        hit = [
            root.get(name_of(p.text), name_of(p.text)) == root.get(name_of(p.copy), name_of(p.copy))
            for p in planted
        ]
    else:
        flagged = set(answer["flagged"])
        hit = [
            name_of(max(p.text, p.copy)) in flagged or name_of(min(p.text, p.copy)) in flagged
            for p in planted
        ]
    hard = [found for found, pair in zip(hit, planted, strict=True) if pair.similarity < 0.8]
    mine = {name_of(each) for p in planted for each in (p.text, p.copy)}
    missed = {name_of(each) for p in misses for each in (p.text, p.copy)} - mine
    precision = len(flagged & mine) / max(1, len(flagged))
    return sum(hit) / len(hit), sum(hard) / max(1, len(hard)), precision, len(flagged & missed)


def compare(
    name: str, count: int, characters: int, sides: Sequence[str], options: argparse.Namespace
) -> None:
    texts, planted, misses = documents(count, characters, options.seed)
    size = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory(prefix="bench-dedup-") as folder:
        store = Store(Path(folder))
        artifact = stored(store, texts, "a" * 16)
        answers = {side: measured(side, store.root, artifact.path.name, options.workers) for side in sides}
        base, base_cpu = answers["ours"]["seconds"], answers["ours"]["cpu"]
        for side, answer in answers.items():
            recall, hard, precision, wrong = judged(answer, planted, misses)
            seconds = answer["seconds"]
            line(name, count, LABEL[side], f"{count / seconds:,.0f}", f"{size / seconds:.1f}", f"{recall:.4f}",
                 f"{hard:.4f}", f"{precision:.4f}", f"{wrong} of {len(misses)}", f"{answer['peak']:.0f}",
                 f"{seconds / base:.2f}", f"{answer['cpu'] / base_cpu:.2f}")  # fmt: skip
        if options.again:
            again(store, texts, base, options)


def again(store: Store, texts: list[str], first_s: float, options: argparse.Namespace) -> None:
    """What 10 % of new texts cost, with the signatures of the others in the store."""
    more, *_ = documents(max(20, len(texts) // 10), 2000, options.seed + 1)
    grown = stored(store, [*texts, *more], "c" * 16)
    seconds = measured("ours", store.root, grown.path.name, options.workers, "d" * 16)["seconds"]
    count = len(texts) + len(more)
    line(
        "again, 10 % more",
        count,
        LABEL["ours"],
        f"{count / seconds:,.0f}",
        *[""] * 6,
        f"{seconds / first_s:.2f}",
        "",
    )


LABEL = {"ours": "dedup", "sha1": "datasketch", "xxh32": "datasketch, xxh32"}


def line(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of 100,000 texts of 2 kB and 20,000 of 15 kB"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes of the stage; more than 1: the stage alone"
    )
    parser.add_argument("--again", action="store_true", help="also run with 10 %% more texts")
    parser.add_argument("--seed", type=int, default=17)
    for name in ("side", "store", "text", "answer", "request"):
        parser.add_argument(f"--{name}", type=Path if name == "store" else str, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        child(options)
        return
    sides = ["ours", "xxh32", "sha1"] if options.workers == 1 else ["ours"]
    print(
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, threshold {THRESHOLD}, {options.workers} worker(s)\n"
    )
    columns = ["texts", "n", "by", "texts/s", "MB/s", "recall", "below 0.8", "precision", "near-misses flagged",
               "peak MiB", "time / ours", "CPU time / ours"]  # fmt: skip
    line(*columns)
    line(*["---"] * len(columns))
    compare("2 kB", round(100_000 * options.scale), 2000, sides, options)
    compare("15 kB", round(20_000 * options.scale), 15_000, sides, options)


if __name__ == "__main__":
    main()
