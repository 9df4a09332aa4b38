import importlib.util
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from distillkit.artifact import Model
from distillkit.errors import MissingError, RecipeError
from distillkit.spec import identity
from distillkit.stages.distill import Distill
from distillkit.stages.grpo import Grpo, window_of
from distillkit.stages.reward_model import RewardModelStage
from distillkit.stages.sft import Sft
from distillkit.training.adapter import require_packages
from distillkit.training.config import Training
from distillkit.training.passthrough import ASIDE, FIELDS_FILE, OWNED, ConfigName, trl_fields

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_trl_fields.py"


def sft(**fields: Any) -> Sft:
    return Sft(**{"name": "student", "model": "toy:base", "learning_rate": 1e-3, "max_length": 128, **fields})


def grpo(**fields: Any) -> Grpo:
    needed = {
        "name": "zero",
        "model": "toy:base",
        "learning_rate": 1e-3,
        "steps": 4,
        "max_completion_length": 64,
    }
    return Grpo(**{**needed, **fields})


def refusal(stage: Sft | Grpo) -> str:
    with pytest.raises(RecipeError) as caught:
        stage.check(Path())
    return str(caught.value)


def test_the_list_is_that_of_the_installed_trl() -> None:
    spec = importlib.util.spec_from_file_location("make_trl_fields", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.make() == json.loads(FIELDS_FILE.read_text("utf-8")), f"run {SCRIPT.name} again"


def test_every_field_of_ours_and_every_refused_one_is_trls() -> None:
    known = {field for name in get_args(ConfigName) for field in trl_fields(name)}
    assert set(OWNED) <= known
    assert known >= ASIDE
    for kind in (Sft, Grpo, Distill, RewardModelStage):
        assert set(kind.RENAMED) <= set(trl_fields(kind.CONFIG))
        assert set(kind.RENAMED.values()) <= set(kind.model_fields)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"optimm": "adamw_torch"}, "stages.student.trainer.optimm: unknown key"),
        ({"optimm": "adamw_torch"}, "did you mean optim?"),
        ({"epsilon": 0.2}, "TRL's SFTConfig has no such field"),
        ({"learning_rate": 1e-5}, "write learning_rate: beside trainer:"),
        ({"num_train_epochs": 3}, "write epochs: beside trainer:"),
        ({"output_dir": "x"}, "may not be set: distillkit keeps checkpoints in the store"),
        ({"hub_token": "hf_x"}, "environment"),
        ({"weight_decay": "0.1e"}, "'0.1e' does not fit; it takes float"),
        ({"adam_epsilon": "1e-8"}, "write a number with a point"),
        ({"use_liger_kernel": 1}, "1 does not fit; it takes bool"),
        ({"warmup_steps": True}, "True does not fit; it takes float"),
        ({"lr_scheduler_type": "cosin"}, "did you mean cosine?"),
        ({"parallelism_config": {"a": 1}}, "does not fit"),
        ({"report_to": ["trackio", "wandbb"]}, "'wandbb' is no tracker; did you mean wandb?"),
    ],
)
def test_a_wrong_trainer_block_is_refused(trainer: dict[str, Any], message: str) -> None:
    assert message in refusal(sft(trainer=trainer))


