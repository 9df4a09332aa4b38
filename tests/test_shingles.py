import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit import shingles as module
from distillkit.shingles import WORDS, jaccard, runs, shingles


def plain(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))}


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.lists(st.sampled_from("abcde"), max_size=40))
def test_similarity_is_that_of_the_word_shingles(a: list[str], b: list[str]) -> None:
    one, other = " ".join(a), " ".join(b)
    exact = len(plain(one) & plain(other)) / len(plain(one) | plain(other))
    assert jaccard(shingles(one), shingles(other)) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Let us add two and three, now.", "let us add two and three now", True),
        ("8 + 2 = 0 so 0 - 2 = 8", "8 + 2 = 0 so 0 + 2 = 8", False),
        ("8+2=0 so 0-2=8", "8 + 2 = 0 so 0 - 2 = 8", True),
        ("a well-known fact about the number", "a well known fact about the number", True),
        ("minus -3 and a--b and then some", "minus 3 and a b and then some", False),
        ("\u6211\u4eec\u5148\u628a\u4e24\u4e2a\u6570\u76f8\u52a0", "\u6211\u4eec\u5148\u628a\u4e09\u4e2a\u6570\u76f8\u52a0", False),
        ("\u6211\u4eec\u5148\u628a\u4e24\u4e2a\u6570\u76f8\u52a0", "\u6211\u4eec \u5148\u628a\u4e24\u4e2a\u6570\u76f8\u52a0\u3002", True),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u0928\u0926", False),  # vowel signs belong to the word
        ("zero\u200bwidth and \uff46\uff55\uff4c\uff4c", "zerowidth and full", True),
        ("yes", "Yes!", True),
        ("yes", "no", False),
        ("!!!", "???", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_word(one: str, other: str, same: bool) -> None:
    assert (jaccard(shingles(one), shingles(other)) == 1.0) is same


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_read_like_any_text(text: str) -> None:
    [narrow, wide] = runs([text]), runs([text + " \u7684"])
    words = len(module._words(text.lower(), 0)[0])
    if words >= WORDS:
        assert wide[0].tolist()[: words - WORDS + 1] == narrow[0].tolist()


def test_chinese_goes_by_runs_of_characters() -> None:
    one = "\u6211\u4eec\u5148\u628a\u4e24\u4e2a\u6570\u76f8\u52a0\u5f97\u5230\u5341"
    assert jaccard(shingles(one), shingles(one[:-1] + "\u4e5d")) == pytest.approx(7 / 9)  # 7 of 8 shared


@given(st.lists(st.text("ab 1+-\u00e9\u7684", max_size=30), max_size=12))
def test_texts_hashed_together_are_those_hashed_alone(texts: list[str]) -> None:
    together = [each.tolist() for each in runs(texts)]
    assert together == [runs([text])[0].tolist() for text in texts]
    assert all(together)


def test_a_long_text_is_hashed_in_parts_that_cut_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    text = " ".join("".join(rng.choices("abc", k=rng.randint(1, 9))) for _ in range(3000))
    whole = runs([text])[0].tolist()
    monkeypatch.setattr(module, "_SLICE", 100)
    monkeypatch.setattr(module, "_CUT", module.re.compile(r"\S{0,100}"))
    assert runs([text])[0].tolist() == whole


def test_a_text_without_any_white_space_ends() -> None:
    assert len(runs(["x" * 2_000_000])[0]) <= WORDS
