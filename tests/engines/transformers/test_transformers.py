import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from distillkit.artifact import Model
from distillkit.engines.base import Listed, Parameters, Request
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import EngineError, MissingError, RecipeError

PLAIN = Parameters(max_tokens=64)


@pytest.fixture(scope="module")
def session(model, tokenizer):
    with TransformersEngine(block=64).open(model, tokenizer) as session:
        yield session


def sample(session, requests, parameters=PLAIN):
    """The completions by key, without what may differ from run to run."""
    return {
        request.key: replace(completion, telemetry={})
        for request, completion in session.generate(Listed(requests), parameters)
    }


def texts(found):
    return {key: completion.text for key, completion in found.items()}


def test_a_text_hangs_on_its_own_prompt_and_seed_only(session, requests):
    together = texts(sample(session, requests))
    reversed_ = texts(sample(session, requests[::-1]))
    alone = {r.key: c.text for each in requests[:20] for r, c in session.generate(Listed([each]), PLAIN)}
    assert len(set(together.values())) > 20
    assert reversed_ == together
    assert alone == {key: together[key] for key in alone}


def test_the_same_block_gives_the_same_bytes(session, requests):
    assert sample(session, requests[:64]) == sample(session, requests[:64])


def test_a_completion_says_what_made_it_and_how_long_that_took(session, requests):
    [(_, completion)] = session.generate(Listed(requests[:1]), PLAIN)
    assert completion.telemetry["engine"].startswith("transformers ")
    assert completion.telemetry["device"] in ("cpu", "cuda") and completion.telemetry["latency_s"] >= 0


def test_samples_of_a_prompt_differ_in_their_noise_and_other_seeds_in_their_texts(session, requests):
    first = requests[0]
    same = [Request(str(i), first.prompt, first.seed, first.problem_id, i, []) for i in range(4)]
    assert len(set(texts(sample(session, same)).values())) == 1
    other = [Request(str(i), first.prompt, i, first.problem_id, i, []) for i in range(64)]
    assert len(set(texts(sample(session, other)).values())) > 5


def test_greedy_equals_the_librarys_own_generate(session, tokenizer, requests):
    import torch

    prompts = list(dict.fromkeys(request.prompt for request in requests))
    wanted = [Request(str(i), prompt, 0, "", 0, []) for i, prompt in enumerate(prompts)]
    found = sample(session, wanted, Parameters(max_tokens=40, temperature=0))
    for each in wanted:
        inputs = tokenizer(each.prompt, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            output = session.model.generate(**inputs, do_sample=False, max_new_tokens=40)
        ids = output[0, inputs["input_ids"].shape[1] :].tolist()
        assert found[each.key].completion_tokens == len(ids)
        assert found[each.key].text == tokenizer.decode(ids).removesuffix(" <|end|>")


def test_shares_of_texts_are_those_of_the_model(session, requests):
    """The first token is `<think>` or `<answer>` nearly always; its share must be its probability."""
    import torch

    prompt = requests[0].prompt
    inputs = session.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        logits = session.model(**inputs).logits[0, -1]
    expected = logits.softmax(-1)[session.tokenizer.convert_tokens_to_ids("<answer>")].item()
    many = [Request(str(i), prompt, i, "", i, []) for i in range(2000)]
    found = sample(session, many, Parameters(max_tokens=1))
    share = sum(c.text == "<answer>" for c in found.values()) / len(found)
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / len(found)) + 1e-9
    assert {c.finish_reason for c in found.values()} <= {"length", "stop"}


def test_finish_reasons_and_token_counts(session, tokenizer, requests):
    whole, cut = sample(session, requests), sample(session, requests, Parameters(max_tokens=6))
    for key, completion in whole.items():
        count = len(tokenizer(completion.text, add_special_tokens=False)["input_ids"])
        assert completion.completion_tokens == count + (completion.finish_reason == "stop")
        if completion.completion_tokens <= 6:
            assert cut[key] == completion
        else:
            assert cut[key].finish_reason == "length"
            assert cut[key].completion_tokens == 6
            assert completion.text.startswith(cut[key].text)
    assert {c.finish_reason for c in cut.values()} == {"stop", "length"}
    lengths = {r.key: len(tokenizer(r.prompt, add_special_tokens=False)["input_ids"]) for r in requests}
    assert {key: c.prompt_tokens for key, c in whole.items()} == lengths


def test_a_stop_text_ends_a_completion_and_stays_in_it(session, requests):
    plain = sample(session, requests)
    stopped = sample(session, requests, Parameters(max_tokens=64, stop=("</answer>", "= 7")))
    seen = set()
    for key, completion in stopped.items():
        text = plain[key].text
        ends = [text.find(stop) + len(stop) for stop in ("</answer>", "= 7") if stop in text]
        assert completion.text == (text[: min(ends)] if ends else text)
        assert completion.finish_reason == ("stop" if ends else plain[key].finish_reason)
        assert completion.completion_tokens <= plain[key].completion_tokens
        seen |= {stop for stop in ("</answer>", "= 7") if completion.text.endswith(stop)}
    assert seen == {"</answer>", "= 7"}


def test_blocks_do_not_move_when_some_are_done(requests):
    engine = TransformersEngine(block=50)
    every = {request.key for request in requests}
    blocks = engine.batches(requests, every)
    assert sorted(r.key for block in blocks for r in block) == sorted(every)
    assert [len(block) for block in blocks] == [50, 50, 50, 42]
    assert engine.batches(requests[::-1], every) == blocks
    assert engine.batches(requests, {blocks[2][7].key}) == [blocks[2]]
    assert engine.batches(requests, set()) == []


def test_what_decides_a_completion():
    assert TransformersEngine(block=8).key() == TransformersEngine().key()
    assert TransformersEngine(dtype="bfloat16").key() != TransformersEngine().key()


def test_a_prompt_that_fills_the_context_is_a_row_with_its_reason(session, requests):
    long = Request("long", "1 + " * 300, 0, "", 0, [])
    nearly = Request("nearly", "1 " * 510, 0, "", 0, [])
    found = sample(session, [long, nearly, requests[0]])
    assert found["long"].finish_reason == "error"
    assert found["long"].error == "prompt of 600 tokens fills the context of 512"
    assert found["nearly"].completion_tokens <= 2
    assert found[requests[0].key] == sample(session, requests[:1])[requests[0].key]
    with pytest.raises(RecipeError, match="max_tokens 513"):
        sample(session, requests[:1], Parameters(max_tokens=513))


def test_out_of_memory_says_what_to_write(session, requests, monkeypatch):
    import torch

    def forward(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(session.model, "forward", forward)
    with pytest.raises(EngineError, match=r"toy:base: out of memory with 8 completions .* block: 4}"):
        sample(session, requests[:8])


def test_weights_that_are_not_safetensors_are_refused(tmp_path, model, tokenizer):
    from pathlib import Path

    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_bytes((Path(model.path) / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with (
        pytest.raises(MissingError, match="mine: cannot be loaded"),
        TransformersEngine().open(Model("mine", str(tmp_path), "c"), tokenizer),
    ):
        pass


@pytest.mark.parametrize("wrong", [{"block": 0}, {"dtype": "int8"}, {"blok": 1}])
def test_wrong_declarations_are_refused(wrong):
    with pytest.raises(ValidationError):
        TransformersEngine.model_validate(wrong)
