import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.base import Labels
from distillkit.measures.structure import Structure
from distillkit.text import split_think
from distillkit.trace import Trace

USER = "What is 6 times 7? Put your final answer within \\boxed{}."


def measure(completion: str, prompt: str = USER, reference: Any = "42", **options: Any) -> Labels:
    reasoning, response = split_think(completion)
    messages = [{"role": "user", "content": prompt}]
    return Structure(**options).measure(
        Trace(
            "p", messages, completion=completion, reasoning=reasoning, response=response, reference=reference
        )
    )


@pytest.mark.parametrize(
    ("completion", "think", "well_formed"),
    [
        ("<think>6 times 7</think>\\boxed{42}", "closed", True),
        ("6 times 7</think>\\boxed{42}", "unopened", True),
        ("\\boxed{42}", "none", False),
        ("<think>6 times 7", "unclosed", False),
        ("<think>6</think>\\boxed{6}<think>7</think>\\boxed{7}", "repeated", False),
        ("Sure! <think>6 times 7</think>\\boxed{42}", "repeated", False),
        ("<think></think>\\boxed{42}", "closed", False),
        ("<think>6 times 7</think>  \n", "closed", False),
        ("", "none", False),
    ],
)
def test_the_two_halves(completion: str, think: str, well_formed: bool) -> None:
    labels = measure(completion)
    assert (labels["think"], labels["well_formed"]) == (think, well_formed)


def test_answers_in_the_reasoning_and_where_it_settled() -> None:
    reasoning = "It may be \\boxed{40}. " + "x" * 78 + " So the answer is 42. I am sure."
    labels = measure(f"<think>{reasoning}</think>It is $\\boxed{{42}}$.")
    assert labels["reasoning_answers"] == 2
    assert labels["settled_at"] == round(reasoning.index("nswer") / len(reasoning), 4)
    assert measure("<think>no answer</think>\\boxed{42}")["settled_at"] is None
    assert measure("<think>the answer is 4</think>none")["settled_at"] is None


def test_boxes_and_what_stands_behind_the_first() -> None:
    labels = measure("<think>r</think>So $\\boxed{42}$. And then \\boxed{43}, or \\boxed{42}.")
    assert (labels["boxes"], labels["different_answers"], labels["answered"]) == (3, 2, True)
    assert labels["after_answer"] > 20
    for closing in ("$.", "\\).", "\n\\]\n", "** .", "</answer>"):
        assert measure(f"<think>r</think>So \\boxed{{42}}{closing}")["after_answer"] == 0


def test_a_declared_marker_states_the_answer() -> None:
    assert measure("Answer: 42")["answered"] is False
    assert measure("So.\nAnswer: 42", marker="Answer:")["answered"] is True


@pytest.mark.parametrize(
    ("tail", "turns"),
    [
        ("\n\nQuestion:\nWhat is 5 + 5?", 1),
        ("\n\n### Problem 2:\nFind x.\n\nHuman: go on", 2),
        ("<|im_end|>\n<|im_start|>user", 2),
        ("\nThe question: what is it? A Problem: none at the start of a line", 0),
        ("\nProblematic: yes", 0),
    ],
)
def test_turns_that_nobody_asked_for(tail: str, turns: int) -> None:
    assert measure(f"It is \\boxed{{42}}.{tail}")["turns"] == turns
    assert measure(f"<think>6 times 7</think>It is \\boxed{{42}}.{tail}")["turns"] == turns


def test_to_say_the_problem_again_at_the_start_is_no_turn() -> None:
    assert measure("Problem: 6 times 7.\nIt is \\boxed{42}.")["turns"] == 0


@pytest.mark.parametrize(
    ("end", "is_open"),
    [
        *((end, True) for end in ("we get x =", "and so the", "f(", "\\frac{1}{", "\\\\")),
        *((end, False) for end in ("= 5", "It is so.", "\\]", "```", "", "</answer>", "**42**", "---")),
    ],
)
def test_a_text_that_breaks_off(end: str, is_open: bool) -> None:
    assert measure(f"So {end}" if end else "")["open_end"] is is_open


@pytest.mark.parametrize(
    ("prompt", "reference", "leaked"),
    [
        ("Show that 6 times 7 is 42.", "42", False),
        ("6 times 7? Hint: the answer is 42.", "42", True),
        ("6 times 7? (Answer: 42)", 42, True),
        ("6 times 7?\n#### 42", "42", True),
        ("6 times 7? Write \\boxed{42}", {"answer": "42", "unit": ""}, True),
        ("6 times 7? The answer is not 42", "41", False),
        ("6 times 7? e.g. \\boxed{7}", "41", False),
        ("6 times 7? the answer is 7", None, False),
        ("6 times 7? the answer is 42", ["a", "list"], True),  # what was answered
        (USER, True, False),
    ],
)
def test_an_answer_that_the_prompt_gives_away(prompt: str, reference: Any, leaked: bool) -> None:
    assert measure("<think>r</think>\\boxed{42}", prompt, reference)["leaked"] is leaked


def test_an_example_turn_of_the_assistant_is_no_leak() -> None:
    messages = [
        {"role": "user", "content": "5 times 5?"},
        {"role": "assistant", "content": "\\boxed{42}"},
        {"role": "user", "content": USER},
    ]
    assert (
        Structure().measure(Trace("p", messages, "\\boxed{42}", "", "\\boxed{42}", "42"))["leaked"] is False
    )


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "\\boxed{", "}", "4", "\n", "Question:", " ", "answer is "])
    )
)
def test_any_completion_is_described(parts: list[str]) -> None:
    completion = "".join(parts)
    labels = measure(completion)
    assert labels.keys() == Structure.KEYS.keys()
    assert labels["settled_at"] is None or 0 <= labels["settled_at"] <= 1
    assert labels["different_answers"] <= labels["boxes"]
    assert labels["well_formed"] <= (labels["think"] in ("closed", "unopened"))


DATA = os.environ.get("DISTILLKIT_DATA")


@pytest.mark.skipif(DATA is None, reason="DISTILLKIT_DATA names no folder of real data")
def test_real_generations_that_run_on_are_seen() -> None:
    """Right by their answer, and yet they invent the next question; solved mathematics does not."""
    lines = (Path(str(DATA)) / "traces" / "rambling_samples.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    labels = [measure(row["generation"], row["problem"], row["expected_answer"]) for row in rows]
    assert {i for i, label in enumerate(labels) if label["turns"]} == {0, 35, 64, 88}
    assert sum(not label["answered"] for label in labels) == 19
    lines = (Path(str(DATA)) / "math" / "qwen_samples.jsonl").read_text("utf-8").splitlines()
    solved = [(row, text) for row in map(json.loads, lines) for text in row["responses"]]
    found = [measure(text, row["question"], row["gold"]) for row, text in solved]
    assert sum(label["turns"] for label in found) == 0
    assert sum(label["leaked"] for label in found) == 0
