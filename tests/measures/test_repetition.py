import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.base import Labels
from distillkit.measures.repetition import MIN_LOOP_CHARS, Repetition, tail_loop
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
    assert measure(text) == {"ngram_share": 0.0, "line_share": 0.0, "tail_loop": 0, "tail_period": 0}


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
