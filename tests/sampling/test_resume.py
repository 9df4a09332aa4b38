"""Going on from a text of ours: what comes out, what is shared, and where the seam lies in different tokenizers."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distillkit.artifact import Model, weights_content
from distillkit.engines.endpoint import EndpointEngine
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import RecipeError
from distillkit.sampling import Sampling, draw
from distillkit.sampling.resume import Start, _seam, require_continuing, resume
from distillkit.stages.forcing import Thinking
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Trace

SAMPLING = Sampling(engine=TransformersEngine(), max_tokens=64)
MODEL = Model("toy:base", str(BASE), weights_content(BASE))


def begun(count: int = 4, samples: int = 3) -> list[Start]:
    """Chains whose first step was begun, so many samples of each."""
    found = []
    for problem in generate(count, 1, "heldout"):
        left, sign, right = problem.prompt.split()[:3]
        for index in range(samples):
            trace = Trace(problem.id, problem.messages, "", "", "", "9", "chain", index=index, origin="o")
            found.append(Start(f"{trace.id}~x", trace, f"<think> {left} {sign} {right} ="))
    return found


def test_a_trace_is_the_text_and_what_the_model_added(tmp_path: Path) -> None:
    starts = begun()
    found = resume(SAMPLING, MODEL, starts, 1, Store(tmp_path))
    assert found.keys() == {start.id for start in starts}
    for start in starts:
        trace = found[start.id]
        assert trace.completion.startswith(f"{start.text} ")
        assert (trace.parent_id, trace.problem_id, trace.index) == (
            start.trace.id,
            start.trace.problem_id,
            start.trace.index,
        )
        assert trace.sampling["resumed"] == {"at": len(start.text)}
        assert (trace.reference, trace.domain) == ("9", "chain")
        assert trace.completion_tokens == len(trace.completion[len(start.text) :].split()) + (
            trace.finish_reason == "stop"
        )
        if "</think>" in trace.completion:
            assert trace.reasoning.startswith(start.text.removeprefix("<think> "))


def test_samples_of_one_text_differ_by_their_index(tmp_path: Path) -> None:
    starts = begun(count=1, samples=16)
    found = resume(SAMPLING, MODEL, starts, 1, Store(tmp_path))
    assert len({trace.completion for trace in found.values()}) > 4
    assert len({trace.seed for trace in found.values()}) == 16


def test_what_the_store_has_is_not_sampled_again(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def progress(done: int, total: int, **facts: Any) -> None:
        told.append(facts)

    first = resume(SAMPLING, MODEL, begun(), 1, Store(tmp_path))
    again = resume(SAMPLING, MODEL, begun(count=3), 1, Store(tmp_path), progress)
    assert again == {id: first[id] for id in again}
    assert told[-1]["tokens"] == 0
    assert resume(SAMPLING, MODEL, begun(), 2, Store(tmp_path)) != first


def test_an_empty_start_is_a_plain_sample(tmp_path: Path) -> None:
    problems = generate(4, 1, "heldout")
    plain = list(draw(SAMPLING, MODEL, problems, 1, 1, Store(tmp_path / "a")))
    starts = [Start(f"{trace.id}~", trace, "") for trace in plain]
    found = resume(SAMPLING, MODEL, starts, 1, Store(tmp_path / "b"))
    assert [found[f"{trace.id}~"].completion for trace in plain] == [trace.completion for trace in plain]


def test_engines_that_cannot_are_refused() -> None:
    chat = EndpointEngine(base_urls=["http://127.0.0.1:9/v1"], served_model="x")
    for engine, told in ((chat, "takes messages"), (ReplayEngine(file="x.jsonl"), "recorded completions")):
        with pytest.raises(RecipeError, match=told):
            require_continuing(Sampling(engine=engine, max_tokens=8))
    require_continuing(Sampling(engine=EndpointEngine(**dict(chat) | {"api": "completions"}), max_tokens=8))


TEXT = "First 12 + 30 = 42. \u6240\u4ee5 the answer is 42, na\u00efve as it looks."


def trained(pieces: Any, decoder: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of the usual families, trained on a sentence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoder
    alphabet = pre_tokenizers.ByteLevel.alphabet() if isinstance(pieces, pre_tokenizers.ByteLevel) else []
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT, "1 1"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


@pytest.fixture(scope="module")
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    return trained(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())


def test_the_seam_is_what_the_tokenizer_left_out(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    words = AutoTokenizer.from_pretrained(BASE)
    pieces = trained(pre_tokenizers.Metaspace(), decoders.Metaspace())
    assert _seam("= 8", "then", words) == " "
    assert _seam("= 8", "then", pieces) == " "
    assert _seam("= 8", " then", bytes_tokenizer) == _seam("= 8", "5", bytes_tokenizer) == ""
    assert _seam("", "then", words) == _seam("x\n", "then", words) == _seam("x", "", words) == ""


def test_thinking_is_cut_between_tokens_whatever_they_are(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    trace = Trace("p", [], f"<think>\n{TEXT}\n</think>\n\n42", TEXT, "42", finish_reason="stop")
    thinking = Thinking.of(trace, bytes_tokenizer)
    ids = bytes_tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert thinking.tokens == len(ids)
    prefixes = [thinking.prefix(count) for count in range(thinking.tokens + 1)]
    assert prefixes[0] == "<think>\n"
    assert prefixes[-1] == f"<think>\n{TEXT}"
    assert all(trace.completion.startswith(prefix) for prefix in prefixes)
    assert prefixes == sorted(prefixes, key=len)