def test_a_right_trainer_block_passes() -> None:
    block = {
        "optim": "adamw_torch",
        "warmup_steps": 0.03,
        "weight_decay": 0,
        "fsdp_config": {"min_num_params": 1},
    }
    sft(trainer={**block, "lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "report_to": ["trackio"]}).check(
        Path()
    )
    grpo(trainer={"top_p": 0.9, "generation_kwargs": None, "vllm_mode": "server"}).check(Path())


def test_an_overlong_buffer_that_punishes_everything_is_refused() -> None:
    rewards = [{"kind": "overlong", "buffer": 65}]
    assert "lower it" in refusal(grpo(max_completion_length=64, rewards=rewards))
    grpo(max_completion_length=65, rewards=rewards).check(Path())


def test_a_rollout_that_passes_cannot_share_out_is_refused() -> None:
    rollout = {"prompts_per_step": 4, "num_generations": 4, "per_device_train_batch_size": 8}
    assert "24 is no multiple of 16" in refusal(
        grpo(**rollout | {"per_device_train_batch_size": 16}, trainer={"generation_batch_size": 24})
    )
    grpo(**rollout, trainer={"generation_batch_size": 24}).check(Path())


def test_a_tracker_is_a_package_to_have() -> None:
    assert sft(trainer={"report_to": "none"}).packages() == {}
    assert sft(trainer={"report_to": "azure_ml"}).packages() == {"azureml": "trainer.report_to: azure_ml"}


def test_the_model_of_a_block_that_runs_foreign_code_is_told() -> None:
    assert sft().foreign() == []
    assert len(sft(trainer={"trust_remote_code": True}).foreign()) == 1
    kernels = {"model_init_kwargs": {"attn_implementation": "kernels-community/flash-attn2"}}
    assert len(grpo(trainer=kernels).foreign()) == 1
    assert sft(trainer={"model_init_kwargs": {"attn_implementation": "sdpa"}}).foreign() == []


@pytest.mark.parametrize(
    ("batch", "tokens", "declared", "rows"),
    [(64, 128, None, 64), (64, 16384, None, 1), (64, 4096, None, 4), (60, 1024, None, 15), (64, 99, 16, 16)],
)
def test_rows_of_a_pass(batch: int, tokens: int, declared: int | None, rows: int) -> None:
    assert sft(per_device_train_batch_size=declared).rows_per_pass(batch, tokens) == rows


def test_a_batch_that_does_not_divide_is_refused() -> None:
    assert "no multiple" in refusal(sft(batch=30, per_device_train_batch_size=8))


def test_band_and_go_need_a_screening() -> None:
    assert "stages.zero.band: needs screened:" in refusal(grpo(band=(0.1, 0.9)))
    assert "stages.zero.require_go: needs screened:" in refusal(grpo(require_go=True))
    assert "within 0 to 1" in refusal(grpo(band=(0.9, 0.1), screened="screening"))
    grpo(band=(0.1, 0.9), screened="screening", require_go=True).check(Path())


def test_what_does_not_decide_the_result_is_no_identity() -> None:
    same = sft(name="other", model="./x", input="y", save_steps=7, gradient_checkpointing=True)
    assert identity(same) == identity(sft())
    assert identity(sft(trainer={"optim": "sgd"})) != identity(sft())
    told = {"report_to": ["trackio"], "run_name": "second try", "optim": "sgd"}
    assert identity(sft(trainer=told)) == identity(sft(trainer={"optim": "sgd"}))
    assert identity(grpo(screened="a")) == identity(grpo(screened="b"))


def real(stage: Training, config: type, model: Model, folder: Path, **ours: Any) -> Any:
    return config(**stage.arguments(model, folder, 3, ours))


def test_the_real_configs_take_what_we_build(tmp_path: Path) -> None:
    from trl import GRPOConfig, SFTConfig

    model = Model("m", "org/m", "", revision="c" * 40)
    built = real(sft(trainer={"optim": "sgd"}), SFTConfig, model, tmp_path, max_length=None)
    assert (built.seed, built.optim.value, built.max_length, built.report_to) == (3, "sgd", None, [])
    assert built.model_init_kwargs["use_safetensors"] is True
    assert built.model_init_kwargs["revision"] == "c" * 40
    kept = {"model_init_kwargs": {"dtype": "float64"}}
    assert real(sft(trainer=kept), SFTConfig, model, tmp_path).model_init_kwargs["dtype"] == "float64"
    assert real(grpo(), GRPOConfig, model, tmp_path).learning_rate == 1e-3


def test_the_window_of_a_generation(tmp_path: Path) -> None:
    from trl import GRPOConfig

    def window(**fields: Any) -> int:
        ours = {"per_device_train_batch_size": 8, "num_generations": 4, **fields}
        return window_of(real(grpo(), GRPOConfig, Model("m", "m", ""), tmp_path, **ours))

    assert window(gradient_accumulation_steps=2) == 1
    assert window(gradient_accumulation_steps=2, num_iterations=3) == 3
    assert window(gradient_accumulation_steps=2, steps_per_generation=8) == 4
    assert window(gradient_accumulation_steps=4, steps_per_generation=2) == 1
    assert window(gradient_accumulation_steps=2, steps_per_generation=3) == 3


def test_lora_quantization_and_rope_go_together_or_are_refused() -> None:
    assert "stages.student.quantization: weights of 4bit cannot be trained themselves; add lora" in refusal(
        sft(quantization="4bit")
    )
    sft(quantization="4bit", lora={"rank": 8}).check(Path())
    assert "linear, dynamic and yarn take a factor" in refusal(sft(rope={"type": "yarn"}))
    assert "take a factor, others none" in refusal(sft(rope={"theta": 1e6, "factor": 4}))
    assert "stages.student.rope: says nothing" in refusal(sft(rope={}))
    sft(rope={"theta": 300000, "max_position_embeddings": 32768}).check(Path())
    rope = grpo(rope={"theta": 300000}, trainer={"use_vllm": True})
    assert "vLLM would sample with the positions of the base" in refusal(rope)


@pytest.mark.parametrize(
    ("fields", "package"),
    [
        ({"trainer": {"optim": "paged_adamw_8bit"}}, "bitsandbytes"),
        ({"trainer": {"optim": "adamw_bnb_8bit"}}, "bitsandbytes"),
        ({"lora": {}, "quantization": "8bit"}, "bitsandbytes"),
        ({"trainer": {"use_liger_kernel": True}}, "liger_kernel"),
        ({"trainer": {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}}, "flash_attn"),
        ({"lora": {}}, "peft"),
    ],
)
def test_what_a_training_needs_beside_trl(fields: dict[str, Any], package: str) -> None:
    assert package in sft(**fields).packages()
    assert sft(trainer={"optim": "adamw_torch"}).packages() == {}


def test_a_package_that_is_missing_is_named_with_its_command() -> None:
    with pytest.raises(
        MissingError, match=r"student: lora needs the package no-such; .* pip install no-such"
    ):
        require_packages({"no_such": "lora"}, "student")
    require_packages({"json": "lora"}, "student")


def test_heldout_traces_need_an_evaluation() -> None:
    assert "stages.student.heldout: is measured by evaluate:" in refusal(sft(heldout="traces"))
