"""Measure the whole curation chain on a large trace set: time, memory, disk, and what a moved threshold costs.

For each size: makes a synthetic corpus (Parquet, 20 kB a trace; foreign sentences, loops, near-duplicates and benchmark
leaks are planted in known shares), then runs traces -> measure -> dedup -> decontaminate -> filter -> select with
two workers. Prints seconds, the peak of the resident memory of all processes (proportional set size), the store's
bytes over the text's, what the funnel found of what was planted; then the same recipe with another threshold,
and with 10 % more rows. Run it on an idle machine; it needs about 2.5 times the text on disk (TMPDIR).
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from bench_quickstart import resident_mib, watched

FILE_ROWS = 5_000
MOST_S, MOST_MIB, MOST_DISK, MOST_MOVED_S = 1200, 3072, 1.3, 30
BARS_ROWS = 200_000
"""The bars hold for so many rows of 20 kB."""
PLANTED = {"foreign": 0.05, "loop": 0.03, "near": 0.05, "leak": 0.01}

RECIPE = """name: chain
execution: {{workers: {workers}}}
stages:
  - {{name: benchmark, kind: problems, file: {folder}/benchmark.jsonl, split: heldout}}
  - {{name: traces, kind: traces, file: "{folder}/corpus", source: corpus}}
  - {{name: measured, kind: measure}}
  - {{name: twins, kind: dedup, on: completion, threshold: 0.8}}
  - {{name: leaks, kind: decontaminate, on: both, against: [benchmark]}}
  - name: kept
    kind: filter
    rules:
      - {{field: measures.language.share, min: 0.98, reason: mixed_language}}
      - {{field: measures.repetition.ngram_share, max: 0.2, reason: repeats}}
      - {{field: leak, is: null, reason: leaked}}
  - {{name: chosen, kind: select, unique: twins, per_problem: 2}}
"""

SUBJECTS = (
    "the sum|the product|this factor|our estimate|the remainder|the second term|the left side|"
    "the ratio|the length|the angle|the number of ways|the first case|the bound|the derivative|"
    "the matrix"
).split("|")
VERBS = (
    "is equal to|must be|cannot be larger than|divides|is close to|comes from|simplifies to|"
    "agrees with|contradicts|depends on|is at least|is the same as|follows from|reduces to"
).split("|")
OBJECTS = (
    "the previous value|twice the area|the given constant|what we had before|the square of the radius|"
    "the total|an integer|the expression above|the case that we excluded|"
    "the answer to the smaller problem|the average of both|the other root|the height of the triangle|"
    "half of the perimeter|the last digit"
).split("|")
LEADS = (
    "So|Then|Now|Hmm,|Wait,|But|Therefore|Let me check whether|We know that|Since|Also|Next,|"
    "It seems that|Because|If we look again,|To verify,|In other words,|First,"
).split("|")
FOREIGN = (
    ""
    "我们必须再检查一下这个等式是不是正确的。|"
    "Dann müssen wir noch einmal prüfen, ob das wirklich stimmt und warum.|"
    "Потом мы должны ещё раз проверить это равенство.|"
    "Ensuite nous devons encore vérifier que cela est vraiment correct pour tous les cas."
).split("|")


class Run(NamedTuple):
    """Wall seconds of a command and its peak memory over all processes, in MiB."""

    seconds: float
    mib: float


def sentences(dice: random.Random, count: int) -> list[str]:
    """Different sentences with numbers in them, as reasoning has them."""
    made: set[str] = set()
    while len(made) < count:
        formula = dice.choice(
            [
                "",
                f" so ${dice.randrange(99)}x + {dice.randrange(999)} = {dice.randrange(9999)}$",
                f" ({dice.randrange(10**6)})",
            ]
        )
        made.add(
            f"{dice.choice(LEADS)} {dice.choice(SUBJECTS)} {dice.choice(VERBS)} {dice.choice(OBJECTS)}{formula}, "
            f"which is {dice.randrange(10**5)}.".replace("..", ".")
        )
    return sorted(made)


def completion(dice: random.Random, pool: list[str], characters: int) -> list[str]:
    """Sentences of about so many characters."""
    return [
        f"{each} {dice.randrange(10**6)} is noted." for each in dice.choices(pool, k=max(8, characters // 98))
    ]


def plant(dice: random.Random, body: list[str], kind: str, leaks: list[str], before: list[str]) -> list[str]:
    """The sentences with a flaw."""
    at = dice.randrange(1, len(body))
    if kind == "foreign":
        return [*body[:at], *dice.choices(FOREIGN, k=max(1, len(body) // 25)), *body[at:]]
    if kind == "loop":
        return [*body[: len(body) // 2], *([body[at]] * (len(body) // 2))]
    if kind == "near":
        return [sentence if dice.random() > 0.01 else f"Indeed, {sentence}" for sentence in before]
    return [*body[:at], dice.choice(leaks), *body[at:]]


def write_corpus(folder: Path, rows: int, characters: int, first: int = 0) -> Counter[str]:
    """Parquet files of `FILE_ROWS` rows, four traces a problem; returns how many rows were given which flaw."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dice = random.Random(17 + first)
    pool = sentences(random.Random(5), 20_000)
    leaks = [json.loads(line)["prompt"] for line in (folder / "benchmark.jsonl").open()]
    planted: Counter[str] = Counter()
    (folder / "corpus").mkdir(exist_ok=True)
    before: list[str] = []
    for start in range(first, first + rows, FILE_ROWS):
        batch = []
        for number in range(start, min(start + FILE_ROWS, first + rows)):
            kind = dice.choices([*PLANTED, ""], [*PLANTED.values(), 1 - sum(PLANTED.values())])[0]
            body = completion(dice, pool, characters)
            if kind and not (kind == "near" and not before):
                body = plant(dice, body, kind, leaks, before)
                planted[kind] += 1
            before = body if not kind else []
            paragraphs = ["\n".join(body[at : at + 6]) for at in range(0, len(body), 6)]
            text = "<think>\n" + "\n\n".join(paragraphs) + f"\n</think>\nThe answer is \\boxed{{{number}}}."
            problem = number // 4
            prompt = f"Problem {problem}: what is {problem} plus {problem % 977}, and why is it so?"
            batch.append(
                {
                    "prompt": prompt,
                    "completion": text,
                    "reference": str(problem),
                    "completion_tokens": len(text) // 4,
                }
            )
        pq.write_table(
            pa.Table.from_pylist(batch), folder / "corpus" / f"{start:08d}.parquet", compression="zstd"
        )
    return planted


