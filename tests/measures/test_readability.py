import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.base import Labels
from distillkit.measures.readability import R1_READABLE, Readability
from distillkit.text import words
from distillkit.trace import Trace


def measure(text: str, **fields: str) -> Labels:
    return Readability().measure(
        Trace("p", [], completion=text, reasoning=fields.get("reasoning", ""), response="")
    )


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\n \r\n"])
def test_an_empty_text_measures_zero(text: str) -> None:
    assert measure(text) == dict.fromkeys(Readability.KEYS, 0)


def test_the_reasoning_is_read_where_there_is_one() -> None:
    assert measure("<think>short</think>\n# Long", reasoning="short")["headings"] == 0


def test_paragraphs_and_lines() -> None:
    labels = measure("one two\nthree\n\n  \nfour five six seven\r\n")
    assert labels["paragraphs"] == 2
    assert labels["longest_paragraph_words"] == 4
    assert labels["longest_paragraph_chars"] == len("four five six seven\r")
    assert labels["mean_paragraph_words"] == 3.5
    assert labels["longest_line"] == len("four five six seven")
    assert labels["mean_line"] == round((7 + 5 + 19) / 3, 1)


@given(st.lists(st.text("ab \u4e2d'", min_size=1), max_size=8))
def test_words_of_paragraphs_are_counted_as_everywhere(parts: list[str]) -> None:
    found = measure("\n\n".join(parts))["longest_paragraph_words"]
    assert found == max((len(words(part)) for part in parts), default=0)


@pytest.mark.parametrize(
    ("text", "blocks", "unclosed", "headings"),
    [
        ("a\n```python\n# no heading\n```\n## Heading\n", 1, 0, 1),
        ("```\na\n```\n~~~\nb\n~~~", 2, 0, 0),
        ("# Heading\n```\n# cut off", 1, 1, 1),
        ("inline ``` is no fence, nor is #5 a heading", 0, 0, 0),
        ("- item\n  ```\n  # in a list\n  ```\n", 1, 0, 0),
    ],
)
def test_code_and_headings(text: str, blocks: int, unclosed: int, headings: int) -> None:
    labels = measure(text)
    assert (labels["code_blocks"], labels["unclosed_fences"], labels["headings"]) == (
        blocks,
        unclosed,
        headings,
    )


def test_markdown_outside_of_code() -> None:
    labels = measure("**Step 1**: **a**\n\n| a | b |\n|---|---|\n\n```\n| in code |\n```\n")
    assert (labels["bold"], labels["tables"]) == (2, 2)


def test_share_of_code() -> None:
    assert measure("1234\n```\n12345678\n```\n5678")["code_share"] == round(8 / (4 + 3 + 8 + 3 + 4), 4)
    assert measure("12\n```\n345")["code_share"] == round(3 / 8, 4)  # never closed: code to the end
    assert measure("no code")["code_share"] == 0.0


def test_a_list_goes_on_over_blank_lines_and_ends_with_prose() -> None:
    labels = measure("- a\n- b\n\n- c\ntext\n1. d\n2) e\n-5 is a number\n* f")
    assert (labels["list_items"], labels["list_wall"]) == (6, 3)


@pytest.mark.parametrize(
    ("text", "open_"),
    [
        (r"\[ x \] and \( y \) and \begin{a} z \end{a} $$ w $$ $5", 0),
        (r"\[ x", 1),
        (r"\begin{align} x \\[2pt] y \end{align}", 0),
        (r"x \) y \( z", 2),
        ("$$ x $$ and $$ y", 1),
        (r"\endgroup \beginning", 1),
        ("a backslash at the end \\", 0),
        (r"\\\[ x \\\\ y \]", 0),
        ("\\" * 5 + "(", 1),
        ("\\" * 6 + "(", 0),
    ],
)
def test_math_without_a_partner(text: str, open_: int) -> None:
    assert measure(text)["unclosed_math"] == open_
    assert measure("\u4e2d" + text)["unclosed_math"] == open_


def test_garble_is_what_is_no_text() -> None:
    assert measure("ab\ufffd\x00")["garble"] == 0.5
    assert measure("ab\ud800\ue000")["garble"] == 0.5
    assert measure("caf\u00e9 \u4e2d\u6587 \U0001f600\t\r\n")["garble"] == 0.0


@pytest.mark.parametrize("text", ["caf\u00e9 ol\u00e9", "don\u2019t", "\u201cyes\u201d", "na\u00efve \u00c0"])
def test_utf8_that_was_read_as_another_encoding_is_garble(text: str) -> None:
    assert measure(text)["garble"] == 0.0
    for encoding in ("latin-1", "cp1252"):
        if encoding == "latin-1" or ("\u201d" not in text and "\u00c0" not in text):
            assert measure(text.encode().decode(encoding))["garble"] > 0.1


def test_portuguese_capitals_are_no_garble() -> None:
    assert measure("N\u00c3O, A SOLU\u00c7\u00c3O \u00c9 \u00c2MBAR")["garble"] == 0.0


def test_invisible_characters_are_counted_and_letters_joiners_are_not() -> None:
    assert measure("a\u200bb\u202ec\ufeff\u2066\u00ad")["invisible"] == 5
    assert (
        measure("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u05e9\u05dc\u05d5\u05dd")["invisible"] == 0
    )


def test_the_preset_names_fields_that_exist() -> None:
    for rule in R1_READABLE:
        assert rule.keys() == {"field", "max", "reason"}
        assert rule["field"].removeprefix("measures.readability.") in Readability.KEYS
