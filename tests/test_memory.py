"""Memory of a training: its parts, what each switch takes off, and settings for cards that are sold."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_budget import QWEN3_30B_A3B, QWEN25_7B

from distillkit.memory import Frozen, Load, disk_bytes, memory
from distillkit.model_size import Model, model_size
from distillkit.optimizer import STATES, is_paged, state_bytes
from distillkit.remedy import AIM, suggest


def sized(config: dict[str, object] = QWEN25_7B) -> Model:
    found = model_size("x", config)
    assert found is not None
    return found


QWEN = sized()
SMALL = sized({**QWEN25_7B, "num_hidden_layers": 4})
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
    optimizer=st.sampled_from(["adamw", "paged_adamw_8bit", "adafactor", "lion_8bit"]),
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
    if load.processes > 1 or load.deepspeed:  # a second process under DDP brings its buckets
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


def test_a_reference_a_teacher_and_reward_models_are_held_beside_the_model() -> None:
    alone = memory(QWEN, Load(max_length=4096))
    other = memory(
        QWEN, Load(max_length=4096, frozen=(Frozen("reference", QWEN), Frozen("reward model", SMALL, 4)))
    )
    assert other.frozen == 2 * QWEN.total + 4 * SMALL.total
    assert other.total == pytest.approx(alone.total + other.frozen)


def test_zero3_shares_the_reference_out_and_no_reward_model() -> None:
    def held(role: Any, processes: int) -> float:
        load = Load(max_length=512, parallel="zero3", processes=processes, frozen=(Frozen(role, QWEN),))
        return memory(QWEN, load).frozen

    assert held("reward model", 8) == 2 * QWEN.total
    assert held("reference", 8) == held("teacher", 8) == pytest.approx(2e9 + 2 * QWEN.total / 8)


def test_a_teacher_is_asked_while_the_student_learns_and_a_rater_before() -> None:
    plain = Load(max_length=4096)
    asked = 4 * QWEN.hidden + 3 * QWEN.width
    teacher = memory(QWEN, replace(plain, frozen=(Frozen("teacher", QWEN, tokens=4096),)))
    assert teacher.activations == memory(QWEN, plain).activations + 4096 * asked * 2
    few = memory(QWEN, replace(plain, frozen=(Frozen("reward model", QWEN, tokens=32 * 512),)))
    assert few.scoring == 0 < few.gradients  # learning takes more
    many = memory(QWEN, replace(plain, frozen=(Frozen("reward model", QWEN, tokens=320 * 4096),)))
    assert many.scoring == 320 * 4096 * asked * 2 and many.gradients == many.activations == 0


def test_zero3_gathers_both_models_to_replace_the_reference() -> None:
    huge = sized({**QWEN25_7B, "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64})
    load = Load(max_length=512, parallel="zero3", processes=64, frozen=(Frozen("reference", huge),))
    assert memory(huge, load).gathered == 0
    synced = memory(huge, replace(load, synced=True))
    assert synced.gathered == pytest.approx(2 * (2 * huge.total - 2e9 - 2 * huge.total / 64))
    assert memory(huge, replace(load, parallel="ddp", synced=True)).gathered == 0


def test_an_engine_that_sleeps_shares_the_card_in_turn() -> None:
    awake = memory(QWEN, Load(max_length=16384, engine_bytes=24 * GB))
    asleep = memory(QWEN, Load(max_length=16384, engine_bytes=24 * GB, engine_sleeps=True))
    assert awake.engine == 24 * GB
    assert asleep.engine == 0 and asleep.total == pytest.approx(awake.total - 24 * GB)
    wide = memory(QWEN, Load(max_length=512, engine_bytes=60 * GB, engine_sleeps=True))
    assert wide.engine == 60 * GB and wide.gradients == 0  # sampling is the worst moment


def test_an_engine_is_put_to_sleep_before_the_method_changes() -> None:
    found = suggest(QWEN, Load(max_length=8192, engine_bytes=24 * GB), 80)
    assert found is not None and found.settings == {"trainer.vllm_enable_sleep_mode": True}


def test_ddp_holds_its_gradients_twice() -> None:
    one, two = (memory(QWEN, Load(max_length=512, processes=n)).gradients for n in (1, 2))
    assert two == 2 * one == 4 * QWEN.total


@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("", 4),
        ("adamw_torch_fused", 4),
        ("adafactor", 0),
        ("sgd", 0),
        ("paged_adamw_32bit", 8),
        ("lion_32bit", 4),
    ],
)
def test_states_are_as_wide_as_the_optimizer_makes_them(name: str, each: float) -> None:
    assert state_bytes(name, 1000, 2) == 1000 * each
    assert state_bytes(name, 1000, 4) == (2 * each if name in ("", "adamw_torch_fused") else each) * 1000


def test_eight_bits_spare_the_embedding() -> None:
    # 1,000 parameters, 100 of them in float32; scales of 4 bytes per 256 numbers on the others.
    assert state_bytes("paged_adamw_8bit", 1000, 2, 100) == pytest.approx(
        900 * 2 * (1 + 4 / 256) + 100 * 2 * 4
    )
    assert state_bytes("adamw_torch_8bit", 1000, 2, 100) == 2000  # torchao's, which knows no exception
    assert is_paged("paged_adamw_8bit") and not is_paged("adamw_8bit")


def test_every_optimizer_of_the_table_is_one_of_transformers() -> None:
    from transformers.training_args import OptimizerNames

    known = {each.value.removeprefix("paged_") for each in OptimizerNames}
    assert set(STATES) <= known


def test_smaller_states_make_smaller_checkpoints() -> None:
    def size(**fields: Any) -> float:
        return disk_bytes(QWEN, Load(max_length=512, **fields))

    assert size(optimizer="adafactor") == 3 * 2 * QWEN.total + 2 * QWEN.total
    assert size(optimizer="adafactor") < size(optimizer="paged_adamw_8bit") < size()
    assert size(parallel="zero3", processes=8) == 3 * (2 + 12) * QWEN.total + 2 * QWEN.total
