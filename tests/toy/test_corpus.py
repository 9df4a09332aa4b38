"""The corpus says what it claims: sound solutions, slips at their rate, styles, train chains only."""

import random
import re
from itertools import islice

from distillkit.text import final_answer, is_formatted, split_think
from distillkit.toy.corpus import CONNECTIVES, WAIT, WORDS, Corpus
from distillkit.toy.problems import answer, split_of, step

STEP = re.compile(r"(\d) ([+-]) (\d) = (\d)")


def texts(corpus: Corpus, count: int = 400) -> list[tuple[str, str]]:
    return list(islice(corpus.pairs(random.Random(1)), count))


def languages(completion: str) -> set[str]:
    words = set(completion.split())
    return {name for name in CONNECTIVES if words & {*CONNECTIVES[name], WAIT[name]}}


def test_without_slips_every_step_and_answer_is_right() -> None:
    for chain, completion in texts(Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0)):
        assert is_formatted(completion)
        reasoning, response = split_think(completion)
        steps = STEP.findall(reasoning)
        assert all(step(int(a), sign, int(b)) == int(c) for a, sign, b, c in steps)
        assert [steps[0][0], *(w for _, sign, b, _ in steps for w in (sign, b))] == chain.split()
        assert final_answer(response) == str(answer(chain))


def test_guesses_hold_no_reasoning_and_the_right_answer() -> None:
    for chain, completion in texts(Corpus(guesses=1.0), 50):
        assert completion == f"<answer> {answer(chain)} </answer>"


def test_slips_are_noticed_at_once_or_carried_on() -> None:
    steps = slips = noticed = carried = 0
    for chain, completion in texts(Corpus(guesses=0.0, english=1.0, switching=0.0), 2_000):
        reasoning, response = split_think(completion)
        found = [step(int(a), sign, int(b)) != int(c) for a, sign, b, c in STEP.findall(reasoning)]
        waits = reasoning.count(WAIT["english"])
        steps += len(found) - waits
        slips += sum(found)
        noticed += waits
        if sum(found) == waits:
            assert final_answer(response) == str(answer(chain))
        elif sum(found) == 1:
            carried += 1
            assert final_answer(response) != str(answer(chain))
    assert 0.03 < slips / steps < 0.05
    assert 0.4 < noticed / slips < 0.6
    assert carried > 50


def test_styles_are_in_their_shares() -> None:
    completions = [c for _, c in texts(Corpus(guesses=0.0), 2_000) if len(STEP.findall(c)) >= 5]
    mixed = sum(len(languages(c)) == 2 for c in completions) / len(completions)
    bare = [c for c in completions if "<answer>" not in c]
    assert 0.3 < mixed < 0.42
    assert 0.25 < len(bare) / len(completions) < 0.35
    assert all(languages(c) == {"chinese"} and final_answer(split_think(c)[1]) is None for c in bare)


def test_only_train_chains_and_only_known_words() -> None:
    pairs = texts(Corpus(guesses=0.3))
    assert {split_of(chain) for chain, _ in pairs} == {"train"}
    assert {word for pair in pairs for text in pair for word in text.split()} <= set(WORDS)
    assert len(WORDS) == len(set(WORDS))