def write_benchmark(folder: Path) -> None:
    """Two hundred problems that may leak."""
    dice = random.Random(3)
    things = "apples|lamps|stamps|marbles|tickets|bricks|ropes|coins|letters|chairs".split("|")
    with (folder / "benchmark.jsonl").open("w") as file:
        for number in range(200):
            a, b, c = dice.sample(things, 3)
            text = (
                f"A trader from town {number} buys {dice.randrange(99)} {a} and {dice.randrange(99)} {b} on a rainy "
                f"morning, swaps every third of them for {c}, and loses {dice.randrange(9)} on the way home. How many "
                f"{c} does she own in the end?"
            )
            file.write(json.dumps({"prompt": text, "reference": str(number)}) + "\n")


def run(recipe: Path, store: Path, *sets: str) -> Run:
    """`distillkit run` in processes of its own."""
    peak = 0.0

    def look(pid: int) -> None:
        nonlocal peak
        peak = max(peak, resident_mib(pid))

    options = [part for each in sets for part in ("--set", each)]
    return Run(watched(["run", str(recipe), "--store", str(store), *options], look, every_s=0.5), peak)


def stages(store: Path, number: int) -> list[tuple[str, float, bool]]:
    """(stage, seconds, taken from the store) of a run."""
    record = json.loads((store / "runs" / "chain" / str(number) / "run.json").read_text())
    return [(each["name"], each["seconds"], each["cached"]) for each in record["stages"]]


def rejected(store: Path) -> dict[str, int]:
    """Reasons of the latest selections."""
    found: dict[str, int] = {}
    for kind in ("filter", "select"):
        newest = max(store.glob(f"artifacts/{kind}-*/manifest.json"), key=lambda path: path.stat().st_mtime)
        found |= json.loads(newest.read_text())["counts"].get("rejected", {})
    return found


def disk_bytes(folder: Path) -> int:
    """Bytes of the files below a folder, each inode once."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({each.st_ino: each.st_size for each in stats}.values())


def bench(rows: int, characters: int, workers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-curation-") as name:
        folder = Path(name)
        write_benchmark(folder)
        started = time.perf_counter()
        planted = write_corpus(folder, rows, characters)
        text = rows * characters
        made_s = time.perf_counter() - started
        print(f"\n{rows:,} traces of {characters:,} characters ({text / 1e9:.2f} GB, made in {made_s:.0f} s)")
        recipe, store = folder / "chain.yaml", folder / "store"
        recipe.write_text(RECIPE.format(folder=folder, workers=workers))
        whole = run(recipe, store)
        disk = disk_bytes(store) / text
        print(
            f"  chain: {whole.seconds:.0f} s ({text / 1e6 / whole.seconds:.1f} MB/s), peak {whole.mib:,.0f} MiB, "
            f"store {disk:.2f} x the text"
        )
        print("   ", ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds, _ in stages(store, 1)))
        print(f"    planted {dict(planted)}; rejected {rejected(store)}")
        moved = run(recipe, store, "stages.kept.rules.0.min=0.95")
        again = [stage for stage, _, cached in stages(store, 2) if not cached]
        print(
            f"  another threshold: {moved.seconds:.1f} s, made anew: {', '.join(again)}; rejected {rejected(store)}"
        )
        more = rows // 10
        write_corpus(folder, more, characters, first=rows)
        grown = run(recipe, store)
        print(f"  10 % more rows: {grown.seconds:.0f} s ({grown.seconds / whole.seconds:.2f} of the whole)")
        print(
            "   ", ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds, _ in stages(store, 3)), flush=True
        )
        if rows == BARS_ROWS and characters == 20_000:
            for what, value, bar in (
                ("seconds", whole.seconds, MOST_S),
                ("peak MiB", whole.mib, MOST_MIB),
                ("disk / text", disk, MOST_DISK),
                ("seconds to move a threshold", moved.seconds, MOST_MOVED_S),
            ):
                print(f"  {what}: {value:.2f}, bar {bar}: {'holds' if value <= bar else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="25000,50000,100000,200000", help="traces, separated by commas")
    parser.add_argument("--chars", type=int, default=20_000, help="characters of a trace")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    for size in options.sizes.split(","):
        bench(int(size), options.chars, options.workers)


if __name__ == "__main__":
    main()
