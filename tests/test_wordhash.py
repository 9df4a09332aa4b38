import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distillkit.wordhash import run_hashes, span_hashes

WORDS = st.lists(st.text("abc\u00e9\u7684", min_size=1, max_size=6), min_size=1, max_size=30)


def hashes(words: list[str], before: str = "") -> list[int]:
    text = before + " ".join(words)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    lengths = np.array([len(word) for word in words])
    ends = len(before) + np.cumsum(lengths + 1) - 1
    return span_hashes(codes, ends - lengths, ends).tolist()


@given(WORDS, st.text("xyz ", max_size=20))
def test_a_word_has_one_hash_wherever_it_stands(words: list[str], before: str) -> None:
    found = dict(zip(words, hashes(words), strict=True))
    assert hashes(words, before) == [found[word] for word in words]
    assert len(set(found.values())) == len(found)


@given(st.text(st.characters(max_codepoint=127), min_size=1))
def test_bytes_of_ascii_hash_as_code_points_do(text: str) -> None:
    starts, ends = np.array([0]), np.array([len(text)])
    wide = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    narrow = np.frombuffer(text.encode("ascii"), np.uint8)
    assert span_hashes(wide, starts, ends).tolist() == span_hashes(narrow, starts, ends).tolist()


@given(st.lists(st.integers(0, 3), max_size=20))
def test_equal_runs_have_equal_hashes_and_no_others(words: list[int]) -> None:
    found = run_hashes(np.array(words, np.uint64), 3).tolist()
    plain = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    assert len(found) == len(plain)
    assert len(set(zip(found, plain, strict=True))) == len(set(found)) == len(set(plain))
