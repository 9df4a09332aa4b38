"""Several processes: shares of a batch, DeepSpeed's configuration, and real ranks that end as one process does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from distillkit import launch, rank
from distillkit.artifact import Artifact, Manifest, weights_content
from distillkit.errors import DistillkitError, EngineError, MissingError, RecipeError
from distillkit.events import Event
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.grpo import Grpo
from distillkit.stages.sft import Sft
from distillkit.store import Store, Writer
from distillkit.text import split_think
from distillkit.ticket import LOG
from distillkit.toy import BASE
from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import generate
from distillkit.trace import Trace, problem_schema, to_row, trace_schema
from distillkit.training import parallel
from distillkit.verifiers import Exact

STEPS = 10

deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def student(**fields: Any) -> Sft:
    needed = {"model": "toy:base", "max_length": 96, "learning_rate": 2e-3, "epochs": 1, "batch": 16}
    return Sft(name="student", **{**needed, "save_steps": 4, **fields})


def zero(**fields: Any) -> Grpo:
    needed = {
        "model": "toy:base",
        "learning_rate": 1e-3,
        "steps": 6,
        "prompts_per_step": 4,
        "num_generations": 4,
        "max_completion_length": 48,
        "rewards": {"accuracy": 1.0, "format": 0.1},
        "save_steps": 2,
    }
    return Grpo(name="zero", **{**needed, **fields})


def test_one_process_is_not_spread_and_deepspeed_is() -> None:
    assert not student().spread
    assert student(processes=2).spread and student(machines=2).spread and student(parallel="zero3").spread
    assert student(processes=4, machines=2).world_size == 8


def test_the_batch_is_shared_out() -> None:
    stage = student(processes=4, per_device_train_batch_size=2)
    assert stage.share(16) == 4 and stage.rows_per_pass(16, 96) == 2
    assert student(processes=4).rows_per_pass(16, 96) == 4  # all of its share at once
    with pytest.raises(RecipeError, match="3 processes cannot share the 16 rows of a step evenly"):
        student(processes=3).check(Path())
    with pytest.raises(RecipeError, match="the 4 rows of a step are no multiple of it"):
        student(processes=4, per_device_train_batch_size=3).check(Path())
    with pytest.raises(RecipeError, match="16 processes cannot share the 8 rows"):
        zero(processes=16, prompts_per_step=2).check(Path())


def test_how_many_processes_is_part_of_what_comes_out() -> None:
    assert (
        identity(student())
        != identity(student(processes=2))
        != identity(student(processes=2, parallel="zero2"))
    )


def test_offload_is_for_deepspeed() -> None:
    with pytest.raises(RecipeError, match=r"stages.student.offload: is for parallel: zero2 or zero3"):
        student(offload=True).check(Path())


def test_a_recipe_cannot_hand_deepspeed_its_own_file() -> None:
    with pytest.raises(RecipeError, match="deepspeed: may not be set: write parallel: zero2 or zero3"):
        student(trainer={"deepspeed": "mine.json"}).check(Path())


def test_the_configuration_of_deepspeed_follows_from_the_recipe() -> None:
    assert student(processes=2).launched() == {}
    config = student(processes=2, parallel="zero3").launched()["deepspeed"]
    assert config["zero_optimization"] == {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}
    assert config["gradient_accumulation_steps"] == config["train_micro_batch_size_per_gpu"] == "auto"
    off = parallel.deepspeed_config(3, offload=True)["zero_optimization"]
    assert off["offload_optimizer"] == off["offload_param"] == {"device": "cpu"}
    assert "offload_param" not in parallel.deepspeed_config(2, offload=True)["zero_optimization"]


def test_fewer_gpus_than_processes_are_missing() -> None:
    with pytest.raises(
        MissingError, match=r"asks for 4 GPUs, and this machine has 2; set .*processes=2"
    ) as caught:
        parallel.require_gpus("student", 4, 2)
    assert caught.value.exit_code == 3
    parallel.require_gpus("student", 2, 2)
    parallel.require_gpus("student", 4, 0)  # on the CPU


def test_fewer_processes_than_asked_for_are_an_error() -> None:
    with pytest.raises(EngineError, match="student: asked for 2 processes, got 1"):
        parallel.require_world("student", 2, 1)


def test_a_stage_that_nobody_launched_does_not_run_alone(tmp_path: Path) -> None:
    out = Writer(tmp_path / "work")
    ticket = launch.Ticket.of(
        student(processes=2), {}, seed=0, shards=1, workers=1, verifiers={}, store=tmp_path, work=out.path
    )
    with pytest.raises(EngineError, match="student: asked for 2 processes, got 1"):
        launch.run_here(ticket, out, lambda event: None)


def test_deepspeed_is_asked_for_before_anything_is_loaded() -> None:
    assert "deepspeed" in student(parallel="zero2").packages()
    assert "deepspeed" not in student(processes=2).packages()


def test_the_other_machines_are_told_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTILLKIT_HOST", "first.local")
    found = rank.join_command("student", 8, 2, tmp_path)
    assert found.startswith("torchrun --nnodes 2 --nproc_per_node 8 --node_rank K --master_addr first.local ")
    assert found.endswith(f"-m distillkit.rank {tmp_path} student")


def test_a_follower_writes_nothing_of_the_artifact(tmp_path: Path) -> None:
    lead, other = Writer(tmp_path / "work"), rank.Follower(tmp_path / "work", 1)
    other.add_text("curves.json", "{}")
    assert other.scratch == lead.scratch
    assert lead.files() == {}


# From here on real processes.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store, and trainers imported once for all tests of this file."""
    launch.stop()
    launch.start(launch.preload_of([student()]))
    yield Store(tmp_path_factory.mktemp("parallel") / "store")
    launch.stop()


