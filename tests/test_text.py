"""text.py: what counts as reasoning, response, answer, word, script and sentence."""

import json
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.text import (
    final_answer,
    is_formatted,
    last_answer_tag,
    last_boxed,
    normalise,
    paragraphs,
    scripts,
    sentences,
    split_think,
    words,
)

# Text made of the pieces that the parsers look for: they meet in every order and cut off anywhere.
PIECES = ["<think>", "</think>", "<answer>", "</answer>", r"\boxed", r"\boxed{", r"\fbox {", "{", "}", "\\"]
PIECES += [
    "A:",
    "\n",
    " ",
    "7",
    "x",
    "so ",
    "所以",
    "です",
    "и так",
    "!",
    ". ",
    "。",
    "e\u0301",
    "हि",
    "\u200b",
]
tagged = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
anything = st.text(max_size=60) | tagged


@pytest.mark.parametrize(
    ("completion", "prefilled", "reasoning", "response"),
    [
        ("  4\n", False, "", "  4\n"),  # never opened: untouched
        ("<think>\na\n</think>\n\nb\n", False, "a", "b"),
        ("a</think>b", False, "a", "b"),  # the template had opened it
        ("a</think>b", True, "a", "b"),
        ("<think>a</think>b", True, "a", "b"),  # the model repeats the prefilled tag
        ("<think>a", False, "a", ""),
        ("a", True, "a", ""),
        ("", True, "", ""),
        ("", False, "", ""),
        ("<think></think>b", False, "", "b"),
        ("<think>I close with </think> and go on</think>b", False, "I close with </think> and go on", "b"),
        (
            "<think>a <answer>1</answer></think><answer>2</answer>",
            False,
            "a <answer>1</answer>",
            "<answer>2</answer>",
        ),
        ("a <think>nested</think>b", True, "a <think>nested", "b"),
        ("a</think>b <think>", False, "a", "b <think>"),
        ("Sure. <think>a</think>b", False, "a", "b"),
    ],
)
def test_split_think(completion: str, prefilled: bool, reasoning: str, response: str) -> None:
    assert split_think(completion, prefilled) == (reasoning, response)


@given(anything, st.booleans())
def test_halves_are_parts_of_the_completion_in_order(completion: str, prefilled: bool) -> None:
    reasoning, response = split_think(completion, prefilled)
    assert completion.endswith(response) or completion.rstrip().endswith(response)
    assert reasoning in completion[: len(completion) - len(response)]
    assert "</think>" not in response


plain = st.text(st.characters(blacklist_characters="<>\\{}", blacklist_categories=["Cs"]), min_size=1)


@given(plain.map(str.strip), plain.map(str.strip))
def test_split_think_round_trips(reasoning: str, response: str) -> None:
    assert split_think(f"<think>\n{reasoning}\n</think>\n\n{response}") == (reasoning, response)
    assert split_think(f"{reasoning}\n</think>\n\n{response}", prefilled=True) == (reasoning, response)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{7}.", "7"),
        (r"\boxed{3} no, \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right. }", r"\left\{ x \right."),
        (r"\boxed{a \\}", r"a \\"),
        (r"\\boxed{7}", "7"),  # over-escaped
        (r"\\\boxed{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"\fbox{yes}", "yes"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{3} and \boxed{4", "3"),  # an unfinished box is no answer
        (r"\boxed{ \boxed{7}", "7"),
        (r"{ { \boxed{7}", "7"),
        (r"} \boxed{7} }", "7"),
        (r"\boxed{7} as asked, in \boxed{}", "7"),
        (r"$\boxed 12.$", "12"),
        (r"\boxed -3/4", "-3/4"),
        (r"use \boxed as asked", None),
        (r"\boxed{4", None),
        (r"\boxed{}", None),
        ("7", None),
        ("boxed{7}", None),
    ],
)
def test_last_boxed(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


balanced = st.recursive(
    st.sampled_from(["1", "x", r"\{", r"\}", r"\frac", "\\\\", " + "]),
    lambda inner: st.lists(inner, max_size=4).map("".join) | inner.map(lambda body: "{" + body + "}"),
    max_leaves=12,
)


@given(anything, balanced)
def test_a_box_at_the_end_is_found_behind_any_text(before: str, body: str) -> None:
    # The line break takes up a backslash that `before` may end in, which would escape the box's own.
    found = last_boxed(f"{before}\n\\boxed{{{body}1}}")
    assert found == f"{body}1".strip()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> 7 </answer>", "7"),
        ("<answer>3</answer><answer>4</answer>", "4"),
        ("<answer>3</answer> <answer>4", "3"),
        ("<answer>3</answer> </answer>", "3"),
        ("<answer>3</answer> <answer></answer>", "3"),
        ("<answer>a<answer>b</answer>", "b"),
        ("</answer>3<answer>", None),
        ("<answer> </answer>", None),
    ],
)
def test_last_answer_tag(text: str, answer: str | None) -> None:
    assert last_answer_tag(text) == answer


