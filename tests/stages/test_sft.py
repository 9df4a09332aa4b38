import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distillkit import launch
from distillkit.artifact import Artifact, Manifest, weights_content
from distillkit.errors import EngineError, StageError
from distillkit.events import Event
from distillkit.spec import digest
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.sft import Sft
from distillkit.store import Store, Writer
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import generate
from distillkit.trace import Problem, Trace, to_row, trace_schema

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
    return Input("toy:base", "weights", weights_content(folder), path=str(folder))


def run(
    stage: Sft, store: Store, text: Artifact, name: str, weights: Path = BASE, on_event: Any = None
) -> Artifact:
    """The artifact of a stage, made in a child under a request of that name."""
    ends = {
        "input": [Input("traces", text.type, text.content, artifact=text.path.name)],
        "model": [model(weights)],
    }
    with store.building("sft", digest(name), print) as out:
        ticket = launch.Ticket.of(
            stage, ends, seed=3, shards=3, workers=1, verifiers={}, store=store.root, work=out.path
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


def test_a_loss_that_is_no_number_stops_it(store: Store, traces: Artifact) -> None:
    wild = student(learning_rate=1e30, trainer={"max_grad_norm": 1e30})
    with pytest.raises(StageError, match=r"student: loss is not a number at step \d+; lower learning_rate"):
        run(wild, store, traces, "wild")


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
    ids = [each.id for each in student().examples(job, tokenizer).kept]
    assert ids == sorted(ids)


def test_a_smoke_run_is_small() -> None:
    small = student(epochs=5, per_device_train_batch_size=16).limited(6)
    assert (small.batch, small.epochs) == (6, 1.0)
    small.check(Path())
