from pathlib import Path

import pytest

from distillkit.artifact import Artifact, Manifest
from distillkit.comparison import difference_text, differences
from distillkit.spec import digest
from distillkit.stages.answers import problem_schema
from distillkit.stages.base import Job, write_shards
from distillkit.store import Store


def evaluation(store: Store, seed: int, rates: dict[str, list[float | None]]) -> Artifact:
    """A sealed evaluation with the pass rates of each model on problems 0, 1, ..."""
    request = digest(["scores", seed])
    rows = [
        {
            "id": f"{problem:x}/heldout/{model}",
            "problem_id": f"{problem:x}",
            "benchmark": "heldout",
            "model": model,
            "pass_rate": rate,
        }
        for model, each in rates.items()
        for problem, rate in enumerate(each)
    ]
    with store.building("evaluate", request, print) as out:
        write_shards(Job(store, out, {}, shards=2), rows, problem_schema(), "problems")
        draft = Manifest("scores", "evaluate", "scores", request, "", declared={"models": list(rates)})
        return store.seal(out, draft)


def test_the_difference_is_paired_by_problem(tmp_path: Path) -> None:
    base = [problem / 60 for problem in range(40)]  # very unequal problems, ...
    better = [rate + 0.1 for rate in base]  # each as much better: nothing is uncertain about the difference
    [found] = differences([evaluation(Store(tmp_path), 1, {"base": base, "rl": better})])
    assert found["value"] == pytest.approx(0.1) and found["n"] == 40
    assert found["high"] - found["low"] < 0.2
    assert found["low"] <= 0.1 <= found["high"]


def test_seeds_of_a_problem_are_averaged_before_problems_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = evaluation(store, 1, {"base": [0.0, 0.5], "rl": [1.0, 0.5]})
    two = evaluation(store, 2, {"base": [0.0, 0.5], "rl": [0.0, 0.5]})
    [found] = differences([one, two])
    assert found["value"] == pytest.approx(0.25)
    assert (found["n"], found["seeds"]) == (2, 2)
    assert "paired over 2 problems, 2 seeds" in difference_text(found)


def test_only_problems_that_both_answered_count(tmp_path: Path) -> None:
    [found] = differences(
        [evaluation(Store(tmp_path), 1, {"base": [0.0, None, 0.2], "rl": [1.0, 1.0, None]})]
    )
    assert (found["value"], found["n"]) == (1.0, 1)


def test_one_model_alone_differs_from_nothing(tmp_path: Path) -> None:
    assert differences([evaluation(Store(tmp_path), 1, {"base": [0.5]})]) == []
    assert differences([]) == []
