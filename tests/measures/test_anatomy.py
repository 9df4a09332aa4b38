from hypothesis import given
from hypothesis import strategies as st

from distillkit import text as reading
from distillkit.measures.anatomy import CJK, GARBLE, INVISIBLE, LETTER, Anatomy, anatomy, once

# Latin, Cyrillic, Arabic, Hindi with a vowel sign, Chinese, kana, Korean, digits, signs, apostrophes, white space.
PIECES = [
    *"aZ\u00e9\u0416\u0628\u4e2d\u6587\u304b\u30a2\ud55c1\u00b2 _-.\u2019' \n\t",
    "\u0939\u093f",
    "e\u0301",
    "\u0939",
]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_words_are_those_of_the_text_module(text: str) -> None:
    assert len(Anatomy(text).word_starts) == len(reading.words(text))


@given(st.text())
def test_any_text_has_one_kind_per_character(text: str) -> None:
    sheet = Anatomy(text)
    assert len(sheet.kinds) == len(sheet.codes) == len(sheet.folded) == len(text)
    assert all(0 <= start < len(text) for start in sheet.word_starts)


@given(st.text("ab \n\t\r"))
def test_paragraphs_are_those_of_the_text_module(text: str) -> None:
    starts, ends = Anatomy(text).paragraphs
    found = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    assert found == [text[start:end] for start, end in reading.paragraphs(text)]


def test_kinds_of_odd_characters() -> None:
    sheet = Anatomy("a\u4e2d\x00\ud800\ufffd\ue000\U000f0001\u200b\u202e\U00020001")
    assert sheet.has(LETTER).tolist() == [True, *[False] * 9]
    assert sheet.has(CJK).tolist() == [False, True, *[False] * 7, True]
    assert sheet.count(GARBLE) == 5
    assert sheet.count(INVISIBLE) == 2


def test_ascii_and_other_text_are_measured_alike() -> None:
    plain = "Wait, it isn't\n\n 7 or so. \x01"
    other = Anatomy(plain + "\u4e2d")
    assert Anatomy(plain).kinds.tolist() == other.kinds.tolist()[:-1]
    assert Anatomy(plain).folded.tolist() == other.folded.tolist()[:-1]


def test_the_last_text_is_kept_by_identity() -> None:
    first, again = "a" * 30 + "b", "".join(["a" * 30, "b"])
    assert anatomy(first) is anatomy(first)
    assert anatomy(first) is not anatomy(again)
    calls: list[str] = []
    made = once(lambda text: calls.append(text) or len(text))
    assert (made(first), made(first), made(again), made(first)) == (31, 31, 31, 31)
    assert len(calls) == 3
