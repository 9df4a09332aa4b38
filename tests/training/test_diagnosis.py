import json
from pathlib import Path
from typing import Any

import pytest

from distillkit.store import Writer
from distillkit.training.diagnosis import CHECKS, Trend, diagnose, doctor, write_diagnosis

STEPS = 20


def flat(**values: float) -> dict[str, list[float | None]]:
    return {name: [value] * STEPS for name, value in values.items()}


def line(first: float, last: float) -> list[float | None]:
    return [first + (last - first) * at / (STEPS - 1) for at in range(STEPS)]


HEALTHY = flat(
    zero_std=0.3,
    entropy=0.4,
    truncated=0.05,
    wrong_length=30.0,
    right_length=25.0,
    format_only=0.2,
    answer_in_reasoning=0.01,
    kl=0.05,
    clip_ratio=0.02,
    distinct=0.8,
    mixed_language=0.1,
    unjudged=0.0,
    reward_accuracy=0.5,
    reward_format=0.7,
)

SICK: dict[str, dict[str, Any]] = {
    "unearned_reward": {"reward": line(0.1, 1.0), "reward_accuracy": line(0.15, 0.18)},
    "zero_variance": {"zero_std": line(0.2, 0.9)},
    "entropy_collapse": {"entropy": line(0.5, 0.0)},
    "entropy_explosion": {"entropy": line(0.3, 1.2)},
    "truncation": {"truncated": line(0.1, 0.6)},
    "length_bias": {"wrong_length": line(20, 90)},
    "format_only": {"format_only": line(0.1, 0.8)},
    "answer_in_reasoning": {"answer_in_reasoning": line(0, 0.4)},
    "kl": {"kl": line(0, 3)},
    "clipping": {"clip_ratio": line(0, 0.5)},
    "mode_collapse": {"distinct": line(0.9, 0.1)},
    "language_mixing": {"mixed_language": line(0.1, 0.5)},
    "unjudged": {"unjudged": line(0.0, 0.2)},
}


def test_a_healthy_run_has_no_findings() -> None:
    assert diagnose(HEALTHY) == []


@pytest.mark.parametrize("name", SICK)
def test_each_illness_is_found_alone_with_a_remedy(name: str) -> None:
    [found] = diagnose(HEALTHY | SICK[name])
    assert found.name == name
    assert ":" in found.text
    assert "\n" not in found.text
    assert found.value != found.threshold


def test_there_is_a_case_for_every_check() -> None:
    assert len(SICK) == len(CHECKS)


def test_the_remedy_for_lost_groups_knows_the_side() -> None:
    [solved] = diagnose(HEALTHY | flat(zero_std=0.9, reward_accuracy=0.95))
    [hopeless] = diagnose(HEALTHY | flat(zero_std=0.9, reward_accuracy=0.02))
    assert "take harder prompts" in solved.text
    assert "take easier prompts" in hopeless.text


def test_right_answers_that_grow_too_are_no_bias() -> None:
    assert diagnose(HEALTHY | {"wrong_length": line(20, 90), "right_length": line(20, 80)}) == []


def test_wrong_answers_that_catch_up_are_no_bias() -> None:
    """A base that guesses learns to reason: its wrong answers become as long as its right ones."""
    assert diagnose(HEALTHY | {"wrong_length": line(9, 30), "right_length": line(27, 32)}) == []


def test_a_few_steps_are_no_trend() -> None:
    assert diagnose({name: values[:9] for name, values in flat(zero_std=1.0).items()}) == []


def test_curves_with_holes_and_absent_curves() -> None:
    holes: list[float | None] = [None] * STEPS
    assert diagnose({"entropy": holes, "zero_std": [None] * 19 + [0.9]})[0].name == "zero_variance"
    assert Trend.of(holes) == Trend(None, None)
    assert Trend(0.0, 1.0).growth() is None


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("forgetting", {"forgetting/loss": 0.5}, {"forgetting/loss": 0.9}),
        ("forgetting_score", {"forgetting/pass@1": 0.5}, {"forgetting/pass@1": 0.3}),
        ("heldout_falls", {"pass@1": 0.5}, {"pass@1": 0.3}),
    ],
)
def test_evaluations_on_the_way_are_read(name: str, first: dict[str, float], last: dict[str, float]) -> None:
    [found] = diagnose(HEALTHY, [{"step": 0, **first}, {"step": 20, **last}])
    assert found.name == name
    assert diagnose(HEALTHY, [{"step": 0, **last}, {"step": 20, **last}]) == []
    assert diagnose(HEALTHY, [{"step": 0, **first}]) == []


def test_a_fall_within_the_noise_of_so_few_samples_is_no_finding() -> None:
    few = [{"step": at, "pass@1": rate, "samples": 64} for at, rate in ((0, 0.5), (10, 0.58), (20, 0.5))]
    assert diagnose(HEALTHY, few) == []
    [found] = diagnose(HEALTHY, [line | {"samples": 6400} for line in few])
    assert found.name == "heldout_falls"
    foreign = [
        {"step": at, "forgetting/pass@1": rate, "forgetting/samples": 64}
        for at, rate in ((0, 0.5), (20, 0.4))
    ]
    assert diagnose(HEALTHY, foreign) == []


def test_the_file_holds_findings_and_numbers(tmp_path: Path) -> None:
    curves = HEALTHY | SICK["kl"]
    warnings = write_diagnosis(diagnose(curves), curves, Writer(tmp_path))
    written = json.loads((tmp_path / "diagnosis.json").read_text("utf-8"))
    assert [(each["name"], each["text"]) for each in written["findings"]] == [
        (each["name"], each["text"]) for each in warnings
    ]
    assert written["numbers"]["entropy"] == {"first": pytest.approx(0.4), "last": pytest.approx(0.4)}
    assert set(written["numbers"]) == set(curves)


def test_a_finding_is_told_while_the_run_goes_on_and_once() -> None:
    from transformers import TrainerState

    said: list[str] = []
    told: set[str] = set()
    callback = doctor({"frac_reward_zero_std": "zero_std"}, said.append, told)
    state = TrainerState(max_steps=100)
    for step in range(1, 41):
        state.global_step = step
        state.log_history.append({"step": step, "loss": 0.0, "frac_reward_zero_std": 0.9})
        callback.on_log(None, state, None)
    assert told == {"zero_variance"}
    assert len(said) == 1
    assert said[0].startswith("step 10: 90% of the groups")


def test_a_reward_that_right_answers_earn_is_no_warning() -> None:
    assert diagnose(HEALTHY | {"reward": line(0.1, 1.0), "reward_accuracy": line(0.1, 0.9)}, []) == []
    assert diagnose(HEALTHY | {"reward": line(0.1, 0.25), "reward_accuracy": line(0.15, 0.15)}, []) == []
