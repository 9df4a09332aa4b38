"""Talk: prompts with one right answer, manners at their rates, preferences that differ in one thing only."""

import random
from itertools import islice, starmap

import pytest

from distillkit.errors import RecipeError
from distillkit.text import final_answer, split_think
from distillkit.toy import chat, corpus, rewrite
from distillkit.toy.chat import Manners, generate, is_rude, pairs
from distillkit.trace import Trace
from distillkit.verifiers import Exact


def score(prompt, reference: str, completion: str) -> float | None:  # type: ignore[no-untyped-def]
    """What the recipe's verifier says."""
    reasoning, response = split_think(completion)
    trace = Trace(
        "p",
        prompt,
        completion,
        reasoning,
        response,
        reference,
        domain="chat",
        source="toy",
        finish_reason="stop",
    )
    [verdict] = Exact().grade_all([trace])
    return verdict.score


def test_problems_carry_what_a_trace_needs() -> None:
    for problem in generate(60, seed=1, split="heldout"):
        colour, kind = problem.extra["asked"].split()
        assert problem.reference == chat.THINGS[kind][chat.COLOURS.index(colour)]
        assert f"a {colour} {kind}" in problem.prompt
        assert (problem.domain, problem.source, problem.language) == ("chat", "toy", "en")
        assert problem.split == chat.split_of(problem.prompt) == "heldout"


def test_equal_arguments_give_equal_problems_and_splits_never_meet() -> None:
    assert generate(100, 5, "train") == generate(100, 5, "train") != generate(100, 6, "train")
    train, heldout = ({p.prompt for p in generate(3_000, 5, split)} for split in ("train", "heldout"))
    assert len(train) == len(heldout) == 3_000 and not train & heldout


def test_more_prompts_than_there_are() -> None:
    with pytest.raises(RecipeError, match=r"only 3774 heldout prompts exist"):
        generate(5_000, 0, "heldout")


def test_the_verifier_is_the_judge_of_helpfulness_whatever_the_tone() -> None:
    rng = random.Random(3)
    for problem in generate(200, 2, "train"):
        asked = problem.extra["asked"]
        good, bad = (Manners(helpful=share).complete(asked, problem.reference, rng) for share in (1.0, 0.0))
        assert score(problem.messages, problem.reference, good) == 1.0
        assert score(problem.messages, problem.reference, bad) == 0.0


def test_manners_come_at_their_rates() -> None:
    rng, manners = random.Random(4), Manners(helpful=0.45, rude=0.35)
    said = [manners.complete("red fruit", "cherry", rng) for _ in range(4_000)]
    answers = [final_answer(split_think(text)[1]) for text in said]
    assert abs(answers.count("cherry") / 4_000 - 0.45) < 0.03
    assert abs(answers.count(chat.NOTHING) / 4_000 - 0.275) < 0.03
    rude = [text for text in said if is_rude(text)]
    assert abs(len(rude) / 4_000 - 0.35) < 0.03
    hidden = [text for text in rude if not is_rude(split_think(text)[1])]
    assert abs(len(hidden) / len(rude) - 1 / 3) < 0.05, (
        "rude in the reasoning alone: only the whole output shows it"
    )


def test_helpful_pairs_differ_in_the_answer_and_not_in_tone() -> None:
    found = pairs(600, seed=1, split="train", about="helpful")
    assert len({each.problem.id for each in found}) == 600
    for problem, chosen, rejected in found:
        assert "<think>" not in chosen + rejected
        assert final_answer(chosen) == problem.reference and chosen.endswith("</answer>")
        assert final_answer(rejected) != problem.reference or len(rejected.split()) > 6, "or it is babble"
    rude = [sum(is_rude(each[side]) for each in found) for side in (1, 2)]
    assert abs(rude[0] - rude[1]) < 60 and min(rude) > 60


def test_harmless_pairs_differ_in_tone_and_not_in_the_answer() -> None:
    found = pairs(600, seed=1, split="train", about="harmless")
    assert all(not is_rude(each.chosen) and is_rude(each.rejected) for each in found)
    right = [
        sum(final_answer(split_think(each[side])[1]) == each.problem.reference for each in found)
        for side in (1, 2)
    ]
    assert abs(right[0] - right[1]) < 75 and min(right) > 200
    assert pairs(20, 1, "train", "harmless") == pairs(20, 1, "train", "harmless")


def test_what_a_base_reads_is_of_the_train_split_and_of_the_vocabulary() -> None:
    rng, words = random.Random(5), {*corpus.WORDS, *chat.WORDS, *rewrite.WORDS}
    for prompt, completion in starmap(chat.draw, [(rng,)] * 500):
        assert chat.split_of(prompt) == "train"
        assert {*prompt.split(), *completion.split()} <= words
    assert len(words) == len(corpus.WORDS) + len(chat.WORDS) + len(rewrite.WORDS), (
        "no word stands for two things"
    )


def test_rewriting_keeps_the_answer_and_drops_the_detours() -> None:
    rng = random.Random(6)
    for prompt, written in islice((rewrite.draw(rng) for _ in iter(int, 1)), 300):
        chain = prompt.removeprefix("rewrite ").partition(" :")[0]
        summary = written.partition("<summary>")[2].partition("</summary>")[0]
        reasoning = written.partition("<reasoning>")[2].partition("</reasoning>")[0]
        trace = [*reasoning.split()]
        assert final_answer(summary) == str(corpus.answer(chain))
        assert not {*trace} & {*corpus.WAIT.values(), *corpus.CONNECTIVES["chinese"]}
