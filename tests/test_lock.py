"""Branches and tags are resolved once, written beside the recipe, and never asked for again."""

import json
from pathlib import Path

import pytest

from distillkit.errors import DistillkitError, MissingError, RecipeError
from distillkit.hub import HubRef
from distillkit.lock import Lock

ONE, TWO = "1" * 40, "2" * 40


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the Hub was asked for; it answers ONE the first time, then TWO."""
    asked: list[str] = []

    def resolve(ref: HubRef) -> str:
        asked.append(f"{ref.kind}:{ref}")
        return ONE if len(asked) == 1 else TWO

    monkeypatch.setattr("distillkit.lock.resolve", resolve)
    return asked


def test_a_name_is_asked_for_once_and_kept(tmp_path: Path, asked: list[str]) -> None:
    path = tmp_path / "x.lock"
    assert Lock(path).commit_of("model", "org/name") == ONE
    assert Lock(path).commit_of("model", "org/name") == ONE
    assert asked == ["model:org/name@main"]
    assert json.loads(path.read_text("utf-8")) == {"model:org/name": ONE}
    assert Lock(path).known("model", "org/name") == ONE


def test_a_dataset_and_a_model_of_one_name_are_two(tmp_path: Path, asked: list[str]) -> None:
    lock = Lock(tmp_path / "x.lock")
    assert (lock.commit_of("model", "org/name"), lock.commit_of("dataset", "org/name")) == (ONE, TWO)


def test_update_asks_anew(tmp_path: Path, asked: list[str]) -> None:
    path = tmp_path / "x.lock"
    Lock(path).commit_of("model", "org/name@v1")
    assert Lock(path, update=True).commit_of("model", "org/name@v1") == TWO
    assert json.loads(path.read_text("utf-8")) == {"model:org/name@v1": TWO}


def test_a_commit_is_what_it_is(tmp_path: Path, asked: list[str]) -> None:
    path = tmp_path / "x.lock"
    assert Lock(path).commit_of("model", f"org/name@{TWO}") == TWO
    assert asked == [] and not path.exists()


def test_without_a_file_it_is_kept_in_memory(asked: list[str]) -> None:
    lock = Lock(None)
    assert lock.known("model", "org/name") is None
    assert lock.commit_of("model", "org/name") == lock.known("model", "org/name") == ONE
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"[1", RecipeError), (b"[1]", RecipeError), (b"\xff\xfe", RecipeError), (b"", RecipeError), (None, MissingError)],
)  # fmt: skip
def test_a_lock_that_cannot_be_read(
    tmp_path: Path, content: bytes | None, error: type[DistillkitError]
) -> None:
    path = tmp_path / "x.lock"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(error, match="remove it and run again online") as caught:
        Lock(path)
    assert str(path) in str(caught.value)
    if content is not None:
        assert Lock(path, update=True).commits == {}