@pytest.fixture(scope="module")
def traces(store: Store) -> Artifact:
    """160 worked chains."""
    corpus, rng = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0), random.Random(1)
    rows = []
    for problem in generate(160, 1, "train"):
        completion = corpus.complete(problem.prompt, rng)
        reasoning, response = split_think(completion)
        trace = Trace(
            problem_id=problem.id,
            messages=problem.messages,
            completion=completion,
            reasoning=reasoning,
            response=response,
            reference=problem.reference,
            domain=problem.domain,
            index=0,
            origin="corpus",
        )
        rows.append(to_row(trace))
    return sealed(store, rows, "traces", trace_schema())


@pytest.fixture(scope="module")
def problems(store: Store) -> Artifact:
    return sealed(store, [to_row(each) for each in generate(24, 1, "train")], "problems", problem_schema())


def sealed(store: Store, rows: list[dict[str, Any]], kind: str, schema: Any) -> Artifact:
    with store.building(kind, digest(kind), print) as out:
        write_shards(Job(store, out, {}, shards=3), rows, schema)
        return store.seal(out, Manifest(kind, kind, kind, digest(kind), ""))


def ticket_of(stage: Sft | Grpo, store: Store, text: Artifact, work: Path) -> launch.Ticket:
    ends = {
        "input": [Input(text.type, text.type, text.content, artifact=text.path.name)],
        "model": [Input("toy:base", "weights", weights_content(BASE), path=str(BASE))],
    }
    return launch.Ticket.of(
        stage, ends, seed=3, shards=3, workers=1, verifiers={"chain": Exact()}, store=store.root, work=work
    )


def run(
    stage: Sft | Grpo,
    store: Store,
    text: Artifact,
    name: str,
    on_event: Callable[[Event], None] | None = None,
) -> Artifact:
    """The artifact of a stage, made by its processes under a request of that name."""
    with store.building(stage.kind, digest(name), print) as out:
        ticket = ticket_of(stage, store, text, out.path)
        launch.run_child(ticket, out, on_event or (lambda event: None))
        return store.seal(out, Manifest(stage.name, stage.kind, "weights", digest(name), ""))


def losses(artifact: Artifact) -> list[float]:
    found: list[float] = json.loads((artifact.path / "curves.json").read_text("utf-8"))["loss"]
    return found


@pytest.fixture(scope="module")
def alone(store: Store, traces: Artifact) -> Artifact:
    """The training of one process."""
    return run(student(), store, traces, "alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "way", "offload"),
    [
        (2, "ddp", False),
        pytest.param(2, "zero2", False, marks=deepspeed),
        pytest.param(2, "zero3", False, marks=deepspeed),
        pytest.param(1, "zero3", True, marks=deepspeed),
    ],
)
def test_several_processes_learn_what_one_does(
    store: Store, traces: Artifact, alone: Artifact, processes: int, way: str, offload: bool
) -> None:
    stage = student(processes=processes, parallel=way, offload=offload)
    events: list[Event] = []
    made = run(stage, store, traces, f"{processes} {way} {offload}", events.append)
    assert losses(made) == pytest.approx(losses(alone), abs=1e-4)
    assert made.manifest.files.keys() == alone.manifest.files.keys()
    assert made.manifest.summary.keys() == alone.manifest.summary.keys()
    steps = [event["done"] for event in events if event["event"] == "progress"]
    assert steps[:STEPS] == list(range(1, STEPS + 1))  # told once, not once per process
    assert apart(made, alone) < 1e-2


def apart(one: Artifact, other: Artifact) -> float:
    """The largest difference between two weights in the same place."""
    from safetensors.torch import load_file

    left, right = (load_file(each.path / "model" / "model.safetensors") for each in (one, other))
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found[1:]


