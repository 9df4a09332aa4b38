"""IFEval: each instruction followed and not, strict and loose, and what is no instruction."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.trace import Trace
from distillkit.verifiers import Ifeval
from distillkit.verifiers.instructions import CHECKS, follows, variants

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


def verdict(response: str, names: list[str], arguments: list[Any], **fields: Any) -> Any:
    reference = {"instructions": names, "arguments": arguments}
    trace = Trace("p", [], response, "thinking, with commas", response, reference, finish_reason="stop")
    return Ifeval(**fields).grade(trace)


NO_COMMA, QUOTED = "punctuation:no_comma", "startend:quotation"


def test_all_of_a_prompt_or_nothing() -> None:
    both = [NO_COMMA, QUOTED], [{"num_words": None}, None]
    assert verdict('"so"', *both).score == 1.0
    found = verdict("so", *both)
    assert (found.score, found.reason, found.detail["strict"]) == (0.0, "wrong", [True, False])
    part = verdict("so", *both, score="fraction")
    assert (part.score, part.reason) == (0.5, "partial")


def test_loose_forgives_a_first_line_and_asterisks() -> None:
    response = 'Sure, here it is:\n*"so"*'
    given = [NO_COMMA, QUOTED], [{}, {}]
    assert verdict(response, *given).detail == {
        "instructions": given[0], "strict": [False, False], "loose": [True, True],
    }  # fmt: skip
    assert verdict(response, *given).score == 0.0
    assert verdict(response, *given, loose=True).score == 1.0


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ({"instructions": ["keywords:none_such"], "arguments": [{}]}, "unknown instruction"),
        (
            {"instructions": ["keywords:frequency"], "arguments": [{"keyword": "a"}]},
            "argument that is missing",
        ),
        ({"instructions": [NO_COMMA], "arguments": []}, "as many arguments"),
        ({"instructions": []}, "no instructions in it"),
        ("no commas, please", "no instructions in it"),
        (
            {
                "instructions": ["length_constraints:number_words"],
                "arguments": [{"relation": "around", "num_words": 3}],
            },
            "unknown relation 'around'",
        ),
    ],
)
def test_what_is_no_instruction_has_no_score(reference: Any, complaint: str) -> None:
    assert complaint in (Ifeval().check_reference(reference) or "")
    trace = Trace("p", [], "so", "", "so", reference, finish_reason="stop")
    assert Ifeval().grade(trace).reason == "unparseable_gold"


def test_a_good_reference_is_no_complaint() -> None:
    assert Ifeval().check_reference({"instructions": [NO_COMMA], "arguments": [None]}) is None


@settings(max_examples=60)
@given(st.text(max_size=200), st.sampled_from(CASES))
def test_no_response_breaks_a_check(response: str, case: tuple[str, dict[str, Any], str, str]) -> None:
    name, arguments, _, _ = case
    assert follows(response, name, arguments) in (True, False)
    assert response.strip() in variants(response) or not response.strip()