@pytest.mark.parametrize(
    ("response", "marker", "answer"),
    [
        (r"\boxed{3} <answer>4</answer>", None, "4"),
        (r"<answer>4</answer> \boxed{3}", None, "3"),
        (r"<answer>so $\boxed{4}$</answer>", None, "4"),
        ("the answer is 4", None, None),
        ("A: 3\n A: 4 \nbye", "A:", "4"),
        ("A: 3\nA:\n", "A:", "3"),
        (r"A: $\boxed{3}$", "A:", "3"),
        (r"\boxed{3}", "A:", None),
        ("QA: 3", "A:", None),
        ("(x) 3", "(x)", "3"),  # a marker is text, not a pattern
    ],
)
def test_final_answer(response: str, marker: str | None, answer: str | None) -> None:
    assert final_answer(response, marker) == answer


@pytest.mark.parametrize(
    ("completion", "prefilled", "formatted"),
    [
        ("<think>a</think><answer>b</answer>", False, True),
        ("\n<think>\na\n</think>\n\n<answer>\nb\n</answer>\n", False, True),
        ("a</think><answer>b</answer>", True, True),
        ("<think>a</think>\n\\boxed{7}", False, True),
        ("<think>a</think>$$\\boxed{\\frac{1}{2}}$$.", False, True),
        ("<think>a</think>\\[\\boxed 7\\]", False, True),
        ("a</think><answer>b</answer>", False, False),
        ("<think>a</think><answer>b</answer>", True, False),  # opened twice
        ("<think>a</think><answer>b</answer> junk", False, False),
        ("junk <think>a</think><answer>b</answer>", False, False),
        ("<think>a</think> junk <answer>b</answer>", False, False),
        ("<think>a</think><think>a</think><answer>b</answer>", False, False),
        ("<think>a</think><answer>b</answer><answer>c</answer>", False, False),
        ("<think><answer>c</answer></think><answer>b</answer>", False, False),
        ("<think>a</think></answer><answer>", False, False),
        ("<think> </think><answer>b</answer>", False, False),
        ("<think>a</think><answer> </answer>", False, False),
        ("<think>a</think>\\boxed{7} \\boxed{8}", False, False),
        ("<think>a</think>it is \\boxed{7}", False, False),
        ("<think>a</think>7", False, False),
        ("<think>a", False, False),
        ("", False, False),
        ("", True, False),
    ],
)
def test_is_formatted(completion: str, prefilled: bool, formatted: bool) -> None:
    assert is_formatted(completion, prefilled) is formatted


@given(anything, st.booleans())
def test_what_is_formatted_has_an_answer_and_takes_no_second_block(completion: str, prefilled: bool) -> None:
    if is_formatted(completion, prefilled):
        reasoning, response = split_think(completion, prefilled)
        assert reasoning and final_answer(response)
        assert not is_formatted(completion + completion, prefilled)
        assert not is_formatted(completion + "x", prefilled)


