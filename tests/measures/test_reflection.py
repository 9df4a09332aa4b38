import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.base import Labels
from distillkit.measures.reflection import POSITIONS, WORDS, Reflection
from distillkit.measures.reflection_words import CHINESE, CLASSES, LISTS
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
    assert measure("\u6240\u4ee5wait\u6211\u4eec")["count"] == 1


def test_chinese_lists() -> None:
    labels = measure("\u7b49\u7b49\uff0c\u4e0d\u5bf9\u3002\u6211\u91cd\u65b0\u68c0\u67e5\u4e00\u904d\u3002")
    assert (labels["r1"], labels["oat"], labels["count"]) == (3, 1, 3)  # the recheck holds a check
    assert labels["positions"] == [0, 3, 7]


@given(st.text(), st.sampled_from([phrase for phrases in WORDS.values() for phrase in phrases]))
def test_a_planted_phrase_is_found(text: str, phrase: str) -> None:
    labels = measure(f"{text} {phrase.upper()} {text}")
    assert labels["count"] >= 1
    assert max(labels["r1"], labels["oat"]) >= 1
    assert len(labels["positions"]) == labels["count"]


ENGLISH = [phrase for phrases in LISTS.values() for phrase in phrases]


@given(
    st.lists(
        st.sampled_from(
            [*ENGLISH, "checked", "the", "x-wait", "waits", "_but", "but.", "(error)", "7wait", "\n"]
        )
    )
)
def test_english_counts_are_those_of_a_plain_search(words: list[str]) -> None:
    text = " ".join(words)
    labels = measure(text)
    for name, phrases in LISTS.items():
        longest = sorted(phrases, key=len, reverse=True)
        found = re.findall(rf"\b(?<!-)(?:{'|'.join(map(re.escape, longest))})\b", text, re.IGNORECASE)
        assert labels[name] == len([phrase for phrase in found if phrase])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hold on, this is odd.", "backtrack"),
        ("No, that\u2019s not it. ", "backtrack"),
        ("On second\nthought it is 4.", "backtrack"),
        ("Let me double-check this.", "self_verify"),
        ("To verify, plug\n\nback in.", "self_verify"),
        ("Case 1: x > 0.", "case_split"),
        ("There are two cases.", "case_split"),
        ("Alternatively, use symmetry.", "plan_revision"),
        ("Let me try another approach.", "plan_revision"),
        ("\u6362\u4e2a\u601d\u8def", "plan_revision"),
        ("\u5206\u7c7b\u8ba8\u8bba", "case_split"),
    ],
)
def test_steps_by_class(text: str, name: str) -> None:
    labels = measure(text)
    assert labels[name] >= 1
    assert all(labels[other] == 0 for other in CLASSES if other != name)


def test_a_step_may_be_of_two_classes() -> None:
    labels = measure("Wait. Let me verify that.")
    assert (labels["backtrack"], labels["self_verify"]) == (1, 1)


def test_answers_that_change() -> None:
    labels = measure(r"So the answer is 4. Wait, \boxed{4}? No: the answer is 5. Then \boxed{4}.")
    assert (labels["answers"], labels["answer_changes"]) == (4, 2)


def test_density_and_the_cap_of_positions() -> None:
    labels = measure("but so " * (POSITIONS + 10))
    assert labels["per_1000_words"] == 500
    assert (labels["count"], len(labels["positions"])) == (POSITIONS + 10, POSITIONS)
    assert measure("")["per_1000_words"] == 0


def test_every_phrase_of_every_list_finds_itself() -> None:
    for name, phrases in (LISTS | CLASSES).items():
        for phrase in phrases:
            assert measure(f"So {phrase} it.")[name] >= 1, phrase
    for name, phrases in CHINESE.items():
        for phrase in phrases:
            assert measure(f"\u6211{phrase}\u5427")[name] >= 1, phrase
