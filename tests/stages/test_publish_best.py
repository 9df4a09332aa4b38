"""Of several trainings the one that scored best is published, and nothing else decides it."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from distillkit import toy
from distillkit.artifact import Manifest
from distillkit.errors import RecipeError, StageError
from distillkit.stages.base import SCORES, WEIGHTS, Input, Job
from distillkit.stages.publish import Publish
from distillkit.stages.publish.contest import winner
from distillkit.store import Store, Writer

SETTINGS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": 64,
    "template": "chat",
    "n": {"set0": 1},
    "engine": {"kind": "replay"},
}


def training(store: Store, name: str) -> Input:
    """The toy base as a training of this name would have sealed it; each has its own content."""
    with store.building("sft", name * 16, print) as out:
        shutil.copytree(toy.BASE, out.path / "model")
        out.summary = {"steps": len(name), "name": name}
        artifact = store.seal(out, Manifest(name, "sft", WEIGHTS, name * 16, "", inputs={"model": []}))
    return Input(name, WEIGHTS, artifact.content, artifact=artifact.path.name)


def evaluation(store: Store, models: list[Input], rates: dict[str, list[float | None]]) -> Input:
    """A sealed evaluation: model -> its pass@1 on benchmark 0, 1, ..."""
    with store.building("evaluate", "e" * 16, print) as out:
        scores = {
            name: {
                f"set{at}/pass@1": {"value": value, "low": value, "high": value, "n": 9, "samples": 9}
                for at, value in enumerate(values)
            }
            for name, values in rates.items()
        }
        out.summary = {"scores": scores, "settings": SETTINGS, "gamma": []}
        named = [{"name": each.name, "type": WEIGHTS, "content": each.content} for each in models]
        draft = Manifest("scores", "evaluate", SCORES, "e" * 16, "", inputs={"models": named})
        artifact = store.seal(out, draft)
    return Input("scores", SCORES, artifact.content, artifact=artifact.path.name)


def test_the_highest_mean_over_benchmarks_wins(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a, b, c = (training(store, name) for name in "abc")
    scores = evaluation(store, [a, b, c], {"a": [0.9, 0.1], "b": [0.6, 0.6], "c": [0.6, 0.6]})
    job = Job(store, Writer(tmp_path / "out"), {"input": [a, b, c], "scores": [scores]})
    chosen, rates = winner(job.artifacts("input"), job.artifacts("scores"), "model")
    assert (chosen.stage, rates) == ("b", {"a": 0.5, "b": 0.6, "c": 0.6})
    assert winner([chosen], [], "model") == (chosen, {})


def test_the_best_is_what_is_laid_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a, b = training(store, "a"), training(store, "b")
    (store.artifacts / (b.artifact or "") / "model" / "best.txt").write_text("here")
    scores = evaluation(store, [a, b], {"a": [0.2], "b": [0.4]})
    stage = Publish(
        name="m", input=["a", "b"], scores="scores", repository="me/m", version="0.1.0", license="mit"
    )
    writer = Writer(tmp_path / "out")
    stage.run(Job(store, writer, {"input": [a, b], "scores": [scores]}, recipe="name: x\n"))
    assert writer.summary["best"] == "b" and writer.summary["rates"] == {"a": 0.2, "b": 0.4}
    assert (tmp_path / "out" / writer.summary["folder"] / "best.txt").read_text() == "here"


def test_what_cannot_compete_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="several trainings need scores:"):
        Publish(name="m", input=["a", "b"], repository="me/m", version="0.1.0")
    store = Store(tmp_path / "store")
    a = training(store, "a")
    scores = evaluation(store, [a], {"a": [None]})
    found = Job(store, Writer(tmp_path / "o"), {"input": [a, scores], "scores": [scores]})
    with pytest.raises(RecipeError, match="only weights compete"):
        winner(found.artifacts("input"), found.artifacts("scores"), "m")
    with pytest.raises(StageError, match="a is not scored by scores; add it to its models"):
        winner([*found.artifacts("input")[:1]] * 2, found.artifacts("scores"), "m")
