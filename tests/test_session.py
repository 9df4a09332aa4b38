"""How a run ends: whatever happened, there is a page that says so."""

from pathlib import Path
from typing import Any

import pytest

from distillkit.errors import StageError
from distillkit.recipe import load
from distillkit.run_folder import load_record
from distillkit.runner import Run
from distillkit.session import Session

RECIPE = """
name: tiny
seed: 1
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 8}
"""


def session(folder: Path) -> Session:
    path = folder / "tiny.yaml"
    path.write_text(RECIPE, "utf-8")
    return Session(load(path), path, folder / "store")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (StageError("problems: broke <b>"), "failed", "problems: broke &lt;b&gt;"),
        (KeyboardInterrupt(), "interrupted", "this run was interrupted"),
    ],
)
def test_a_run_that_ends_badly_leaves_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str, words: str
) -> None:
    def break_(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Run, "build", break_)
    with pytest.raises(type(error)):
        session(tmp_path).run([])
    run = tmp_path / "store" / "runs" / "tiny" / "1"
    assert load_record(run).status == status
    text = (run / "report.html").read_text("utf-8")
    assert words in text
    assert "problems was at work, and told nothing yet" in text
    assert "not made in this run: problems" in text


def test_a_seed_that_fails_leaves_pages_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Run.build

    def break_second(self: Run, *arguments: Any) -> Any:
        if self.recipe.seed == 2:
            raise StageError("problems: broke")
        return build(self, *arguments)

    monkeypatch.setattr(Run, "build", break_second)
    monkeypatch.setattr(Run, "request", lambda self, *_: f"{self.recipe.seed:016x}")
    with pytest.raises(StageError):
        session(tmp_path).run([1, 2])
    run = tmp_path / "store" / "runs" / "tiny" / "1"
    assert "problems: broke" in (run / "report.html").read_text("utf-8")
    for seed, status in ((1, "done"), (2, "failed")):
        below = run / "seeds" / str(seed)
        assert load_record(below).status == status
        assert (below / "report.html").exists()


def test_a_page_that_cannot_be_written_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(*_: Any, **__: Any) -> None:
        raise StageError("problems: broke")

    def refuse(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(Run, "build", break_)
    monkeypatch.setattr("distillkit.session.write_report", refuse)
    with pytest.raises(StageError, match="problems: broke"):
        session(tmp_path).run([])
