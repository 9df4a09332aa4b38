"""The in-process engine on the toy base: one start for the whole file."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from patience import PATIENCE_S
from pydantic import ValidationError

from distillkit.artifact import Model
from distillkit.engines.base import EngineDied, Listed, Parameters, Request
from distillkit.engines.transformers import TransformersEngine
from distillkit.engines.vllm import VllmEngine
from distillkit.engines.vllm.guard import children
from distillkit.errors import MissingError, RecipeError
from distillkit.spec import identity

PLAIN = Parameters(max_tokens=64)
SMALL = VllmEngine(dtype="float32", max_model_len=256, enforce_eager=True, window=100)


def real(tests):
    """What starts vLLM: by one worker, where it is installed."""
    skip = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
    return pytest.mark.vllm(pytest.mark.xdist_group("vllm")(skip(tests)))


@pytest.fixture
def session(vllm_session):
    return vllm_session


def sample(session, requests, parameters=PLAIN):
    return {request.key: completion for request, completion in session.generate(Listed(requests), parameters)}


@real
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
        assert not session.engine.output_processor.has_unfinished_requests()
        assert len(sample(session, requests[:8])) == 8

    def test_an_unknown_argument_is_refused_before_loading(self, model, tokenizer):
        engine = VllmEngine(engine_args={"kv_cache_dtyp": "fp8"})
        with pytest.raises(RecipeError, match="kv_cache_dtyp"), engine.open(model, tokenizer):
            pass

    def test_a_model_that_cannot_fit_is_refused_before_anything_is_loaded(self, tmp_path, tokenizer):
        huge = {"model_type": "llama", "num_hidden_layers": 80_000, "hidden_size": 8192, "vocab_size": 128256}
        shape = {"num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672}
        (tmp_path / "config.json").write_text(json.dumps(huge | shape | {"max_position_embeddings": 8192}))
        with (
            pytest.raises(MissingError, match=r"huge: its weights take .* GB on each device"),
            VllmEngine().open(Model("huge", str(tmp_path), "content"), tokenizer),
        ):
            pass

    def test_what_vllm_refuses_is_one_clear_line(self, model, tokenizer):
        engine = VllmEngine(max_model_len=4096)
        with (
            pytest.raises(RecipeError, match=r"toy:base: vLLM refuses: .*max_model_len \(4096\)") as caught,
            engine.open(model, tokenizer),
        ):
            pass
        assert "1 validation error" not in str(caught.value)


@real
class TestAlike:
    """The same requests in another company, and over HTTP."""

    def test_window_and_order_change_no_text_on_the_cpu_build(self, session, requests):
        """On GPUs kernels are chosen by the size of the batch, and a close call may fall the other way."""
        parameters = Parameters(max_tokens=40, temperature=1.0, top_p=0.95)
        expected = {key: c.text for key, c in sample(session, requests, parameters).items()}
        for window in (1, 7, 64):
            few = requests[:40] if window == 1 else requests
            found = sample(replace(session, window=window), few[::-1], parameters)
            assert {key: c.text for key, c in found.items()} == {r.key: expected[r.key] for r in few}

    def test_the_samples_of_a_prompt_are_pairwise_distinct_in_their_noise(self, session, requests):
        """Equal noise would give equal texts; where the text is long enough to show the noise, none are."""
        prompt = max(requests, key=lambda request: len(request.prompt)).prompt
        for temperature in (1.0, 2.0):
            parameters = Parameters(max_tokens=100, temperature=temperature)
            many = [Request(str(seed), prompt, seed, "", seed, []) for seed in range(300)]
            found = sample(session, many, parameters)
            texts = [c.text for c in found.values() if c.completion_tokens > 25]
            assert len(texts) > 20 and len(set(texts)) == len(texts)

    def test_parameters_that_vllm_does_not_take_are_refused_at_once(self, session, requests):
        with pytest.raises(RecipeError, match=r"toy:base: vLLM refuses: temperature must be in \[0, 2\]"):
            sample(session, requests[:5], Parameters(max_tokens=8, temperature=50.0))

    def test_raw_text_is_that_of_the_ids(self, session, requests, tokenizer):
        """vLLM's own text begins with the white space that its decoder puts behind the prompt; ours does not."""
        found = sample(session, requests[:8], Parameters(max_tokens=30, temperature=0))
        for request in requests[:8]:
            completion = found[request.key]
            assert completion.text == completion.text.strip() != ""
            ids = tokenizer(completion.text, add_special_tokens=False)["input_ids"]
            assert len(ids) + (completion.finish_reason == "stop") == completion.completion_tokens

    def test_vllms_own_server_gives_the_same_text_for_the_same_seed(self, session, requests, vllm_server):
        from openai import OpenAI

        client = OpenAI(base_url=vllm_server.base_url, api_key=vllm_server.key)
        found = sample(session, requests[:12], Parameters(max_tokens=40))
        for request in requests[:12]:
            [choice] = client.completions.create(
                model=vllm_server.model,
                prompt=request.prompt,
                max_tokens=40,
                seed=request.seed,
                extra_body={"skip_special_tokens": False, "add_special_tokens": False},
            ).choices
            assert choice.text.lstrip() == found[request.key].text

    def test_a_feed_that_waits_for_verdicts_ends(self, session, requests):
        feed = Chain(requests[:12])
        for request, _ in session.generate(feed, PLAIN):
            feed.answered.append(request.key)
        assert feed.answered == [request.key for request in requests[:12]]

    def test_telemetry_says_build_and_latency(self, session, requests):
        found = sample(session, requests[:3])
        assert {c.telemetry["engine"].split()[0] for c in found.values()} == {"vllm"}
        assert all(c.telemetry["latency_s"] >= 0 for c in found.values())

    def test_a_stop_text_ends_it_and_stays(self, session, requests):
        found = sample(session, requests[:24], Parameters(max_tokens=60, stop=("<answer>",)))
        stopped = [c for c in found.values() if "<answer>" in c.text]
        assert stopped and all(c.text.endswith("<answer>") and c.finish_reason == "stop" for c in stopped)


