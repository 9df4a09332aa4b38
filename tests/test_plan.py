"""Stored, to make, unknown; rows at their most; and a budget that has to be confirmed."""

from pathlib import Path

import pytest
from inprocess import curation, distillkit

from distillkit.plan import plan
from distillkit.recipe import load

STATES = "problems traces judged measured twins kept chosen dataset".split()


def states(recipe: Path, store: Path, *sets: str) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in plan(load(recipe, sets), recipe, store).stages}


def test_nothing_is_stored_where_there_is_no_store(tmp_path: Path) -> None:
    found = states(curation(tmp_path), tmp_path / "store")
    assert found == {"problems": "make"} | dict.fromkeys(STATES[1:], "unknown")
    assert not (tmp_path / "store").exists()


def test_a_changed_stage_is_made_and_those_behind_it_are_unknown(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path), tmp_path / "store"
    assert distillkit("run", recipe, "--store", store).code == 0
    assert set(states(recipe, store).values()) == {"stored"}
    changed = states(recipe, store, "stages.kept.rules.0.min=0.5")
    assert [changed[name] for name in STATES] == ["stored"] * 5 + ["make"] + ["unknown"] * 2
    new_seed = states(recipe, store, "seed=4")  # only stages that draw
    assert [new_seed[name] for name in STATES] == ["stored", "make"] + ["unknown"] * 6


def test_rows_are_counted_at_their_most_until_they_are_known(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path, ("file: traces.jsonl}\n  - {name: traces", "file: traces.jsonl, limit: 10}\n"
                                                                                  "  - {name: traces")), tmp_path / "store"  # fmt: skip
    rows = {s["name"]: s["rows"] for s in plan(load(recipe), recipe, store).stages}
    assert (rows["problems"], rows["traces"], rows["kept"], rows["chosen"]) == (10, 40, 40, 40)
    assert distillkit("run", recipe, "--store", store).code == 0
    rows = {s["name"]: s["rows"] for s in plan(load(recipe), recipe, store).stages}
    assert rows["traces"] == 40 and 0 < rows["chosen"] < rows["kept"] < 40


def test_a_cost_that_nobody_knows_is_said_not_counted(tmp_path: Path) -> None:
    recipe = curation(tmp_path)  # a file without a limit: how many problems, only the run can tell
    planned = plan(load(recipe), recipe, tmp_path / "store")
    assert next(s for s in planned.stages if s["name"] == "traces")["cost"] is None
    shown = distillkit("plan", recipe, "--store", tmp_path / "store").out
    assert "not counted, since their rows or their model's size are not known: traces" in shown


BUDGET = ("seed: 3", "seed: 3\nbudget: {gpus: 1, gpu: t4, gpu_hours: 0.01}")
LARGE = ("toy:base, n: 4, max_tokens: 512", "org/Large-70B, input: problems, n: 4, max_tokens: 4096")
LIMITED = ("file: traces.jsonl}\n  - {name: traces", "file: traces.jsonl, limit: 10}\n  - {name: traces")


def test_above_the_budget_needs_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, store = curation(tmp_path, BUDGET, LARGE, LIMITED), tmp_path / "store"
    shown = distillkit("plan", recipe, "--store", store)
    assert shown.code == 0
    assert "over budget: needs about" in shown.out and "GB on each GPU, and one has 16 GB" in shown.out
    refused = distillkit("run", recipe, "--store", store)
    assert refused.code == 2
    assert (
        "GPU-hours, and the budget is" in refused.mistake
        and "raise the budget or add --yes" in refused.mistake
    )
    assert not (store / "runs").exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe.with_suffix(".lock").write_text('{"model:org/Large-70B": "%s"}' % ("0" * 40))
    assert distillkit("run", recipe, "--store", store, "--yes", "--until", "problems").code == 0


def test_what_is_stored_costs_nothing_again(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path, BUDGET, LIMITED), tmp_path / "store"
    assert distillkit("run", recipe, "--store", store).code == 0
    planned = plan(load(recipe), recipe, store)
    assert planned.total["tokens"] == 0 and planned.over_budget == []


def test_foreign_code_is_in_the_plan(tmp_path: Path) -> None:
    (tmp_path / "grade.py").write_text("def grade(row):\n    return 1.0\n")
    recipe = curation(
        tmp_path, ("math: {kind: exact}", "math: {kind: python, file: grade.py, function: grade}")
    )
    assert plan(load(recipe), recipe, tmp_path / "store").foreign


def test_a_hub_name_without_a_lock_is_unknown_and_never_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    recipe, store = curation(tmp_path, ("toy:base", "org/name")), tmp_path / "store"
    (store / "artifacts").mkdir(parents=True)
    assert states(recipe, store)["traces"] == "unknown"


