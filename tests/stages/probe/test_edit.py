"""Edits of reasoning: what they change, where they end, and what they imply."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.stages.probe.edit import SYNONYMS, change_number, change_step, paraphrase
from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import answer, draw_chain, step

CHAIN = "8 + 2 = 0 so 0 - 3 = 7 then 7 + 4 = 1"


def result_at(text: str) -> int:
    """The number that a reasoning ends with."""
    return int(re.findall(r"\d+", text)[-1])


@given(st.integers(0, 10_000), st.integers(3, 8))
def test_a_changed_number_implies_what_the_chain_gives_from_there(seed: int, length: int) -> None:
    rng = random.Random(seed)
    chain = draw_chain(length, rng)
    reasoning = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0).complete(chain, rng)
    reasoning = reasoning[len("<think> ") : reasoning.index(" </think>")]
    edit = change_number(reasoning, str(answer(chain)), rng, 10)
    assert edit is not None
    assert edit.implied is not None
    # The answer moves by as much as the number did: later steps only add and subtract.
    by = result_at(edit.text) - result_at(reasoning[: edit.cut])
    assert int(edit.implied) == (answer(chain) + by) % 10 != answer(chain)
    assert reasoning.startswith(edit.text[: edit.text.rfind("=")])


@given(st.integers(0, 10_000), st.integers(3, 8))
def test_a_changed_step_implies_what_the_other_operation_gives(seed: int, length: int) -> None:
    rng = random.Random(seed)
    chain = draw_chain(length, rng)
    reasoning = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0).complete(chain, rng)
    reasoning = reasoning[len("<think> ") : reasoning.index(" </think>")]
    edit = change_step(reasoning, str(answer(chain)), rng, 10)
    if edit is None:  # every operand is 0 or 5, for which plus and minus are one
        assert set(re.findall(r"[+-] (\d)", chain)) <= {"0", "5"}
        return
    assert edit.text.endswith("=")
    left, sign, digit = re.findall(r"(\d) ([+-]) (\d) =$", edit.text)[0]
    assert edit.before != edit.after
    total = step(int(left), sign, int(digit))
    for other, more in re.findall(r"([+-]) (\d) = \d", reasoning[edit.cut + 2 :]):
        total = step(total, other, int(more))
    assert edit.implied == str(total)


def test_whole_numbers_are_worked_without_a_modulus() -> None:
    text = "First 12 * 3 = 36. Then 36 + 4 = 40."
    edit = change_step(text, "40", random.Random(1), None)
    assert edit is not None
    assert (edit.before, edit.after, edit.implied) in {
        ("12 * 3 =", "12 + 3 =", "19"),
        ("36 + 4 =", "36 - 4 =", "32"),
    }


def test_steps_that_do_not_lead_to_the_answer_imply_nothing() -> None:
    assert change_number(CHAIN, "5", random.Random(1), 10).implied is None  # type: ignore[union-attr]
    broken = "8 + 2 = 0 so 1 - 3 = 8"
    implied = {change_number(broken, "8", random.Random(seed), 10).implied for seed in range(9)}  # type: ignore[union-attr]
    assert None in implied  # the first step's change, behind which the next one does not go on from it


def test_text_without_equations_has_its_numbers_changed() -> None:
    edit = change_number("There are 15 birds and 3 dogs", "18", random.Random(2), None)
    assert edit is not None
    assert edit.implied is None
    assert edit.text[:-1] in ("There are 1", "There are 15 birds and ")
    assert edit.text not in ("There are 15", "There are 15 birds and 3")


@pytest.mark.parametrize("text", ["", "no number here", "x^2 and 1.5 and a1", "3/4"])
def test_what_has_no_number_is_not_changed(text: str) -> None:
    assert change_number(text, "1", random.Random(1), None) is None
    assert change_step(text, "1", random.Random(1), None) is None


def test_a_change_without_a_consequence_is_none() -> None:
    assert change_step("7 + 5 = 2", "2", random.Random(1), 10) is None  # 7 - 5 is 2 as well, modulo 10
    assert change_number("3 * 4 = 12 so 12 * 0 = 0", "0", random.Random(3), None) is not None


def test_a_paraphrase_changes_connectives_only() -> None:
    assert paraphrase(CHAIN) == "8 + 2 = 0 then 0 - 3 = 7 next 7 + 4 = 1"
    assert paraphrase("So 1 + 1 = 2") == "Then 1 + 1 = 2"
    assert paraphrase("8 + 2 = 0 \u6240\u4ee5 0 - 3 = 7") == "8 + 2 = 0 \u7136\u540e 0 - 3 = 7"
    assert paraphrase("some sofa, 1 + 1 = 2") is None


@given(st.lists(st.sampled_from([word for word, _ in SYNONYMS] + ["8", "=", "Z"]), max_size=12))
def test_a_paraphrase_keeps_every_number_and_sign(words: list[str]) -> None:
    text = " ".join(words)
    changed = paraphrase(text)
    if changed is not None:
        assert re.findall(r"[\d=Z]", changed) == re.findall(r"[\d=Z]", text)
        assert changed != text
