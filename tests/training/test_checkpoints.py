from pathlib import Path

from distillkit.stages.sft import Sft
from distillkit.training.checkpoints import checkpoint_key, own_checkpoints


def sft(**fields: object) -> Sft:
    return Sft(**{"name": "s", "model": "toy:base", "learning_rate": 1e-3, "max_length": 64, **fields})


def test_own_checkpoints_stay_and_foreign_ones_are_put_aside(tmp_path: Path) -> None:
    told: list[str] = []
    own_checkpoints(tmp_path, "mine", told.append)
    (tmp_path / "checkpoint-4").mkdir()
    own_checkpoints(tmp_path, "mine", told.append)
    assert (tmp_path / "checkpoint-4").exists()
    assert told == []
    own_checkpoints(tmp_path, "another", told.append)
    assert not list(tmp_path.glob("checkpoint-*"))
    assert (tmp_path / "foreign-checkpoint-4").exists()
    assert "1 checkpoint of another recipe was put aside" in told[0]


def test_checkpoints_that_nobody_claimed_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    told: list[str] = []
    own_checkpoints(tmp_path, "mine", told.append)
    assert len(told) == 1
    (tmp_path / "checkpoint-4").mkdir()
    own_checkpoints(tmp_path, "third", told.append)  # an old one of that name lies aside already
    assert not (tmp_path / "checkpoint-4").exists()


def test_only_one_of_several_processes_looks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    (tmp_path / "checkpoint-4").mkdir()
    own_checkpoints(tmp_path, "mine", lambda text: None)
    assert (tmp_path / "checkpoint-4").exists()


def test_the_key_is_what_decides_the_training() -> None:
    contents = {"input": ["a"], "model": ["b"]}
    same = checkpoint_key(sft(), 1, contents)
    assert checkpoint_key(sft(name="other", save_steps=3), 1, contents) == same
    assert checkpoint_key(sft(learning_rate=2e-3), 1, contents) != same
    assert checkpoint_key(sft(), 2, contents) != same
    assert checkpoint_key(sft(), 1, {"input": ["a"], "model": ["c"]}) != same
