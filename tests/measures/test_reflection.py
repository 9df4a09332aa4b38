from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.base import Labels
from distillkit.measures.reflection import WORDS, Reflection
from distillkit.trace import Trace


def measure(text: str) -> Labels:
    return Reflection().measure(Trace("p", [], completion=text, reasoning="", response=text))


def test_whole_words_of_both_lists() -> None:
    text = "Wait, that is wrong. Let me check again and re-evaluate; I checked it, no waiting."
    labels = measure(text)
    assert labels["r1"] == 3  # wait, wrong, check
    assert labels["oat"] == 2  # check again, re-evaluate
    assert labels["count"] == 4
    assert [text[at:].split()[0] for at in labels["positions"]] == [
        "Wait,",
        "wrong.",
        "check",
        "re-evaluate;",
    ]


def test_a_chinese_neighbour_ends_a_word() -> None:
    assert measure("所以wait我们")["count"] == 1
    assert measure("等等")["count"] == 0


@given(st.text(), st.sampled_from([phrase for phrases in WORDS.values() for phrase in phrases]))
def test_a_planted_phrase_is_found(text: str, phrase: str) -> None:
    labels = measure(f"{text} {phrase.upper()} {text}")
    assert labels["count"] >= 1
    assert max(labels["r1"], labels["oat"]) >= 1
    assert len(labels["positions"]) == labels["count"]
