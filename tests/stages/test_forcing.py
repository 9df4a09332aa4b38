"""Where the thinking of a trace lies, how it is cut, and how a forced answer ends."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from distillkit.engines.transformers import TransformersEngine
from distillkit.sampling import Sampling
from distillkit.stages.forcing import Forcing, Thinking, is_opened, span
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.trace import Trace

SAMPLING = Sampling(engine=TransformersEngine(), max_tokens=64)
R1 = Sampling(engine=TransformersEngine(), max_tokens=64, template="r1")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BASE)


def trace(completion: str, prefilled: bool = False, **fields: Any) -> Trace:
    reasoning, response = split_think(completion, prefilled)
    known = {"messages": [], "finish_reason": "stop", "id": "p/o/0"}
    return Trace("p", completion=completion, reasoning=reasoning, response=response, **known | fields)


@pytest.mark.parametrize(
    ("completion", "prefilled", "thinking"),
    [
        ("<think> 1 + 1 = 2 </think> <answer> 2 </answer>", False, "1 + 1 = 2"),
        ("1 + 1 = 2 </think> <answer> 2 </answer>", True, "1 + 1 = 2"),
        ("1 + 1 = 2", True, "1 + 1 = 2"),
        ("<think> 1 + 1", False, "1 + 1"),
        ("<think> </think> <answer> 2 </answer>", False, ""),
        ("<think> 2 </think> 2", False, "2"),
        ("<answer> 2 </answer>", False, ""),
        ("one and one: \\boxed{2}", False, "one and one:"),
        ("one and one", False, "one and one"),
        ("", False, ""),
    ],
)
def test_the_thinking_is_found(completion: str, prefilled: bool, thinking: str) -> None:
    found = trace(completion, prefilled)
    assert completion[slice(*span(found))] == thinking


@given(
    st.lists(st.sampled_from(["1", "+", "so", "</think>", "<think>", "<answer>"]), max_size=9), st.booleans()
)
def test_the_span_holds_the_reasoning(words: list[str], prefilled: bool) -> None:
    found = trace(" ".join(words), prefilled)
    if is_opened(found):
        assert found.completion[slice(*span(found))] == found.reasoning


def test_it_is_cut_by_tokens(tokenizer: Any) -> None:
    found = Thinking.of(trace("<think> 1 + 1 = 2 so 2 </think> <answer> 2 </answer>"), tokenizer)
    assert found.tokens == 7
    assert found.prefix(0) == "<think> "
    assert found.prefix(3) == "<think> 1 + 1"
    assert found.prefix(99) == found.prefix(7) == "<think> 1 + 1 = 2 so 2"
    assert [found.goes_beyond(tokens) for tokens in (6, 7)] == [True, False]


def test_thinking_that_was_cut_off_never_ends(tokenizer: Any) -> None:
    assert Thinking.of(trace("<think> 1 + 1", finish_reason="length"), tokenizer).goes_beyond(64)


def test_an_answer_is_forced_behind_the_close_of_the_template(tokenizer: Any) -> None:
    thinking = Thinking.of(trace("<think> 1 + 1 = 2 </think> 2"), tokenizer)
    start = Forcing().force(thinking, 3, SAMPLING)
    assert start.text == "<think> 1 + 1\n</think>\n\n**Final answer:** \\boxed{"
    assert Forcing(close=" </think> ").force(thinking, 0, R1).text == "<think> </think> <answer>"


def test_where_thinking_was_never_opened_none_is_closed(tokenizer: Any) -> None:
    thinking = Thinking.of(trace("one and \\boxed{2}"), tokenizer)
    assert Forcing(answer="A: ").force(thinking, 1, SAMPLING).text == "one\n\nA: "
    assert Forcing(answer="A: ").force(thinking, 0, SAMPLING).text == "A: "


@pytest.mark.parametrize(
    ("answer", "added", "kept"),
    [
        ("\\boxed{", "\\frac{1}{2}}. And then \\boxed{3}", "\\frac{1}{2}}"),
        ("<answer>", " 7 </answer> 8", " 7 </answer>"),
        ("A: ", " 7\nA: 8", " 7\n"),
        ("\\boxed{", "no end", None),
        ("<answer>", " 7 8", None),
    ],
)
def test_a_forced_answer_ends_where_it_is_closed(answer: str, added: str, kept: str | None) -> None:
    head = f"<think> 1\n</think>\n\n{answer}"
    cut = trace(head + added, finish_reason="length", sampling={"resumed": {"at": len(head)}})
    settled = Forcing(answer=answer).settled(cut, SAMPLING)
    if kept is None:
        assert settled == cut
    else:
        assert settled.completion == head + kept
        assert settled.finish_reason == "stop"
        assert settled.reasoning == "1"
        assert settled.response == (answer + kept).strip()


def test_a_tagged_answer_stops_at_its_tag() -> None:
    assert Forcing().sampling(R1).parameters.stop == ("</answer>",)
    assert Forcing(answer="<answer>", max_tokens=5).sampling(SAMPLING).parameters.stop == ("</answer>",)
    assert Forcing().sampling(SAMPLING).parameters.stop == ()
