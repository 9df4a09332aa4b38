"""Weights of an earlier step go into evaluations and publications like any other model's."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import command

from distillkit import toy
from distillkit.artifact import Artifact, Manifest, load_manifest, weights_content
from distillkit.check import check
from distillkit.errors import RecipeError, StageError
from distillkit.recipe import load
from distillkit.stages.base import WEIGHTS, Input, Job
from distillkit.stages.checkpoint import Checkpoint
from distillkit.store import Store, Writer

RECIPE = """
name: kept
engine: {{kind: transformers}}
verifiers: {{chain: {{kind: exact}}}}
stages:
  - {{name: problems, kind: problems, toy: chain, limit: 8}}
  - {{name: heldout, kind: problems, toy: chain, limit: 8, split: heldout}}
  - {{name: zero, kind: grpo, model: toy:base, input: problems, learning_rate: 1.0e-3, steps: {steps}, prompts_per_step: 4,
     num_generations: 4, max_completion_length: 48, {keep} rewards: {{accuracy: 1.0}}}}
  - {{name: early, kind: checkpoint, model: {model}, step: {step}}}
  - {{name: scores, kind: evaluate, models: [early, zero], problems: heldout, n: 2, max_tokens: 48}}
  - {{name: best, kind: publish, input: [early, zero], scores: scores, repository: best, version: 1.0.0}}
"""


def recipe(folder: Path, **fields: str) -> Path:
    file = folder / "kept.yaml"
    usual = {"keep": "keep_steps: 10,", "model": "zero", "step": "20", "steps": "40"}
    file.write_text(RECIPE.format(**usual | fields))
    return file


def checked(folder: Path, **fields: str) -> Any:
    return check(load(recipe(folder, **fields)), folder)


def test_it_reads_a_training_that_keeps_weights(tmp_path: Path) -> None:
    wires = {stage["name"]: stage["wires"] for stage in checked(tmp_path).stages}
    assert wires["early"] == {"model": ["zero"]}
    assert wires["best"]["input"] == ["early", "zero"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": ""}, "stages.early.model: zero keeps its last weights only; add keep_steps: to it"),
        ({"step": "25"}, "stages.early.step: zero keeps every 10 steps, and 25 is no multiple of that"),
        ({"step": "40"}, "stages.early.step: zero ends at step 40; name zero itself"),
        ({"model": "toy:base"}, "stages.early.model"),
        ({"step": "0"}, "stages.early.step"),
    ],
)
def test_what_no_training_kept_is_refused_before_anything_runs(
    fields: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        checked(tmp_path, **fields)
    assert message in str(caught.value)


@pytest.mark.slow
def test_the_best_of_several_steps_is_published(tmp_path: Path) -> None:
    file, store = recipe(tmp_path, keep="keep_steps: 2,", step="2", steps="4"), tmp_path / "store"
    done = command("run", file, "--store", store)
    assert done.returncode == 0, done.stderr
    [scores, best] = [
        load_manifest(store / "runs" / "kept" / "1" / "artifacts" / name / "manifest.json")
        for name in ("scores", "best")
    ]
    told = {name: score["pass@1"]["value"] for name, score in scores.summary["scores"].items()}
    assert best.summary["best"] == max(["early", "zero"], key=lambda name: told[name])
    card = next((store / "artifacts").glob("publish-*/*/README.md")).read_text("utf-8")
    assert "zero" in card and "GRPO" in card.upper()


@pytest.fixture
def training(tmp_path: Path) -> tuple[Store, Artifact]:
    """A sealed training that kept the toy base as step 10 and ended with the small one."""
    store = Store(tmp_path / "store")
    with store.building("sft", "k" * 16, print) as out:
        shutil.copytree(toy.PACKAGED["toy:small"], out.path / "model")
        shutil.copytree(toy.BASE, out.path / "checkpoints" / "10")
        out.summary = {"serve": {"command": "vllm serve MODEL", "parser": None, "stops": []}}
        return store, store.seal(out, Manifest("student", "sft", WEIGHTS, "k" * 16, ""))


def taken(store: Store, training: Artifact, step: int | None, folder: Path) -> Writer:
    ends = {"model": [Input("student", WEIGHTS, training.content, artifact=training.path.name)]}
    job = Job(store, Writer(folder), ends)
    Checkpoint(name="early", model="student", step=step).run(job)
    return job.out


def test_it_is_a_model_of_its_own(training: tuple[Store, Artifact], tmp_path: Path) -> None:
    store, student = training
    early = taken(store, student, 10, tmp_path / "early")
    assert weights_content(early.path / "model") == weights_content(toy.BASE)
    assert early.summary == {"steps": 10, "serve": student.manifest.summary["serve"]}
    last = taken(store, student, None, tmp_path / "last")
    assert weights_content(last.path / "model") == weights_content(student.path / "model")


def test_a_step_that_the_training_never_came_to_is_one_line(
    training: tuple[Store, Artifact], tmp_path: Path
) -> None:
    store, student = training
    with pytest.raises(StageError, match=r"student has no weights of step 20 .* those that it kept: 10"):
        taken(store, student, 20, tmp_path / "none")


def test_kept_weights_are_part_of_what_a_training_is(tmp_path: Path) -> None:
    contents = set()
    for name, kept in (("a", "toy:small"), ("b", "toy:base"), ("c", None)):
        store = Store(tmp_path / name)
        with store.building("sft", "k" * 16, print) as out:
            shutil.copytree(toy.BASE, out.path / "model")
            if kept is not None:
                shutil.copytree(toy.PACKAGED[kept], out.path / "checkpoints" / "10")
            contents.add(store.seal(out, Manifest("student", "sft", WEIGHTS, "k" * 16, "")).content)
    assert len(contents) == 3


def test_a_smoke_run_takes_the_last_weights() -> None:
    assert Checkpoint(name="early", model="zero", step=20).limited(8).step is None
