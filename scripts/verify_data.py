"""Verify labelled data by an ordinary recipe: writes problems, recorded solutions and the recipe, then runs it.

Usage: DISTILLKIT_DATA=FOLDER python scripts/verify_data.py [OUT]
The folder holds gsm8k/model_solutions.jsonl, math/qwen_samples.jsonl, code/leetcode.jsonl and code/HumanEval.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distillkit.artifact import Row
from distillkit.store import Store

RECIPE = """\
name: verify-data
engine: {kind: replay, file: completions.jsonl}
verifiers:
  gsm8k: {kind: math, marker: "A:"}
  math: {kind: math}
  leetcode: {kind: code}
  humaneval: {kind: code}
stages:
  - {name: problems, kind: problems, file: problems.jsonl, columns: {domain: domain}}
  - {name: recorded, kind: sample, model: toy:base, n: 8, max_tokens: 4096, template: none}
  - {name: judged, kind: verify}
  - name: right
    kind: filter
    rules:
      - {field: finish_reason, is_not: [error], reason: not_recorded}
      - {field: reason, is_not: [no_answer], reason: no_answer}
      - {field: reason, is_not: [crashed], reason: crashed}
      - {field: reason, is_not: [out_of_time], reason: out_of_time}
      - {field: score, min: 1.0, reason: wrong}
"""

Labelled = tuple[str, Any, list[tuple[str, bool]]]
"""Prompt, reference, and solutions with whether they are right."""


def rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def fenced(source: str) -> str:
    return f"```python\n{source}\n```"


def gsm8k(data: Path) -> Iterator[Labelled]:
    for row in rows(data / "gsm8k/model_solutions.jsonl"):
        solutions = [value for value in row.values() if isinstance(value, dict)]
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        yield row["question"], gold, [(each["solution"], each["is_correct"]) for each in solutions]


def math(data: Path) -> Iterator[Labelled]:
    for row in rows(data / "math/qwen_samples.jsonl"):
        yield row["question"], row["gold"], list(zip(row["responses"], row["scores"], strict=True))


def leetcode(data: Path) -> Iterator[Labelled]:
    for row in rows(data / "code/leetcode.jsonl"):
        yield row["problem"], row["tests"], [(fenced(row["solutions"]), True)]


def humaneval(data: Path) -> Iterator[Labelled]:
    for row in rows(data / "code/HumanEval.jsonl"):
        reference = {name: row[name] for name in ("prompt", "test", "entry_point")}
        yield row["prompt"], reference, [(fenced(row["prompt"] + row["canonical_solution"]), True)]


SOURCES = {"gsm8k": gsm8k, "math": math, "leetcode": leetcode, "humaneval": humaneval}


def write(data: Path, folder: Path) -> dict[tuple[str, int], tuple[str, bool]]:
    """Write the three files; returns (prompt, index) -> (domain, label)."""
    labels = {}
    with (
        (folder / "problems.jsonl").open("w") as problems,
        (folder / "completions.jsonl").open("w") as recorded,
    ):
        for domain, read in SOURCES.items():
            for prompt, reference, solutions in read(data):
                print(json.dumps({"prompt": prompt, "reference": reference, "domain": domain}), file=problems)
                for index, (solution, label) in enumerate(solutions):
                    row = {"prompt": prompt, "index": index, "completion": solution, "finish_reason": "stop"}
                    print(json.dumps(row), file=recorded)
                    labels[prompt, index] = (domain, bool(label))
    (folder / "recipe.yaml").write_text(RECIPE, "utf-8")
    return labels


def agreement(store: Store, labels: dict[tuple[str, int], tuple[str, bool]]) -> None:
    """Print how often the verdicts say what the labels say."""
    artifacts = {artifact.manifest.kind: artifact for artifact in store.all()}
    verdicts = {row["id"]: row["score"] == 1.0 for row in artifacts["verify"].rows()}
    found: dict[str, list[bool]] = {domain: [] for domain in SOURCES}
    for row in artifacts["sample"].rows(columns=["id", "messages", "index"]):
        label = labels.get((row["messages"][-1]["content"], row["index"]))
        if label is not None:
            found[label[0]].append(verdicts[row["id"]] == label[1])
    for domain, each in found.items():
        print(f"{domain:<10} {sum(each):>5} of {len(each):>5} verdicts agree with the label")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    folder = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="verify-data-"))
    folder.mkdir(parents=True, exist_ok=True)
    labels = write(Path(os.environ["DISTILLKIT_DATA"]), folder)
    command = [sys.executable, "-m", "distillkit", "run", folder / "recipe.yaml", "--store", folder / "store"]
    subprocess.run(list(map(str, command)), check=True)
    agreement(Store(folder / "store"), labels)


if __name__ == "__main__":
    main()
