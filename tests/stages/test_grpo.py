import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from distillkit import launch
from distillkit.artifact import Artifact, Manifest, Model, weights_content
from distillkit.errors import EngineError, MissingError, RecipeError, StageError
from distillkit.events import Event
from distillkit.spec import digest
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.grpo import Grpo
from distillkit.stages.screen import problem_schema as screened_schema
from distillkit.store import Store, Writer
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Problem, problem_schema, to_row
from distillkit.training.prompts import dataset_of
from distillkit.verifiers import Exact

STEPS = 8
COUNT = 20
"""Problems: a pass over them ends within the training, where a resumed trainer could lose its order."""


def zero(**fields: Any) -> Grpo:
    needed = {
        "model": "toy:base",
        "learning_rate": 1e-3,
        "steps": STEPS,
        "prompts_per_step": 8,
        "num_generations": 8,
        "max_completion_length": 64,
        "rewards": {"accuracy": 1.0, "format": 0.1, "language_consistency": 0.1},
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "save_steps": 2,
        "evaluate": {"problems": "heldout", "forgetting": "other", "every": 3, "n": 2, "limit": 8},
    }
    return Grpo(name="zero", **{**needed, **fields})


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Trainers imported once for all tests of this file."""
    launch.stop()
    launch.start(launch.preload_of([zero()]))
    yield
    launch.stop()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("grpo") / "store")


def sealed(store: Store, name: str, found: list[Problem]) -> Artifact:
    """A problems artifact."""
    with store.building("problems", digest(name), print) as out:
        write_shards(Job(store, out, {}, shards=3), [to_row(each) for each in found], problem_schema())
        return store.seal(out, Manifest(name, "problems", "problems", digest(name), ""))


@pytest.fixture(scope="module")
def problems(store: Store) -> Artifact:
    sealed(store, "heldout", generate(10, 2, "heldout"))
    sealed(store, "other", [replace(each, domain="other") for each in generate(4, 3, "heldout")])
    return sealed(store, "problems", generate(COUNT, 1, "train"))


def end(store: Store, name: str) -> Input:
    """A problems artifact as an input."""
    found = store.find("problems", digest(name))
    assert found is not None
    return Input(name, "problems", found.content, artifact=found.path.name)


def screening(store: Store, rates: dict[str, float | None], *, go: bool = True) -> Input:
    """A sealed screening with these pass rates."""
    request = digest(["screen", sorted(rates.items()), go])
    rows = [{"id": each, "n": 8, "correct": 0, "pass_rate": rate} for each, rate in rates.items()]
    with store.building("screen", request, print) as out:
        write_shards(Job(store, out, {}, shards=3), rows, screened_schema(), "problems")
        out.summary = {"go": go, "reasons": ["the gap is small"]}
        found = store.seal(out, Manifest("screening", "screen", "scores", request, ""))
    return Input("screening", "scores", found.content, artifact=found.path.name)


def ends_of(problems: Artifact, folder: Path = BASE) -> dict[str, list[Input]]:
    weights = Input("toy:base", "weights", weights_content(folder), path=str(folder))
    return {
        "input": [Input("problems", "problems", problems.content, artifact=problems.path.name)],
        "model": [weights],
    }


def run(
    stage: Grpo, store: Store, ends: dict[str, list[Input]], name: str, on_event: Any = None, seed: int = 3
) -> Artifact:
    """The artifact of a stage, made in a child under a request of that name."""
    watched = [] if stage.evaluate is None else stage.evaluate.names()
    ends = {**ends, "evaluate": [end(store, each) for each in watched]}
    with store.building("grpo", digest(name), print) as out:
        ticket = launch.Ticket.of(
            stage,
            ends,
            seed=seed,
            shards=3,
            workers=1,
            verifiers={"chain": Exact()},
            store=store.root,
            work=out.path,
        )
        launch.run_child(ticket, out, on_event or (lambda event: None))
        return store.seal(out, Manifest(stage.name, "grpo", "weights", digest(name), ""))


@pytest.fixture(scope="module")
def made(store: Store, problems: Artifact) -> tuple[Artifact, list[Event]]:
    """An undisturbed training."""
    events: list[Event] = []
    return run(zero(), store, ends_of(problems), "undisturbed", events.append), events


def curves(artifact: Artifact) -> dict[str, list[float | None]]:
    return json.loads((artifact.path / "curves.json").read_text("utf-8"))


def test_the_reward_rises(made: tuple[Artifact, list[Event]]) -> None:
    found = curves(made[0])
    assert found["step"] == list(range(1, STEPS + 1))
    for name in ("reward", "reward_accuracy", "reward_format"):
        assert sum(found[name][-2:]) > sum(found[name][:2]) + 0.2, name


def test_the_curves_of_the_report_are_there(made: tuple[Artifact, list[Event]]) -> None:
    found = curves(made[0])
    assert {
        *("loss", "grad_norm", "learning_rate", "reward", "reward_std", "zero_std", "entropy"),
        *("length", "terminated_length", "clipped", "reward_language_consistency"),
        *("mixed_language", "reflections", "reasoned", "truncated", "clip_ratio", "clip_low", "clip_high"),
        *("right_length", "wrong_length", "format_only", "answer_in_reasoning", "distinct", "strategies"),
    } <= set(found)
    assert "kl" not in found
    assert all(len(values) == STEPS for values in found.values())
    weighted = [
        a + 0.1 * f + 0.1 * s
        for a, f, s in zip(*(found[f"reward_{each.kind}"] for each in zero().rewards), strict=True)
    ]
    assert found["reward"] == pytest.approx(weighted, abs=1e-5)


def test_progress_tells_the_reward(made: tuple[Artifact, list[Event]]) -> None:
    steps = [event for event in made[1] if event["event"] == "progress"]
    assert [event["done"] for event in steps][:STEPS] == list(range(1, STEPS + 1))
    assert "reward" in steps[0]
    assert steps[0]["total"] == STEPS


def test_a_sample_of_completions_is_kept(made: tuple[Artifact, list[Event]], problems: Artifact) -> None:
    text = (made[0].path / "completions.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    prompts = {json.dumps(row["messages"][-1]["content"]) for row in problems.rows()}
    assert {line["step"] for line in lines} == set(range(1, STEPS + 1))
    assert {json.dumps(line["prompt"]) for line in lines} <= prompts
    assert all(set(line["rewards"]) == {each.kind for each in zero().rewards} for line in lines)


def test_the_weights_load(made: tuple[Artifact, list[Event]]) -> None:
    from transformers import AutoModelForCausalLM

    folder = made[0].path / "model"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
    assert AutoModelForCausalLM.from_pretrained(folder).config.use_cache is True
    assert weights_content(folder) != weights_content(BASE)
    assert made[0].manifest.rows_kept == COUNT


def lines(artifact: Artifact) -> list[dict[str, float]]:
    text = (artifact.path / "eval.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_held_out_problems_are_measured_on_the_way(made: tuple[Artifact, list[Event]]) -> None:
    found = lines(made[0])
    assert [line["step"] for line in found] == [0, 3, 6, 8]
    names = {"pass@1", "cons@2", "mean_tokens", "mean_terminated_tokens", "truncated", "mixed_language"}
    assert all(names | {"reflection"} <= set(line) for line in found)
    assert all((line["problems"], line["samples"]) == (8, 16) for line in found)
    assert found[-1]["pass@1"] > found[0]["pass@1"]
    # No verifier knows the other domain: its texts are measured, and nothing is said of right and wrong.
    assert found[-1]["forgetting/loss"] > found[0]["forgetting/loss"] > 0
    assert not {"forgetting/pass@1", "forgetting/no_answer"} & set(found[0])
    assert made[0].manifest.summary["evaluation"] == {"first": found[0], "last": found[-1]}


def test_whoever_watches_changes_nothing(
    store: Store, problems: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    alone = run(zero(evaluate=None, probe=False), store, ends_of(problems), "alone")
    assert weights_content(alone.path / "model") == weights_content(made[0].path / "model")
    assert curves(alone) == curves(made[0])
    assert not (alone.path / "eval.jsonl").exists()


def test_a_diagnosis_is_written(made: tuple[Artifact, list[Event]]) -> None:
    found = json.loads((made[0].path / "diagnosis.json").read_text("utf-8"))
    warned = {each["name"] for each in made[0].manifest.summary["warnings"]}
    assert {each["name"] for each in found["findings"]} == warned
    assert set(found["numbers"]) == set(curves(made[0])) - {"step"}


def child() -> int:
    assert launch._server is not None
    pid = launch._server._process.pid
    [only] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(only)


def once(step: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """A listener that acts at the first event of a step or a later one."""
    left = [act]

    def listen(event: Event) -> None:
        if left and event.get("done", 0) >= step:
            left.pop()()

    return listen


def test_a_killed_training_ends_bit_for_bit_as_an_undisturbed_one(
    store: Store, problems: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    killer = once(5, lambda: os.kill(child(), signal.SIGKILL))  # in the second pass over the problems
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        run(zero(), store, ends_of(problems), "killed", killer)
    first: list[Event] = []
    again = run(zero(), store, ends_of(problems), "killed", first.append)
    assert first[0]["done"] > 4  # it went on, and did not begin anew
    assert again.manifest.files == made[0].manifest.files  # curves and evaluations too: no line of them twice
    assert again.content == made[0].content


def test_completions_that_serve_several_steps_are_never_cut_by_a_checkpoint(
    store: Store, problems: Artifact
) -> None:
    stage = zero(num_iterations=3, save_steps=1, steps=6, num_generations=4, evaluate=None)
    whole = run(stage, store, ends_of(problems), "thrice")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stage, store, ends_of(problems), "thrice stopped", once(1, interrupt))
    scratch = store.work / f"grpo-{digest('thrice stopped')[:16]}" / ".scratch"
    assert [path.name for path in scratch.glob("checkpoint-*")] == ["checkpoint-3"]
    assert run(stage, store, ends_of(problems), "thrice stopped").content == whole.content


def test_another_seed_is_another_training(
    store: Store, problems: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    other = run(zero(steps=1, evaluate=None), store, ends_of(problems), "seeded", seed=4)
    assert curves(other)["reward"][0] != curves(made[0])["reward"][0]


def test_a_reference_that_is_replaced_on_the_way(store: Store, problems: Artifact) -> None:
    reference = {"sync_ref_model": True, "ref_model_mixup_alpha": 1.0, "ref_model_sync_steps": 2}
    stage = zero(
        beta=0.1,
        steps=3,
        rewards={"accuracy": 1.0},
        evaluate=None,
        trainer={**reference, "use_bias_correction_kl": False},
    )
    kl = curves(run(stage, store, ends_of(problems), "kl"))["kl"]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[1] > 0
    assert kl[2] == pytest.approx(0, abs=1e-6)  # step 2 ended with a new reference


def test_the_r1_template_stops_at_its_answer(store: Store, problems: Artifact) -> None:
    stage = zero(template="r1", steps=1, rewards={"accuracy": 1.0, "format": 0.1}, evaluate=None)
    found = run(stage, store, ends_of(problems), "r1")
    text = (found.path / "completions.jsonl").read_text("utf-8")
    written = [json.loads(line)["completion"] for line in text.splitlines()]
    assert all(each.count("</answer>") <= 1 and not each.partition("</answer>")[2] for each in written)
    assert any(each.endswith("</answer>") for each in written)
    assert curves(found)["clipped"] == [0.0]  # what stops there has an end
    assert {each["name"] for each in found.manifest.summary["warnings"]} >= {
        "format_zero"
    }  # it is foreign to the toy


def test_vllm_is_told_where_to_stop(store: Store, tmp_path: Path) -> None:
    stage = zero(template="r1", trainer={"use_vllm": True, "generation_kwargs": {"seed": 3}})
    config = stage.config(Model("m", "", ""), Job(store, Writer(tmp_path / "out"), {}))
    ending = {"stop": ["</answer>"], "include_stop_str_in_output": True}
    assert config.generation_kwargs == {**ending, "seed": 3}
    other = zero(trainer={"use_vllm": True}).config(
        Model("m", "", ""), Job(store, Writer(tmp_path / "2"), {})
    )
    assert other.generation_kwargs is None


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"use_transformers_continuous_batching": True}, "knows no stop texts"),
        ({"use_vllm": True, "mask_truncated_completions": True}, "for truncated; leave it out"),
    ],
)
def test_what_does_not_go_with_a_stop_text_is_refused(trainer: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        zero(template="r1", trainer=trainer).check(Path())
    zero(trainer=trainer).check(Path())


def test_a_reward_model_pays_its_domain_only(store: Store, problems: Artifact, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    folder = tmp_path / "helpful"
    AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    chats = [replace(each, domain="chat", reference=None, id="") for each in generate(4, 5, "train")]
    sealed(store, "chats", chats)
    ends = ends_of(problems)
    ends["input"].append(end(store, "chats"))
    ends["rewards"] = [Input("helpful", "weights", weights_content(folder), path=str(folder))]
    rewards = [
        {"kind": "accuracy", "domains": ["chain"]},
        {"kind": "reward_model", "model": "helpful", "on": "response", "domains": ["chat"]},
    ]
    stage = zero(steps=1, prompts_per_step=COUNT + 4, num_generations=2, rewards=rewards, evaluate=None)
    found = run(stage, store, ends, "helpful")
    table = pq_rows(found)
    assert {(row["accuracy"] is None, row["helpful"] is None) for row in table} <= {
        (True, False),
        (False, True),
    }
    assert curves(found)["reward_helpful"] != [None]
    assert found.manifest.summary["judges"] == {"helpful": "reward_model"}
    assert found.manifest.summary["learned"] is True
    assert stage.judged({"chain", "chat"}) == {"chain"}


def pq_rows(artifact: Artifact) -> list[dict[str, float | None]]:
    """The rewards of the sampled completions."""
    text = (artifact.path / "completions.jsonl").read_text("utf-8")
    return [json.loads(line)["rewards"] for line in text.splitlines()]


def test_a_reward_that_raises_names_itself_step_and_row(
    store: Store, problems: Artifact, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def reward(row):\n    return row['tests']\n", "utf-8")
    stage = zero(rewards=[{"kind": "python", "file": str(file), "workers": 1}], evaluate=None, probe=False)
    assert stage.foreign() == [f"reward runs reward() of {file}"]
    with pytest.raises(StageError, match=r"mine\.py: reward\(\) failed at step 1 on completion 0 .*KeyError"):
        run(stage, store, ends_of(problems), "raises")


@pytest.mark.parametrize(
    ("save_steps", "message", "kept"),
    [
        (1, "a weight is not a number at step 2; lower learning_rate.*", ["checkpoint-1"]),
        (9, "the model gives no probabilities .* at step 3; lower learning_rate", []),
    ],
)
def test_weights_that_are_no_numbers_end_it_and_reach_no_checkpoint(
    store: Store, problems: Artifact, save_steps: int, message: str, kept: list[str]
) -> None:
    warm = {"max_grad_norm": 0.0, "warmup_steps": 1}  # the first step changes nothing
    small = {"prompts_per_step": 2, "num_generations": 2, "steps": 9, "probe": False, "evaluate": None}
    stage = zero(learning_rate=1e39, save_steps=save_steps, trainer=warm, **small)
    with pytest.raises(StageError, match=f"zero: {message}"):
        run(stage, store, ends_of(problems), f"nan {save_steps}")
    scratch = store.work / f"grpo-{digest(f'nan {save_steps}')[:16]}" / ".scratch"
    assert [path.name for path in scratch.glob("checkpoint-*")] == kept


LOSSES = ["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"]


def test_every_loss_of_trl_is_offered() -> None:
    from trl import GRPOConfig

    told = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"].partition("Supported values are ")[2]
    theirs = set(re.findall(r"'(\w+)'", told.partition(". ")[0]))
    assert theirs == set(LOSSES) == set(get_args(Grpo.model_fields["loss_type"].annotation))


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(store: Store, problems: Artifact, loss: str) -> None:
    rewards = {"accuracy": 1.0, "repetition": 0.5, "length": 0.5, "overlong": 1.0}
    stage = zero(
        loss_type=loss,
        steps=2,
        num_generations=4,
        rewards=rewards,
        evaluate=None,
        trainer={"mask_truncated_completions": True},
    )
    found = run(stage, store, ends_of(problems), loss)
    assert all(value > 0 for value in curves(found)["grad_norm"])
    assert weights_content(found.path / "model") != weights_content(BASE)


def rows(
    stage: Grpo, store: Store, ends: dict[str, list[Input]], folder: Path
) -> tuple[list[str], Job, list[str]]:
    """Problem ids that a stage would train on, its job, and the warnings."""
    from transformers import AutoTokenizer

    warnings: list[str] = []
    job = Job(store, Writer(folder), ends, warn=warnings.append)
    found = stage.rows(job, job.problems(), job.models()[0], AutoTokenizer.from_pretrained(BASE))
    return [row["id"] for row in found], job, warnings


def test_a_band_keeps_what_lies_in_it_and_what_nobody_knows(
    store: Store, problems: Artifact, tmp_path: Path
) -> None:
    ids = sorted(row["id"] for row in problems.rows())
    rates = dict(
        zip(ids, [0.0, 0.1, 0.5, 0.9, 1.0, None, *[0.3] * 12], strict=False)
    )  # two were not screened
    ends = {**ends_of(problems), "screened": [screening(store, rates)]}
    found, job, warnings = rows(zero(screened="screening", band=(0.1, 0.9)), store, ends, tmp_path / "out")
    assert found == [ids[1], ids[2], ids[3], *ids[5:]]
    assert job.out.counts == {"rejected": {"below_band": 1, "above_band": 1}}
    assert (job.out.rows_in, job.out.rows_kept) == (COUNT, COUNT - 2)
    assert warnings == []
    with pytest.raises(RecipeError, match="prompts_per_step: 19, but there are only 18 problems"):
        rows(zero(screened="screening", band=(0.1, 0.9), prompts_per_step=19), store, ends, tmp_path / "out")


def test_a_no_go_warns_or_stops(store: Store, problems: Artifact, tmp_path: Path) -> None:
    ends = {**ends_of(problems), "screened": [screening(store, {}, go=False)]}
    *_, warnings = rows(zero(screened="screening"), store, ends, tmp_path / "out")
    assert warnings == ["screening screening advises against this training: the gap is small"]
    with pytest.raises(StageError, match="zero: screening screening advises against"):
        rows(zero(screened="screening", require_go=True), store, ends, tmp_path / "out")


def test_prompts_that_leave_no_room_for_a_completion(
    store: Store, problems: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"no problems left to train on \(20 are too long for the context"):
        rows(zero(max_completion_length=512), store, ends_of(problems), tmp_path / "out")


def test_a_curriculum_goes_from_easy_to_hard(tmp_path: Path) -> None:
    from trl import GRPOConfig

    config = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=5,
        per_device_train_batch_size=8,
        num_generations=4,
    )
    rates = [0.1, 0.9, None, 0.5, 0.9, 0.1, 0.5]
    rows = [{"prompt": str(at), "rate": rate} for at, rate in enumerate(rates)]
    found = dataset_of(rows, config, easy_first=True)
    assert sorted(found["prompt"]) == sorted(dataset_of(rows, config)["prompt"])  # the same, in another order
    order = [0.5 if rate is None else rate for rate in found["rate"]]
    assert order == sorted(order, reverse=True)
    assert len(order) == 10


def test_what_trl_refuses_is_the_recipes_mistake(store: Store, problems: Artifact) -> None:
    stage = zero(trainer={"generation_batch_size": 12}, per_device_train_batch_size=8, evaluate=None)
    with pytest.raises(
        RecipeError, match=r"stages\.zero: TRL refuses its configuration: generation_batch_size"
    ):
        run(stage, store, ends_of(problems), "refused")


def test_vllm_without_a_gpu_is_refused(store: Store, problems: Artifact) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingError, match=r"zero: trainer\.use_vllm needs a GPU"):
        run(zero(trainer={"use_vllm": True}, evaluate=None), store, ends_of(problems), "vllm")


def test_tags_that_are_special_tokens_are_refused(store: Store, problems: Artifact, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "special"
    shutil.copytree(BASE, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokenizer.save_pretrained(folder)
    with pytest.raises(StageError, match="zero: <think> and </think> do not survive the tokenizer"):
        run(zero(evaluate=None), store, ends_of(problems, folder), "special")


def test_every_pass_over_the_problems_is_shuffled_anew(tmp_path: Path) -> None:
    from trl import GRPOConfig

    config = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=6,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        num_generations=4,
        seed=1,
    )
    order = list(dataset_of([{"prompt": str(n)} for n in range(10)], config)["prompt"])
    assert len(order) == 6 * 16 / 4
    assert sorted(order[:10]) == sorted(order[10:20]) == sorted(map(str, range(10)))
    assert list(order[:10]) != list(order[10:20])


def test_a_smoke_run_is_small() -> None:
    small = zero(prompts_per_step=16).limited(6)
    assert (small.steps, small.prompts_per_step) == (4, 6)
    small.check(Path())