class Chain:
    """A feed that gives its next request only when the last one was answered."""

    def __init__(self, requests):
        self.requests, self.given, self.answered = requests, 0, []

    def take(self):
        if self.over or self.given > len(self.answered):
            return None
        self.given += 1
        return self.requests[self.given - 1]

    @property
    def over(self):
        return self.given == len(self.requests)


@real
@pytest.mark.slow
class TestKilled:
    def test_a_dead_engine_process_is_said_and_another_engine_gives_the_rest(
        self, session, model, tokenizer, requests
    ):
        expected = sample(session, requests)
        found, others = {}, engine_processes(os.getpid())
        with (
            pytest.raises(EngineDied, match="toy:base: vLLM's engine process died"),
            SMALL.open(model, tokenizer) as dying,
        ):
            for request, completion in dying.generate(Listed(requests), PLAIN):
                found[request.key] = completion
                if len(found) == 60:
                    [engine] = engine_processes(os.getpid()) - others
                    os.kill(engine, signal.SIGKILL)
        assert 60 <= len(found) < len(requests)
        found |= sample(session, [request for request in requests if request.key not in found])
        assert {key: c.text for key, c in found.items()} == {key: c.text for key, c in expected.items()}

    def test_a_killed_run_leaves_no_engine_behind(self, tmp_path):
        script = tmp_path / "hold.py"
        script.write_text(HOLD)
        process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
        try:
            assert any("open" in line for line in process.stdout)
            [engine] = engine_processes(process.pid)
        finally:
            process.kill()
            process.wait()
        await_end(engine)

    def test_nothing_is_said_at_a_good_end(self, tmp_path):
        """vLLM's engine object fails when it is collected as late as at the end of the interpreter."""
        script = tmp_path / "hold.py"
        script.write_text(HOLD.replace("time.sleep(600)", "pass"))
        ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE_S)
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr


HOLD = """
import time
from distillkit.artifact import Model
from distillkit.engines.base import load_tokenizer
from distillkit.engines.vllm import VllmEngine
from distillkit.toy import BASE

def main():
    model = Model("toy:base", str(BASE), "content")
    with VllmEngine(dtype="float32", max_model_len=256, enforce_eager=True).open(model, load_tokenizer(model)) as session:
        print("open", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    main()
"""


def engine_processes(parent):
    """vLLM's processes below one of ours; it names them so."""
    return {
        child
        for child in children(parent)
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"VLLM::EngineCore")
    }


def await_end(pid, patience_s=PATIENCE_S):
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # dead; who adopted it has not looked yet
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} lives")


def test_without_vllm_it_names_the_command(model, tokenizer, monkeypatch):
    monkeypatch.setattr("distillkit.engines.vllm.api.find_spec", lambda name: None)
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
    code = "import sys, distillkit.engines; print([m for m in ('torch', 'vllm', 'transformers', 'numpy') if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert answer.stdout.strip() == "[]"
