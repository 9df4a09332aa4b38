"""Pairs as tokens: what is rated is what a reward model will be asked about, and what is held out was never seen."""

from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.artifact import Model
from distillkit.engines.base import load_tokenizer
from distillkit.toy import PACKAGED
from distillkit.trace import Pair
from distillkit.training.comparison import Compared, Comparisons, compared, keep_text, shown

PROMPT = [{"role": "user", "content": "1 + 2"}]


def pair(chosen: str, rejected: str, prompt: str = "1 + 2", margin: float | None = None) -> Pair:
    return Pair([{"role": "user", "content": prompt}], chosen, rejected, margin=margin)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(Model("toy:base", str(PACKAGED["toy:base"]), ""))


def test_the_tokens_are_those_of_the_whole_conversation(tokenizer) -> None:
    found = compared(pair("<think> 1 + 2 = 3 </think> 3", "4"), tokenizer, "completion")
    assert isinstance(found, Compared)
    assert (
        tokenizer.decode(found.chosen) == "<|user|> 1 + 2 <|assistant|> <think> 1 + 2 = 3 </think> 3 <|end|>"
    )
    assert tokenizer.decode(found.rejected) == "<|user|> 1 + 2 <|assistant|> 4 <|end|>"


def test_on_the_response_the_reasoning_is_not_seen(tokenizer) -> None:
    found = compared(pair("<think> 1 + 2 = 3 </think> 3", "<think> 9 </think> 4"), tokenizer, "response")
    assert isinstance(found, Compared)
    assert tokenizer.decode(found.chosen) == "<|user|> 1 + 2 <|assistant|> 3 <|end|>"
    assert shown("<think> still thinking", "response") == ""
    assert shown("<think> a </think> b", "completion") == "<think> a </think> b"


def test_what_cannot_be_compared_has_its_reason(tokenizer) -> None:
    pairs = [
        pair("3", "4"),
        pair("<think> a </think>", "4", "a"),
        pair("<think> 1 </think> 3", "<think> 2 </think> 3", "b"),
        pair("3 " * 40, "4", "c"),
    ]
    found = Comparisons.of(pairs, tokenizer, "response", 16)
    assert len(found.kept) == 1
    assert found.dropped == {"no_response": 1, "same_text": 1, "too_long": 1}
    assert Comparisons.of(pairs[:1], tokenizer, "response", 16, margin=True).dropped == {"no_margin": 1}
    wide = [pair("3", "4", margin=2.0)]
    assert Comparisons.of(wide, tokenizer, "response", 16, margin=True).kept[0].margin == 2.0


def test_a_template_that_deletes_the_reasoning_is_exchanged(tokenizer) -> None:
    import trl

    r1 = Path(trl.__file__).parent / "chat_templates" / "deepseek_r1_distill.jinja"
    other = load_tokenizer(Model("toy:base", str(PACKAGED["toy:base"]), ""))
    other.bos_token = other.eos_token
    other.chat_template = r1.read_text("utf-8")
    told = pair("<think>\n1 + 2\n</think>\n3", "<think>\n2\n</think>\n4")
    assert compared(told, other, "completion") == "text_lost"
    keep_text(other, [told], "completion")
    assert isinstance(compared(told, other, "completion"), Compared)
    assert compared(told, other, "response") != "text_lost"


@given(
    st.lists(st.integers(0, 12), max_size=40),
    st.floats(0, 0.9),
    st.integers(0, 3),
)
def test_no_prompt_is_trained_on_and_held_out(prompts: list[int], share: float, seed: int) -> None:
    kept = [Compared(str(number), [], array("i"), array("i"), None) for number in prompts]
    learnt, heldout = Comparisons(kept).parted(share, seed)
    ours, theirs = {each.problem_id for each in learnt}, {each.problem_id for each in heldout}
    assert not ours & theirs
    assert len(learnt) + len(heldout) == len(kept)
    every = len(ours | theirs)
    assert bool(ours) == bool(every)
    assert len(theirs) == (min(max(1, round(share * every)), max(0, every - 1)) if share > 0 else 0)
    assert Comparisons(kept).parted(share, seed) == (learnt, heldout)
