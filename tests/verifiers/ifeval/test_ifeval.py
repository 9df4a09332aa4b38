"""IFEval as a verifier: all of a prompt, strict and loose, the four accuracies, and what is no instruction."""

from typing import Any

import pytest

from distillkit.scoring import Scoring, by_problem, metrics
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Ifeval


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
    given: tuple[list[str], list[Any]] = [NO_COMMA, QUOTED], [{}, {}]
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
        ({"instructions": [NO_COMMA], "arguments": ["none"]}, "are no object: 'none'"),
        ({"instructions": [["a list"]], "arguments": [{}]}, "unhashable"),
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
    blank = Trace("p", [], " ", "", " ", reference, finish_reason="stop")
    assert Ifeval().grade(blank).reason == "unparseable_gold"


def test_a_good_reference_is_no_complaint() -> None:
    assert Ifeval().check_reference({"instructions": [NO_COMMA], "arguments": [None]}) is None


def test_white_space_at_the_start_is_part_of_the_response() -> None:
    first = "length_constraints:nth_paragraph_first_word"
    arguments = [{"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "so"}]
    assert verdict("So", [first], arguments).score == 1.0
    assert verdict("\n\nSo", [first], arguments).detail["strict"] == [False]


@pytest.mark.parametrize(
    ("response", "ending", "reason"), [(" ", "stop", "no_answer"), ("so", "length", "truncated")]
)
def test_what_never_came_follows_none_of_its_instructions(response: str, ending: str, reason: str) -> None:
    reference = {"instructions": [NO_COMMA, QUOTED], "arguments": [{}, {}]}
    trace = Trace("p", [], response, "", response, reference, finish_reason=ending)
    found = Ifeval().grade(trace)
    assert (found.score, found.reason, found.detail["loose"]) == (0.0, reason, [False, False])
    assert Ifeval().shares(found)["instruction_strict"] == (0, 2)


def test_the_four_accuracies_are_those_of_the_paper() -> None:
    """An instruction counts as one, so a prompt of two weighs twice; and a sample of two as a half."""
    both = {"instructions": [NO_COMMA, QUOTED], "arguments": [{}, {}]}
    one = {"instructions": [NO_COMMA], "arguments": [{}]}
    told = [
        ("p", both, "so"),
        ("q", one, "so"),
        ("r", one, "so, so"),
        ("s", both, 'Sure,\n"so"'),
        ("t", both, " "),
    ]
    traces = [
        Trace(problem, [], text, "", text, reference, domain="instruction", finish_reason="stop")
        for problem, reference, text in told
        for _ in range(2)
    ]
    judges = {"instruction": Ifeval()}
    scores = metrics(by_problem(Scoring().judge(traces, judges)), [], judges)
    assert {
        name: score.value for name, score in scores.items() if name.startswith(("prompt", "instruction"))
    } == {
        "prompt_strict": 0.2,
        "prompt_loose": 0.4,
        "instruction_strict": 0.25,
        "instruction_loose": 0.5,
    }
    assert scores["prompt_strict"] == scores["pass@1"]
    assert (scores["instruction_loose"].n, scores["instruction_loose"].samples) == (5, 10)


def test_what_was_not_judged_counts_in_no_accuracy() -> None:
    assert Ifeval().shares(Verdict.of("unparseable_gold")) == {}
