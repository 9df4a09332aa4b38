from pathlib import Path
from typing import Any

import pytest

from distillkit.training.prompts import dataset_of, window_of


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Of a training whose generations are four prompts long."""
    from trl import GRPOConfig

    def made(**fields: Any) -> Any:
        given = {"max_steps": 9, "per_device_train_batch_size": 8, "num_generations": 4, "seed": 0} | fields
        return GRPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, gradient_accumulation_steps=2, **given
        )

    return made


def generations(found: Any, size: int = 4) -> list[list[str]]:
    prompts = list(found["prompt"])
    return [prompts[at : at + size] for at in range(0, len(prompts), size)]


@pytest.mark.parametrize("easy_first", [False, True])
@pytest.mark.parametrize("many", [4, 5, 7, 10])
def test_no_generation_asks_a_prompt_twice(config: Any, many: int, easy_first: bool) -> None:
    rows = [{"prompt": str(at), "rate": at % 4 / 4 or None} for at in range(many)]
    found = generations(dataset_of(rows, config(), easy_first=easy_first))
    assert len(found) == 9
    assert all(len(set(each)) == 4 for each in found)


def test_a_generation_for_several_steps_has_different_prompts_too(config: Any) -> None:
    several = config(steps_per_generation=4, num_iterations=2)
    assert window_of(several) == 4
    rows = [{"prompt": str(at), "rate": None} for at in range(11)]
    found = generations(dataset_of(rows, several), 8)
    assert len(found) == 3
    assert all(len(set(each)) == 8 for each in found)


def test_fewer_prompts_than_a_generation_are_all_in_it(config: Any) -> None:
    rows = [{"prompt": str(at), "rate": None} for at in range(3)]
    assert all(len(set(each)) == 3 for each in generations(dataset_of(rows, config())))


def test_a_longer_training_begins_alike(config: Any) -> None:
    rows = [{"prompt": str(at), "rate": None} for at in range(7)]
    short, long = (generations(dataset_of(rows, config(max_steps=steps))) for steps in (5, 9))
    assert short == long[:5]


def test_a_prompt_without_a_rate_goes_in_the_middle(config: Any) -> None:
    rows = [{"prompt": str(at), "rate": rate} for at, rate in enumerate([0.1, 0.9, None, 0.5] * 4)]
    found = dataset_of(rows, config(max_steps=7), easy_first=True)
    rates = [0.5 if rate is None else rate for rate in found["rate"]]
    assert rates == sorted(rates, reverse=True)
    assert sorted(found["prompt"]) == sorted(dataset_of(rows, config(max_steps=7))["prompt"])
