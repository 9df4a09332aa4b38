"""budget.py and model_size.py: known models, a published benchmark, and limits that are crossed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from distillkit.budget import (
    GPUS,
    Budget,
    Cost,
    GigaBytes,
    Turns,
    flops_per_token,
    generation,
    grpo,
    rollouts,
    tokens_per_second,
    training,
    utilisation,
)
from distillkit.memory import Load
from distillkit.model_size import Model, model_size, parameters


def config(
    hidden: int, layers: int, width: int, heads: int, pairs: int, words: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "vocab_size": words,
        **more,
    }


def qwen3(hidden: int, layers: int, width: int, heads: int, pairs: int = 8, **more: Any) -> dict[str, Any]:
    return config(hidden, layers, width, heads, pairs, 151936, model_type="qwen3", head_dim=128, **more)


TIED = {"tie_word_embeddings": True}
QWEN25_7B = config(3584, 28, 18944, 28, 4, 152064, model_type="qwen2")
QWEN3_30B_A3B = qwen3(
    2048, 48, 6144, 32, 4, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768
)
DEEPSEEK_V3 = config(
    7168, 61, 18432, 128, 128, 129280, n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8,
    moe_intermediate_size=2048, first_k_dense_replace=3, q_lora_rank=1536, kv_lora_rank=512,
    qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, topk_method="noaux_tc",
    quantization_config={"quant_method": "fp8"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("known", "total", "active"),
    [
        # Totals as the safetensors files of each model have them.
        (QWEN25_7B, 7_615_616_512, 7_615_616_512),
        (config(896, 24, 4864, 14, 2, 151936, model_type="qwen2", **TIED), 494_032_768, 494_032_768),
        (qwen3(4096, 36, 12288, 32), 8_190_735_360, 8_190_735_360),
        (config(4096, 32, 14336, 32, 8, 128256, model_type="llama"), 8_030_261_248, 8_030_261_248),
        (config(4096, 32, 14336, 32, 8, 32000, model_type="mistral"), 7_241_732_096, 7_241_732_096),
        (
            config(4096, 32, 14336, 32, 8, 32000, num_local_experts=8, num_experts_per_tok=2),
            46_702_792_704,
            12_879_925_248,
        ),
        (QWEN3_30B_A3B, 30_532_122_624, 3_353_032_704),
        # A text model inside a multimodal one.
        ({"text_config": QWEN25_7B, "vision_config": {}}, 7_615_616_512, 7_615_616_512),
    ],
)
def test_parameters_of_known_models(known: dict[str, Any], total: int, active: int) -> None:
    assert parameters(known) == (total, active)


def test_parameters_of_deepseek_v3() -> None:
    # Its report says 671B and 37B; both without the multi-token-prediction layer.
    total, active = parameters(DEEPSEEK_V3)
    assert total == 671_026_419_200
    assert active == pytest.approx(37.55e9, rel=0.005)
    size = model_size("deepseek-ai/DeepSeek-R1", DEEPSEEK_V3)
    assert size is not None
    assert size.bits == 8
    assert size.cache_bytes == 2 * 61 * 576  # latent attention: 70 kB a token, not 2 MB


@pytest.mark.parametrize(
    ("name", "total", "active", "bits"),
    [
        ("Qwen/Qwen2.5-Math-7B", 7e9, 7e9, 16),
        ("open-r1/Qwen2.5-Math-7B-RoPE-300k", 7e9, 7e9, 16),
        ("Qwen/QwQ-32B-AWQ", 32e9, 32e9, 4),
        ("Qwen/Qwen3-235B-A22B-GPTQ-Int4", 235e9, 22e9, 4),
        ("Qwen/Qwen2.5-1.5B-Instruct-GPTQ-Int8", 1.5e9, 1.5e9, 8),
        ("Qwen/Qwen3-32B-FP8", 32e9, 32e9, 8),
        ("unsloth/Llama-3.1-8B-bnb-4bit", 8e9, 8e9, 4),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", 8e9, 8e9, 16),
        ("mistralai/Mixtral-8x7B-v0.1", 46.7e9, 12.9e9, 16),
        ("openai/gpt-oss-120b", 120e9, 120e9, 16),
        ("HuggingFaceTB/SmolLM2-135M", 135e6, 135e6, 16),
        ("8b-models/tiny-2M", 2e6, 2e6, 16),  # of the model, not of its owner
    ],
)
def test_size_from_a_name(name: str, total: float, active: float, bits: int) -> None:
    size = model_size(name)
    assert size is not None
    assert (size.total, size.active, size.bits, size.source) == (total, active, bits, "name")


@pytest.mark.parametrize(
    "name", ["deepseek-ai/DeepSeek-R1", "microsoft/phi-4", "toy:base", "./out/student", ""]
)
def test_a_name_without_a_size_gives_none(name: str) -> None:
    assert model_size(name) is None
    assert model_size(name, {"n_embd": 768}) is None


def test_a_config_wins_over_the_name_and_a_guess_is_near_it() -> None:
    exact, guess = model_size("Qwen2.5-7B", QWEN25_7B), model_size("Qwen2.5-7B", {"n_embd": 1})
    assert exact is not None and guess is not None
    assert (exact.source, guess.source) == ("config", "name")
    assert exact.total == 7_615_616_512
    for field in ("layers", "hidden", "vocabulary"):
        assert getattr(guess, field) == pytest.approx(getattr(exact, field), rel=0.4)


@pytest.mark.parametrize(
    ("field", "bits"),
    [
        ({}, 16),
        ({"torch_dtype": "float32"}, 32),
        ({"dtype": "bfloat16"}, 16),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, 4),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, 4),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, 8),
        ({"quantization_config": {"quant_method": "mxfp4"}}, 4),
    ],
)
def test_bits_from_a_config(field: dict[str, Any], bits: int) -> None:
    size = model_size("x", {**QWEN25_7B, **field})
    assert size is not None
    assert size.bits == bits


@pytest.mark.parametrize(
    ("model", "gpus", "measured", "tolerance"),
    [
        # Tokens/s per H100 of datatrove's examples/inference/benchmark with vLLM 0.15 defaults.
        (qwen3(1024, 28, 3072, 16, **TIED), 1, 13527, 0.2),
        (qwen3(2048, 28, 6144, 16, **TIED), 1, 11710, 0.2),
        (qwen3(2560, 36, 9728, 32, **TIED), 1, 7919, 0.2),
        (qwen3(4096, 36, 12288, 32), 1, 6338, 0.2),
        (qwen3(5120, 40, 17408, 40), 1, 4414, 0.2),
        (qwen3(5120, 64, 25600, 64), 4, 1987, 0.2),
        (QWEN3_30B_A3B, 1, 2977, 0.2),
        (config(576, 30, 1536, 9, 3, 49152, **TIED), 1, 28391, 0.5),
        (config(960, 32, 2560, 15, 5, 49152, **TIED), 1, 17887, 0.5),
        (config(2048, 24, 8192, 32, 32, 49152, **TIED), 1, 5255, 0.5),
    ],
)
def test_speed_of_ten_models_as_published(
    model: dict[str, Any], gpus: int, measured: float, tolerance: float
) -> None:
    size = model_size("x", model)
    assert size is not None
    speed = tokens_per_second(size, Budget(gpus=gpus), mean_tokens=1000, prompt_tokens=1000) / gpus
    assert speed == pytest.approx(measured, rel=tolerance)


def named(name: str) -> Model:
    size = model_size(name)
    assert size is not None
    return size


def test_long_completions_small_gpus_and_large_models_are_slower() -> None:
    model, machine = named("8B"), Budget()
    speed = tokens_per_second(model, machine, 1000)
    assert tokens_per_second(model, machine, 10_000) < speed / 2
    assert tokens_per_second(model, Budget(gpu="l4"), 1000) < speed / 5
    assert tokens_per_second(named("32B"), machine, 1000) < speed / 2
    assert tokens_per_second(named("32B-AWQ"), machine, 4000) > tokens_per_second(named("32B"), machine, 4000)


def test_generation_says_what_does_not_fit() -> None:
    machine = Budget(gpu_memory=80)
    whole, quantised = (generation(named(name), machine, 100, 8000) for name in ("QwQ-32B", "QwQ-32B-AWQ"))
    assert quantised.memory_gb < 30 and machine.exceeded(quantised) == []
    large = generation(named("QwQ-72B"), machine, 100, 8000)
    assert machine.exceeded(large) == [f"needs about {large.memory_gb:.0f} GB on each GPU, and one has 80 GB"]
    assert whole.tokens == 800_000
    assert generation(named("QwQ-72B"), Budget(gpus=4), 100, 8000).memory_gb < 80
    assert generation(named("7B"), machine, 0, 0).gpu_hours == 0


def test_training_hours_and_memory() -> None:
    machine = Budget()
    size = model_size("Qwen2.5-7B", QWEN25_7B)
    assert size is not None
    full = training(size, machine, Load(max_length=16384), 288_000_000)
    # 8 x 7.6e9 x 2.88e8 operations at 35 % of 989 TFLOP/s.
    assert full.gpu_hours == pytest.approx(8 * 7.6156e9 * 2.88e8 / (0.35 * 989e12) / 3600, rel=1e-3)
    kept = training(size, machine, Load(max_length=16384, checkpointing=False), 288_000_000)
    assert kept.memory_gb > 1.5 * full.memory_gb and kept.gpu_hours == pytest.approx(0.75 * full.gpu_hours)
    # Two checkpoints kept and one being written, 15 + 30 GB each, and the weights at the end.
    assert full.disk_gb == pytest.approx(3 * 6 * 7.6156 + 2 * 7.6156, rel=1e-3)


def test_utilisation_is_of_what_the_model_asks_for() -> None:
    size = model_size("Qwen2.5-7B", QWEN25_7B)
    assert size is not None
    plain = 6 * (size.active - 152064 * 3584)
    assert flops_per_token(size, 0) == pytest.approx(plain)
    assert flops_per_token(size, 32768) == pytest.approx(plain + 6 * 28 * 3584 * 32768)
    assert utilisation(size, 8192, 989e12 / flops_per_token(size, 8192), 989) == pytest.approx(1.0)


def test_a_mixture_trains_at_the_price_of_its_active_parameters() -> None:
    mixture, dense = model_size("x", QWEN3_30B_A3B), named("30B")
    assert mixture is not None
    load = Load(max_length=4096)
    hours = training(mixture, Budget(), load, 10**9).gpu_hours
    assert hours == pytest.approx(training(dense, Budget(), load, 10**9).gpu_hours * 3.353 / 30, rel=0.01)


def test_grpo_is_rollouts_and_training() -> None:
    model, machine, load = named("7B"), Budget(gpus=8, money_per_gpu_hour=2), Load(max_length=4096)
    rollouts = generation(model, machine, 10_000, 2000)
    learning = training(model, machine, load, 10_000 * 2200)
    both = grpo(model, machine, load, 10_000, 2000)
    assert both.tokens == rollouts.tokens
    assert both.gpu_hours == pytest.approx(rollouts.gpu_hours + learning.gpu_hours)
    assert both.money == pytest.approx(2 * both.gpu_hours)
    assert both.memory_gb == learning.memory_gb
    referred = grpo(model, machine, load, 10_000, 2000, reference=True)
    assert referred.gpu_hours > both.gpu_hours


def test_a_turn_waits_for_its_longest_completion() -> None:
    model, machine = named("7B"), Budget(gpus=8)

    def hours(completions: int = 10_240, mean_tokens: float = 1000, **changes: Any) -> float:
        turns = Turns(1024, 4000)._replace(**changes)
        return rollouts(model, machine, completions, mean_tokens, turns).gpu_hours

    even, small, capped = hours(longest_tokens=1000), hours(at_once=128), hours(mean_tokens=3000)
    assert hours() > 1.3 * even
    assert (
        4 < small / hours() < 8
    )  # eight times as many turns, which read the same weights for fewer completions
    assert capped < 2 * hours()  # three times the tokens of turns that are hardly longer
    assert hours(completions=20_480) == pytest.approx(2 * hours())
    assert hours(share=0.25) > hours()  # fewer at once
    assert rollouts(named("72B"), machine, 128, 100, Turns(128, 1000)).memory_gb < 80  # an engine on two GPUs


def test_a_trainer_pads_to_the_longest_and_reads_again() -> None:
    model, machine, load = named("7B"), Budget(gpus=8), Load(max_length=4096)
    turns = Turns(1024, 4000)
    sampled = rollouts(model, machine, 10_240, 1000, turns)
    learnt = training(model, machine, load, 10_240 * 4200)

    def hours(**more: Any) -> float:
        return grpo(model, machine, load, 10_240, 1000, turns=turns, **more).gpu_hours

    assert hours() == pytest.approx(sampled.gpu_hours + learnt.gpu_hours)
    assert hours(reference=True) == hours(rescored=True) == pytest.approx(hours() + learnt.gpu_hours / 4)
    assert hours(iterations=3) == pytest.approx(hours() + 2 * learnt.gpu_hours)
    assert hours(iterations=3, rescored=True) == pytest.approx(hours(iterations=3) + learnt.gpu_hours / 4)


QWEN25_1_5B = config(1536, 28, 8960, 12, 2, 151936, model_type="qwen2", **TIED)
QWEN25_32B = config(5120, 64, 27648, 40, 8, 152064, model_type="qwen2")


@pytest.mark.parametrize(
    ("model", "machine", "completions", "at_once", "mean_tokens", "cap", "published"),
    [
        # DeepScaleR at 8K: 394 s for a step on 8 A100 (github.com/rllm-org/rllm, thread 29); 128 x 8 completions.
        (QWEN25_1_5B, Budget(gpus=8, gpu="a100"), 1024, 1024, 5000, 8192, 394 * 8 / 3600),
        # SimpleRL-Zoo (hkust-nlp/simpleRL-reason, README and thread 69): 100 steps of 1,024 x 8 completions,
        # 15 hours on 16 H100; 1.5 days on 64.
        (QWEN25_7B, Budget(gpus=16), 819_200, 8192, 700, 8192, 15 * 16),
        (QWEN25_32B, Budget(gpus=64), 819_200, 8192, 800, 8192, 36 * 64),
    ],
)
def test_published_rl_runs_take_up_to_twice_the_estimate(
    model: dict[str, Any], machine: Budget, completions: int, at_once: int, mean_tokens: float, cap: int,
    published: float,
) -> None:  # fmt: skip
    # Their trainers pad nothing, and read each completion once more with the model and once with a reference.
    size = model_size("x", model)
    assert size is not None
    sampled = rollouts(size, machine, completions, mean_tokens, Turns(at_once, cap), 150)
    learnt = training(size, machine, Load(max_length=cap), round(completions * (mean_tokens + 150)))
    ratio = published / (sampled.gpu_hours + 1.5 * learnt.gpu_hours)
    assert 1 < ratio < 2


def test_costs_add_up() -> None:
    total = Cost(10, 1.5, 40, 5, 3.0) + Cost(20, 0.5, 70, 1) + Cost()
    assert total == Cost(30, 2.0, 70, 6, 3.0)
    assert (Cost(1) + Cost(2)).money is None


def test_budget_limits() -> None:
    budget = Budget(gpus=2, gpu_memory="80GB", gpu_hours=400)
    assert budget.exceeded(Cost(gpu_hours=399, memory_gb=79)) == []
    assert budget.exceeded(Cost(gpu_hours=512, memory_gb=91)) == [
        "needs about 91 GB on each GPU, and one has 80 GB",
        "needs about 512 GPU-hours, and the budget is 400",
    ]
    assert Budget().exceeded(Cost(gpu_hours=10**6)) == []
    assert Budget(money=20).exceeded(Cost(money=19.5)) == []
    assert Budget(money=20).exceeded(Cost(money=1234.5)) == ["costs about 1,234.50, and the budget is 20.00"]
    assert Budget(gpu="l4").memory_gb == 24


@pytest.mark.parametrize("text", ["80GB", "80 GB", "80gb", "80GiB", " 80 ", 80, 80.0])
def test_memory_is_read(text: object) -> None:
    assert Budget.model_validate({"gpu_memory": text}).memory_gb == 80


@pytest.mark.parametrize(
    "keys",
    [
        {"gpu_memory": "80 TB"},
        {"gpu_memory": "-1GB"},
        {"gpu_memory": 0},
        {"gpu": "h101"},
        {"gpus": 0},
        {"hours": 1},
    ],
)
def test_bad_budgets_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(keys)


@given(st.text() | st.floats() | st.none() | st.lists(st.integers()))
def test_any_memory_is_read_or_refused(value: object) -> None:
    try:
        assert TypeAdapter(GigaBytes).validate_python(value) > 0
    except ValidationError:
        pass


def test_every_gpu_kind_has_its_figures() -> None:
    kinds = Budget.model_json_schema()["properties"]["gpu"]["enum"]
    assert kinds == list(GPUS)
