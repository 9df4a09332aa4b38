import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from distillkit import launch
from distillkit.errors import EngineError, MissingError
from distillkit.events import Event, Events
from distillkit.launch import Ticket, run_child, run_here
from distillkit.stages.base import Input, Stage
from distillkit.stages.problems import Problems
from distillkit.stages.sft import Sft
from distillkit.store import Store, Writer
from distillkit.ticket import ERROR, LOG, PROGRESS, RESULT, gpus_seen


@pytest.fixture(autouse=True)
def own_server() -> Iterator[None]:
    """A server that knows the environment of this very test."""
    launch.stop()
    yield
    launch.stop()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def problems(**fields: Any) -> Problems:
    return Problems(**{"name": "problems", "toy": "chain", "limit": 40, **fields})


def ticket_of(stage: Stage, store: Store, out: Writer, **fields: Any) -> Ticket:
    needed = {"seed": 0, "shards": 4, "workers": 1, "verifiers": {}, "store": store.root, "work": out.path}
    return Ticket.of(stage, **{"inputs": {}, **needed, **fields})


def rows_of(out: Writer) -> int:
    return sum(shard.rows for shard in out.tables()["rows"])


def heard() -> tuple[list[Event], Any]:
    events: list[Event] = []
    return events, events.append


def server() -> int:
    assert launch._server is not None
    return launch._server._process.pid


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    """Whether a process ends before long."""
    until = time.monotonic() + PATIENCE_S
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def test_a_child_makes_what_this_process_would_make(store: Store, tmp_path: Path) -> None:
    here, there = Writer(tmp_path / "here"), Writer(tmp_path / "there")
    run_here(ticket_of(problems(), store, here), here, heard()[1])
    run_child(ticket_of(problems(), store, there), there, heard()[1])
    assert there.tables() == here.tables()
    assert (there.rows_in, there.rows_kept, there.counts) == (here.rows_in, here.rows_kept, here.counts)
    assert rows_of(there) == 40
    assert there.telemetry["peak_memory_mib"] > 10


def test_an_error_of_ours_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    stage = Sft(name="student", model="./gone", learning_rate=1e-3, max_length=64)
    ends = {"model": [Input("./gone", "weights", "0", path=str(tmp_path / "gone"))]}
    out = Writer(tmp_path / "work")
    with pytest.raises(MissingError, match=r"./gone: no model in .*gone") as caught:
        run_child(ticket_of(stage, store, out, inputs=ends), out, heard()[1])
    assert "\n" not in str(caught.value)
    assert not (out.scratch / RESULT).exists()


def test_a_crash_is_told_with_the_end_of_its_log_and_no_secret(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijkl")
    out = Writer(tmp_path / "work")
    ticket = ticket_of(problems(), store, out)
    ticket.stage["limit"] = "hf_abcdefghijkl"  # refused by the child, whose log then shows the value
    with pytest.raises(EngineError) as caught:
        run_child(ticket, out, heard()[1])
    text = str(caught.value)
    assert "problems: its process ended with exit code 1" in text
    assert str(out.scratch / LOG) in text
    assert "ValidationError" in (out.scratch / LOG).read_text("utf-8")
    assert "hf_abcdefghijkl" in (out.scratch / LOG).read_text("utf-8")
    assert "hf_abcdefghijkl" not in text
    assert "<HF_TOKEN>" in text


LONG = {"toy": "chain", "limit": 3_000_000, "terms": (8, 12)}
"""Problems that take far longer than any test."""


def child_of(server_pid: int) -> int:
    """The pid of the child, once it is there."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = Path(f"/proc/{server_pid}/task/{server_pid}/children").read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError("no child was started")


class Killer:
    """Ends the child from outside while `run_child` waits: called by a thread."""

    def __init__(self, number: int) -> None:
        launch.start(())
        self.pid = 0
        self.number = number
        self.thread = threading.Thread(target=self.kill)
        self.thread.start()

    def kill(self) -> None:
        self.pid = child_of(server())
        time.sleep(0.3)  # past its first lines, so that its handlers are set
        os.kill(self.pid, self.number)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, r"was killed by SIGKILL \(as the system does when memory runs out\)"),
        (signal.SIGSEGV, "was killed by SIGSEGV"),
        (signal.SIGTERM, "was told to stop"),
    ],
)
def test_a_child_that_is_killed_is_told_as_such(
    store: Store, tmp_path: Path, number: int, message: str
) -> None:
    out = Writer(tmp_path / "work")
    killer = Killer(number)
    with pytest.raises(EngineError, match=message):
        run_child(ticket_of(problems(**LONG), store, out), out, heard()[1])
    killer.thread.join()
    assert not alive(killer.pid)
    other = Writer(tmp_path / "other")
    run_child(ticket_of(problems(), store, other), other, heard()[1])  # the server goes on
    assert rows_of(other) == 40


def test_what_interrupts_the_parent_ends_the_child(store: Store, tmp_path: Path) -> None:
    launch.start(())
    out = Writer(tmp_path / "work")
    pids: list[int] = []

    def interrupt() -> None:
        pids.append(child_of(server()))
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_child(ticket_of(problems(**LONG), store, out), out, heard()[1])
    thread.join()
    assert gone(pids[0])
    assert not (out.scratch / ERROR).exists()


def test_a_listener_that_fails_fails_the_run_and_ends_the_child(store: Store, tmp_path: Path) -> None:
    class Full(Exception):
        pass

    def listener(event: Event) -> None:
        raise Full

    launch.start(())
    out = Writer(tmp_path / "work")
    pids: list[int] = []

    def report() -> None:
        """Tell a progress as the child would."""
        pids.append(child_of(server()))
        Events(out.scratch / PROGRESS).tell("progress", done=1, total=2)

    thread = threading.Thread(target=report)
    thread.start()
    with pytest.raises(Full):
        run_child(ticket_of(problems(**LONG), store, out), out, listener)
    thread.join()
    assert gone(pids[0])
    other = Writer(tmp_path / "other")
    run_child(ticket_of(problems(), store, other), other, heard()[1])
    assert rows_of(other) == 40


PARENT = """
import sys
from pathlib import Path
from distillkit import launch
from distillkit.store import Store, Writer
from distillkit.ticket import ERROR, LOG, PROGRESS, RESULT, gpus_seen
from distillkit.stages.problems import Problems

stage = Problems(name="problems", toy="chain", limit=3_000_000, terms=(8, 12))
root = Path(sys.argv[1])
launch.start(())
print(launch._server._process.pid, flush=True)
out = Writer(root / "work")
ticket = launch.Ticket.of(
    stage, {}, seed=0, shards=4, workers=1, verifiers={}, store=Store(root / "store").root, work=out.path
)
launch.run_child(ticket, out, print)
"""


def start_parent(root: Path) -> tuple[subprocess.Popen[str], int, int]:
    """A process that runs a long stage, its server's pid and its child's."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    return parent, pid, child_of(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends the orphans")
