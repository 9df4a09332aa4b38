"""Shared n-grams are found under every disguise, and what proves nothing is told apart."""

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.overlap import Match, Overlap
from distillkit.measures.words import runs, windows, words_of

QUESTION = "Find the number of ordered pairs of positive integers whose product is 400 and whose sum is even."
WORDS = QUESTION.rstrip(".").split()
OTHER = "Something else entirely, with rather more than eight words in it, about birds."


def leak(text: str, *references: str, size: int = 8, **fields: float) -> Match | None:
    return Overlap(references or [QUESTION], size, **fields).find(text).leak


def grams(text: str) -> list[str]:
    words = words_of(text)
    return [words.gram(at, 1) for at in range(len(words))]


@pytest.mark.parametrize(
    "disguise",
    [
        QUESTION,
        QUESTION.upper(),
        ", ".join(WORDS),
        "\n\n".join(WORDS),
        f"So the problem says: **{' '.join(WORDS)}** and we",
        " ".join(WORDS).replace(" ", " — "),
        QUESTION.replace("400", "４００"),
        QUESTION.replace("number", "num\u200bber").replace("pairs", "pa\u00adirs"),
        QUESTION.replace("sum", "su\u0301m").replace("even", "e\x00ven\ufe0f"),
        "".join(chr(0x1D44E + ord(c) - 97) if c in "abcdefg" else c for c in QUESTION),
        "\u202b" + QUESTION + "\u202c",
        "\ud800 " + QUESTION.replace(" ", "\udfff"),
    ],
)
@pytest.mark.parametrize("size", [8, 13])
def test_no_disguise_hides_a_leak(disguise: str, size: int) -> None:
    found = leak(f"Let me think about it. {disguise} Then we go on.", size=size)
    assert found is not None and found.share == 1.0
    assert leak(f"Let me think about it. {disguise[:20]} Then we go on.", size=size) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x² + y₂ = 𝟜", ["x", "2", "y", "2", "4"]),
        ("don’t DON'T", ["don", "t", "don", "t"]),
        ("straße ﬁne İ", ["strasse", "fine", "i"]),
        ("已知函数f(x)", ["已", "知", "函", "数", "f", "x"]),
        ("مَرْحَبًا شـكرا", ["مرحبا", "شكرا"]),
        ("한국어 문제", ["한국어", "문제"]),
        ("snake_case \ud800 a-b", ["snake", "case", "a", "b"]),
        ("?! …", []),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [unicodedata.normalize("NFC", each) for each in grams(text)] == words


def test_fractions_are_their_numbers() -> None:
    assert words_of("½ x").hashes.tolist() == words_of("1/2 x").hashes.tolist()


def test_one_shared_gram_proves_nothing_unless_asked() -> None:
    text = f"I wonder about {' '.join(WORDS[2:10])} that are red"
    found = Overlap([QUESTION], 8).find(text)
    assert found.leak is None
    assert found.weak is not None and found.weak.gram == "number of ordered pairs of positive integers whose"
    assert (found.weak.share, found.weak.run) == (8 / 18, 8)
    asked = leak(text, share=0)
    assert asked == found.weak and asked is not None
    assert text[asked.start : asked.end] == " ".join(WORDS[2:10])
    assert leak(f"I wonder about {' '.join(WORDS[2:9])} that are red", share=0) is None


def test_a_long_run_is_enough_whatever_its_share() -> None:
    reference = " ".join(f"word{n}" for n in range(200))
    assert leak(" ".join(f"word{n}" for n in range(50, 63)), reference) is not None
    assert leak(" ".join(f"word{n}" for n in range(50, 62)), reference) is None


def test_a_match_says_which_where_and_how_much() -> None:
    text = "Let me think.\nWHOSE product, is 400 and whose sum — is even? Positive integers whose product is 400!"
    found = Overlap([OTHER, QUESTION], 8, share=0.4).find(text).leak
    assert found is not None
    assert found.reference == 1
    assert text[found.start : found.end] == "WHOSE product, is 400 and whose sum — is even"
    assert (found.gram, found.run) == ("whose product is 400 and whose sum is", 9)
    assert found.share == 9 / 18


