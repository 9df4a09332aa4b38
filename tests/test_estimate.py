"""What a training holds beside itself, and what its turns cost, as the recipe's settings say."""

from pathlib import Path
from typing import Any

import pytest

from distillkit.budget import Budget
from distillkit.estimate import Estimate
from distillkit.memory import Load
from distillkit.plan import plan, render
from distillkit.recipe import load
from distillkit.training.room import SCORED_TOKENS
from distillkit.wiring import resolve

RECIPE = """\
name: rl
budget: {gpus: 8, gpu: h100}
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 64}
  - name: zero
    kind: grpo
    model: org/Base-7B
    rewards: [{kind: accuracy}, {kind: reward_model, model: org/Judge-3B}]
    learning_rate: 1.0e-6
    steps: 100
    prompts_per_step: 16
    num_generations: 8
    max_completion_length: 4000
    processes: 8
  - {name: student, kind: distill, model: org/Base-1.5B, teacher: org/Large-32B, input: problems, learning_rate: 1.0e-5,
     steps: 10, batch: 32, max_completion_length: 1000}
"""
MACHINE = Budget(gpus=8)


@pytest.fixture
def estimate(tmp_path: Path) -> Any:
    def made(*sets: str) -> Estimate:
        (tmp_path / "rl.yaml").write_text(RECIPE)
        recipe = load(tmp_path / "rl.yaml", sets)
        return Estimate(recipe, resolve(recipe), {})

    return made


def load_of(found: Estimate, name: str = "zero") -> Load:
    held = found.load(found.steps[name], MACHINE)
    assert held is not None
    return held


def roles(held: Load) -> list[tuple[str, int]]:
    return [(each.role, round(each.model.total / 1e8)) for each in held.frozen]


def test_a_reward_model_is_held_and_a_reference_where_beta_asks_for_one(estimate: Any) -> None:
    assert roles(load_of(estimate())) == [("reward model", 30)]
    assert roles(load_of(estimate("stages.zero.beta=0.01"))) == [("reference", 70), ("reward model", 30)]
    adapted = estimate("stages.zero.beta=0.01", "stages.zero.lora={rank: 8}")
    assert roles(load_of(adapted)) == [("reward model", 30)]  # the base itself is the reference
    [rater] = load_of(estimate()).frozen
    assert rater.tokens == SCORED_TOKENS < 16 * 4200


def test_a_teacher_reads_as_much_as_a_pass_of_the_student(estimate: Any) -> None:
    [teacher] = load_of(estimate(), "student").frozen
    assert (teacher.role, teacher.model.total) == ("teacher", 32e9)
    assert teacher.tokens == load_of(estimate(), "student").rows_per_device * 1200


def test_what_the_trainer_block_says_of_sampling_counts(estimate: Any) -> None:
    assert load_of(estimate()).sampled_rows == 16 and load_of(estimate()).engine_bytes == 0
    inside = load_of(estimate("stages.zero.trainer={use_vllm: true, vllm_enable_sleep_mode: true}"))
    assert (inside.sampled_rows, inside.engine_bytes, inside.engine_sleeps) == (0, 24e9, True)
    server = load_of(estimate("stages.zero.trainer={use_vllm: true, vllm_mode: server}"))
    assert (server.sampled_rows, server.engine_bytes) == (0, 0)
    synced = estimate("stages.zero.beta=0.01", "stages.zero.trainer={sync_ref_model: true}")
    assert load_of(synced).synced


def test_an_engine_that_cannot_hold_the_weights_is_told_its_share(estimate: Any) -> None:
    def told(*settings: str) -> list[str]:
        found = estimate(f"stages.zero.trainer={{use_vllm: true, {', '.join(settings)}}}")
        lines: list[str] = found.misfits(Budget(gpus=8, gpu="a100_40gb"))
        return [line for line in lines if "engine has" in line]

    [line] = told()
    assert line.startswith(
        "zero: its engine has 12 GB of each GPU (vllm_gpu_memory_utilization: 0.3), and takes 17 GB"
    )
    share = line.partition("set trainer.vllm_gpu_memory_utilization: ")[2].split()[0]
    assert told(f"vllm_gpu_memory_utilization: {share}") == []
    assert told("vllm_tensor_parallel_size: 2") == []
    assert told("vllm_mode: server") == []


def test_turns_rounds_and_passes_cost_what_they_take(estimate: Any) -> None:
    def hours(*settings: str) -> float:
        found = estimate(*settings)
        return float(found.cost(found.steps["zero"], MACHINE).gpu_hours)

    plain = hours()
    assert hours("stages.zero.beta=0.01") > plain
    assert (
        hours("stages.zero.trainer={use_vllm: true, vllm_mode: server}") > plain
    )  # reads its completions again
    corrected = (
        "stages.zero.trainer={use_vllm: true, vllm_mode: server, vllm_importance_sampling_correction: false}"
    )
    assert hours(corrected) == pytest.approx(plain)
    assert hours("stages.zero.trainer={generation_batch_size: 1024}") < plain  # eight steps of each turn
    once, twice = (hours("stages.zero.steps=200", f"stages.zero.num_iterations={n}") for n in (1, 2))
    assert (
        plain < twice < once == pytest.approx(2 * plain)
    )  # as many completions learnt from, half as many sampled


def test_the_plan_names_what_holds_the_memory(tmp_path: Path) -> None:
    (tmp_path / "rl.yaml").write_text(RECIPE)
    planned = plan(load(tmp_path / "rl.yaml"), tmp_path / "rl.yaml", tmp_path / "store")
    assert planned.memory.keys() == {"zero", "student"}
    held = planned.memory["zero"]
    assert held["frozen"] == pytest.approx(2 * 3)
    cost = next(each["cost"] for each in planned.stages if each["name"] == "zero")
    assert sum(held.values()) == pytest.approx(cost["memory_gb"])
    lines = [str(each) for each in render(planned).renderables]
    assert any(line.startswith("zero: about ") and "frozen 6" in line for line in lines)


def test_weights_that_are_kept_on_the_way_take_disk(estimate: Any) -> None:
    def disk(*sets: str) -> float:
        found = estimate(*sets)
        cost = found.cost(found.steps["zero"], MACHINE)
        assert cost is not None
        return float(cost.disk_gb)

    [weights] = {
        round((disk(f"stages.zero.keep_steps={every}") - disk()) / sets, 3)
        for every, sets in ((50, 1), (30, 3), (10, 9))
    }
    assert weights == pytest.approx(2 * 7, rel=0.02)
    assert disk("stages.zero.keep_steps=100") == disk()  # the last step's are the stage's own
