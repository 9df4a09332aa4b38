"""What a model needs, against sizes that are known, and what is said where it does not fit."""

from types import SimpleNamespace

import pytest

from distillkit.engines.vllm.memory import Need, require_room
from distillkit.errors import MissingError

GB = 10**9
QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "dtype": "bfloat16",
}


def arguments(**other):
    """An engine's arguments as far as memory goes, with vLLM's defaults."""
    default = {
        "dtype": "auto",
        "quantization": None,
        "kv_cache_dtype": "auto",
        "max_model_len": None,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "cpu_offload_gb": 0,
        "gpu_memory_utilization": 0.9,
        "kv_cache_memory_bytes": None,
    }
    return SimpleNamespace(**(default | other))


def need(config=QWEN_7B, **other):
    return Need.of(config, arguments(**other))


class TestNeed:
    def test_a_7b_takes_two_bytes_a_weight_and_56_kib_a_token(self):
        found = need()
        assert found.weights == pytest.approx(15.23 * GB, rel=0.01)  # its safetensors: 15,231,233,024 bytes
        assert found.cache_per_token == 2 * 28 * 2 * 4 * 128
        assert found.tokens == 131072

    def test_dtype_quantisation_and_split(self):
        assert need(dtype="float32").weights == pytest.approx(2 * need().weights)
        assert need(tensor_parallel_size=2, pipeline_parallel_size=2).weights == need().weights / 4
        awq = QWEN_7B | {"quantization_config": {"quant_method": "awq", "bits": 4}}
        assert need(awq).weights == need().weights / 4 == need(quantization="bitsandbytes").weights
        assert need(kv_cache_dtype="fp8").cache_per_token == need().cache_per_token / 2
        assert need(QWEN_7B | {"dtype": "float32"}).weights == need().weights  # vLLM's auto halves it
        assert need(cpu_offload_gb=10).weights == need().weights - 10 * GB

    def test_a_window_bounds_the_cache(self):
        assert need(QWEN_7B | {"use_sliding_window": True, "sliding_window": 4096}).tokens == 4096
        assert need(max_model_len=512).tokens == 512

    def test_an_architecture_whose_size_is_a_guess_is_not_judged(self):
        assert need(QWEN_7B | {"model_type": "jamba"}) is None
        assert need({"model_type": "gpt2", "n_embd": 768}) is None


class TestRoom:
    def refused(self, match, free=80, total=80, **other):
        given = arguments(**other)
        with pytest.raises(MissingError, match=match):
            require_room("org/seven", Need.of(QWEN_7B, given), given, int(free * GB), int(total * GB))

    def test_weights_that_do_not_fit(self):
        self.refused(
            r"org/seven: its weights take 15\.2 GB on each device, and the engine has 10\.8 GB there; "
            r"take a quantised model, or write tensor_parallel: 2",
            *(12, 12),
        )
        self.refused(r"tensor_parallel: 8", 4, 4, tensor_parallel_size=2)

    def test_a_context_that_does_not_fit_names_one_that_does(self):
        self.refused(r"sequence of 131072 tokens takes 7\.5 GB, .* 6\.4 GB are left", 24, 24)
        self.refused(r"write max_model_len: 110848 or less", 24, 24)
        fitting = arguments(max_model_len=110848)
        require_room("org/seven", Need.of(QWEN_7B, fitting), fitting, 24 * GB, 24 * GB)

    def test_a_device_in_use(self):
        self.refused(
            r"would take 90% of the device's 80\.0 GB, and 50\.0 GB are free; end what else uses it, "
            r"or write gpu_memory_utilization: 0\.62",
            *(50, 80),
        )

    def test_a_cache_that_was_given_is_what_counts(self):
        self.refused("1.0 GB are left", 80, 80, kv_cache_memory_bytes=GB)
        self.refused("its weights take", 10, 80, kv_cache_memory_bytes=GB)

    def test_what_fits_passes(self):
        given = arguments()
        require_room("org/seven", Need.of(QWEN_7B, given), given, 79 * GB, 80 * GB)
