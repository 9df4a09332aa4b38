"""Lints: numbers that a recipe pays for and cannot trust, one line each."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from distillkit.check import check
from distillkit.cli import cli
from distillkit.errors import RecipeError
from distillkit.lint import cost_lint
from distillkit.plan import plan
from distillkit.recipe import load

RECIPE = """\
name: linted
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 20}
  - {name: heldout, kind: problems, toy: chain, limit: 20, split: heldout}
  - {name: zero, kind: grpo, input: problems, model: toy:base, steps: 40, max_completion_length: 64, learning_rate: 1.0e-4,
     evaluate: {problems: heldout, every: 4}}
  - {name: scores, kind: evaluate, models: [toy:base, zero], n: 8, max_tokens: 64}
"""


def warnings(folder: Path, *changes: tuple[str, str]) -> list[str]:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "r.yaml").write_text(text)
    return check(load(folder / "r.yaml"), folder).warnings


def test_a_sound_recipe_has_no_line(tmp_path: Path) -> None:
    assert warnings(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "n: 8",
            "n: 8, temperature: 0",
            "temperature 0 gives 8 equal samples, so pass@k and cons@k tell nothing",
        ),
        ("max_tokens: 64}", "max_tokens: 32}", "max_tokens 32 is below the 64 that zero was trained with"),
        ("every: 4", "every: 5", "every 5 of 40 steps makes 9 points, fewer than 10"),
        ("{problems: heldout, every: 4}", "{problems: problems, every: 4}", "problems is what is trained on"),
        (
            "every: 4}}",
            "every: 4}, rewards: [{kind: accuracy, domains: [chian]}, {kind: format}]}",
            "accuracy is for chian only, and the problems are of chain: it pays nothing",
        ),
        (
            "n: 8",
            "n: 8, benchmarks: {aime24: {temperature: 0}}",
            "temperature 0 gives 64 equal samples on aime24",
        ),
    ],
)
def test_a_line_for_each(tmp_path: Path, old: str, new: str, says: str) -> None:
    [line] = warnings(tmp_path, (old, new))
    assert says in line and line.startswith("stages.") and "\n" not in line


def test_a_long_run_without_evaluations_has_a_line(tmp_path: Path) -> None:
    bare = ("\n     evaluate: {problems: heldout, every: 4}}", "}")
    comma = ("learning_rate: 1.0e-4,", "learning_rate: 1.0e-4")
    assert warnings(tmp_path, bare, comma) == []
    [line] = warnings(tmp_path, bare, comma, ("steps: 40", "steps: 400"))
    assert "stages.zero: 400 steps without evaluate" in line and "every: 40}" in line


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (
            "{name: s, kind: screen, model: toy:base, input: problems, n: 8, k: 4,",
            "8 equal samples, so the gap is 0",
        ),
        ("{name: s, kind: probe, models: [toy:base], n: 4,", "4 equal samples, so no two of them differ"),
    ],
)
def test_greedy_samples_show_no_gap_and_no_variety(tmp_path: Path, stage: str, says: str) -> None:
    scores = "  - {name: scores"
    assert warnings(tmp_path, (scores, f"  - {stage} max_tokens: 64}}\n{scores}")) == []
    [line] = warnings(tmp_path, (scores, f"  - {stage} max_tokens: 64, temperature: 0}}\n{scores}"))
    assert says in line and line.startswith("stages.s: ")


def test_an_evaluation_after_every_step_cannot_be_more_often(tmp_path: Path) -> None:
    assert warnings(tmp_path, ("steps: 40", "steps: 3"), ("every: 4", "every: 1")) == []


def test_one_greedy_sample_and_a_greedy_point_of_a_sweep_are_fine(tmp_path: Path) -> None:
    assert warnings(tmp_path, ("n: 8", "n: 1, temperature: 0")) == []
    assert warnings(tmp_path, ("n: 8", "n: 8, temperature: [1.0, 0]")) == []


def test_a_composite_that_holds_the_benchmarks_judge_is_one_judge(tmp_path: Path) -> None:
    scored = ("n: 8", "n: 8, benchmarks: [aime24]")
    judge = "{chain: {kind: exact}, math: {kind: any_of, of: [{kind: exact}, {kind: math}]}}"
    assert warnings(tmp_path, scored, ("{chain: {kind: exact}}", judge)) == []
    with pytest.raises(
        RecipeError, match=r"stages\.scores: benchmarks\.aime24: is judged by math, but verifiers\.math"
    ):
        warnings(tmp_path, scored, ("{chain: {kind: exact}}", "{chain: {kind: exact}, math: {kind: exact}}"))


def test_a_plan_counts_a_benchmark_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("n: 8, max_tokens: 64", "benchmarks: {aime24: 2}"))
    planned = plan(load(tmp_path / "r.yaml"), tmp_path / "r.yaml", tmp_path / "none")
    costs = {stage["name"]: stage["cost"] for stage in planned.stages}
    assert (
        costs["scores"]["tokens"] == 2 * 30 * 2 * 32768 // 2
    )  # models x problems x samples x half of the cap
    assert planned.warnings == []  # of less than a GPU-hour


def test_evaluation_above_a_tenth_of_the_cost() -> None:
    costs = {"zero": ("grpo", 80.0), "scores": ("evaluate", 20.0)}
    assert cost_lint(costs) == [
        "evaluation (scores) takes 20% of the GPU-hours, more than 10%; fewer samples (n) or problems (limit) would do"
    ]
    assert cost_lint(costs | {"more": ("sft", 100.0)}) == []
    assert cost_lint({"scores": ("evaluate", 20.0)}) == []  # there is nothing else to pay for
    assert cost_lint({name: (kind, hours / 1000) for name, (kind, hours) in costs.items()}) == []  # minutes


DEAR = """\
name: dear
engine: {kind: vllm}
verifiers: {math: {kind: math}}
stages:
  - {name: problems, kind: problems, file: in.jsonl, limit: 1000}
  - {name: zero, kind: grpo, model: org/Base-7B, input: problems, steps: 20, max_completion_length: 2048, learning_rate: 1.0e-6}
  - {name: scores, kind: evaluate, models: [org/Base-7B, zero], benchmarks: {math500: 4, aime24: 64}}
"""


def test_check_tells_of_it_before_anything_is_there(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "1 + 1", "reference": "2"}\n')
    (tmp_path / "r.yaml").write_text(DEAR)

    def told(*changes: str) -> list[str]:
        sets = [part for change in changes for part in ("--set", change)]
        answer = CliRunner().invoke(cli, ["check", str(tmp_path / "r.yaml"), "--json", *sets])
        assert answer.exit_code == 0, answer.output
        return list(json.loads(answer.output)["warnings"])

    [line] = [line for line in told() if "GPU-hours" in line]
    assert line.startswith("evaluation (scores) takes ") and "more than 10%; fewer samples (n)" in line
    assert not any("GPU-hours" in line for line in told("stages.zero.steps=400000"))
    # Where the size of a model, or the rows of a training, are not known, a share of the whole cannot be either.
    assert not any("GPU-hours" in line for line in told("stages.zero.model=org/Base"))
