from typing import Any

import pytest

from distillkit.engines.base import Parameters
from distillkit.errors import StageError
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.training.probe import probe
from distillkit.training.rewards import Circumstance, Rewards, Rollouts, dataset_row, functions_of, named
from distillkit.training.sampler import Drawn
from distillkit.verifiers import Exact


class Says:
    """A sampler whose model says the given texts in turn; it has the toy's tokenizer."""

    def __init__(self, *texts: str, finished: bool = True) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(BASE)
        self.texts, self.finished = texts, finished

    def sample(self, prompts: list[str], seeds: list[int], parameters: Parameters) -> list[Drawn]:
        assert len(set(seeds)) == len(prompts) == 32
        length = 3 if self.finished else parameters.max_tokens
        said = [self.texts[at % len(self.texts)] for at in range(len(prompts))]
        return [Drawn(text, [1] * length, self.finished) for text in said]


def looked(says: Says, given: Any, *, prefilled: bool = False, **verifiers: Any) -> list[tuple[str, str]]:
    from pydantic import TypeAdapter

    rewards = named(TypeAdapter(Rewards).validate_python(given))
    circumstance = Circumstance(
        prefilled=prefilled, max_completion_length=16, end_ids=frozenset({2}), verifiers=verifiers
    )
    rows = [dataset_row(each) for each in generate(20, 1, "train")]
    found = probe(
        says,  # type: ignore[arg-type]
        functions_of(rewards, Rollouts(circumstance)),
        rows,
        Parameters(16),
        3,
        "zero",
    )
    return [(each["name"], each["text"]) for each in found]


BOTH = {"accuracy": 1.0, "format": 0.1}
DIGITS = [f"<think> so </think> <answer> {digit} </answer>" for digit in range(10)]


def test_rewards_that_differ_are_fine() -> None:
    assert looked(Says(*DIGITS), BOTH, chain=Exact()) == []


def test_a_constant_reward_is_told() -> None:
    [(name, text)] = looked(Says("<think> so </think> <answer> x </answer>"), BOTH, chain=Exact())
    assert name == "constant_reward"
    assert "all 32 completions of a probe got the reward 0.1" in text
    assert "0 of 32 are cut off, 32 close their reasoning" in text


@pytest.mark.parametrize(
    ("says", "prefilled", "cause"),
    [
        (Says(*(text.removeprefix("<think>") for text in DIGITS)), False, "never opens <think>"),
        (Says(*DIGITS), True, "the template opens <think> and the model opens it again"),
        (Says(*(f"{text} and so on" for text in DIGITS)), False, "does not stand alone behind the reasoning"),
        (Says("<think> so", "<think> thus"), False, "does not close its reasoning"),
        (Says("<think> so", finished=False), False, "raise max_completion_length"),
    ],
)
def test_a_format_that_never_holds_comes_with_its_cause(says: Says, prefilled: bool, cause: str) -> None:
    found = dict(looked(says, BOTH, prefilled=prefilled, chain=Exact()))
    assert cause in found["format_zero"]


def test_no_opinion_at_all_ends_the_stage() -> None:
    with pytest.raises(StageError, match="zero: no reward has an opinion on any of 32 completions"):
        looked(Says(*DIGITS), {"accuracy": 1.0})
