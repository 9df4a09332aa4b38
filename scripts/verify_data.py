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

HEAD = """\
name: verify-data
verifiers:
  gsm8k: {kind: math, marker: "A:"}
  math: {kind: math}
  leetcode: {kind: code}
  humaneval: {kind: code}
stages:
"""
CHAIN = """\
  - {name: DOMAIN, kind: problems, file: DOMAIN.jsonl, domain: DOMAIN}
  - {name: DOMAIN-solutions, kind: sample, input: DOMAIN, model: toy:base, template: none, n: SAMPLES, max_tokens: 4096,
     engine: {kind: replay, file: DOMAIN-solutions.jsonl}}
  - {name: DOMAIN-judged, kind: verify, input: DOMAIN-solutions}
  - name: DOMAIN-right
    kind: filter
    input: DOMAIN-solutions
    rules:
      - {field: DOMAIN-judged.reason, is_not: [no_answer], reason: no_answer}
      - {field: DOMAIN-judged.reason, is_not: [crashed], reason: crashed}
      - {field: DOMAIN-judged.reason, is_not: [out_of_time], reason: out_of_time}
      - {field: DOMAIN-judged.score, min: 1.0, reason: wrong}
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
Labels = dict[tuple[str, int], bool]
"""(prompt, index of the solution) -> whether it is right."""


def write(data: Path, folder: Path) -> dict[str, Labels]:
    """Write problems and solutions of every domain, and the recipe; returns the labels by domain."""
    recipe, labels = HEAD, {}
    for domain, read in SOURCES.items():
        found = list(read(data))
        labels[domain] = {
            (prompt, index): bool(label)
            for prompt, _, solutions in found
            for index, (_, label) in enumerate(solutions)
        }
        problems = [{"prompt": prompt, "reference": reference} for prompt, reference, _ in found]
        recorded = [
            {"prompt": prompt, "index": index, "completion": solution, "finish_reason": "stop"}
            for prompt, _, solutions in found
            for index, (solution, _) in enumerate(solutions)
        ]
        write_rows(folder / f"{domain}.jsonl", problems)
        write_rows(folder / f"{domain}-solutions.jsonl", recorded)
        samples = max(len(solutions) for _, _, solutions in found)
        recipe += CHAIN.replace("DOMAIN", domain).replace("SAMPLES", str(samples))
    (folder / "recipe.yaml").write_text(recipe, "utf-8")
    return labels


def write_rows(path: Path, found: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), "utf-8")


def agreement(store: Store, labels: dict[str, Labels]) -> None:
    """Print how often the verdicts say what the labels say, and which do not."""
    artifacts = {artifact.stage: artifact for artifact in store.all()}
    for domain, known in labels.items():
        verdicts = {row["id"]: row for row in artifacts[f"{domain}-judged"].rows()}
        agreed, others = 0, []
        for row in artifacts[f"{domain}-solutions"].rows(columns=["id", "messages", "index"]):
            verdict = verdicts[row["id"]]
            if (verdict["score"] == 1.0) == known[row["messages"][-1]["content"], row["index"]]:
                agreed += 1
            else:
                others.append(f"{row['id']} {verdict['reason']} {verdict['verdicts'][:150]}")
        print(
            f"{domain:<10} {agreed:>5} of {len(known):>5} verdicts agree with the label",
            *others,
            sep="\n    ",
        )


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
