"""Memory of a training: its parts, what each switch takes off, and settings for cards that are sold."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_budget import QWEN3_30B_A3B, QWEN25_7B

from distillkit.memory import AIM, Load, disk_bytes, memory, suggest
from distillkit.model_size import Model, model_size


def sized(config: dict[str, object] = QWEN25_7B) -> Model:
    found = model_size("x", config)
    assert found is not None
    return found


QWEN = sized()
GB = 1e9


def test_a_7b_in_bf16_with_adamw_is_14_and_14_and_28() -> None:
    parts = memory(QWEN, Load(max_length=16384)).parts()
    assert parts["weights"] == parts["gradients"] == pytest.approx(2 * 7.6156 * GB, rel=1e-4)
    assert parts["optimizer"] == pytest.approx(4 * 7.6156 * GB, rel=1e-4)
    # One input of each of 28 layers, and a single layer whole while it is run again.
    assert 28 * 2 * 3584 * 16384 < parts["activations"] < 12 * GB


LOADS = st.builds(
    Load,
    max_length=st.integers(512, 65536),
    rows_per_device=st.integers(1, 8),
    optimizer=st.sampled_from(["adamw", "adamw_8bit", "adafactor"]),
    lora_rank=st.none() | st.integers(1, 256),
    checkpointing=st.booleans(),
    liger=st.booleans(),
    parallel=st.sampled_from(["ddp", "zero2", "zero3"]),
    processes=st.integers(1, 64),
    sampled_rows=st.integers(0, 256),
)


@given(LOADS)
def test_the_parts_add_up_and_no_switch_costs_memory(load: Load) -> None:
    found = memory(QWEN, load)
    assert found.total == pytest.approx(sum(found.parts().values()))
    assert min(found.parts().values()) >= 0
    for switch in ({"checkpointing": True}, {"liger": True}, {"rows_per_device": 1}, {"max_length": 512}):
        assert memory(QWEN, replace(load, **switch)).total <= found.total + 1
    more = replace(load, processes=load.processes * 2)
    assert memory(QWEN, more).total <= found.total + 1
    assert disk_bytes(QWEN, load) > 2 * QWEN.total


@pytest.mark.parametrize("length", [16384, 32768])
def test_one_card_of_80_gb_finds_settings_for_a_7b(length: int) -> None:
    found = suggest(QWEN, Load(max_length=length, checkpointing=False), 80)
    assert found is not None
    assert found.memory.total == pytest.approx(sum(found.memory.parts().values()))
    assert found.memory.total <= AIM * 80 * GB
    assert found.settings["gradient_checkpointing"] is True
    assert "lora.rank" not in found.settings  # all weights are trained
    assert "gradient_checkpointing: true" in found.text()


def test_a_card_of_24_gb_trains_a_7b_with_adapters_on_four_bits() -> None:
    found = suggest(QWEN, Load(max_length=16384), 24)
    assert found is not None
    assert found.settings["lora.rank"] == 16 and found.settings["quantization"] == "4bit"
    assert "trainer.optim" not in found.settings  # the adapter's states are small anyway


def test_more_cards_share_before_the_method_changes() -> None:
    found = suggest(QWEN, Load(max_length=16384), 40, gpus=8)
    assert found is not None
    assert found.settings == {"processes": 8, "parallel": "zero3"}


def test_what_cannot_fit_says_so() -> None:
    huge = sized({**QWEN25_7B, "num_hidden_layers": 400, "hidden_size": 16384, "num_attention_heads": 128})
    assert suggest(huge, Load(max_length=32768), 16) is None


def test_a_shorter_row_is_the_last_thing_tried() -> None:
    tight = memory(QWEN, Load(max_length=4096, lora_rank=16, base_bits=4, liger=True)).total / GB
    found = suggest(
        QWEN, Load(max_length=32768, lora_rank=16, base_bits=4, liger=True, offload=True), tight / AIM
    )
    assert found is not None
    assert list(found.settings)[-1] == "max_length" and found.settings["max_length"] <= 8192


def test_zero_shares_what_its_stage_says() -> None:
    ddp, two, three = (
        memory(QWEN, Load(max_length=4096, parallel=way, processes=8)).parts()
        for way in ("ddp", "zero2", "zero3")
    )
    assert ddp["optimizer"] == pytest.approx(4 * QWEN.total)
    assert two["optimizer"] == three["optimizer"] == pytest.approx(12 * QWEN.total / 8)  # float32 ones
    assert two["gradients"] == pytest.approx(2 * QWEN.total / 8)
    assert two["weights"] == 2 * QWEN.total > 3 * three["weights"]


def test_completions_that_the_trainer_samples_are_counted_where_they_are_more() -> None:
    few = memory(QWEN, Load(max_length=4096, sampled_rows=1))
    many = memory(QWEN, Load(max_length=4096, sampled_rows=1024))
    assert few.cache == 0 and few == memory(QWEN, Load(max_length=4096))
    assert many.cache == 1024 * 4096 * QWEN.cache_bytes and many.gradients == many.activations == 0


def test_a_mixture_holds_all_experts_and_computes_with_few() -> None:
    mixture = sized(QWEN3_30B_A3B)
    assert mixture.width == 8 * 768
    assert memory(mixture, Load(max_length=4096)).weights == 2 * mixture.total
