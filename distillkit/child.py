"""The child's side of `launch`: a ticket says what to run; a server imports once and forks a child per ticket.

A child has its output in a log, tells its progress in a file, and dies with its parent however that one dies.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from pydantic import TypeAdapter

from distillkit.cluster import Cluster, RayExecutor, Replicas
from distillkit.durable import write_text
from distillkit.errors import DistillkitError, EngineError, MissingError, RecipeError, StageError
from distillkit.events import Event, Events
from distillkit.executor import executor_for
from distillkit.stages import AnyStage
from distillkit.stages.base import Input, Job, Stage
from distillkit.store import Store, Writer
from distillkit.verifiers import AnyVerifier
from distillkit.worker import die_with

Listener = Callable[[Event], None]

INTERRUPTED = 130
"""Exit code of a child that was told to stop and did so in good order."""

RESULT, ERROR, PROGRESS, LOG = "result.json", "error.json", "progress.jsonl", "log.txt"

HIDDEN = ("vllm",)
"""Left out while preloading: TRL imports vLLM where it finds it, 4 s and 200 MB that a CPU run never uses."""

ERRORS = (RecipeError, MissingError, StageError, EngineError, DistillkitError)
"""What travels from a child to its parent, the most special first."""


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
    cluster: dict[str, Any] | None
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
        cluster: Cluster | None = None,
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
            cluster=cluster.model_dump(mode="json") if cluster is not None else None,
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
    cluster = Cluster.model_validate(ticket.cluster) if ticket.cluster is not None else None
    job = Job(
        store=Store(Path(ticket.store)),
        out=out,
        inputs={slot: [Input(**each) for each in ends] for slot, ends in ticket.inputs.items()},
        seed=ticket.seed,
        shards=ticket.shards,
        verifiers=verifiers,
        executor=RayExecutor(cluster) if cluster is not None else executor_for(ticket.workers),
        replicas=Replicas(cluster) if cluster is not None else None,
        progress=progress,
        warn=warn,
        recipe=ticket.recipe,
    )
    stage.run(job)


def serve(handle: int, parent: int, preload: Sequence[str]) -> NoReturn:
    """The server's whole life: import, then fork a child per ticket and answer with its pid and its end."""
    die_with(parent)
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


def _live(ticket: Ticket, server: int) -> int:
    """The child's whole life; returns its exit code."""
    die_with(server)
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
        known = next(each for each in ERRORS if isinstance(error, each))
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
