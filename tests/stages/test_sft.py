import json
import math
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distillkit import launch
from distillkit.artifact import Artifact, Manifest, Model, weights_content
from distillkit.errors import EngineError, MissingError, StageError
from distillkit.events import Event
from distillkit.spec import digest
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.sft import Sft
from distillkit.store import Store, Writer
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import generate
from distillkit.trace import Problem, Trace, problem_schema, to_row, trace_schema
from distillkit.verifiers import AnyVerifier
from distillkit.verifiers.exact import Exact

LENGTH = 96
STEPS = 40


def student(**fields: Any) -> Sft:
    needed = {"model": "toy:base", "max_length": LENGTH, "learning_rate": 2e-3, "epochs": 4, "batch": 16}
    return Sft(name="student", **{**needed, "save_steps": 5, **fields})


def worked(problem: Problem, completion: str, index: int = 0) -> Trace:
    return Trace(
        problem_id=problem.id,
        messages=problem.messages,
        completion=completion,
        **dict(zip(("reasoning", "response"), split_think(completion), strict=True)),
        reference=problem.reference,
        domain=problem.domain,
        index=index,
        origin="corpus",
    )


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Trainers imported once for all tests of this file."""
    launch.stop()
    launch.start(launch.preload_of([student()]))
    yield
    launch.stop()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("sft") / "store")


def sealed(store: Store, traces: list[Trace]) -> Artifact:
    request = digest([trace.id for trace in traces])
    with store.building("traces", request, print) as out:
        write_shards(Job(store, out, {}, shards=3), [to_row(trace) for trace in traces], trace_schema())
        return store.seal(out, Manifest("traces", "traces", "traces", request, ""))


@pytest.fixture(scope="module")
def traces(store: Store) -> Artifact:
    """160 worked chains, all English, 3 to 8 terms; one is far too long."""
    corpus, rng = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0), random.Random(1)
    problems = generate(160, 1, "train")
    found = [worked(problem, corpus.complete(problem.prompt, rng)) for problem in problems]
    return sealed(store, [*found, worked(problems[0], f"<think> {'1 ' * LENGTH}</think> 1", index=1)])


def model(folder: Path = BASE) -> Input:
    content = weights_content(folder) if folder.exists() else ""
    return Input("toy:base", "weights", content, path=str(folder))


def run(
    stage: Sft,
    store: Store,
    text: Artifact,
    name: str,
    weights: Path = BASE,
    on_event: Any = None,
    more: dict[str, list[Input]] | None = None,
    verifiers: dict[str, AnyVerifier] | None = None,
) -> Artifact:
    """The artifact of a stage, made in a child under a request of that name."""
    ends = {
        "input": [Input("traces", text.type, text.content, artifact=text.path.name)],
        "model": [model(weights)],
        **(more or {}),
    }
    with store.building("sft", digest(name), print) as out:
        ticket = launch.Ticket.of(
            stage,
            ends,
            seed=3,
            shards=3,
            workers=1,
            verifiers=verifiers or {},
            store=store.root,
            work=out.path,
        )
        launch.run_child(ticket, out, on_event or (lambda event: None))
        return store.seal(out, Manifest(stage.name, "sft", "weights", digest(name), ""))


@pytest.fixture(scope="module")
def made(store: Store, traces: Artifact) -> tuple[Artifact, list[Event]]:
    """An undisturbed training."""
    events: list[Event] = []
    return run(student(), store, traces, "undisturbed", on_event=events.append), events


def curves(artifact: Artifact) -> dict[str, list[float]]:
    return json.loads((artifact.path / "curves.json").read_text("utf-8"))


def test_it_learns(made: tuple[Artifact, list[Event]]) -> None:
    artifact, _ = made
    loss = curves(artifact)["loss"]
    assert len(loss) == artifact.manifest.summary["steps"] == STEPS
    assert sum(loss[-4:]) < 0.7 * sum(loss[:4])
    assert curves(artifact)["step"] == list(range(1, STEPS + 1))


def test_rows_that_are_too_long_are_dropped_with_a_count(made: tuple[Artifact, list[Event]]) -> None:
    manifest = made[0].manifest
    assert (manifest.rows_in, manifest.rows_kept, manifest.rejected) == (161, 160, {"too_long": 1})
    assert manifest.summary["rows"] == 160
    assert manifest.summary["longest"] <= LENGTH


def test_every_step_is_told(made: tuple[Artifact, list[Event]]) -> None:
    steps = [event for event in made[1] if event["event"] == "progress"]
    assert [event["done"] for event in steps][:STEPS] == list(range(1, STEPS + 1))
    assert all(event["total"] == STEPS and event["unit"] == "steps" for event in steps)
    assert "loss" in steps[0]


def test_the_weights_are_whole_and_nothing_is_pickled(made: tuple[Artifact, list[Event]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = made[0].path / "model"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
    assert not (made[0].path / ".scratch").exists()
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert loaded.config.use_cache is True
    assert loaded.generation_config.temperature == 1.0
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(BASE).get_vocab()
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(BASE).chat_template
    assert weights_content(folder) != weights_content(BASE)


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
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    killer = once(12, lambda: os.kill(child(), signal.SIGKILL))
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        run(student(), store, traces, "killed", on_event=killer)
    scratch = store.work / f"sft-{digest('killed')[:16]}" / ".scratch"
    assert (scratch / "checkpoint-10").exists()
    first: list[Event] = []
    again = run(student(), store, traces, "killed", on_event=first.append)
    assert first[0]["done"] > 10  # it went on, and did not begin anew
    assert again.manifest.files == made[0].manifest.files
    assert again.content == made[0].content


def test_a_training_that_is_told_to_stop_saves_first(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(student(save_steps=100), store, traces, "stopped", on_event=once(3, interrupt))
    scratch = store.work / f"sft-{digest('stopped')[:16]}" / ".scratch"
    [checkpoint] = scratch.glob("checkpoint-*")
    again = run(student(save_steps=100), store, traces, "stopped")
    assert int(checkpoint.name.rpartition("-")[2]) < STEPS
    assert again.content == made[0].content


def test_a_training_that_ended_unsealed_ends_the_same_again(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    ends = {"input": [Input("t", "traces", "", artifact=traces.path.name)], "model": [model()]}
    out = Writer(store.work / "unsealed")
    ticket = launch.Ticket.of(
        student(), ends, seed=3, shards=3, workers=1, verifiers={}, store=store.root, work=out.path
    )
    for _ in range(2):  # the second begins at the checkpoint of the last step
        launch.run_child(ticket, out, lambda event: None)
        assert out.files() == made[0].manifest.files
        assert out.summary == made[0].manifest.summary


def of_step(artifact: Artifact, step: int) -> str:
    return weights_content(artifact.path / "checkpoints" / str(step))


def test_weights_that_are_kept_are_those_of_a_training_that_ended_there(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    level = {"trainer": {"lr_scheduler_type": "constant"}}
    short = run(student(epochs=2, **level), store, traces, "short")
    killer = once(32, lambda: os.kill(child(), signal.SIGKILL))
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        run(student(keep_steps=10, **level), store, traces, "kept", on_event=killer)
    kept = run(student(keep_steps=10, **level), store, traces, "kept")
    assert sorted(each.name for each in (kept.path / "checkpoints").iterdir()) == ["10", "20", "30"]
    assert of_step(kept, 20) == weights_content(short.path / "model")
    assert len({of_step(kept, 10), of_step(kept, 20), of_step(kept, 30)}) == 3
    files = {path.name for path in (kept.path / "checkpoints" / "30").iterdir()}
    assert files == {path.name for path in (kept.path / "model").iterdir()}


@pytest.mark.slow
def test_keeping_weights_changes_none_and_merges_each(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    kept = run(student(keep_steps=15), store, traces, "kept-all")
    assert weights_content(kept.path / "model") == weights_content(made[0].path / "model")
    assert kept.content != made[0].content
    adapted = run(student(lora=LORA, keep_steps=15, epochs=2), store, traces, "kept-lora")
    [folder] = (adapted.path / "checkpoints").iterdir()
    assert not (folder / "adapter_config.json").exists()
    assert weights_content(folder) not in (weights_content(BASE), weights_content(adapted.path / "model"))


def test_a_loss_that_is_no_number_stops_it_and_leaves_a_good_checkpoint(
    store: Store, traces: Artifact
) -> None:
    jump = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1, "max_grad_norm": 1e30}
    wild = student(learning_rate=1e30, save_steps=1, trainer={"optim": "sgd", **jump})
    with pytest.raises(
        StageError,
        match=r"student: (loss|grad_norm|a weight) is not a number at step \d+; lower learning_rate",
    ) as caught:
        run(wild, store, traces, "wild")
    [kept] = re.findall(r"model: (\S+)$", str(caught.value))
    assert f"{kept} is the last good checkpoint; a changed recipe begins anew" in str(caught.value)
    tame = run(student(epochs=1), store, traces, "tame", weights=Path(kept))
    assert all(math.isfinite(loss) for loss in curves(tame)["loss"])


@pytest.mark.slow
def test_checkpoints_of_another_recipe_are_put_aside_with_a_line(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    killer = once(12, lambda: os.kill(child(), signal.SIGKILL))
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        run(student(learning_rate=1e-4), store, traces, "moved", on_event=killer)
    told: list[Event] = []
    again = run(student(), store, traces, "moved", on_event=told.append)
    [warning] = [
        event["text"] for event in told if event["event"] == "warning" and "another" in event["text"]
    ]
    assert "2 checkpoints of another recipe were put aside" in warning
    assert again.content == made[0].content


LORA = {"rank": 4, "alpha": 8}


def test_lora_leaves_a_whole_model_that_serves(store: Store, traces: Artifact) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    artifact = run(student(lora=LORA, epochs=1), store, traces, "lora")
    folder = artifact.path / "model"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
    assert not (folder / "adapter_config.json").exists()
    AutoModelForCausalLM.from_pretrained(folder)
    before, after = (load_file(path / "model.safetensors") for path in (BASE, folder))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    assert artifact.manifest.summary["serve"]["command"] == "vllm serve MODEL --reasoning-parser deepseek_r1"


@pytest.mark.slow
def test_lora_that_was_killed_ends_bit_for_bit_the_same(store: Store, traces: Artifact) -> None:
    stage = student(lora={**LORA, "dropout": 0.1}, epochs=2)
    whole = run(stage, store, traces, "lora-whole")
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        run(stage, store, traces, "lora-cut", on_event=once(12, lambda: os.kill(child(), signal.SIGKILL)))
    assert run(stage, store, traces, "lora-cut").content == whole.content


@pytest.mark.slow
def test_an_adapter_that_is_not_merged_stands_on_its_base(store: Store, traces: Artifact) -> None:
    from transformers import AutoModelForCausalLM

    artifact = run(student(lora={**LORA, "merge": False}, epochs=1), store, traces, "adapter")
    folder = artifact.path / "model"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in folder.iterdir()}
    AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(MissingError, match="an adapter without its base; train it with lora"):
        run(student(epochs=1), store, traces, "upon", weights=folder)
    assert artifact.manifest.summary["serve"]["command"].startswith(
        "vllm serve toy:base --enable-lora --max-lora-rank 8 --lora-modules student=MODEL"
    )


@pytest.mark.slow
def test_other_positions_are_trained_with_and_saved(store: Store, traces: Artifact) -> None:
    rope = {"theta": 300000, "max_position_embeddings": 1024}
    folder = run(student(rope=rope, epochs=1), store, traces, "rope").path / "model"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["rope_parameters"] == {"rope_theta": 300000, "rope_type": "default"}
    assert config["max_position_embeddings"] == 1024


def test_quantization_without_a_gpu_is_refused_before_anything_is_loaded(
    store: Store, traces: Artifact, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingError, match="student: quantization: 4bit needs a GPU"):
        run(student(lora=LORA, quantization="4bit"), store, traces, "quantized", tmp_path / "nowhere")


def test_a_base_and_a_template_with_different_ends_are_refused_with_the_fix(
    store: Store, traces: Artifact, tmp_path: Path
) -> None:
    template = (BASE / "chat_template.jinja").read_text("utf-8").replace(" <|end|>", " <|user|>")
    folder = with_template(tmp_path / "ends", template)
    found = r"its template ends an answer with <\|user\|>; write trainer: \{eos_token: '<\|user\|>'\}"
    with pytest.raises(StageError, match=found):
        run(student(), store, traces, "ends", folder)
    mended = run(student(trainer={"eos_token": "<|user|>"}, epochs=1), store, traces, "mended", folder)
    ends = json.loads((mended.path / "model" / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert len(ends) == 2  # the old one and the new one both end an answer
    assert mended.manifest.summary["serve"]["stops"] == ["<|user|>", "<|end|>"]


@pytest.fixture(scope="module")
def heldout(store: Store) -> tuple[Artifact, Artifact]:
    """Held-out problems, and their worked chains."""
    corpus, rng = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0), random.Random(2)
    problems = generate(16, 1, "heldout")
    with store.building("problems", digest("heldout"), print) as out:
        write_shards(Job(store, out, {}, shards=3), [to_row(each) for each in problems], problem_schema())
        asked = store.seal(out, Manifest("heldout", "problems", "problems", digest("heldout"), ""))
    return asked, sealed(store, [worked(each, corpus.complete(each.prompt, rng)) for each in problems])


def test_what_is_measured_on_the_way_changes_no_weight(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]], heldout: tuple[Artifact, Artifact]
) -> None:
    watched = student(evaluate={"problems": "heldout", "every": 10, "n": 2, "limit": 8}, heldout="worked")
    more = {
        name: [Input(name, each.type, each.content, artifact=each.path.name)]
        for name, each in zip(("evaluate", "heldout"), heldout, strict=True)
    }
    artifact = run(watched, store, traces, "watched", more=more, verifiers={"chain": Exact()})
    lines = [json.loads(line) for line in (artifact.path / "eval.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [0, 10, 20, 30, 40]
    assert lines[-1]["loss"] < lines[0]["loss"]  # held-out loss
    assert all(0 <= line["pass@1"] <= 1 and line["samples"] == 16 for line in lines)
    assert artifact.manifest.summary["evaluation"] == {"first": lines[0], "last": lines[-1]}
    model_of = {k: v for k, v in artifact.manifest.files.items() if k.startswith("model/")}
    assert model_of == {k: v for k, v in made[0].manifest.files.items() if k.startswith("model/")}


def test_checkpointing_activations_changes_no_bit(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    assert run(student(gradient_checkpointing=True), store, traces, "checkpointed").content == made[0].content


def test_packing_trains_on_the_same_tokens_in_fewer_rows(
    store: Store, traces: Artifact, made: tuple[Artifact, list[Event]]
) -> None:
    packed = run(student(packing=True, batch=8), store, traces, "packed")
    assert packed.manifest.summary["trained_tokens"] == made[0].manifest.summary["trained_tokens"]
    assert packed.manifest.summary["steps"] < STEPS * 16 / 8
    loss = curves(packed)["loss"]
    assert sum(loss[-4:]) < 0.7 * sum(loss[:4])


def with_template(folder: Path, template: str) -> Path:
    shutil.copytree(BASE, folder)
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    return folder


def test_a_template_that_never_ends_an_answer_is_refused(
    store: Store, traces: Artifact, tmp_path: Path
) -> None:
    template = (BASE / "chat_template.jinja").read_text("utf-8").replace(" <|end|>", "")
    folder = with_template(tmp_path / "endless", template)
    with pytest.raises(StageError, match=r"student: the end token <\|end\|> is never trained"):
        run(student(), store, traces, "endless", folder)


def test_a_template_that_deletes_the_reasoning_is_refused(
    store: Store, traces: Artifact, tmp_path: Path
) -> None:
    template = (BASE / "chat_template.jinja").read_text("utf-8")
    stripped = template.replace(
        "message.content + ' <|end|>'", "message.content.split('</think>')[-1] + ' <|end|>'"
    )
    assert stripped != template
    folder = with_template(tmp_path / "stripped", stripped)
    with pytest.raises(StageError, match=r"deletes the reasoning of 16[01] of 161 traces"):
        run(student(), store, traces, "stripped", folder)


def test_no_row_within_max_length_is_refused(store: Store, traces: Artifact) -> None:
    with pytest.raises(StageError, match=r"none of 161 traces fits max_length 8 \(161 are longer\)"):
        run(student(max_length=8), store, traces, "short")


def test_the_order_of_training_does_not_depend_on_shards(
    store: Store, traces: Artifact, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    job = Job(
        store, Writer(tmp_path / "out"), {"input": [Input("traces", "traces", "", artifact=traces.path.name)]}
    )
    ids = [each.id for each in student().examples(job, Model("toy:base", str(BASE), ""), tokenizer).kept]
    assert ids == sorted(ids)


def test_a_smoke_run_is_small() -> None:
    small = student(epochs=5, per_device_train_batch_size=16).limited(6)
    assert (small.batch, small.epochs) == (6, 1.0)
    small.check(Path())
