"""On-policy distillation on the toy world: the student comes nearer to its teacher, and a cut-off run ends alike."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from distillkit.artifact import Artifact, Manifest, Model, weights_content
from distillkit.engines.base import load_tokenizer
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.distill import Distill, differing
from distillkit.store import Store
from distillkit.toy import BASE, PACKAGED
from distillkit.toy.problems import generate
from distillkit.trace import Problem, problem_schema, to_row
from distillkit.training.preflight import check_end, settle_end

pytestmark = pytest.mark.xdist_group("distill")  # its trained models are made once, by one worker

SHARDS = 2


def student(**fields: Any) -> Distill:
    needed = {"model": "noisy", "teacher": "toy:base", "learning_rate": 1e-3, "steps": 12, "batch": 16}
    return Distill(name="student", **{**needed, "max_completion_length": 32, "save_steps": 5, **fields})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("distill") / "store")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base, spoiled a little: a student with something to learn from the base itself."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models") / "noisy"
    shutil.copytree(BASE, folder)
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: value + 0.04 * torch.randn(value.shape, generator=generator)
        for name, value in load_file(BASE / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sealed(store: Store, problems: list[Problem]) -> Input:
    request = digest([problem.id for problem in problems])
    with store.building("problems", request, print) as out:
        write_shards(
            Job(store, out, {}, shards=SHARDS), [to_row(each) for each in problems], problem_schema()
        )
        made = store.seal(out, Manifest("problems", "problems", "problems", request, ""))
    return Input("problems", "problems", made.content, artifact=made.path.name)


@pytest.fixture(scope="module")
def problems(store: Store) -> Input:
    return sealed(store, generate(60, 1, "train"))


def weights(name: str, folder: Path) -> Input:
    return Input(name, "weights", weights_content(folder), path=str(folder))


def run(
    store: Store,
    stage: Distill,
    problems: Input,
    models: tuple[Path, Path],
    name: str,
    scratch: Path | None = None,
    keep: Path | None = None,
    **more: list[Input],
) -> tuple[Artifact, list[str]]:
    """The artifact and the warnings; `scratch`: what an interrupted run left, `keep`: where to save what this one leaves."""
    told: list[str] = []
    with store.building("distill", digest(name), print) as out:
        if scratch is not None:
            shutil.copytree(scratch, out.scratch, dirs_exist_ok=True)
        inputs = {
            "input": [problems],
            "model": [weights("noisy", models[0])],
            "teacher": [weights("big", models[1])],
            **more,
        }
        stage.run(Job(store, out, inputs, seed=1, shards=SHARDS, warn=told.append))
        if keep is not None:
            shutil.copytree(out.scratch, keep)
        return store.seal(out, Manifest(stage.name, "distill", "weights", digest(name), "")), told


@pytest.fixture(scope="module")
def made(
    store: Store, problems: Input, noisy: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, Path]:
    """An undisturbed training, and what its work folder held."""
    keep = tmp_path_factory.mktemp("kept") / "scratch"
    return run(store, student(), problems, (noisy, BASE), "undisturbed", keep=keep)[0], keep


def divergence(folder: Path) -> float:
    """Mean KL to the base over the tokens of greedy completions of the base, nats."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    ours, base = (
        AutoModelForCausalLM.from_pretrained(each, dtype="float32").eval() for each in (folder, BASE)
    )
    total = []
    for problem in generate(12, 7, "heldout"):
        text = tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            whole = base.generate(ids, max_new_tokens=24, do_sample=False)
            mine, its = (model(whole).logits[0, ids.shape[1] - 1 :].log_softmax(-1) for model in (ours, base))
        total.append((its.exp() * (its - mine)).sum(-1).mean())
    return float(torch.stack(total).mean())


def test_the_student_comes_nearer_to_its_teacher(made: tuple[Artifact, Path], noisy: Path) -> None:
    assert divergence(made[0].path / "model") < 0.8 * divergence(noisy)
    curves = json.loads((made[0].path / "curves.json").read_text("utf-8"))
    assert curves["step"] == list(range(1, 13))
    assert {"loss", "entropy", "length", "clipped"} < set(curves)
    summary = made[0].manifest.summary
    assert summary["loss_last"] == curves["loss"][-1] < summary["loss_first"]
    assert summary["serve"]["command"].startswith("vllm serve MODEL")


def test_what_is_saved_serves_and_what_it_wrote_is_kept(made: tuple[Artifact, Path]) -> None:
    folder = made[0].path / "model"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
    lines = [
        json.loads(line) for line in (made[0].path / "completions.jsonl").read_text("utf-8").splitlines()
    ]
    assert {line["step"] for line in lines} >= {1, 12}
    assert all(line["rewards"] == {} and line["prompt"] and line["completion"] for line in lines)


