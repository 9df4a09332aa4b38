"""The table of claims: which runs it reads, when a claim holds, and what it says where nothing was measured."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "claims.py"
RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(store: Path, recipe: str, number: int, status: str, at: int, seed: int | None = None) -> Path:
    path = store / "runs" / recipe / str(number)
    if seed is not None:
        path = path / "seeds" / str(seed)
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"status": status}))
    os.utime(path / "run.json", (at, at))
    return path


def estimate(value: float | None, low: float = 0, high: float = 1) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 5, "samples": 20}


def test_every_claim_names_a_recipe_that_ships(claims: ModuleType) -> None:
    for claim in claims.CLAIMS:
        file = "quickstart" if claim.recipe == "quickstart" else claim.recipe.replace("-", "_")
        assert (RECIPES / f"{file}.yaml").exists(), claim.recipe
        assert claim.text and claim.source and "|" not in claim.text + claim.source


def test_without_runs_nothing_is_claimed(claims: ModuleType, tmp_path: Path) -> None:
    rows = list(claims.lines([tmp_path]))
    assert len(rows) == len(claims.CLAIMS) >= 15
    assert all(row.endswith("| not measured: no finished run of the recipe | - |") for row in rows)


def test_the_newest_finished_run_of_all_stores_is_read(claims: ModuleType, tmp_path: Path) -> None:
    record(tmp_path / "a", "toy", 1, "done", 100)
    newest = record(tmp_path / "b", "toy", 1, "done", 300)
    record(tmp_path / "b", "toy", 2, "failed", 400)
    found = claims.runs_of("toy", [tmp_path / "a", tmp_path / "b"])
    assert [run.path for run in found] == [newest]


def test_a_run_of_several_seeds_is_several_runs(claims: ModuleType, tmp_path: Path) -> None:
    record(tmp_path, "toy", 1, "done", 100)
    seeds = [record(tmp_path, "toy", 1, "done", 100, seed) for seed in (1, 2)]
    assert [run.path for run in claims.runs_of("toy", [tmp_path])] == seeds


def test_a_run_of_an_older_version_measures_nothing(claims: ModuleType, tmp_path: Path) -> None:
    record(tmp_path, "quickstart", 1, "done", 100)
    [row] = [row for row in claims.lines([tmp_path]) if "Pure RL mixes" in row]
    assert "not measured: the run lacks" in row and row.endswith("| - |")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (estimate(0.1, 0.0, 0.2), estimate(0.5, 0.4, 0.6), True),
        (estimate(0.5, 0.4, 0.6), estimate(0.1, 0.0, 0.2), False),
        (estimate(0.1, 0.0, 0.3), estimate(0.4, 0.2, 0.6), None),
    ],
)
def test_what_the_intervals_leave_open_is_open(
    claims: ModuleType, before: dict[str, Any], after: dict[str, Any], told: bool | None
) -> None:
    assert sys.modules["claim_figures"].rises(before, after) is told


def test_a_number_that_is_none_is_not_measured(claims: ModuleType, tmp_path: Path) -> None:
    path = record(tmp_path, "probes-toy", 1, "done", 100)
    found = {model: {"moved": {"number": estimate(None)}} for model in ("student", "toy:unfaithful")}
    (path / "artifacts" / "probes").mkdir(parents=True)
    manifest = {"summary": {"probes": {"faithfulness": found}}}
    (path / "artifacts" / "probes" / "manifest.json").write_text(json.dumps(manifest))
    [row] = [row for row in claims.lines([tmp_path]) if "faithfulness" in row]
    assert "not measured: the run lacks what it needs (TypeError)" in row and row.endswith("| - |")


def test_votes_and_budgets_stand_with_their_intervals(claims: ModuleType) -> None:
    figures = sys.modules["claim_figures"]

    class Told:
        def __init__(self, summary: dict[str, Any]) -> None:
            self.told = summary

        def summary(self, stage: str) -> dict[str, Any]:
            return self.told

    def row(at: float, single: float, votes: float) -> dict[str, Any]:
        scores = {"pass@1": estimate(single), "cons@2": estimate(0.0), "cons@16": estimate(votes, 0.4, 0.9)}
        return {"model": "zero", "temperature": at, "scores": scores}

    swept = Told({"sweeps": {"temperature": [row(1.0, 0.4, 0.6), row(0.3, 0.5, 0.5)]}})
    found = figures.voting_temperature([swept])
    assert found.held and found.figure == (
        "cons@16 minus pass@1 at temperature 0.3: +0.000 (to 0.5 [0.4, 0.9]), 1: +0.200 (to 0.6 [0.4, 0.9])"
    )
    points = [{"budget": b, "accuracy": estimate(v, v - 0.1, v + 0.1)} for b, v in ((0, 0.2), (8, 0.7))]
    told = figures.budget([Told({"curves": {"student": {"points": points, "knee": None}}})])
    assert told.held and "0: 0.2 [0.1, 0.3], 8: 0.7 [0.6, 0.8]" in told.figure


def test_a_finding_is_read_from_the_manifest(claims: ModuleType, tmp_path: Path) -> None:
    path = record(tmp_path, "probes-toy", 1, "done", 100)
    moved = {"student": 0.95, "toy:unfaithful": 0.1}
    found = {model: {"moved": {"number": estimate(each)}} for model, each in moved.items()}
    (path / "artifacts" / "probes").mkdir(parents=True)
    manifest = {"summary": {"probes": {"faithfulness": found}}}
    (path / "artifacts" / "probes" / "manifest.json").write_text(json.dumps(manifest))
    [row] = [row for row in claims.lines([tmp_path]) if "faithfulness" in row]
    assert "student 0.95 [0, 1], toy:unfaithful 0.1 [0, 1]" in row and row.endswith("| yes |")
    found["student"]["moved"]["number"]["value"] = 0.8
    (path / "artifacts" / "probes" / "manifest.json").write_text(json.dumps(manifest))
    [row] = [row for row in claims.lines([tmp_path]) if "faithfulness" in row]
    assert row.endswith("| no |")
