"""Sentences and capital words as NLTK 3.9 counts them: each expectation was taken from it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.verifiers.ifeval.english import capital_words, sentence_count

SENTENCES = [
    ("One. Two! Three?", 3),
    ("A heading\n\n* a point\n* another", 1),
    ("1. Wash your hands.\n2. Dry them.", 4),
    ("3. cook them.", 1),
    ("9. Review the document.", 1),
    ("It costs 3.50 euros.", 1),
    ("Mr. Smith met Dr. Jones.", 1),
    ("She moved to the U.S. in 1990. The U.S. economy grew.", 2),
    ("We live in the U.S. They do not.", 2),
    ("Fruit, e.g. apples, i.e. the red ones.", 3),
    ("Bye.\n\nP.S. Remember the milk.", 3),
    ("Well... maybe not.", 1),
    ("Well... The end.", 2),
    ("Wait... And then?", 1),
    ("from point A to point B. It is far.", 2),
    ("Plan A. J. R. Brown agreed.", 1),
    ("option E-M. Learning", 1),
    ("Shi'a. These", 2),
    ('He said "no." and left.', 2),
    ('He said "no."', 1),
    ("(So he said.) And left.", 2),
    ("**So he said.**", 2),
    ("**Note.** Read on", 2),
    ("What?!", 2),
    ("Hello ?! you", 3),
    ("Very bad acting!!! I promise.", 2),
    ("\u201cWhy?\u201d she asked. \u201cI do not know.\u201d She left.", 2),
    ("\u201cMr. Smith", 2),
    ("www.example.com/.", 1),
    ("etc. and so on", 2),
    ('""', 1),
    (" \n", 0),
    ("...", 1),
    ("so -- he said. -- Then", 2),
]  # fmt: skip

CAPITALS = [
    ("I'm sure", 1),
    ("I'M SURE", 3),
    ("DON'T", 2),
    ("IT'S.", 2),
    ("I don\u2019t", 1),
    ("DON\u2019T", 2),
    ("the U.S. and NASA's launch", 2),
    ("AND/OR", 1),
    ("WELL-KNOWN", 1),
    ("CANNOT", 2),
    ("*BOLD* <<TITLE>> `CODE`", 3),
    ("A,B 1,A 10:30AM", 4),
    ("O'CLOCK", 1),
    ("region='CA'", 0),
    ("X'Y", 2),
    ("3RD 42", 1),
    ("WAIT...WHAT?!", 2),
    ("", 0),
]


@pytest.mark.parametrize(("text", "count"), SENTENCES)
def test_sentences_are_those_of_punkt(text: str, count: int) -> None:
    assert sentence_count(text) == count


@pytest.mark.parametrize(("text", "count"), CAPITALS)
def test_capitals_are_treebank_words(text: str, count: int) -> None:
    assert capital_words(text) == count


@settings(max_examples=100)
@given(st.text(alphabet="aBI .?!\n'\"()*-1,\u201d", max_size=60))
def test_any_text_has_a_count(text: str) -> None:
    assert bool(sentence_count(text)) == bool(text.strip())
    assert 0 <= capital_words(text) <= len(text)
