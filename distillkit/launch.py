"""Run one stage: here, or in a child process, so that a model's memory is truly gone before the next stage.

Children are forked from a server process that imports the heavy libraries while the first stages still run:
TRL alone takes seconds to import, and a recipe starts many children. Such a child has its output in a log,
tells its progress in a file, and dies with its parent however that one dies.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from pydantic import TypeAdapter

from distillkit.artifact import Store, Writer, write_text
from distillkit.errors import DistillkitError, EngineError, MissingError, RecipeError, StageError
from distillkit.events import Event, Events, read_events
from distillkit.executor import executor_for
from distillkit.stages import AnyStage
from distillkit.stages.base import Input, Job, Stage
from distillkit.training.config import Training
from distillkit.verifiers import AnyVerifier

Listener = Callable[[Event], None]

PRELOAD = ("torch", "transformers.models.qwen3.modeling_qwen3", "transformers.generation")
"""What every child with a model needs."""

PRELOAD_TRAINERS = ("datasets", "trl.trainer.sft_trainer", "trl.trainer.grpo_trainer")
"""What a child that trains needs besides."""

HIDDEN = ("vllm",)
"""Left out while preloading: TRL imports vLLM where it finds it, 4 s and 200 MB that a CPU run never uses."""

THREADS_VARIABLE = "DISTILLKIT_THREADS"
DEFAULT_THREADS = 2
"""Fixed whatever the machine has: the order of a sum, and so the last bit of a weight, depends on it."""

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OPENBLAS_NUM_THREADS": "1",  # its threads would start in the server, before the fork
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads cost most of a machine that has other work
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for a GPU must not initialise it before the fork
}

INTERRUPTED = 130
"""Exit code of a child that was told to stop and did so in good order."""

GRACE_S = 120.0
"""How long a child that was told to stop may take, to finish a step and save a checkpoint."""

POLL_S = 0.1
TAIL_LINES = 8
RESULT, ERROR, PROGRESS, LOG = "result.json", "error.json", "progress.jsonl", "log.txt"


@dataclass(frozen=True)
class Ticket:
    """Everything a child needs to run one stage, as JSON."""

    name: str
    stage: dict[str, Any]
    verifiers: dict[str, dict[str, Any]]
    inputs: dict[str, list[dict[str, Any]]]
    seed: int
    shards: int
    workers: int
    store: str
    work: str
    recipe: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stage: Stage,
        inputs: dict[str, list[Input]],
        *,
        seed: int,
        shards: int,
        workers: int,
        verifiers: dict[str, AnyVerifier],
        store: Path,
        work: Path,
        recipe: str = "",
        environment: dict[str, str] | None = None,
    ) -> Self:
        """The ticket of a stage with resolved inputs; `work` is the work directory of its artifact."""
        return cls(
            name=stage.name,
            stage=stage.model_dump(mode="json"),
            verifiers={domain: verifier.model_dump(mode="json") for domain, verifier in verifiers.items()},
            inputs={slot: [asdict(each) for each in ends] for slot, ends in inputs.items()},
            seed=seed,
            shards=shards,
            workers=workers,
            store=str(store.resolve()),
            work=str(work.resolve()),
            recipe=recipe,
            environment=environment or {},
        )

    @property
    def scratch(self) -> Path:
        """Where the child leaves its log, its progress and its outcome."""
        return Path(self.work) / ".scratch"


def run_here(ticket: Ticket, out: Writer, on_event: Listener) -> None:
    """Run a stage in this process, writing to `out`."""

    def progress(done: int, total: int, **facts: Any) -> None:
        on_event({"event": "progress", "done": done, "total": total, **facts})

    def warn(text: str) -> None:
        on_event({"event": "warning", "text": text})

    stage: AnyStage = TypeAdapter(AnyStage).validate_python(ticket.stage)
    verifiers = TypeAdapter(dict[str, AnyVerifier]).validate_python(ticket.verifiers)
    job = Job(
        store=Store(Path(ticket.store)),
        out=out,
        inputs={slot: [Input(**each) for each in ends] for slot, ends in ticket.inputs.items()},
        seed=ticket.seed,
        shards=ticket.shards,
        verifiers=verifiers,
        executor=executor_for(ticket.workers),
        progress=progress,
        warn=warn,
        recipe=ticket.recipe,
    )
    stage.run(job)


def preload_of(stages: Sequence[Stage]) -> list[str]:
    """The modules that the children of these stages need, in the order of their need."""
    trainers = PRELOAD_TRAINERS if any(isinstance(stage, Training) for stage in stages) else ()
    return [*PRELOAD, *trainers] if any(stage.CHILD for stage in stages) else []


def start(preload: Sequence[str] = (*PRELOAD, *PRELOAD_TRAINERS)) -> None:
    """Begin to import in the server what the children will need; else the first child starts the server.

    With a GPU nothing is preloaded: a library that touches the device while it is imported would spoil it for
    every fork, and seconds do not matter there. The server ends with the thread that called this.
    """
    global _server
    if _server is None or not _server.alive:
        _server = _Server([] if _has_gpu() else preload)


def stop() -> None:
    """End the server and with it any child."""
    global _server
    if _server is not None:
        _server.close()
        _server = None


def run_child(ticket: Ticket, out: Writer, on_event: Listener) -> None:
    """Run a stage in a child process and take over into `out` what it counted and found.

    An interruption of this call (Ctrl-C, an exception in `on_event`) tells the child to stop, waits until it
    has, and goes on upwards; a second one kills the child.

    Raises:
        DistillkitError: what the stage raised in the child.
        EngineError: the child crashed or was killed.
    """
    start(())
    assert _server is not None
    for name in (RESULT, ERROR, PROGRESS):
        (out.scratch / name).unlink(missing_ok=True)
    status = _server.run(ticket, on_event)
    if status == 0:
        _take_result(out)
    else:
        raise _failure(ticket, status)


def _take_result(out: Writer) -> None:
    result = json.loads((out.scratch / RESULT).read_text("utf-8"))
    out.rows_in, out.rows_kept = result["rows_in"], result["rows_kept"]
    out.counts, out.summary = result["counts"], result["summary"]
    out.telemetry, out.salt = result["telemetry"], result["salt"]


def _failure(ticket: Ticket, status: int | None) -> DistillkitError:
    """What to raise for a child that ended so: an exit code, minus a signal, or None where nobody knows."""
    if (ticket.scratch / ERROR).exists():
        error = json.loads((ticket.scratch / ERROR).read_text("utf-8"))
        return {each.__name__: each for each in _ERRORS}[error["class"]](error["text"])
    if status == INTERRUPTED:
        return EngineError(f"{ticket.name}: its process was told to stop and did; run again to go on")
    how = "ended without a word" if status is None else f"ended with exit code {status}"
    if status is not None and status < 0:
        how = f"was killed by {signal.Signals(-status).name}"
    if status == -signal.SIGKILL:
        how += " (as the system does when memory runs out)"
    log = ticket.scratch / LOG
    return EngineError(f"{ticket.name}: its process {how}; what is finished is safe; log: {log}{_tail(log)}")


_ERRORS = (RecipeError, MissingError, StageError, EngineError, DistillkitError)

_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


def _tail(log: Path) -> str:
    """The last lines of a log, without the values of secret environment variables."""
    if not log.exists():
        return ""
    text = log.read_text("utf-8", "replace")
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name):
            text = text.replace(value, f"<{name}>")
    lines = [line[:300] for line in text.splitlines() if line.strip()]
    return "".join(f"\n  {line}" for line in lines[-TAIL_LINES:])


class _Server:
    """The parent's end of the process that forks children; one child at a time."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        threads = os.environ.get(THREADS_VARIABLE, str(DEFAULT_THREADS))
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(os.getpid()), *preload],
            env={
                **os.environ,
                **ENVIRONMENT,
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "PYTHONPATH": paths,
            },
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._unread = b""
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, ticket: Ticket, on_event: Listener) -> int | None:
        """Fork a child and follow it; its exit code, minus its signal, or None when the server died."""
        with contextlib.suppress(BrokenPipeError):
            self._socket.sendall(json.dumps(asdict(ticket)).encode() + b"\n")
        answer = self._answer(None)
        if answer is None:
            return None
        try:
            return self._follow(ticket, on_event)
        except BaseException:
            self._end(int(answer))
            raise

    def _follow(self, ticket: Ticket, on_event: Listener) -> int | None:
        offset = 0
        answer: bytes | None = b""
        while answer == b"":
            answer = self._answer(POLL_S)
            events, offset = read_events(ticket.scratch / PROGRESS, offset)
            for event in events:
                on_event(event)
        return None if answer is None else int(answer)

    def _end(self, child: int) -> None:
        """Tell a child to stop and wait for it; kill it when it does not, or at a second interruption."""
        try:
            os.kill(child, signal.SIGTERM)
            answer = self._answer(GRACE_S)
        except BaseException:
            self._kill(child)
            raise
        if answer == b"":
            self._kill(child)

    def _kill(self, child: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        self._answer(None)

    def _answer(self, timeout_s: float | None) -> bytes | None:
        """The server's next line, b"" when it did not come in time, None when the server is gone."""
        while b"\n" not in self._unread:
            if not select.select([self._socket], [], [], timeout_s)[0]:
                return b""
            try:
                data = self._socket.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def close(self) -> None:
        atexit.unregister(self.close)
        self._socket.close()
        self._process.kill()  # its children die with it
        self._process.wait()


_server: _Server | None = None


def _has_gpu() -> bool:
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))