def ranks() -> list[int]:
    """The ranks that train just now: server, child with the agent, ranks."""
    assert launch._server is not None
    [child] = children(launch._server._process.pid)
    return [
        pid for pid in children(child) if b"multiprocessing" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def once(step: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """A listener that acts at the first event of a step or a later one."""
    left = [act]

    def listen(event: Event) -> None:
        if left and event.get("done", 0) >= step:
            left.pop()()

    return listen


def gone(pids: list[int]) -> bool:
    """Whether processes end before long."""
    until = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}/stat").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}/stat").exists() for pid in pids)


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_others_along_and_a_second_run_ends_bit_for_bit(
    store: Store, problems: Artifact
) -> None:
    stage = zero(processes=2)
    whole = run(stage, store, problems, "whole")
    seen: list[int] = []

    def kill() -> None:
        seen.extend(ranks())
        os.kill(seen[-1], signal.SIGKILL)

    with pytest.raises(
        EngineError, match=r"zero: process [01] of 2 was killed by SIGKILL .*others were stopped"
    ):
        run(stage, store, problems, "killed", once(5, kill))
    assert len(seen) == 2 and gone(seen)
    first: list[Event] = []
    again = run(stage, store, problems, "killed", first.append)
    assert first[0]["done"] > 2  # it went on
    assert again.manifest.files == whole.manifest.files


@pytest.mark.slow
def test_ranks_that_are_told_to_stop_save_first(store: Store, traces: Artifact) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stage = student(processes=2, save_steps=100)
    whole = run(stage, store, traces, "two")
    with pytest.raises(KeyboardInterrupt):
        run(stage, store, traces, "stopped", once(3, interrupt))
    scratch = store.work / f"sft-{digest('stopped')[:16]}" / ".scratch"
    [checkpoint] = scratch.glob("checkpoint-*")
    assert 3 <= int(checkpoint.name.rpartition("-")[2]) < STEPS
    assert run(stage, store, traces, "stopped").content == whole.content


@pytest.mark.slow
@deepspeed
@pytest.mark.parametrize("way", ["zero2", "zero3"])
def test_reinforcement_learning_goes_on_after_a_kill_with_deepspeed(
    store: Store, problems: Artifact, way: str
) -> None:
    stage = zero(processes=2, parallel=way, beta=0.01)

    def kill() -> None:
        for pid in ranks():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(EngineError, match="was killed by SIGKILL"):
        run(stage, store, problems, way, once(4, kill))
    first: list[Event] = []
    made = run(stage, store, problems, way, first.append)
    assert first[0]["done"] > 2
    assert len(losses(made)) == 6


@pytest.mark.slow
def test_an_error_of_every_rank_is_told_once_and_as_itself(store: Store, traces: Artifact) -> None:
    wild = student(processes=2, learning_rate=1e30, trainer={"max_grad_norm": 1e30})
    with pytest.raises(DistillkitError, match=r"student: \w+ is not a number at step \d+") as caught:
        run(wild, store, traces, "wild")
    assert "\n" not in str(caught.value)


PARENT = """
import json, sys
from pathlib import Path
from distillkit import launch
from distillkit.store import Writer
from distillkit.ticket import Ticket

ticket = Ticket(**json.loads(Path(sys.argv[1]).read_text()))
launch.start(())
launch.run_child(ticket, Writer(Path(ticket.work)), lambda event: print(event.get("done", 0), flush=True))
"""


def parent_of(ticket: launch.Ticket, **environment: str) -> "subprocess.Popen[str]":
    """A process that runs the first machine's part."""
    file = Path(ticket.work).with_suffix(".ticket")
    file.write_text(json.dumps(vars(ticket)))
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends the orphans")
def test_ranks_die_with_a_parent_that_gets_no_chance(store: Store, traces: Artifact, tmp_path: Path) -> None:
    stage = student(processes=2, epochs=500)
    parent = parent_of(ticket_of(stage, store, traces, Writer(tmp_path / "work").path))
    assert parent.stdout is not None and parent.stdout.readline()  # a first step
    below = descendants(parent.pid)
    assert len(below) >= 4  # the server, the child with the agent, two ranks
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(below)


@pytest.mark.slow
def test_two_machines_train_together(store: Store, traces: Artifact, alone: Artifact, tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"DISTILLKIT_HOST": "127.0.0.1", "DISTILLKIT_PORT": port}
    stage, out = student(machines=2), Writer(tmp_path / "work")
    ticket = ticket_of(stage, store, traces, out.path)
    first = parent_of(ticket, **here)
    os.environ.update(here)
    try:
        _, *arguments = rank.join_command("student", 1, 2, store.root).replace(" K ", " 1 ").split()
    finally:
        for name in here:
            del os.environ[name]
    log = (tmp_path / "second.txt").open("w")
    second = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert first.wait(300) == 0, (out.scratch / LOG).read_text()
    assert second.wait(60) == 0, (tmp_path / "second.txt").read_text()
    found = json.loads((out.path / "curves.json").read_text())["loss"]
    assert found == pytest.approx(losses(alone), abs=1e-4)
    assert not (store.root / "join" / "student.json").exists()
