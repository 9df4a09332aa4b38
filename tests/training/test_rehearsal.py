"""The step before the first one: it finds an end of memory, and leaves no trace."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from distillkit.errors import EngineError
from distillkit.toy import BASE
from distillkit.training.rehearsal import (
    kept_randomness,
    longest_rows,
    memory_errors,
    rehearsal_of,
    rehearse,
)


def rows(lengths: list[int]) -> Dataset:
    ids = [[5] * length for length in lengths]
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def test_the_longest_rows_come_first_and_ties_in_order() -> None:
    found = longest_rows(rows([3, 9, 4, 9, 1]), 3)
    assert [len(each["input_ids"]) for each in found] == [9, 9, 4]
    assert len(longest_rows(rows([2, 1]), 8)) == 2


def test_random_numbers_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(ValueError, match="lost"), kept_randomness():
        draw()
        raise ValueError("lost")
    assert draw() == expected


def test_an_end_of_memory_is_told_with_remedies() -> None:
    with (
        pytest.raises(
            EngineError, match=r"student: out of memory with 2 rows; try gradient_checkpointing: true"
        ),
        memory_errors("student", "2 rows"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), memory_errors("student", "2 rows"):
        raise RuntimeError("shape mismatch")


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    from trl import SFTConfig, SFTTrainer

    arguments = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-4},
        "weight_decay": 0.1,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "max_length": None,
        "disable_tqdm": True,
        "model_init_kwargs": {"dtype": "float32"},
    }
    return SFTTrainer(str(BASE), args=SFTConfig(**arguments), train_dataset=rows([4, 16, 8]))


def test_a_rehearsal_changes_no_weight_and_no_random_number(trainer: Any, tmp_path: Path) -> None:
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    rehearse(trainer, "student")
    assert all(value.equal(weights[name]) for name, value in trainer.model.state_dict().items())
    assert torch.get_rng_state().equal(state)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.args.learning_rate == 1e-3  # the real arguments are their own
    assert trainer.state.global_step == 0
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_rehearsal_takes_the_longest_rows_once(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    compute = type(trainer).compute_loss

    def spy(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append([int(n) for n in (inputs["labels"] != -100).sum(1)])
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(type(trainer), "compute_loss", spy)
    rehearse(trainer, "student")
    assert [sorted(batch) for batch in seen] == [[8, 16]]


def test_a_training_that_has_a_checkpoint_is_not_rehearsed(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / ".whole").touch()
    monkeypatch.setattr(type(trainer), "train", None)  # whoever calls it fails
    rehearse(trainer, "student")


def test_the_double_neither_saves_nor_logs(trainer: Any) -> None:
    found = rehearsal_of(trainer.args)
    assert (found.max_steps, found.learning_rate, found.save_strategy, found.report_to) == (1, 0.0, "no", [])
    assert found.lr_scheduler_kwargs == {}
