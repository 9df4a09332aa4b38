"""What a training has beside itself, and what is said where the GPU that is there does not hold it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillkit.artifact import Model
from distillkit.memory import Load
from distillkit.toy import BASE
from distillkit.training.rewards.classifier import _passes
from distillkit.training.room import (
    SCORED_TOKENS,
    beside,
    cramped_engine,
    engine_share,
    size_of,
    warn_of_memory,
)

TOY = Model("toy:base", str(BASE), "")
GB = 1e9


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As if a GPU of so many GB were there."""

    def put(gb: float) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=gb * GB)
        )

    return put


def told(load: Load, *args: Any, **more: Any) -> list[str]:
    found: list[str] = []
    warn_of_memory(TOY, load, "zero", found.append, *args, **more)
    return found


def test_nothing_is_said_without_a_gpu_or_where_it_fits(card: Any) -> None:
    assert told(Load(max_length=10**9)) == []
    card(80)
    assert told(Load(max_length=512)) == []


def test_what_does_not_fit_is_told_with_what_would(card: Any) -> None:
    card(4)
    [text] = told(Load(max_length=512, rows_per_device=100_000))
    assert text.startswith("zero: needs about ") and "per_device_train_batch_size: 1" in text


def test_an_engine_inside_counts_and_has_to_hold_the_weights(card: Any) -> None:
    card(4)
    load = Load(max_length=512)
    [text] = told(load, {"use_vllm": True, "vllm_gpu_memory_utilization": 0.6}, 8)
    assert "needs about 4 GB of 4 GB on each GPU (engine 2.4, other 2)" in text
    [text] = told(load, {"use_vllm": True}, 8)
    assert "zero: its engine has 1 GB of each GPU (vllm_gpu_memory_utilization: 0.3), and takes 2 GB" in text
    assert told(load, {"use_vllm": True, "vllm_mode": "server"}, 8) == []


def test_all_models_that_are_held_count() -> None:
    size = size_of(TOY)
    assert size is not None
    load = Load(max_length=100, weight_bytes=4, rows_per_device=2)
    found = beside(load, {}, 80, 6, reference=size, teacher=size, raters=[size, size])
    assert [(each.role, each.weight_bytes, each.tokens) for each in found.frozen] == [
        ("reference", 4, 0),
        ("teacher", 4, 200),
        ("reward model", size.bits / 8, 600),
        ("reward model", size.bits / 8, 600),
    ]
    assert found.sampled_rows == 6
    long = beside(Load(max_length=40_000), {}, 80, 64, raters=[size])
    assert long.frozen[0].tokens == 40_000  # one conversation at least
    assert beside(load, {}, 80, 0) == load


def test_the_share_of_an_engine_is_that_of_trl() -> None:
    from trl import GRPOConfig

    assert engine_share({}) is None and engine_share({"use_vllm": True, "vllm_mode": "server"}) is None
    assert engine_share({"use_vllm": True}) == GRPOConfig.vllm_gpu_memory_utilization
    assert engine_share({"use_vllm": True, "vllm_gpu_memory_utilization": 0.5}) == 0.5


def test_a_model_that_no_share_holds_is_spread() -> None:
    size = size_of(TOY)
    assert size is not None
    text = cramped_engine(size, Load(max_length=512), {"use_vllm": True}, 1.0)
    assert text is not None and text.endswith("set trainer.vllm_tensor_parallel_size: 2")


def test_a_reward_model_reads_as_much_at_once_as_is_counted() -> None:
    lengths = [10] * 40 + [4000] * 20 + [50_000]
    passes = list(_passes(list(range(61)), lengths))
    assert [row for rows in passes for row in rows] == list(range(61))
    assert [len(rows) for rows in passes] == [32, 8, 8, 8, 4, 1]
    assert all(len(rows) * max(lengths[row] for row in rows) <= SCORED_TOKENS for rows in passes[:-1])
    assert list(_passes([], [])) == []