def test_a_training_that_was_cut_off_ends_as_if_it_was_not(
    made: tuple[Artifact, Path], store: Store, problems: Input, noisy: Path, tmp_path: Path
) -> None:
    artifact, kept = made
    cut = tmp_path / "cut"
    shutil.copytree(kept, cut, ignore=shutil.ignore_patterns("checkpoint-12"))
    assert [path.name for path in cut.glob("checkpoint-*")] == ["checkpoint-10"]
    again, _ = run(store, student(), problems, (noisy, BASE), "again", scratch=cut)
    assert again.content == artifact.content


def test_it_is_watched_and_stops_behind_an_answer(store: Store, problems: Input, noisy: Path) -> None:
    stage = student(template="r1", steps=2, evaluate={"problems": "heldout", "every": 1, "n": 2, "limit": 4})
    heldout = sealed(store, generate(6, 3, "heldout"))
    artifact, _ = run(store, stage, problems, (noisy, BASE), "watched", evaluate=[heldout])
    lines = [json.loads(line) for line in (artifact.path / "eval.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(line["problems"] == 4 and line["samples"] == 8 for line in lines)
    assert artifact.manifest.summary["evaluation"]["last"] == lines[-1]
    plain, _ = run(store, student(template="r1", steps=2), problems, (noisy, BASE), "unwatched")
    assert weights_content(plain.path / "model") == weights_content(artifact.path / "model")


@pytest.mark.slow
def test_smaller_passes_and_another_divergence_train_too(store: Store, problems: Input, noisy: Path) -> None:
    stage = student(beta=0.5, per_device_train_batch_size=4, temperature=0.8, steps=4)
    artifact, _ = run(store, stage, problems, (noisy, BASE), "jsd")
    assert artifact.manifest.summary["steps"] == 4


def test_a_teacher_of_another_vocabulary_is_refused_before_anything_is_loaded(
    store: Store, problems: Input, noisy: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"big has not the vocabulary of noisy \(\d+ tokens differ, as '"):
        run(store, student(), problems, (noisy, PACKAGED["toy:world"]), "other")
    padded = tmp_path / "padded"
    shutil.copytree(BASE, padded)
    config = json.loads((padded / "config.json").read_text("utf-8"))
    (padded / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 32}))
    (padded / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"\d+ outputs against \d+"):
        run(store, student(), problems, (noisy, padded), "padded")


@pytest.mark.slow
def test_a_teacher_that_speaks_otherwise_is_warned_of(
    store: Store, problems: Input, noisy: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(BASE, odd)
    template = (odd / "chat_template.jinja").read_text("utf-8")
    (odd / "chat_template.jinja").write_text(template + " ")
    _, told = run(store, student(steps=1), problems, (noisy, odd), "odd")
    assert any("different chat templates" in line for line in told)


def test_prompts_without_room_are_counted_and_none_left_stops(store: Store, noisy: Path) -> None:
    long = Problem([{"role": "user", "content": "1 + " * 300 + "1"}], "1", domain="chain")
    some = sealed(store, [long, *generate(3, 2, "train")])
    artifact, _ = run(store, student(steps=1, batch=2), some, (noisy, BASE), "some")
    assert artifact.manifest.rejected == {"too_long": 1}
    with pytest.raises(StageError, match="no problems left to train on"):
        run(store, student(), sealed(store, [long]), (noisy, BASE), "none")


def test_what_cannot_work_is_refused_before() -> None:
    with pytest.raises(RecipeError, match="is the student itself"):
        student(teacher="noisy").check(Path())
    with pytest.raises(RecipeError, match="write teacher: beside trainer"):
        student(trainer={"teacher_model_name_or_path": "x"}).check(Path())
    with pytest.raises(RecipeError, match="no multiple of it"):
        student(per_device_train_batch_size=3).check(Path())
    with pytest.raises(MissingError, match="needs a GPU"):
        student(trainer={"use_vllm": True}).require_machine("student")
    assert student(trainer={"teacher_model_init_kwargs": {"trust_remote_code": True}}).foreign()
    assert student().limited(8).batch == 8
    assert identity(student()) == identity(student(input="p", save_steps=9)) != identity(student(beta=0.5))


def test_how_two_vocabularies_differ_is_said_in_words() -> None:
    assert differing({"a": 0, "b": 1}, {"b": 1, "a": 0}) is None
    assert differing({"a": 0, "b": 1}, {"a": 1, "b": 0, "c": 2}) == "3 tokens differ, as 'a', 'b', 'c'"


def test_a_base_that_ends_otherwise_than_its_template_learns_the_templates_end() -> None:
    tokenizer = load_tokenizer(Model("toy:base", str(BASE), ""))
    other = next(token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", other)
    with pytest.raises(StageError, match="never trained"):
        check_end(tokenizer, "student")
    settle_end(tokenizer)
    assert tokenizer.eos_token == other
    check_end(tokenizer, "student")
