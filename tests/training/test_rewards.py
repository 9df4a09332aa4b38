from typing import Any

import pytest

from distillkit.toy.problems import generate
from distillkit.trace import Problem
from distillkit.training.rewards import (
    COLUMNS,
    METRICS,
    Reward,
    RewardName,
    Rollouts,
    dataset_row,
    rewards_of,
)
from distillkit.verifiers import Exact, Math

END = 4
WORKED = "<think> 1 + 2 = 3 so 3 + 1 = 4 </think> <answer> 4 </answer>"
MIXED = "<think> 1 + 2 = 3 所以 3 + 1 = 4 so 4 + 0 = 4 </think> <answer> 4 </answer>"


class Group:
    """A batch as GRPOTrainer hands it to its reward functions."""

    def __init__(
        self, problem: Problem, *texts: str, lengths: list[int] | None = None, limit: int = 64
    ) -> None:
        row = dataset_row(problem)
        lengths = lengths or [9] * len(texts)
        self.metrics: dict[str, float] = {}
        self.limit = limit
        self.batch: dict[str, Any] = {
            "prompts": [row["prompt"]] * len(texts),
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [[1] * (n - 1) + [END if n < limit else 1] for n in lengths],
            **{name: [value] * len(texts) for name, value in row.items() if name != "prompt"},
            "log_metric": self.metrics.__setitem__,
            "log_extra": None,
            "trainer_state": None,
        }

    def scores(
        self, *names: RewardName, prefilled: bool = False, **verifiers: Any
    ) -> list[list[float | None]]:
        rollouts = Rollouts(prefilled=prefilled, max_completion_length=self.limit, end_ids=frozenset({END}))
        return [
            reward(**self.batch) for reward in rewards_of(names, rollouts, verifiers or {"chain": Exact()})
        ]


def problem(**fields: Any) -> Problem:
    needed = {"messages": [{"role": "user", "content": "1 + 2 + 1"}], "reference": "4", "domain": "chain"}
    return Problem(**{**needed, "language": "en", **fields})


def test_accuracy_is_the_verifiers_score_of_the_final_answer() -> None:
    wrong = "<think> <answer> 4 </answer> </think> <answer> 5 </answer>"
    [scores] = Group(problem(), WORKED, wrong, "<answer> 4 </answer>", "4").scores("accuracy")
    assert scores == [1.0, 0.0, 1.0, 0.0]


def test_a_gold_that_cannot_be_judged_is_no_opinion() -> None:
    group = Group(problem(reference=None, domain="math"), r"\boxed{4}")
    assert group.scores("accuracy", math=Exact()) == [[None]]
    assert Group(problem(domain="code"), WORKED).scores("accuracy") == [[None]]


def test_each_domain_has_its_verifier() -> None:
    group = Group(problem(reference="1/2", domain="math"), r"\boxed{0.5}", r"\boxed{2}")
    with Math(workers=1) as verifier:
        assert group.scores("accuracy", chain=Exact(), math=verifier) == [[1.0, 0.0]]


def test_a_completion_that_was_cut_off_has_no_right_answer() -> None:
    group = Group(problem(), WORKED, WORKED, lengths=[64, 63])
    assert group.scores("accuracy") == [[0.0, 1.0]]
    assert group.metrics["truncated"] == 0.5


def test_an_end_token_at_the_very_limit_is_an_end() -> None:
    group = Group(problem(), WORKED, lengths=[64])
    group.batch["completion_ids"][0][-1] = END
    assert group.scores("accuracy") == [[1.0]]


def test_format_knows_a_prefilled_tag() -> None:
    bare = WORKED.removeprefix("<think>")
    assert Group(problem(), WORKED, bare, "<answer> 4 </answer>").scores("format") == [[1.0, 0.0, 0.0]]
    assert Group(problem(), WORKED, bare).scores("format", prefilled=True) == [[0.0, 1.0]]


def test_language_is_the_share_of_target_words_in_the_reasoning() -> None:
    [scores] = Group(problem(), WORKED, MIXED, "<answer> 4 </answer>").scores("language")
    assert scores[0] == 1.0
    assert scores[1] == pytest.approx(1 / 3, abs=1e-3)  # one English word, two Chinese characters
    assert scores[2] == 0.0
    [chinese] = Group(problem(language="zh"), MIXED).scores("language")
    assert chinese[0] == pytest.approx(2 / 3, abs=1e-3)


def test_overlong_falls_over_the_last_fifth() -> None:
    [scores] = Group(problem(), *[WORKED] * 4, lengths=[10, 80, 90, 100], limit=100).scores("overlong")
    assert scores == [0.0, 0.0, -0.5, -1.0]


def test_every_batch_is_described_once() -> None:
    group = Group(problem(), WORKED, MIXED, "<answer> 4 </answer>", "<think> wait 4 </think> 4")
    group.scores("accuracy", "format", "language")
    assert set(group.metrics) == set(METRICS)
    assert group.metrics == {"mixed_language": 0.25, "reflections": 0.25, "reasoned": 0.75, "truncated": 0.0}


def test_a_new_batch_is_read_anew() -> None:
    rollouts = Rollouts(prefilled=False, max_completion_length=64, end_ids=frozenset({END}))
    [reward] = rewards_of(["accuracy"], rollouts, {"chain": Exact()})
    assert isinstance(reward, Reward)
    assert reward.__name__ == "accuracy"
    assert reward(**Group(problem(), WORKED).batch) == [1.0]
    assert reward(**Group(problem(), "<answer> 1 </answer>").batch) == [0.0]


def test_rows_hold_what_the_rewards_read() -> None:
    [each] = generate(1, 0, "train")
    row = dataset_row(each)
    assert row["prompt"] == each.messages
    assert row["reference"] == f'"{each.reference}"'
    assert set(row) == {"prompt", *COLUMNS}
