import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.base import Labels
from distillkit.measures.repetition import MIN_LOOP_CHARS, TAIL, Repetition, tail_loop
from distillkit.trace import Trace


def measure(text: str, n: int = 3) -> Labels:
    return Repetition(n=n).measure(Trace("p", [], completion=text, reasoning="", response=text))


def test_shares_are_of_what_has_occurred_before() -> None:
    labels = measure(
        "a b c d\nx\n\na b c d\nx"
    )  # 10 words: 8 trigrams, "a b c" and "b c d" and "c d x" twice
    assert labels["ngram_share"] == round(3 / 8, 4)
    assert labels["line_share"] == 0.5
    assert labels["tail_loop"] == 0


@pytest.mark.parametrize("text", ["", "one", "one two", "\n\n"])
def test_a_text_too_short_to_repeat_has_zero(text: str) -> None:
    labels = measure(text)
    assert labels.pop("most_repeated_line") == 0
    assert labels == dict.fromkeys(labels, 0)


@given(
    st.lists(
        st.sampled_from(["a", "B", "b", "ab", "a b", "\n", "  ", "\u4e2d", "\u6587a", "\u00c9", "\u00e9"])
    ),
    st.integers(1, 4),
)
def test_ngrams_by_their_definition(parts: list[str], n: int) -> None:
    text = " ".join(parts)
    tokens = re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", text.lower())
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    tail = max(1, round(len(grams) * TAIL))
    fresh = len(set(grams)) - len(set(grams[: len(grams) - tail]))
    labels = measure(text, n)
    assert labels["ngram_share"] == (round(1 - len(set(grams)) / len(grams), 4) if grams else 0.0)
    assert labels["tail_ngram_share"] == (round(1 - fresh / tail, 4) if grams else 0.0)


def test_the_same_letters_parted_otherwise_are_another_phrase() -> None:
    assert measure("ab c ab c", n=2)["ngram_share"] == round(1 / 3, 4)
    assert measure("ab c a bc", n=2)["ngram_share"] == 0.0


def test_a_tail_that_repeats_is_told_from_a_text_that_does() -> None:
    story = " ".join(f"word{i}" for i in range(300))
    late = measure(f"{story} " + "so it is again and again and " * 14)
    assert late["tail_ngram_share"] > 0.8 > 0.4 > late["ngram_share"]
    assert measure(story)["tail_ngram_share"] == 0.0


def test_displayed_formulas_are_no_repeated_lines() -> None:
    text = "".join(f"\\[\nx_{i} = {i} + {i * i} + {i**3}\n\\]\n" for i in range(30))
    assert measure(text)["line_share"] < 0.25
    assert measure(text)["most_repeated_line"] == 1


def test_the_most_frequent_line() -> None:
    text = "Let us check the sum again.\n7 + 5 = 12\n" * 9 + "So the sum is twelve, as I said."
    assert measure(text)["most_repeated_line"] == 9
    assert measure("One line of the text.\nAnother line of the text.")["most_repeated_line"] == 1


def test_a_long_text_is_hashed_like_a_short_one() -> None:
    """Behind the powers that are kept; a chapter that stands twice is repeated once."""
    chapter = " ".join(f"w{i}" for i in range(30_000))
    labels = measure(f"{chapter} {chapter}", n=8)
    assert labels["ngram_share"] == round((30_000 - 7) / (60_000 - 7), 4)


def test_numbers_tell_steps_apart() -> None:
    assert measure("1 + 2 = 3 so 3 + 4 = 7 so 7 + 1 = 8 so 8 + 6 = 4")["ngram_share"] == 0.0


def test_chinese_goes_by_character() -> None:
    assert measure("我们再算一次我们再算一次")["ngram_share"] == 0.4  # 10 trigrams, 4 of them again


def test_a_loop_is_followed_to_its_beginning() -> None:
    sentence = "Wait, let me check that again. "
    text = "The answer is 12. " + sentence * 2000 + "Wait, let me"
    labels = measure(text)
    assert labels["tail_period"] == len(sentence)
    assert labels["tail_loop"] == len(text) - len("The answer is 12")  # ". " belongs to the loop


def test_two_repeats_are_no_loop() -> None:
    assert tail_loop("I will check the sum once more now. " * 2) == (0, 0)
    assert tail_loop("1000000") == (0, 0)
    assert tail_loop("!" * MIN_LOOP_CHARS) == (MIN_LOOP_CHARS, 1)


@given(st.text("ab", max_size=120))
def test_the_loop_is_the_longest_one(text: str) -> None:
    """Against the definition, tried out for every length and period."""
    found = 0
    for length in range(MIN_LOOP_CHARS, len(text) + 1):
        tail = text[len(text) - length :]
        if any(tail[period:] == tail[:-period] for period in range(1, length // 3 + 1)):
            found = length
    assert tail_loop(text)[0] == found


@given(st.text("abc", min_size=1, max_size=30), st.integers(3, 900), st.text("xyz", max_size=40))
def test_a_planted_loop_is_found_at_any_length(period: str, times: int, head: str) -> None:
    length, found = tail_loop(head + period * times)
    if len(period) * times >= MIN_LOOP_CHARS:
        assert length >= len(period) * times
        assert len(period) % found == 0


def test_a_loop_may_have_a_long_period() -> None:
    paragraph = " ".join(f"step {i} of the proof" for i in range(300))
    assert len(paragraph) > 5000
    assert tail_loop("Begin. " + paragraph * 3)[1] == len(paragraph)


def test_a_longer_loop_behind_a_short_one_is_found() -> None:
    """The tail ends in a short loop of its own, which is a part of the long period."""
    period = "Let me think about it once more: " + "ha" * 40
    length, found = tail_loop("x" + period * 3)
    assert (length, found) == (3 * len(period), len(period))


@pytest.mark.parametrize(
    "text", ["a" * 300_000, ("q" * 30 + "z") * 10_000 + "q" * 30, "ab" * 100_000 + "c", "\n" * 300_000]
)
def test_any_long_text_is_measured(text: str) -> None:
    labels = measure(text)
    assert 0 <= labels["ngram_share"] <= 1
    assert labels["tail_loop"] <= len(text)
