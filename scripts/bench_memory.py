"""Measure that sampling needs the same memory whatever the number of completions.

Runs `distillkit run` on a recipe that samples with the replay engine, once per size, each with a store of its own:
the teacher's file is read, every completion is recorded, and all of them become the shards of an artifact. Prints the
peak resident memory of the process that samples, the peak of the whole process tree (proportional set size) while
it does, and that of the whole run: the report behind it reads one shard as a whole. Run it on an idle machine; files
lie in a temporary folder (TMPDIR) and take about three times the text.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench_quickstart import children, resident_mib, watched

SAMPLES = 8
"""Completions per problem."""
MOST_SLOPE = 1.05
MOST_MIB = 1536.0


class Peak(NamedTuple):
    """Seconds of a run, and MiB: of the process that samples, of all processes meanwhile, and of the whole run."""

    seconds: float
    stage: float
    tree: float
    run: float


def write_inputs(folder: Path, completions: int, characters: int) -> Path:
    """Problems, their recorded completions and a recipe; returns the recipe."""
    words = [
        "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 9))) for _ in range(9000)
    ]
    text = " ".join(random.choices(words, k=max(10_000, characters)))
    with (folder / "problems.jsonl").open("w") as problems, (folder / "recorded.jsonl").open("w") as recorded:
        for problem in range(completions // SAMPLES):
            prompt = f"What is {problem} + {problem}?"
            problems.write(json.dumps({"prompt": prompt, "answer": str(2 * problem)}) + "\n")
            for index in range(SAMPLES):
                at = random.randrange(len(text) - characters)
                completion = f"<think>\n{text[at : at + characters]}</think>\n\\boxed{{{2 * problem}}}"
                row = {"prompt": prompt, "index": index, "completion": completion, "finish_reason": "stop"}
                recorded.write(json.dumps(row) + "\n")
    recipe = folder / "memory.yaml"
    recipe.write_text(
        f"""name: memory
stages:
  - {{name: problems, kind: problems, file: {folder}/problems.jsonl, columns: {{prompt: prompt, reference: answer}}}}
  - {{name: traces, kind: sample, model: toy:base, n: {SAMPLES}, max_tokens: 64,
     engine: {{kind: replay, file: {folder}/recorded.jsonl}}}}
"""
    )
    return recipe


def largest_mib(pid: int) -> float:
    """Most that any one process of a tree has had resident so far, in MiB."""
    found = [0.0]
    for each in children(pid):
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        found += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return max(found)


def run(recipe: Path, store: Path) -> Peak:
    """One run in processes of its own."""
    tree, later = 0.0, 0.0

    def look(pid: int) -> None:
        nonlocal tree, later
        if list(store.glob("artifacts/sample-*")):
            later = max(later, resident_mib(pid))
        else:
            tree = max(tree, resident_mib(pid))

    seconds = watched(["run", str(recipe), "--store", str(store)], look, every_s=0.5)
    [manifest] = store.glob("artifacts/sample-*/manifest.json")
    stage = json.loads(manifest.read_text())["telemetry"]["peak_memory_mib"]
    return Peak(seconds, stage, tree, max(tree, later))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="50000,100000,200000", help="completions, separated by commas")
    parser.add_argument("--chars", type=int, default=20_000, help="characters of a completion")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    random.seed(0)
    print(
        f"sample with the replay engine, {options.chars:,} characters a completion, n {SAMPLES} of a problem"
    )
    print(
        f"{'completions':>12} {'seconds':>8} {'us each':>8} {'stage MiB':>10} {'tree MiB':>9} {'run MiB':>8}"
    )
    peaks = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
            peak = run(write_inputs(Path(folder), size, options.chars), Path(folder) / "store")
        peaks.append(peak)
        each = peak.seconds / size * 1e6
        print(
            f"{size:>12,} {peak.seconds:>8.1f} {each:>8.0f} {peak.stage:>10.0f} {peak.tree:>9.0f} {peak.run:>8.0f}",
            flush=True,
        )
    for name, values in (("stage", [peak.stage for peak in peaks]), ("tree", [peak.tree for peak in peaks])):
        slope = values[-1] / values[0]
        verdict = "holds" if slope <= MOST_SLOPE and max(values) <= MOST_MIB else "MISSED"
        print(
            f"{name}: {sizes[-1]:,} / {sizes[0]:,} = {slope:.3f} (bar {MOST_SLOPE}), "
            f"peak {max(values):,.0f} MiB (bar {MOST_MIB:,.0f}): {verdict}"
        )


if __name__ == "__main__":
    main()
