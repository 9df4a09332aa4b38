"""The endpoint engine against vLLM's own server: the rows of the engine in process, whatever stands in between."""

from importlib.util import find_spec

import pytest

from distillkit.engines.base import Listed, Parameters, Request
from distillkit.engines.endpoint import EndpointEngine
from distillkit.errors import MissingError, RecipeError
from distillkit.text import split_think

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]
FIELDS = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "error")


@pytest.fixture
def served(vllm_server, monkeypatch):
    """Makes an engine for the server."""
    monkeypatch.setenv("VLLM_TEST_KEY", vllm_server.key)

    def make(**more):
        usual = {
            "base_urls": [vllm_server.base_url],
            "served_model": vllm_server.model,
            "api_key_env": "VLLM_TEST_KEY",
            "require_reasoning": False,
        }
        return EndpointEngine(**(usual | more))

    return make


def sample(engine, model, requests, parameters):
    tokenizer = engine.tokenizer(model) if engine.needs_model else None
    with engine.open(model if engine.needs_model else None, tokenizer) as session:
        found = {r.key: c for r, c in session.generate(Listed(requests), parameters)}
    assert len(found) == len(requests)
    return found


def rows(found):
    return {key: [getattr(completion, field) for field in FIELDS] for key, completion in found.items()}


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(max_tokens=64),
        Parameters(max_tokens=64, temperature=0.7, top_p=0.9, top_k=20, min_p=0.02),
        Parameters(max_tokens=40, stop=("</answer>", "= 7")),
        Parameters(max_tokens=3),
    ],
    ids=["plain", "every parameter", "stop texts", "cut"],
)
def test_completions_are_the_rows_of_the_engine_in_process(parameters, served, vllm_session, model, requests):
    expected = {r.key: c for r, c in vllm_session.generate(Listed(requests[:48]), parameters)}
    found = sample(served(api="completions"), model, requests[:48], parameters)
    assert rows(found) == rows(expected)


def test_a_prompt_that_fills_the_context_is_the_same_row(served, vllm_session, model, requests):
    long = [
        Request("long", "1 + " * 200, 0, "", 0, []),
        Request("nearly", "1 " * 254, 0, "", 0, []),
        requests[0],
    ]
    expected = {r.key: c for r, c in vllm_session.generate(Listed(long), Parameters(max_tokens=64))}
    found = sample(served(api="completions"), model, long, Parameters(max_tokens=64))
    assert rows(found) == rows(expected)
    with pytest.raises(RecipeError, match="max_tokens 257 is more than its context of 256"):
        sample(served(), model, long, Parameters(max_tokens=257))


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_seed_gives_its_text_again_and_other_seeds_other_texts(api, served, model, requests):
    parameters = Parameters(max_tokens=64)
    first = sample(served(api=api), model, requests[:32], parameters)
    again = sample(served(api=api, concurrency=3), model, requests[24:8:-1], parameters)
    assert rows(again) == {key: row for key, row in rows(first).items() if key in again}
    assert len({completion.text for completion in first.values()}) > 8


def test_chat_gives_the_text_of_completions(served, model, requests):
    parameters = Parameters(max_tokens=64)
    chat = sample(served(), model, requests[:16], parameters)
    prompts = sample(served(api="completions"), model, requests[:16], parameters)
    # The server decodes behind the prompt, so that this tokenizer's texts begin with its space.
    assert {key: c.text.lstrip() for key, c in chat.items()} == {key: c.text for key, c in prompts.items()}
    assert {c.finish_reason for c in chat.values()} == {"stop"}
    assert any(split_think(completion.text)[0] for completion in chat.values())


def test_what_it_refuses_is_a_row_and_what_it_does_not_serve_an_error(served, model, requests, monkeypatch):
    long = Request("long", "", 0, "long", 0, [{"role": "user", "content": "1 + " * 400}])
    found = sample(served(), model, [long, *requests[:4]], Parameters(max_tokens=64))
    assert found["long"].error.startswith("400: This model") and "retry" not in found["long"].telemetry
    assert sum(completion.finish_reason == "error" for completion in found.values()) == 1
    with pytest.raises(RecipeError, match="it serves: toy"):
        sample(served(served_model="tay"), model, requests[:4], Parameters(max_tokens=64))
    monkeypatch.setenv("VLLM_TEST_KEY", "another-key-0123")
    with pytest.raises(MissingError, match=r"refuses the key \(401\)"):
        sample(served(), model, requests[:4], Parameters(max_tokens=64))