def test_the_reference_that_most_is_shared_of_is_named() -> None:
    near = QUESTION.replace("even", "odd")
    found = leak(f"Again: {near}", QUESTION, near)
    assert found is not None and found.reference == 1


@pytest.mark.parametrize("size", [8, 13])
def test_a_short_reference_is_found_as_a_whole_line_only(size: int) -> None:
    short = "What is 2 + 2 - 1?"
    for text in (
        "what is 2+2-1",
        "Solve this.\nwhat is 2+2-1\nBox the answer.",
        "**What is 2 + 2 - 1?**  \r\n",
    ):
        found = leak(text, short, size=size)
        assert found is not None and (found.share, found.gram) == (1.0, "what is 2 2 1")
    for text in ("What is 2 + 2 - 1 in base 3?", "So what is 2 + 2 - 1?", ""):
        assert leak(text, short, size=size) is None
    assert leak("yes\nno", "Yes") is None  # a line of so few words is nobody's
    assert leak("Yes!", "yes") is not None


def test_a_reference_shorter_than_a_gram_is_found_inside_where_it_has_eight_words() -> None:
    ten = " ".join(WORDS[:10])
    found = leak(f"The task: {ten} is hard.", ten, size=13)
    assert found is not None and found.share == 1.0
    assert leak(f"The task: {' '.join(WORDS[:9])} is hard.", ten, size=13) is None


def test_boilerplate_is_no_leak_and_is_reported_apart() -> None:
    same = "Find the value of the following expression when the number is"
    unlike = "red green blue black white brown pink grey gold teal navy plum"
    overlap = Overlap([f"{same} {n} {c}" for n, c in enumerate(unlike.split())], 8)
    found = overlap.find(f"{same} 400")
    assert found.leak is None and found.weak is not None and found.weak.share == 0
    assert found.weak.gram == "find the value of the following expression when"
    assert overlap.find(f"{same} 7 grey").leak is not None


@pytest.mark.parametrize("size", [8, 13])
def test_what_contest_problems_end_with_is_no_leak(size: int) -> None:
    ending = (
        r"The answer can be written in the form $\tfrac{m}{n}$, where $m$ and $n$ are relatively prime positive integers."
        r" Find $m+n$."
    )
    reference = f"Alice paints every third house of a long street in red. {ending}"
    found = Overlap([reference], size).find(f"Bob rolls two dice until their sum is seven. {ending}")
    assert found.leak is None and found.weak is not None
    assert leak(reference.replace("every", "each"), reference, size=size) is not None


def test_a_problem_that_several_benchmarks_share_is_not_boilerplate() -> None:
    assert leak(f"Well: {QUESTION} Yes.", *[QUESTION] * 9, OTHER) is not None


@pytest.mark.parametrize(
    "formula",
    [
        r"\frac{1}{2} + \frac{3}{4} - \frac{5}{6} = \frac{7}{8}, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        'label("$B$", (4,0), SE); label("$C$", (4,3), NE); draw((0,0)--(4,0)--(4,3)--cycle);',
    ],
)
def test_a_formula_inside_a_text_is_no_leak(formula: str) -> None:
    found = Overlap([f"How many birds are there? {formula} is drawn here."], 8).find(
        f"Let us see, {formula} so."
    )
    assert found.leak is None and found.weak is not None


@pytest.mark.parametrize("size", [8, 13])
def test_a_whole_problem_is_a_leak_even_where_it_is_a_formula(size: int) -> None:
    problem = r"Find the roots of $(x - 3)^3 + (x - 7)^3 = (2x - 10)^3.$"
    same_head = r"Find the roots of $(x - 3)^3 + (x - 7)^3 = 12.$"
    found = leak(f"Question: {problem} Think step by step.", same_head, problem, size=size)
    assert found is not None and (found.reference, found.share) == (1, 1.0)
    assert leak(r"Question: Find the roots of $(x - 3)^3 + 9$", problem, size=size) is None


