"""The toy twins run to their end and show what they are there to show: loosely, for one seed proves no effect size.

They run smaller than they ship (`SMALLER`): what they show is there long before their last step. At full size they make
the figures of docs/claims.md and of the README. One store serves all of them, in every process that tests, so that what
two recipes have in common (R1-Zero of toy:base above all) is made once: who comes second waits for it.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import command

from distillkit.shipped import folder

pytestmark = [pytest.mark.slow, pytest.mark.spread]

Summary = dict[str, Any]

SMALLER: dict[str, dict[str, Any]] = {
    "grpo": {"steps": 15, "num_generations": 8},
    "reward_model": {"epochs": 2},
    "screen": {"n": 32},
    "evaluate": {"n": 8, "k": [2, 4, 8]},
    "budget_curve": {"n": 2},
    "probe": {"n": 4},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "toys" / "store"


def run(name: str, store: Path) -> dict[str, Summary]:
    """Run a shipped recipe; stage -> what its artifact says of itself."""
    answer = command("run", folder() / f"{name}.yaml", "--store", store, *smaller(name))
    assert answer.returncode == 0, answer.stderr + answer.stdout
    runs = store / "runs" / name.replace("_", "-")
    stages = json.loads((runs / "1" / "run.json").read_text("utf-8"))["stages"]
    assert (runs / "1" / "report.html").exists()
    manifests = {
        stage["name"]: json.loads(
            (store / "artifacts" / stage["artifact"] / "manifest.json").read_text("utf-8")
        )
        for stage in stages
    }
    return {name: manifest | manifest["summary"] for name, manifest in manifests.items()}


def smaller(name: str) -> list[str]:
    """`--set` for each number of a recipe that need not be as large as it is."""
    stages = yaml.safe_load((folder() / f"{name}.yaml").read_text("utf-8"))["stages"]
    return [
        word
        for stage in stages
        for key, least in SMALLER.get(stage["kind"], {}).items()
        if key in stage and stage[key] > least
        for word in ("--set", f"stages.{stage['name']}.{key}={least}")
    ]


def value(found: dict[str, Summary], model: str, metric: str = "pass@1") -> float:
    """A score of a recipe's stage `scores`."""
    number: float = found["scores"]["scores"][model][metric]["value"]
    return number


def test_sft_stops_where_its_demonstrations_stop_and_rl_climbs_past(store: Path) -> None:
    found = run("sft_vs_grpo_toy", store)
    ceiling = found["right"]["rows_kept"] / found["right"]["rows_in"]
    assert abs(value(found, "taught") - ceiling) < 0.06
    assert value(found, "climbed") > ceiling + 0.08
    assert value(found, "both") > ceiling + 0.08


def test_traces_of_a_teacher_make_the_better_student(store: Path) -> None:
    found = run("demos_vs_traces_toy", store)
    for size in ("small", "base"):
        assert value(found, f"{size}_traces") > value(found, f"{size}_demos") + 0.05
    assert value(found, "tiny_traces") > value(found, "tiny_demos") - 0.05


def test_r1_zero_learns_to_reason(store: Path) -> None:
    found = run("r1_zero_toy", store)
    assert value(found, "zero") > value(found, "toy:base") + 0.5
    [gamma] = found["scores"]["gamma"]
    assert gamma["low"] > 0.6
    first, last = found["zero"]["evaluation"]["first"], found["zero"]["evaluation"]["last"]
    assert last["pass@1"] > first["pass@1"] + 0.5 and last["step"] == 15


def test_both_losses_learn_and_the_lengths_of_wrong_answers_are_there(store: Path) -> None:
    found = run("dr_grpo_toy", store)
    for model in ("grpo", "dr_grpo"):
        assert value(found, model) > value(found, "toy:base") + 0.5
        assert value(found, model, "mean_wrong_tokens") > value(found, "toy:base", "mean_wrong_tokens")


def test_the_small_student_learns_from_its_own_tries(store: Path) -> None:
    found = run("on_policy_distill_toy", store)
    assert value(found, "student") > value(found, "toy:small") + 0.3


def test_an_adapter_comes_near_full_fine_tuning(store: Path) -> None:
    found = run("lora_toy", store)
    assert value(found, "student") > value(found, "toy:base") + 0.3
    assert value(found, "student") > value(found, "full") - 0.25


def test_plain_distillation_reaches_its_traces(store: Path) -> None:
    found = run("openr1_distill_toy", store)
    assert 0.7 < value(found, "student") < 0.9


def test_the_whole_curation_makes_a_student_better_than_what_was_bought(store: Path) -> None:
    found = run("r1_to_qwen7b_toy", store)
    assert value(found, "student") > 0.9
    assert value(found, "student", "mixed_language") < 0.03
    assert set(found["kept"]["counts"]["rejected"]) >= {"wrong", "mixed_language"}


def test_r1_in_four_stages(store: Path) -> None:
    found = run("r1_full_toy", store)
    mixing, right = "sums/mixed_language", "sums/pass@1"
    assert value(found, "final", mixing) * 5 <= value(found, "zero", mixing)
    assert value(found, "final", right) >= value(found, "zero", right) - 0.02
    helpful = {
        model: value(found, model, "small_talk/pass@1")
        for model in ("toy:world", "zero", "cold_start", "reasoner", "second", "final")
    }
    assert helpful["final"] > helpful["second"] + 0.12
    before = [score for model, score in helpful.items() if model != "final"]
    assert max(before) < helpful["toy:world"] + 0.1, "nothing but the last stage makes it more helpful"
    for judge in ("helpful", "harmless"):
        assert found[judge]["heldout"]["accuracy"]["value"] > 0.75


def test_probes_tell_reasoning_from_decoration(store: Path) -> None:
    found = run("probes_toy", store)
    moved = {model: each["moved"] for model, each in found["probes"]["probes"]["faithfulness"].items()}
    for model in ("zero", "student"):
        assert moved[model]["number"]["value"] > 0.9 and moved[model]["step"]["value"] > 0.9
        assert moved[model]["unperturbed"]["value"] < 0.1
    assert moved["toy:unfaithful"]["number"]["value"] < 0.2 and moved["toy:unfaithful"]["step"]["value"] < 0.2
    fixed = found["probes"]["probes"]["early_answer"]
    assert (
        fixed["toy:unfaithful"]["fixed_from"]["value"] < 0.2 < 0.9 < fixed["student"]["fixed_from"]["value"]
    )
    curve = found["budget"]["curves"]["student"]
    assert curve["points"][0]["accuracy"]["value"] < 0.3 < 0.9 < curve["points"][-1]["accuracy"]["value"]
    assert curve["knee"] is not None


def test_a_reward_for_one_language_keeps_to_it(store: Path) -> None:
    found = run("claims_toy", store)
    assert value(found, "consistent", "mixed_language") < 0.75 * value(found, "zero", "mixed_language")
    assert value(found, "consistent") > value(found, "toy:base") + 0.5
