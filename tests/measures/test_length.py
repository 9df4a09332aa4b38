import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distillkit import text as reading
from distillkit import toy
from distillkit.errors import MissingError
from distillkit.measures.length import Length
from distillkit.trace import Trace


def trace(text: str, tokens: int | None = None) -> Trace:
    return Trace("p", [], completion=text, reasoning="", response=text, completion_tokens=tokens)


def test_four_units_of_one_trace() -> None:
    text = "First, two words. \u6240\u4ee5 it is 7.\nDone"
    made = Trace(
        "p", [], completion=f"<think>{text}</think> 7", reasoning=text, response="7", completion_tokens=19
    )
    assert Length().measure(made) == {"tokens": 19, "characters": len(text), "words": 8, "sentences": 3}


def test_unknown_tokens_are_null_and_empty_text_is_zero() -> None:
    assert Length().measure(trace("")) == {"tokens": None, "characters": 0, "words": 0, "sentences": 0}


LATIN = ["a", "B1", " ", "\n", ".", "...", "!?", ".)", '?"', "...')", "\u2026", "3.5", ")"]
CHINESE = ["\u4e2d", "1", " ", "\n", "\u3002", "\uff01\uff1f", "\u3002\u201d", "\uff0c", "\u201d"]


@pytest.mark.parametrize("pieces", [LATIN, CHINESE])
@given(data=st.data())
def test_sentences_are_those_of_the_text_module(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(pieces))))
    assume(not re.search(r"[)\"'\u201d]{5}", text))
    assert Length().measure(trace(text))["sentences"] == len(reading.sentences(text))


TOKENIZER = toy.BASE / "tokenizer.json"


def test_a_tokenizer_counts_where_the_source_did_not() -> None:
    measure = Length(tokenizer=str(TOKENIZER))
    from tokenizers import Tokenizer

    expected = len(Tokenizer.from_file(str(TOKENIZER)).encode("8 + 2 = 0", add_special_tokens=False))
    assert measure.measure(trace("8 + 2 = 0"))["tokens"] == expected == 5
    assert measure.measure(trace("8 + 2 = 0", tokens=7))["tokens"] == 7
    assert measure.measure(trace(""))["tokens"] == 0
    assert measure.measure(trace("8 \ud800 8"))["tokens"] == 3


@pytest.mark.parametrize("content", ["", "{}", "[1]", "no json", "7"])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(MissingError, match=r"tokenizer\.json"):
        Length(tokenizer=str(file)).measure(trace("a"))
    with pytest.raises(MissingError, match=r"none\.json"):
        Length(tokenizer=str(tmp_path / "none.json")).measure(trace("a"))
