"""Going on from a text of ours, by vLLM in process and by its server: as the transformers engine goes on."""

from importlib.util import find_spec
from typing import Any

import pytest

from distillkit.artifact import Model
from distillkit.engines.base import Listed
from distillkit.engines.endpoint import EndpointEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.engines.vllm import VllmEngine
from distillkit.sampling import Sampling
from distillkit.sampling.plan import Plan
from distillkit.sampling.resume import Resumption, Start, resume
from distillkit.store import Store
from distillkit.toy.problems import generate
from distillkit.trace import Trace

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]


def starts() -> list[Start]:
    """Twelve chains, begun with a first step whose result is wrong."""
    found = []
    for problem in generate(12, 1, "heldout"):
        left, sign, right = problem.prompt.split()[:3]
        trace = Trace(problem.id, problem.messages, "", "", "", problem.reference, "chain")
        found.append(Start(f"{trace.id}~x", trace, f"<think> {left} {sign} {right} = 4"))
    return found


def greedy(engine: Any) -> Sampling:
    return Sampling(engine=engine, max_tokens=48, temperature=0)


@pytest.fixture
def expected(model: Model, tmp_path: Any) -> dict[str, str]:
    made = resume(greedy(TransformersEngine()), model, starts(), 1, Store(tmp_path / "transformers"))
    return {id: trace.completion for id, trace in made.items()}


def test_in_process(model: Model, expected: dict[str, str], vllm_session: Any) -> None:
    engine = VllmEngine(dtype="float32", max_model_len=256)
    plan = Resumption.from_plan(Plan.of(greedy(engine), model, [], 1, 1), starts())
    wants = {want.key: want for ask in plan.asks for want in plan.wants(ask)}
    assert len(wants) == 12
    requests = Listed(plan.request(want) for want in wants.values())
    done = vllm_session.generate(requests, plan.parameters)
    found = [plan.trace(wants[request.key], completion) for request, completion in done]
    assert {trace.id: trace.completion for trace in found} == expected
    assert all(" = 4 " in trace.completion for trace in found)


def test_by_a_server_that_takes_prompts(
    model: Model, expected: dict[str, str], vllm_server: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_TEST_KEY", vllm_server.key)
    engine = EndpointEngine(
        base_urls=[vllm_server.base_url],
        served_model=vllm_server.model,
        api_key_env="VLLM_TEST_KEY",
        require_reasoning=False,
        api="completions",
    )
    made = resume(greedy(engine), model, starts(), 1, Store(tmp_path / "server"))
    assert {id: trace.completion for id, trace in made.items()} == expected
