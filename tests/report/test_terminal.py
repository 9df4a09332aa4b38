"""The terminal's counterparts of the page: tables of everything that was found, two models on one problem."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distillkit.artifact import Manifest, shard_of
from distillkit.errors import RecipeError
from distillkit.run_folder import RunFolder, load_record
from distillkit.show import describe, find_pair, grids, render, render_pair
from distillkit.show.number import finite, score_text, signed_text


def drawn(renderable: Any, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.fixture(scope="module")
def described(rich_world: Any) -> dict[str, Any]:
    return describe(rich_world.run, rich_world.store.root)


def test_every_finding_has_a_table(described: dict[str, Any]) -> None:
    titles = [grid.title for grid in grids(described)]
    for title in (
        "before: templates",
        "longer on the way",
        "pass@k before and after",
        "by base pass rate",
        "which answer leads",
        "by complexity",
        "sweep of temperature",
        "sweep of max_tokens",
        "cost of the evaluation",
        "thinking: accuracy against thinking",
        "faithfulness",
        "early answering",
        "verifier gaming",
        "mode collapse",
    ):
        assert title in titles


def test_numbers_stand_with_their_intervals(described: dict[str, Any], findings: Any) -> None:
    found = {grid.title: grid for grid in grids(described)}
    [reach] = found["pass@k before and after"].rows
    assert reach[:4] == [findings.MODELS[1], "toy:base", "4", "0.500 [0.450, 0.550]"]
    assert reach[4:] == ["0.900 [0.850, 0.950]", "+0.400 [-0.100, +0.600]", "3 of 40", "1"]
    budget = found["thinking: accuracy against thinking"]
    assert [row[:2] for row in budget.rows][:4] == [["toy:base", at] for at in ("0", "8", "16", "uncut")]
    assert "no knee" in budget.notes[0]
    assert "knee at 16 tokens" in budget.notes[1]
    moved = {(row[0], row[1]): row[2] for row in found["faithfulness"].rows}
    assert moved["toy:base", "unperturbed"] == "0.020 [0.000, 0.070]"
    assert moved["toy:base", "number"] == "0.950 [0.900, 1.000]"
    scores = next(grid for title, grid in found.items() if title.startswith("scores on"))
    assert (
        f"deep: best: {findings.MODELS[1]} (pass@1 0.800), clear of toy:base, +0.400 [-0.100, +0.600]"
        in scores.notes
    )
    assert "money" not in found["cost of the evaluation"].header, "a blank column is left out"


def test_models_come_in_the_order_of_the_recipe(described: dict[str, Any], findings: Any) -> None:
    assert list(described["budget_curves"][0]["curves"]) == list(findings.MODELS)
    assert list(described["probes"][0]["probes"]["faithfulness"]) == list(findings.MODELS)


def test_the_terminal_draws_all_of_it(described: dict[str, Any]) -> None:
    text = drawn(render(described))
    assert "longer: 82 % of the groups" in text
    assert "sweep of temperature" in text
    json.dumps(described, allow_nan=False)


def test_what_is_no_number_becomes_nothing() -> None:
    found = finite({"a": [1.0, float("nan"), {"b": float("inf")}], "c": "nan", "d": 2})
    assert found == {"a": [1.0, None, {"b": None}], "c": "nan", "d": 2}


def test_a_missing_estimate_is_blank() -> None:
    assert score_text("pass@1", {}) == signed_text(None) == signed_text({"value": None}) == ""
    assert signed_text({"value": 0.5}) == "+0.500"


@pytest.fixture(scope="module")
def compared(worlds: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run whose evaluation has the model under two names, the second right on other problems."""
    made = worlds.make_world(tmp_path_factory.mktemp("pair"))
    first = made.artifacts["scores"]
    ends = [{"name": name, "type": "weights", "content": name} for name in ("a", "b")]
    rows = list(first.rows("completions"))
    verdicts = {row["id"]: row for row in first.rows("verdicts")}
    doubled, judged, rates = [], [], []
    for row in rows:
        for model in ("a", "b"):
            id = f"{row['problem_id']}/{model * 12}/{row['index']}"
            right = model == "b" or row["index"] < 1
            told = {"model": model, "score": float(right), "reason": "correct" if right else "wrong"}
            doubled.append(row | {"id": id})
            judged.append(verdicts[row["id"]] | {"id": id, **told})
            if row["index"] == 0:
                rate = {"model": model, "pass_rate": 0.25 if model == "a" else 1.0}
                rates.append(
                    {"id": f"{row['problem_id']}/heldout/{model}", "problem_id": row["problem_id"]} | rate
                )
    with made.store.building("evaluate", "7" * 16, print) as out:
        for table, held in (("completions", doubled), ("verdicts", judged), ("problems", rates)):
            for shard in range(first.shards(table)):
                mine = [row for row in held if shard_of(row["id"], first.shards(table)) == shard]
                out.write(shard, mine, first.schema(table), table)
        manifest = Manifest("both", "evaluate", "scores", "7" * 16, "", inputs={"models": ends})
        artifact = made.store.seal(out, manifest)
    RunFolder(made.run, load_record(made.run)).add("both", "evaluate", artifact, cached=False, seconds=1.0)
    return made


def test_two_models_stand_side_by_side_on_a_problem_that_they_differ_on(compared: Any) -> None:
    pair = find_pair(compared.run, compared.store.root, "b, a")
    assert [(side["model"], side["correct"], side["n"]) for side in pair["sides"]] == [
        ("b", 4, 4),
        ("a", 1, 4),
    ]
    assert pair["stage"] == "both"
    text = drawn(render_pair(pair))
    assert "b: 4 of 4 right" in text
    assert "a: 1 of 4 right" in text
    assert "the number is" in text
    again = find_pair(compared.run, compared.store.root, "a,b", pair["problem"])
    assert again["problem"] == pair["problem"]


@pytest.mark.parametrize(
    ("names", "problem", "words"),
    [
        ("a", None, "write the names of two models"),
        ("a,a", None, "write the names of two models"),
        (
            "a,toy:base",
            None,
            "no evaluation has both a and toy:base; models are scores: toy:base; both: a, b",
        ),
        ("a,b", "nowhere", "did not both answer problem 'nowhere'"),
    ],
)
def test_a_pair_that_is_not_there_is_one_clear_line(
    compared: Any, names: str, problem: str | None, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        find_pair(compared.run, compared.store.root, names, problem)


def test_a_run_without_an_evaluation_says_so(worlds: Any, tmp_path: Path) -> None:
    made = worlds.make_world(tmp_path, until="judged")
    with pytest.raises(RecipeError, match="models are none"):
        find_pair(made.run, made.store.root, "a,b")