def test_chinese_needs_more_characters_than_words() -> None:
    question = "已知函数的图像经过点求该函数在区间上的最大值与最小值之和"
    for noise in ("", "，", " ", "\u200b"):
        assert leak(f"首先，{noise.join(question[2:27])}。", question) is not None
    found = Overlap([question], 8).find(f"首先，{question[2:16]}是什么。")
    assert found.leak is None and found.weak is not None and found.weak.run == 8
    assert Overlap([question], 8).find(f"首先，{question[2:15]}是什么。") == (None, None)
    assert leak(f"首先，{question}。", question, size=13) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "\u200b",
        "\ud800",
        "\x00" * 9,
        "!" * 70_000,
        "a" * 70_000,
        "的" * 70_000,
        "a\u0301" * 70_000,
    ],
)
def test_odd_text_is_clean(text: str) -> None:
    assert Overlap([QUESTION], 8).find(text) == (None, None)
    assert Overlap([text, QUESTION], 8).find(f"Well: {QUESTION}").leak is not None


def test_a_long_row_is_read_to_its_end() -> None:
    filler = "lorem ipsum dolor sit amet " * 60_000  # 1.6 MB; a leak at the very end and over a cut
    for size in (8, 13):
        assert leak(filler + QUESTION, size=size) is not None
        assert leak(filler[: 32_768 - 40] + QUESTION + filler, size=size) is not None
    many = [f"{QUESTION} {n} {OTHER}" for n in range(4)]
    assert leak(" ".join(many * 300), *many) is not None


def test_no_references_find_nothing() -> None:
    for references in ([], ["", "?!"]):
        assert Overlap(references, 8).find(QUESTION) == (None, None)


@given(st.text(max_size=80))
def test_composed_and_decomposed_texts_have_equal_words(text: str) -> None:
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert words_of(composed).hashes.tolist() == words_of(apart).hashes.tolist()


@given(st.lists(st.text("abcÀß中文ｘ²1 ,\n\u200b\u0301", min_size=1, max_size=8), max_size=12))
def test_offsets_are_those_of_the_words(parts: list[str]) -> None:
    text = " ".join(parts)
    words = words_of(text)
    assert (words.starts[1:] >= words.ends[:-1] - 1).all() and (words.ends > words.starts).all()
    for at in range(len(words)):
        alone = words_of(text[words.starts[at] : words.ends[at]])
        assert words.hashes[at] in alone.hashes


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_equal_runs_have_equal_hashes(letters: list[str], first: int, second: int) -> None:
    import numpy as np

    words = words_of(" ".join(letters))
    spans = [(at, at + size) for at in (first, second) for size in range(len(letters) - at + 1)]
    starts, ends = (
        (np.array(part, np.int64) for part in zip(*spans, strict=True)) if spans else (np.empty(0),) * 2
    )
    if spans:
        by_hash = dict(zip(runs(words.hashes, starts, ends).tolist(), spans, strict=True))
        by_words = {tuple(letters[start:end]) for start, end in spans}
        assert len(by_hash) == len(by_words)
    assert {size: len(found) for size, found in windows(words.hashes, {2, 5})} == {
        size: len(letters) - size + 1 for size in (2, 5) if len(letters) >= size
    }


@given(st.integers(0, 2**32), st.sampled_from([8, 13]))
def test_finds_what_a_set_of_tuples_finds(seed: int, size: int) -> None:
    rng = random.Random(seed)
    vocabulary = [f"word{'abc'[n]}" for n in range(3)]  # few words, so that grams recur
    references = [" ".join(rng.choices(vocabulary, k=rng.randint(size, 40))) for _ in range(5)]
    text = rng.choices(vocabulary, k=120)
    sets = [[tuple(r.split()[i : i + size]) for i in range(len(r.split()) - size + 1)] for r in references]
    seen = {tuple(text[i : i + size]) for i in range(len(text) - size + 1)}
    shares = []
    for each in sets:
        covered = {at + i for at, gram in enumerate(each) if gram in seen for i in range(size)}
        shares.append(len(covered) / (len(each) + size - 1))
    found = Overlap(references, size, share=0, common=10**6).find(" ".join(text)).leak
    assert (found.share if found else 0.0) == max(shares)