def serve(handle: int, parent: int, preload: Sequence[str]) -> NoReturn:
    """The server's whole life: import, then fork a child per ticket and answer with its pid and its end."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what stops a run is for the child to hear, in good order
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _import_all(preload)
    server = os.getpid()
    with socket.socket(fileno=handle) as connection, connection.makefile("rb") as requests:
        for line in requests:
            child = os.fork()
            if child == 0:
                connection.detach()
                os.close(handle)
                os._exit(_live(Ticket(**json.loads(line)), server))
            connection.sendall(b"%d\n" % child)
            _, status = os.waitpid(child, 0)
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _import_all(modules: Sequence[str]) -> None:
    """Import what is there; a child that needs what is missing says so by itself."""
    sys.modules.update(dict.fromkeys(HIDDEN))  # type: ignore[arg-type]
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for name in HIDDEN:
        del sys.modules[name]
    gc.freeze()  # no child ever walks these objects again, which also keeps their pages shared


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _live(ticket: Ticket, server: int) -> int:
    """The child's whole life; returns its exit code."""
    _die_with(server)
    signal.signal(signal.SIGINT, _stop_once)
    signal.signal(signal.SIGTERM, _stop_once)
    log = os.open(ticket.scratch / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(ticket.environment)
    try:
        _run_and_tell(ticket)
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except DistillkitError as error:
        known = next(each for each in _ERRORS if isinstance(error, each))
        write_text(ticket.scratch / ERROR, json.dumps({"class": known.__name__, "text": str(error)}))
        traceback.print_exc()
        return 1
    except BaseException:  # noqa: BLE001 - a process boundary: the parent is told, and shows the log's end
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _stop_once(*_: Any) -> NoReturn:
    """Interrupt the stage, once: Ctrl-C comes from the terminal, and then as SIGTERM from the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run_and_tell(ticket: Ticket) -> None:
    """Run the stage, its events going to the progress file and its counts to the result file."""
    events = Events(ticket.scratch / PROGRESS)

    def tell(event: Event) -> None:
        events.tell(**event)

    out = Writer(Path(ticket.work))
    run_here(ticket, out, tell)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    out.telemetry["peak_memory_mib"] = usage.ru_maxrss // (1024 if sys.platform == "linux" else 2**20)
    out.telemetry["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 2)
    result = {
        "rows_in": out.rows_in,
        "rows_kept": out.rows_kept,
        "counts": out.counts,
        "summary": out.summary,
        "telemetry": out.telemetry,
        "salt": out.salt,
    }
    write_text(ticket.scratch / RESULT, json.dumps(result))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
