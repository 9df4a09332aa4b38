import pytest

from distillkit.measures.base import Labels
from distillkit.measures.readability import R1_READABLE, Readability
from distillkit.trace import Trace


def measure(text: str, **fields: str) -> Labels:
    return Readability().measure(
        Trace("p", [], completion=text, reasoning=fields.get("reasoning", ""), response="")
    )


def test_an_empty_text_measures_zero() -> None:
    assert measure("") == dict.fromkeys(Readability.KEYS, 0)


def test_the_reasoning_is_read_where_there_is_one() -> None:
    assert measure("<think>short</think>\n# Long", reasoning="short")["headings"] == 0


def test_paragraphs_and_lines() -> None:
    labels = measure("one two\nthree\n\n\nfour five six seven")
    assert labels["longest_paragraph_words"] == 4
    assert labels["longest_paragraph_chars"] == len("four five six seven")
    assert labels["longest_line"] == len("four five six seven")


@pytest.mark.parametrize(
    ("text", "blocks", "unclosed", "headings"),
    [
        ("a\n```python\n# no heading\n```\n## Heading\n", 1, 0, 1),
        ("```\na\n```\n~~~\nb\n~~~", 2, 0, 0),
        ("# Heading\n```\n# cut off", 1, 1, 1),
        ("inline ``` is no fence, nor is #5 a heading", 0, 0, 0),
    ],
)
def test_code_and_headings(text: str, blocks: int, unclosed: int, headings: int) -> None:
    labels = measure(text)
    assert (labels["code_blocks"], labels["unclosed_fences"], labels["headings"]) == (
        blocks,
        unclosed,
        headings,
    )


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
    ],
)
def test_math_without_a_partner(text: str, open_: int) -> None:
    assert measure(text)["unclosed_math"] == open_


def test_garble_is_what_is_no_text() -> None:
    assert measure("ab\ufffd\x00")["garble"] == 0.5
    assert measure("caf\u00e9 \u4e2d\u6587 \U0001f600\t\r\n")["garble"] == 0.0


def test_the_preset_names_fields_that_exist() -> None:
    for rule in R1_READABLE:
        assert rule.keys() == {"field", "max", "reason"}
        assert rule["field"].removeprefix("measures.readability.") in Readability.KEYS
