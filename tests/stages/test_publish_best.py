"""Of several trainings the one that scored best is published, and nothing else decides it."""

import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit import toy
from distillkit.artifact import Manifest
from distillkit.errors import RecipeError, StageError
from distillkit.stages.base import SCORES, WEIGHTS, Input, Job
from distillkit.stages.publish import Publish
from distillkit.stages.publish.contest import contest
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


def told(after: float | None, before: float | None) -> dict[str, Any]:
    """A difference that is good to 0.15."""
    gap = (after or 0.0) - (before or 0.0)
    return {"value": gap, "low": gap - 0.15, "high": gap + 0.15, "n": 9, "samples": 18, "error": 0.07}


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
        differences = [
            {
                "benchmark": f"set{at}",
                "model": after,
                "base": before,
                **told(rates[after][at], rates[before][at]),
            }
            for before, after in combinations(rates, 2)
            for at in range(len(rates[before]))
            if rates[before][at] is not None
        ]
        out.summary = {"scores": scores, "settings": SETTINGS, "gamma": [], "differences": differences}
        named = [{"name": each.name, "type": WEIGHTS, "content": each.content} for each in models]
        draft = Manifest("scores", "evaluate", SCORES, "e" * 16, "", inputs={"models": named})
        artifact = store.seal(out, draft)
    return Input("scores", SCORES, artifact.content, artifact=artifact.path.name)


def test_the_highest_mean_over_benchmarks_wins(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a, b, c = (training(store, name) for name in "abc")
    scores = evaluation(store, [a, b, c], {"a": [0.9, 0.1], "b": [0.6, 0.6], "c": [0.6, 0.6]})
    job = Job(store, Writer(tmp_path / "out"), {"input": [a, b, c], "scores": [scores]})
    found = contest(job.artifacts("input"), job.artifacts("scores"), "model")
    rates = {stage: rate.value for stage, rate in found.rates.items()}
    assert (found.winner.stage, rates) == ("b", {"a": 0.5, "b": 0.6, "c": 0.6})
    assert (found.runner_up, found.lead and found.lead.value, found.clear) == ("c", 0.0, False)
    assert contest([found.winner], [], "model") == (found.winner, {}, None, None)


@pytest.mark.parametrize("best", ["a", "b"])
@pytest.mark.parametrize(("other", "clear"), [(0.2, False), (0.1, False), (0.08, True)])
def test_a_lead_within_its_interval_is_no_lead(tmp_path: Path, other: float, clear: bool, best: str) -> None:
    """Good to 0.15 on each of two benchmarks is good to 0.15 / sqrt 2 = 0.106 in the mean, whoever leads."""
    store = Store(tmp_path / "store")
    a, b = training(store, "a"), training(store, "b")
    scores = evaluation(store, [a, b], {name: [0.2 if name == best else other] * 2 for name in "ab"})
    job = Job(store, Writer(tmp_path / "out"), {"input": [a, b], "scores": [scores]})
    found = contest(job.artifacts("input"), job.artifacts("scores"), "m")
    assert found.clear is clear and found.winner.stage == (best if other < 0.2 else "a")
    assert found.lead is not None and found.lead.value == pytest.approx(0.2 - other)
    assert found.lead.low == pytest.approx(0.2 - other - 0.15 / 2**0.5, abs=1e-5)
    doubt = found.doubt()
    assert (doubt is None) is clear
    if doubt is not None:
        assert "not to be told apart" in doubt and f"{0.2 - other:+.3f} [-0." in doubt


@pytest.mark.parametrize(("other", "clear"), [(0.2, True), (0.3, False)])
def test_the_best_is_what_is_laid_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: float, clear: bool
) -> None:
    store = Store(tmp_path / "store")
    a, b = training(store, "a"), training(store, "b")
    (store.artifacts / (b.artifact or "") / "model" / "best.txt").write_text("here")
    scores = evaluation(store, [a, b], {"a": [other], "b": [0.4]})
    stage = Publish(
        name="m", input=["a", "b"], scores="scores", repository="me/m", version="0.1.0", license="mit"
    )
    writer = Writer(tmp_path / "out")
    stage.run(Job(store, writer, {"input": [a, b], "scores": [scores]}, recipe="name: x\n"))
    summary = writer.summary
    assert summary["best"] == "b" and summary["rates"] == {"a": other, "b": 0.4}
    assert summary["runner_up"] == "a" and summary["clear"] is clear
    assert (summary["lead"]["low"] > 0) is clear
    assert ("b is published, ahead of a by +0.100 [-0.050, +0.250]" in capsys.readouterr().out) is not clear
    assert (tmp_path / "out" / writer.summary["folder"] / "best.txt").read_text() == "here"


def test_what_cannot_compete_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="several trainings need scores:"):
        Publish(name="m", input=["a", "b"], repository="me/m", version="0.1.0")
    store = Store(tmp_path / "store")
    a = training(store, "a")
    scores = evaluation(store, [a], {"a": [None]})
    found = Job(store, Writer(tmp_path / "o"), {"input": [a, scores], "scores": [scores]})
    with pytest.raises(RecipeError, match="only weights compete"):
        contest(found.artifacts("input"), found.artifacts("scores"), "m")
    with pytest.raises(StageError, match="a is not scored by scores; add it to its models"):
        contest([*found.artifacts("input")[:1]] * 2, found.artifacts("scores"), "m")