@pytest.mark.parametrize(
    "piece", ["{", "}", "\\", r"\boxed{", r"\boxed ", "<answer>", "<think>", "!", "a'", "所 a "]
)
def test_a_loop_of_a_megabyte_is_read(piece: str) -> None:
    # Anything quadratic would take hours here, and the suite's own time limit would tell.
    text = piece * (1_000_000 // len(piece))
    for read in (final_answer, last_boxed, split_think, is_formatted, words, scripts, sentences, normalise):
        read(text)
    assert final_answer(text + r"} \boxed{7}") == "7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, 2 times x_1!", ["Don't", "stop", "times", "x"]),
        ("所以 so", ["所", "以", "so"]),
        ("カタカナと漢字", list("カタカナと漢字")),
        ("한국어 문장", ["한국어", "문장"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("x² ½ ℝ 𝑥 Ⅷ", ["x"]),
        ("'tis 'quoted'", ["tis", "quoted"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so then, 2", [("latin", 0, 7)]),
        ("so 2 所以", [("latin", 0, 2), ("han", 5, 7)]),
        ("a и b", [("latin", 0, 1), ("cyrillic", 2, 3), ("latin", 4, 5)]),
        ("3 + 4 = 7", []),
        ("これは漢字", [("kana", 0, 3), ("han", 3, 5)]),
        ("தமிழ்", [("other", 0, 4)]),
        ("한국 مرحبا हिन्दी αβ ไทย שלום", None),
    ],
)
def test_scripts(text: str, expected: list[tuple[str, int, int]] | None) -> None:
    if expected is None:
        assert [run[0] for run in scripts(text)] == [
            "hangul",
            "arabic",
            "devanagari",
            "greek",
            "thai",
            "hebrew",
        ]
    else:
        assert scripts(text) == expected


@given(anything)
def test_runs_are_in_order_and_hold_every_word(text: str) -> None:
    runs = scripts(text)
    assert all(0 <= start < end <= len(text) for _, start, end in runs)
    for (left, _, left_end), (right, right_start, _) in pairwise(runs):
        assert left_end <= right_start and left != right
    edges = [0, *(edge for run in runs for edge in run[1:]), len(text)]
    assert not any(words(text[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True))


@given(anything)
def test_words_are_parts_of_the_text_in_order(text: str) -> None:
    start = 0
    for word in words(text):
        start = text.index(word, start) + len(word)


@given(anything)
def test_sentences_and_paragraphs_cover_all_but_white_space(text: str) -> None:
    for parts in (sentences(text), paragraphs(text)):
        assert all(text[start:end] == text[start:end].strip() != "" for start, end in parts)
        edges = [0, *(edge for part in parts for edge in part), len(text)]
        assert edges == sorted(edges)
        assert not "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).strip()


def test_sentences_and_paragraphs() -> None:
    text = 'It is 3.14. "Is it?" Yes!\nNo stop\n\n所以。对！ Wait... what'
    parts = [text[start:end] for start, end in sentences(text)]
    assert parts == ["It is 3.14.", '"Is it?"', "Yes!", "No stop", "所以。", "对！", "Wait...", "what"]
    assert [text[start:end] for start, end in paragraphs(text)] == [text[:33], text[35:]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\u00a0\n b\u3000c ", "a b c"),
        ("ｘ＝１", "x=1"),
        ("cafe\u0301", "café"),
        ("x²", "x²"),  # NFKC would make it x2
        ("\ufeffa\u200bb\u00ad", "ab"),
        ("Ab", "Ab"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(anything)
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(anything, st.booleans())
def test_answers_are_parts_of_the_text(text: str, prefilled: bool) -> None:
    for answer in (last_boxed(text), last_answer_tag(text), final_answer(text), final_answer(text, "A:")):
        assert answer is None or (answer in text and answer == answer.strip() != "")


def rows(path: str) -> list[dict[str, Any]]:
    """Rows of a file of real data; the test skips on a machine without it."""
    folder = os.environ.get("DISTILLKIT_DATA")
    if folder is None:
        pytest.skip("DISTILLKIT_DATA is not set")
    return [json.loads(line) for line in (Path(folder) / path).read_text().splitlines()]


def test_marked_answers_agree_with_the_labels_of_2400_real_solutions() -> None:
    def read(text: str) -> str:
        return (final_answer(text, "A:") or "none").replace(",", "")

    for row in rows("gsm8k/model_solutions.jsonl"):
        for solution in (value for value in row.values() if isinstance(value, dict)):
            right = read(solution["solution"]) == read(row["ground_truth"])
            assert right == solution["is_correct"], solution["solution"]


def test_last_boxes_agree_with_the_parsed_answers_of_480_real_samples() -> None:
    def bare(answer: str) -> str:
        return re.sub(r"\\text\{.*?\}|\\!|\s", "", answer).rstrip(".")

    for row in rows("math/qwen_samples.jsonl"):
        for response, parsed in zip(row["responses"], row["preds"], strict=True):
            assert bare(last_boxed(response) or "") == bare(parsed or ""), response
