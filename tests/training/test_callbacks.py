import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from distillkit.errors import StageError
from distillkit.training.callbacks import WHOLE, advice_of, last_checkpoint, stop_requests, watcher


def test_the_last_whole_checkpoint_is_taken_and_broken_ones_go(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, whole in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / WHOLE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2"]


def test_signals_are_requests_inside_and_as_before_outside() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


class Trainer:
    """What a callback is handed, as transformers builds it."""

    def __init__(self, tmp_path: Path, stop: threading.Event, window: int) -> None:
        from transformers import TrainerControl, TrainerState, TrainingArguments

        self.told: list[tuple[int, int, dict[str, Any]]] = []
        self.args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
        self.state, self.control = TrainerState(max_steps=9), TrainerControl()
        self.watcher = watcher("student", self.progress, stop, window)

    def progress(self, done: int, total: int, **facts: Any) -> None:
        self.told.append((done, total, facts))

    def step(self, step: int, **logs: float) -> None:
        self.state.global_step = step
        self.watcher.on_step_end(self.args, self.state, self.control)
        self.watcher.on_log(self.args, self.state, self.control, logs=logs)


def test_a_stop_waits_for_the_end_of_the_window(tmp_path: Path) -> None:
    stop = threading.Event()
    trainer = Trainer(tmp_path, stop, window=3)
    stop.set()
    trainer.step(4)
    assert not trainer.control.should_training_stop
    trainer.step(6)
    assert trainer.control.should_training_stop
    assert trainer.control.should_save


def test_progress_is_told_and_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, threading.Event(), window=1)
    trainer.step(1, loss=0.5, grad_norm=2.0)
    assert trainer.told == [(1, 9, {"unit": "steps", "loss": 0.5})]
    with pytest.raises(StageError, match="student: loss is not a number at step 2; lower learning_rate"):
        trainer.step(2, loss=float("nan"))


def test_a_norm_that_is_no_number_ends_it_before_the_weights_are_ruined(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, threading.Event(), window=1)
    for step in (3, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / WHOLE).touch()
        (folder / "config.json").touch()
    with pytest.raises(StageError) as caught:
        trainer.step(5, loss=4.0, grad_norm=float("inf"))
    # The step failed with the weights of checkpoint-4.
    good = tmp_path / "checkpoint-3"
    assert str(caught.value) == (
        f"student: grad_norm is not a number at step 5; lower learning_rate or max_grad_norm; {good} is the last good "
        f"checkpoint; a changed recipe begins anew, or goes on from there with model: {good}"
    )
    trainer.args.fp16 = True  # its scaler skips such steps
    trainer.step(6, loss=4.0, grad_norm=float("inf"))


def test_an_adapters_checkpoint_is_no_model_to_go_on_from(tmp_path: Path) -> None:
    assert advice_of(tmp_path, 5) == "; a changed recipe begins anew"
    (tmp_path / "checkpoint-2").mkdir()
    assert advice_of(tmp_path, 5) == "; a changed recipe begins anew"  # cut short by a kill
    (tmp_path / "checkpoint-2" / WHOLE).touch()
    assert advice_of(tmp_path, 5).endswith("is the last good checkpoint; a changed recipe begins anew")
