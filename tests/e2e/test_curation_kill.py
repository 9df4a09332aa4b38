"""Kill the curation chain at named points and at random: the same content digests at the end, as if nothing had been."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import command, contents, kill_when

pytestmark = pytest.mark.slow

RECIPE = """name: chain
shards: 8
execution: {workers: 2}
stages:
  - {name: benchmark, kind: problems, file: benchmark.jsonl, split: heldout}
  - {name: traces, kind: traces, file: corpus.jsonl}
  - {name: measured, kind: measure}
  - {name: twins, kind: dedup, on: completion, threshold: 0.7}
  - {name: leaks, kind: decontaminate, on: both, against: [benchmark]}
  - name: kept
    kind: filter
    rules:
      - {field: measures.language.share, min: 0.98, reason: mixed_language}
      - {field: leak, is: null, reason: leaked}
  - {name: chosen, kind: select, unique: twins, per_problem: 2}
"""
LEAK = "A trader buys twelve lamps and nine ropes, swaps every third lamp for coins and loses four of these on the way"
FOREIGN = "Dann müssen wir noch einmal prüfen, ob das wirklich stimmt und warum das so ist."
Events = list[dict[str, Any]]


def write_chain(folder: Path, rows: int = 1500) -> Path:
    """A recipe, its benchmark, and traces of which some mix languages, some leak, some are near-duplicates."""
    dice = random.Random(4)
    (folder / "benchmark.jsonl").write_text(
        json.dumps({"prompt": LEAK + ".", "reference": "3"}) + "\n", "utf-8"
    )
    body: list[str] = []
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % 10 != 1:  # else nearly the one before
                body = [_sentence(dice) for _ in range(30)]
            text = [*body, f"That was {number}."]
            text += {2: [FOREIGN] * 3, 3: [LEAK]}.get(number % 10, [])
            completion = f"<think>\n{' '.join(text)}\n</think>\nIt is {number}."
            row = {
                "prompt": f"What is {number // 4} plus 1?",
                "completion": completion,
                "reference": str(number),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    recipe = folder / "chain.yaml"
    recipe.write_text(RECIPE, "utf-8")
    return recipe


def _sentence(dice: random.Random) -> str:
    subject = dice.choice(
        ["the sum", "the first term", "our estimate", "the remainder", "this side", "the ratio"]
    )
    verb = dice.choice(["is equal to", "cannot be larger than", "depends on", "comes from", "agrees with"])
    other = dice.choice(["the previous value", "what we had before", "half of the total", "the last digit"])
    return f"Then {subject} {verb} {other}, which is {dice.randrange(10**6)} for the case of {dice.randrange(10**6)}."


def working(store: Path, pattern: str) -> Callable[[Events], bool]:
    """The point where a file of work in progress is there."""
    return lambda _: any((store / "work").glob(pattern))


POINTS = {
    "while rows are read": "traces-*/.scratch/**/*",
    "while texts are compared": "dedup-*/.scratch/**/*",
    "while leaks are sought": "decontaminate-*/tables/rows/*.parquet",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe that ran undisturbed."""
    folder = tmp_path_factory.mktemp("chain")
    answer = command("run", write_chain(folder), "--store", folder / "store")
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.mark.parametrize("pattern", POINTS.values(), ids=POINTS.keys())
def test_a_killed_chain_ends_as_an_undisturbed_one(pattern: str, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    arguments: list[str | Path] = ["run", whole / "chain.yaml", "--store", store]
    assert kill_when(arguments, store, working(store, pattern))
    answer = command(*arguments)
    assert answer.returncode == 0, answer.stderr
    assert contents(store) == contents(whole / "store")
    assert len(list((store / "runs" / "chain").iterdir())) == 1


def test_the_chain_finds_what_was_planted(whole: Path) -> None:
    answer = command("show", "--store", whole / "store", "--json")
    funnel = {each["stage"]: each for each in json.loads(answer.stdout)["funnel"]}
    assert funnel["kept"]["rejected"] == {"mixed_language": 150, "leaked": 150}
    assert funnel["chosen"]["rejected"]["duplicate"] > 0


def test_rows_that_were_added_change_no_other_label(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "grown")
    folder = tmp_path / "grown"
    write_chain(folder, rows=1650)
    assert command("run", folder / "chain.yaml", "--store", folder / "store").returncode == 0
    fresh = command("run", folder / "chain.yaml", "--store", tmp_path / "fresh")
    assert fresh.returncode == 0, fresh.stderr
    assert contents(folder / "store") == contents(tmp_path / "fresh")


@pytest.mark.soak
def test_twenty_kills_at_random(whole: Path, tmp_path: Path) -> None:
    store, dice, killed = tmp_path / "store", random.Random(20), 0
    arguments: list[str | Path] = ["run", whole / "chain.yaml", "--store", store]
    while killed < 20:
        left = iter(range(dice.randrange(20, 400)))  # of 20 ms
        if kill_when(arguments, store, lambda _, left=left: next(left, None) is None):
            killed += 1
        else:
            assert contents(store) == contents(whole / "store")
            shutil.rmtree(store)  # it got through: begin anew
    assert command(*arguments).returncode == 0
    assert contents(store) == contents(whole / "store")
