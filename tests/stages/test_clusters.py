import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.stages.clusters import (
    _ASCII_WORD,
    _WORD,
    PERMUTATIONS,
    RECALL,
    WORDS,
    band_rows,
    candidates,
    jaccard,
    link,
    shingles,
    signatures,
)


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
        ("a well-known fact about the number", "a well known fact about the number", True),
        ("我们先把两个数相加", "我们先把三个数相加", False),
        ("我们先把两个数相加", "我们 先把两个数相加。", True),
        ("yes", "Yes!", True),
        ("yes", "no", False),
        ("!!!", "???", False),
    ],
)
def test_what_counts_as_a_word(one: str, other: str, same: bool) -> None:
    assert (jaccard(shingles(one), shingles(other)) == 1.0) is same


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_read_like_any_text(text: str) -> None:
    assert _ASCII_WORD.findall(text.lower()) == _WORD.findall(text.lower())


def test_chinese_goes_by_runs_of_characters() -> None:
    one, other = "我们先把两个数相加得到十", "我们先把两个数相加得到九"
    assert jaccard(shingles(one), shingles(other)) == pytest.approx(7 / 9)  # 8 shingles each, 7 shared


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_keep_the_declared_recall(threshold: float) -> None:
    rows = band_rows(threshold)
    assert 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL


def planted(rng: random.Random, size: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts of 30 to 200 words, two thirds of them with an edited copy, and every pair that is 0.8 alike."""
    vocabulary = [f"w{i}" for i in range(5000)]
    texts = []
    for _ in range(size):
        words = [rng.choice(vocabulary) for _ in range(rng.randint(30, 200))]
        texts.append(" ".join(words))
        if rng.random() < 0.66:
            for _ in range(rng.randint(0, len(words) // 20)):
                words[rng.randrange(len(words))] = rng.choice(vocabulary)
            texts.append(" ".join(words))
    rng.shuffle(texts)
    sets = [plain(text) for text in texts]
    pairs = [
        (i, j)
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if len(sets[i] & sets[j]) >= 0.8 * len(sets[i] | sets[j])
    ]
    return texts, pairs


def components(texts: list[str], threshold: float = 0.8) -> list[int]:
    sets = [shingles(text) for text in texts]
    signed = signatures(sets)
    groups = candidates(signed, threshold)
    return link(signed, groups, threshold, lambda a, b: jaccard(sets[a], sets[b])).tolist()


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    texts, pairs = planted(random.Random(5), 250)
    first = components(texts)
    parent = list(range(len(texts)))
    for i, j in pairs:  # brute force; i < j, so a root is the smallest of its class
        a, b = sorted((parent[i], parent[j]))
        parent = [a if each == b else each for each in parent]
    assert len(pairs) > 50
    assert first == parent


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_does_not_matter(rng: random.Random) -> None:
    base = [f"word{i}" for i in range(14)]
    texts = [" ".join([*base[:n], str(k)]) for n in range(9, 15) for k in range(3)] + ["other text"] * 2
    order = list(range(len(texts)))
    rng.shuffle(order)
    straight, shuffled = components(texts, 0.6), components([texts[i] for i in order], 0.6)
    together = {(i, j) for i in order for j in order if straight[i] == straight[j]}
    place = {row: i for i, row in enumerate(order)}
    assert {(i, j) for i in order for j in order if shuffled[place[i]] == shuffled[place[j]]} == together


def test_a_chain_is_one_cluster_known_by_its_first_text() -> None:
    words = [f"w{i}" for i in range(60)]
    chain = [" ".join(words[i : i + 40]) for i in range(0, 16, 2)]  # neighbours 0.9 alike, ends far less
    assert jaccard(shingles(chain[0]), shingles(chain[-1])) < 0.6
    assert components(chain) == [0] * len(chain)


def test_nothing_in_nothing_out() -> None:
    assert signatures([]).shape == (0, PERMUTATIONS)
    assert components(["alone"]) == [0]


def test_many_equal_signatures_are_compared_once_each() -> None:
    """A group of m near-identical texts costs m comparisons, not m * m / 2."""
    asked = []

    def similarity(a: int, b: int) -> float:
        asked.append((a, b))
        return 1.0

    signed = np.zeros((3000, PERMUTATIONS), np.uint32)
    first = link(signed, candidates(signed, 0.8), 0.8, similarity)
    assert set(first.tolist()) == {0}
    assert len(asked) == 2999
