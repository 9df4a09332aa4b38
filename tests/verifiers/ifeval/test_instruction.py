"""Each of IFEval's instructions followed and not, and what the published code says where a guess would differ."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.verifiers.ifeval.instruction import CHECKS, follows, variants

LONG = "The weather in the north is cold and the people there wear warm coats all through the year"

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Sky", "c++"]}, "the SKY likes C++", "the sky likes C"),
    ("keywords:frequency", {"keyword": "ha", "frequency": 3, "relation": "at least"}, "ha Ha ha", "ha ha"),
    ("keywords:frequency", {"keyword": "ha", "frequency": 2, "relation": "less than"}, "ha", "ha ha"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat", "dog"]}, "a category", "a Dog!"),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "at least"}, "eE", "e"),
    ("language:response_language", {"language": "de"}, "Das ist ein kurzer deutscher Satz über Hunde.", LONG),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "One.",
        "One. Two.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'a b\n\n"then, c',
        "then a\n\nb c",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [town]", "[name] of town"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "bye\nP.S. more", "bye"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "bye\nP. P. S more", "P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b", "* a\n** b"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and * *"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1 a Section 2 b",
        "Section 1 a",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<a poem>>\nit goes", "<< >>\nit goes"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. So.", "So."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, 'Bye. any questions?"', "Any questions? Bye."),
    ("startend:quotation", {}, '"so"', '"so'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "AN IDEA",
        "AN idea",
    ),
    ("change_case:english_capital", {}, LONG.upper(), LONG),
    ("change_case:english_lowercase", {}, LONG.lower(), LONG),
    ("punctuation:no_comma", {}, "one and two", "one, two"),
]


def test_every_instruction_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS) and len(CHECKS) == 25


@pytest.mark.parametrize(("name", "arguments", "does", "does_not"), CASES)
def test_an_instruction_is_followed_or_not(
    name: str, arguments: dict[str, Any], does: str, does_not: str
) -> None:
    assert follows(does, name, arguments)
    assert not follows(does_not, name, arguments)


FIRST = "length_constraints:nth_paragraph_first_word"
HIGHLIGHT = "detectable_format:number_highlighted_sections"
PUBLISHED: list[tuple[str, dict[str, Any], str, bool]] = [
    # A paragraph that is empty does not count, and yet it has a place.
    (FIRST, {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "boats"}, "\n\nBoats", False),
    (FIRST, {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "boats"}, "\n\nBoats", False),
    (FIRST, {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "boats"}, "'\"Boats, all", True),
    (FIRST, {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "boats"}, "\"'Boats, all", False),
    (FIRST, {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "Boat"}, "boat's", True),
    (HIGHLIGHT, {"num_highlights": 1}, "*\t*", False),
    (HIGHLIGHT, {"num_highlights": 2}, "**one** of them", False),
    (HIGHLIGHT, {"num_highlights": 1}, "*over\nlines*", False),
    ("detectable_format:title", {}, "<<< >>>", False),
    ("detectable_format:title", {}, "a << b >> c", True),
    ("detectable_format:title", {}, "<<>> << x >>", True),
    ("detectable_format:title", {}, "<<over\nlines>>", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a [b] c]", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[] [\n] []", True),
    ("detectable_format:json_format", {}, "```jSON\n1\n```", False),
    ("detectable_format:json_format", {}, "```Json\n1```", True),
    ("detectable_format:json_format", {}, "NaN", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "*\n*over two lines", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "-", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "*", False),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day1Day 2", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "bye p. s. so", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "bye P.P.S. so", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "******", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "*** a ***", True),
    ("startend:end_checker", {"end_phrase": "Why?"}, 'So: "why?" ', True),
    ("startend:quotation", {}, '"', False),
    ("keywords:frequency", {"keyword": " ha ", "frequency": 2, "relation": "at least"}, "haha", True),
]


@pytest.mark.parametrize(("name", "arguments", "response", "does"), PUBLISHED)
def test_an_instruction_is_read_as_the_published_code_reads_it(
    name: str, arguments: dict[str, Any], response: str, does: bool
) -> None:
    assert follows(response, name, arguments) is does


def test_the_loose_readings_cut_a_line_and_then_the_asterisks() -> None:
    assert variants("* a\nb\n* c") == [
        "* a\nb\n* c", " a\nb\n c", "b\n* c", "b\n c", "* a\nb", " a\nb", "b",
    ]  # fmt: skip
    assert variants(" one ") == [" one "]
    assert variants(" \n") == []


@pytest.mark.parametrize(
    "run", ["[", "<<", "<", "*", "**", " ", "\n", "\n ", "- ", "p. ", "'", "a.", "?!", '"', "`"]
)
def test_a_model_in_a_loop_is_checked_in_linear_time(run: str) -> None:
    looped = run * 100_000
    for name, arguments, *_ in CASES:
        if not name.startswith("language"):
            follows(looped, name, arguments)


@settings(max_examples=60)
@given(st.text(max_size=200), st.sampled_from(CASES))
def test_no_response_breaks_a_check(response: str, case: tuple[str, dict[str, Any], str, str]) -> None:
    name, arguments, _, _ = case
    assert follows(response, name, arguments) in (True, False)
    assert response in variants(response) or not response.strip()