def test_a_model_folder_whose_config_is_broken_can_be_planned(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    recipe = curation(tmp_path, ("toy:base", f"{tmp_path}/model"), LIMITED)
    answer = distillkit("plan", recipe, "--store", tmp_path / "store")
    assert answer.code == 0 and "not known: traces" in answer.out


ENDPOINT = """\
name: bought
budget: {money: MONEY}
verifiers: {math: {kind: math}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 1000, domain: math}
  - name: traces
    kind: sample
    engine: {kind: endpoint, base_urls: ["http://127.0.0.1:9/v1"], served_model: r1, prices: {input: 1, output: 2}}
    n: 4
    max_tokens: 20000
execution: {ray: {replicas: 4, gpus_per_replica: 2}}
"""


def test_what_a_paid_endpoint_costs_counts_against_the_money_and_a_cap_caps_it(tmp_path: Path) -> None:
    recipe = tmp_path / "bought.yaml"
    recipe.write_text(ENDPOINT.replace("MONEY", "50"))
    planned = plan(load(recipe), recipe, tmp_path / "store")
    [traces] = [stage for stage in planned.stages if stage["name"] == "traces"]
    assert traces["cost"]["money"] == pytest.approx(4000 * (200 * 1 + 10_000 * 2) / 1e6)  # 80.8
    assert traces["cost"]["gpu_hours"] == 0
    assert planned.over_budget == ["costs about 80.80, and the budget is 50.00"]
    capped = plan(load(recipe, ["stages.traces.engine.max_cost=40"]), recipe, tmp_path / "store")
    assert capped.total["money"] == 40 and capped.over_budget == []
    refused = distillkit("run", recipe, "--store", tmp_path / "store")
    assert (
        refused.code == 2
        and "costs about 80.80, and the budget is 50.00; raise the budget or add --yes" in refused.err
    )


def test_a_cluster_is_told_what_to_start_where(tmp_path: Path) -> None:
    recipe = tmp_path / "bought.yaml"
    recipe.write_text(ENDPOINT.replace("MONEY", "500"))
    assert (
        "ray start --address=FIRST_NODE:6379" in distillkit("plan", recipe, "--store", tmp_path / "store").out
    )


TRAINING = """\
name: large
budget: {gpus: GPUS, gpu_memory: 80GB}
stages:
  - {name: traces, kind: traces, hub: org/traces, limit: 1000}
  - {name: student, kind: sft, model: org/Base-7B, learning_rate: 1.0e-5, max_length: 32768, epochs: 1, batch: 64SETTINGS}
"""


def large(tmp_path: Path, settings: str = "", gpus: int = 1) -> Path:
    recipe = tmp_path / "large.yaml"
    recipe.write_text(TRAINING.replace("SETTINGS", settings).replace("GPUS", str(gpus)))
    return recipe


def test_a_training_that_does_not_fit_is_told_what_would(tmp_path: Path) -> None:
    recipe = large(tmp_path, ", gradient_checkpointing: false")
    planned = plan(load(recipe), recipe, tmp_path / "store")
    first, remedy = planned.over_budget
    assert "GB on each GPU, and one has 80 GB" in first
    assert (
        remedy.startswith("student: needs about ")
        and "it would fit with gradient_checkpointing: true" in remedy
    )
    shown = distillkit("check", recipe)
    assert shown.code == 0 and "it would fit with gradient_checkpointing: true" in " ".join(shown.out.split())
    told = remedy.partition("it would fit with ")[2].partition(" (about")[0]
    settings = dict(pair.split(": ") for pair in told.split(", "))
    sets = [f"stages.student.{key}={value}" for key, value in settings.items()]
    assert plan(load(recipe, sets), recipe, tmp_path / "store").over_budget == []  # and it does


def test_more_processes_than_gpus_are_over_budget(tmp_path: Path) -> None:
    recipe = large(tmp_path, ", processes: 4, parallel: zero3", gpus=2)
    assert any(
        "student: asks for 4 GPUs, and the budget has 2; set stages.student.processes=2" in line
        for line in plan(load(recipe), recipe, tmp_path / "store").over_budget
    )
    recipe = large(tmp_path, ", processes: 8, parallel: zero3", gpus=8)
    assert plan(load(recipe), recipe, tmp_path / "store").over_budget == []


def test_every_kind_of_training_and_sampling_has_a_cost(tmp_path: Path) -> None:
    recipe = tmp_path / "kinds.yaml"
    recipe.write_text(
        """\
name: kinds
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 20}
  - {name: heldout, kind: problems, toy: chain, limit: 10, split: heldout}
  - {name: own, kind: sample, model: org/Base-1.5B, input: problems, n: 2, max_tokens: 512}
  - {name: refined, kind: refine, model: org/Base-1.5B, input: own, max_tokens: 512}
  - {name: pairs, kind: preferences, hub: org/pairs, limit: 100}
  - {name: helpful, kind: reward_model, model: org/Base-1.5B, input: pairs, learning_rate: 1.0e-5, max_length: 512}
  - {name: zero, kind: grpo, model: org/Base-1.5B, input: problems, learning_rate: 1.0e-6, steps: 5, prompts_per_step: 4,
     max_completion_length: 512, beta: 0.04}
  - {name: taught, kind: distill, model: org/Base-1.5B, teacher: org/Large-7B, input: problems, learning_rate: 1.0e-6, steps: 5,
     max_completion_length: 512}
  - {name: curve, kind: budget_curve, models: [org/Base-1.5B], problems: heldout, budgets: [64, 128], max_tokens: 512}
  - {name: looked, kind: probe, models: [org/Base-1.5B], problems: heldout, max_tokens: 512}
"""
    )
    planned = plan(load(recipe), recipe, tmp_path / "store")
    costs = {stage["name"]: stage["cost"] for stage in planned.stages}
    costly = ["own", "refined", "helpful", "zero", "taught", "curve", "looked"]
    assert [name for name in costly if not costs[name] or not costs[name]["tokens"]] == []
    # With a frozen reference beside the policy, or a teacher of 7B.
    assert (
        costs["taught"]["memory_gb"]
        > costs["zero"]["memory_gb"]
        > costs["helpful"]["memory_gb"]
        > 1.5 * 4 * 2
    )


def test_further_machines_are_told_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLKIT_HOST", "first.local")
    recipe = large(tmp_path, ", processes: 8, machines: 2, parallel: zero3", gpus=16)
    shown = distillkit("plan", recipe, "--store", tmp_path / "store").out
    words = " ".join(shown.split())
    assert "student trains on 2 machines" in words
    assert "torchrun --nnodes 2 --nproc_per_node 8 --node_rank K --master_addr first.local" in words
