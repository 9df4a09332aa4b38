"""The in-process engine on the toy base: one start for the whole file."""

import sys
from importlib.util import find_spec

import pytest
from pydantic import ValidationError

from distillkit.engines.base import Listed, Parameters, Request
from distillkit.engines.transformers import TransformersEngine
from distillkit.engines.vllm import VllmEngine
from distillkit.errors import MissingError, RecipeError
from distillkit.spec import identity

PLAIN = Parameters(max_tokens=64)


@pytest.fixture(scope="module")
def session(model, tokenizer):
    engine = VllmEngine(dtype="float32", max_model_len=256, enforce_eager=True, window=100)
    with engine.open(model, tokenizer) as session:
        yield session


def sample(session, requests, parameters=PLAIN):
    return {request.key: completion for request, completion in session.generate(Listed(requests), parameters)}


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
class TestReal:
    def test_every_request_comes_back_and_a_seed_gives_its_text_again(self, session, requests):
        found = sample(session, requests)
        assert set(found) == {request.key for request in requests}
        assert len({completion.text for completion in found.values()}) > 20
        again = sample(session, requests[60:][::-1])
        assert {key: c.text for key, c in again.items()} == {key: found[key].text for key in again}

    def test_samples_of_one_prompt_differ_by_their_seeds(self, session, requests):
        first = requests[0]
        many = [Request(str(i), first.prompt, i, "", i, []) for i in range(64)]
        assert len({completion.text for completion in sample(session, many).values()}) > 5

    def test_greedy_rows_equal_those_of_the_transformers_engine(self, session, model, tokenizer, requests):
        parameters = Parameters(max_tokens=20, temperature=0, stop=("</answer>", "= 7"))
        with TransformersEngine().open(model, tokenizer) as other:
            expected = sample(other, requests[::8], parameters)
        found = sample(session, requests[::8], parameters)
        fields = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "error")
        assert {k: [getattr(c, f) for f in fields] for k, c in found.items()} == {
            k: [getattr(c, f) for f in fields] for k, c in expected.items()
        }
        assert {c.finish_reason for c in found.values()} == {"stop"}
        assert "vllm" in found[requests[0].key].telemetry["engine"]

    def test_what_is_cut_says_length(self, session, requests):
        found = sample(session, requests, Parameters(max_tokens=3))
        assert {c.finish_reason for c in found.values()} == {"length"}
        assert {c.completion_tokens for c in found.values()} == {3}

    def test_a_prompt_that_fills_the_context_is_a_row_with_its_reason(self, session, requests):
        long = Request("long", "1 + " * 200, 0, "", 0, [])
        nearly = Request("nearly", "1 " * 254, 0, "", 0, [])
        found = sample(session, [long, nearly, requests[0]])
        assert (found["long"].finish_reason, found["long"].text) == ("error", "")
        assert found["long"].error == "prompt of 400 tokens fills the context of 256"
        assert found["nearly"].completion_tokens <= 2
        assert found[requests[0].key].finish_reason == "stop"
        with pytest.raises(RecipeError, match="max_tokens 257 is more than its context of 256"):
            sample(session, requests[:1], Parameters(max_tokens=257))

    def test_leaving_early_leaves_nothing_behind(self, session, requests):
        generating = session.generate(Listed(requests), PLAIN)
        next(generating)
        generating.close()
        assert not session.engine.has_unfinished_requests()
        assert len(sample(session, requests[:8])) == 8

    def test_an_unknown_argument_is_refused_before_loading(self, model, tokenizer):
        engine = VllmEngine(engine_args={"kv_cache_dtyp": "fp8"})
        with pytest.raises(RecipeError, match="kv_cache_dtyp"), engine.open(model, tokenizer):
            pass

    def test_what_vllm_refuses_is_one_clear_line(self, model, tokenizer):
        engine = VllmEngine(max_model_len=4096)
        with (
            pytest.raises(RecipeError, match=r"toy:base: vLLM refuses: .*max_model_len \(4096\)") as caught,
            engine.open(model, tokenizer),
        ):
            pass
        assert "1 validation error" not in str(caught.value)


def test_without_vllm_it_names_the_command(model, tokenizer, monkeypatch):
    monkeypatch.setattr("distillkit.engines.vllm.find_spec", lambda name: None)
    with (
        pytest.raises(MissingError, match=r"pip install 'distillkit\[vllm\]'"),
        VllmEngine().open(model, tokenizer),
    ):
        pass


def test_execution_is_no_identity():
    fast = VllmEngine(tensor_parallel=4, gpu_memory_utilization=0.8, window=8, enforce_eager=True)
    assert identity(fast) == identity(VllmEngine())
    assert VllmEngine(max_model_len=4096).key() != VllmEngine().key()
    assert VllmEngine(engine_args={"quantization": "awq"}).key() != VllmEngine().key()


@pytest.mark.parametrize("name", ["tensor_parallel_size", "model", "seed", "max_model_len", "load_format"])
def test_engine_args_cannot_contradict_what_is_declared(name):
    with pytest.raises(ValidationError, match=f"{name}: "):
        VllmEngine(engine_args={name: 1})


def test_code_of_the_models_repository_is_foreign():
    assert VllmEngine().foreign() == []
    assert "trust_remote_code" in VllmEngine(engine_args={"trust_remote_code": True}).foreign()[0]


def test_declaring_it_imports_nothing_heavy():
    import subprocess

    code = "import sys, distillkit.engines; print([m for m in ('torch', 'vllm', 'transformers', 'numpy') if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "[]"