def test_a_child_dies_with_a_parent_that_gets_no_chance(tmp_path: Path) -> None:
    parent, server_pid, child = start_parent(tmp_path)
    assert os.getpgid(child) == os.getpgid(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(child)
    assert gone(server_pid)


def test_ctrl_c_in_a_terminal_reaches_all_and_prints_nothing_of_the_child(tmp_path: Path) -> None:
    parent, server_pid, child = start_parent(tmp_path)
    time.sleep(0.3)
    for pid in (parent.pid, server_pid, child):  # what a terminal does to a foreground process group
        os.kill(pid, signal.SIGINT)
    out, error = parent.communicate(timeout=PATIENCE_S)
    assert gone(child)
    assert gone(server_pid)
    assert out == ""
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert "run_and_tell" not in error
    assert "KeyboardInterrupt" not in (tmp_path / "work" / ".scratch" / LOG).read_text("utf-8")


def test_a_dead_server_is_replaced(store: Store, tmp_path: Path) -> None:
    launch.start(())
    os.kill(server(), signal.SIGKILL)
    assert gone(server())
    out = Writer(tmp_path / "work")
    run_child(ticket_of(problems(), store, out), out, heard()[1])
    assert rows_of(out) == 40


def test_old_outcomes_are_not_taken_for_new_ones(store: Store, tmp_path: Path) -> None:
    out = Writer(tmp_path / "work")
    for name in (RESULT, ERROR, PROGRESS):
        (out.scratch / name).write_text('{"event": "progress", "class": "StageError", "text": "old"}\n')
    events, listener = heard()
    run_child(ticket_of(problems(), store, out), out, listener)
    assert events == []
    assert rows_of(out) == 40


def environment_of_server(store: Store, work: Path) -> dict[str, str]:
    """The environment of the server, once it has served."""
    launch.stop()
    out = Writer(work)
    run_child(ticket_of(problems(), store, out), out, heard()[1])
    pairs = Path(f"/proc/{server()}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_threads_are_a_fixed_number(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("DISTILLKIT_THREADS", raising=False)
    found = environment_of_server(store, tmp_path / "two")
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == ("2", "2")
    assert found["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.setenv("DISTILLKIT_THREADS", "1")
    assert environment_of_server(store, tmp_path / "one")["OMP_NUM_THREADS"] == "1"


def test_only_trainers_preload_a_trainer() -> None:
    student = Sft(name="student", model="toy:base", learning_rate=1e-3, max_length=64)
    assert launch.preload_of([problems()]) == []
    assert "trl.trainer.grpo_trainer" in launch.preload_of([problems(), student])


def test_hours_are_counted_in_gpus_that_a_stage_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 2)))
    assert gpus_seen() == 2
    monkeypatch.delitem(sys.modules, "torch")
    assert gpus_seen() == 0
