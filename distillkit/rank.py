"""A training in several processes: torchrun's agent inside a stage's child, and the life of each rank.

Every rank runs the same stage; rank 0 alone writes the artifact. The agent is torchrun's, called as a function, so
that the ranks are forked from a child that has imported everything already. Not accelerate's launcher: it silently
starts one process without GPUs (`accelerate launch --cpu`, 1.15).
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import traceback
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from distillkit.durable import write_text
from distillkit.errors import DistillkitError, EngineError
from distillkit.events import Event
from distillkit.store import Writer
from distillkit.ticket import (
    ENVIRONMENT,
    ERROR,
    INTERRUPTED,
    LOG,
    RESULT,
    Ticket,
    run_and_tell,
    run_here,
    tell_error,
)
from distillkit.training.config import Training
from distillkit.training.parallel import Parted, rank, require_gpus
from distillkit.worker import die_with

SHUTDOWN_S = 110
"""How long ranks that were told to stop may take, to finish a step and save a checkpoint."""
HOST_VARIABLE, PORT_VARIABLE = "DISTILLKIT_HOST", "DISTILLKIT_PORT"
"""Where the machines of one training meet: this one's name, and port 29477, unless these say otherwise."""
PATIENCE_S = 7 * 24 * 3600
"""How long machines wait for each other: the stages before a training may take days."""


def run_ranks(ticket: Ticket, stage: Training) -> int:
    """Run a stage in as many processes as it declares; returns an exit code.

    An interruption is passed on to the ranks, which save a checkpoint; one that dies takes the others with it.

    Raises:
        MissingError: this machine lacks GPUs or packages for it.
        EngineError: a rank crashed or was killed.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    stage.require_machine(ticket.name)
    require_gpus(ticket.name, stage.processes, torch.cuda.device_count())
    config = LaunchConfig(
        min_nodes=stage.machines,
        max_nodes=stage.machines,
        nproc_per_node=stage.processes,
        role="default",
        max_restarts=0,
        start_method="fork",
        shutdown_timeout=SHUTDOWN_S,
        signals_to_handle="SIGHUP",  # SIGTERM and Ctrl-C stay ours: theirs would cut a second one's grace short
        logs_specs=DefaultLogsSpecs(log_dir=str(ticket.scratch / "torchrun")),
        **_meeting(stage.machines),
    )
    for name, settings in stage.launched().items():  # what the ranks are given, to be looked at
        write_text(ticket.scratch / f"{name}.json", json.dumps(settings, indent=2))
    invitation = Path(ticket.store) / "join" / f"{ticket.name}.json"
    if stage.machines > 1:
        invitation.parent.mkdir(exist_ok=True)
        write_text(invitation, json.dumps(asdict(ticket)))
    try:
        elastic_launch(config, live)(asdict(ticket), os.getpid())
    except ChildFailedError as error:
        if error.get_first_failure()[1].exitcode == INTERRUPTED:
            return INTERRUPTED
        if (ticket.scratch / ERROR).exists():
            return 1
        raise _failure(ticket, error, stage.world_size) from None
    finally:
        invitation.unlink(missing_ok=True)
    _count_all(ticket)
    return 0


def _count_all(ticket: Ticket) -> None:
    """Put the CPU time of every rank of this machine where the first one wrote its own."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads((ticket.scratch / RESULT).read_text("utf-8"))
    result["telemetry"]["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 2)
    write_text(ticket.scratch / RESULT, json.dumps(result))


def _meeting(machines: int) -> dict[str, Any]:
    """Arguments of torchrun's agent for where the ranks find each other."""
    if machines == 1:
        return {
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "localhost:0",
            "run_id": uuid.uuid4().hex,
            "local_addr": "localhost",
        }
    host, port = meeting_point()
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{host}:{port}",
        "rdzv_configs": {"rank": 0, "timeout": PATIENCE_S},
        "run_id": "none",
        "local_addr": host,
    }


def meeting_point() -> tuple[str, int]:
    """Host and port where the machines of one training meet."""
    return os.environ.get(HOST_VARIABLE) or socket.gethostname(), int(os.environ.get(PORT_VARIABLE, "29477"))


def join_command(stage: str, processes: int, machines: int, store: Path) -> str:
    """What to start on each further machine, K being its number from 1 on."""
    host, port = meeting_point()
    return (
        f"torchrun --nnodes {machines} --nproc_per_node {processes} --node_rank K --master_addr {host} "
        f"--master_port {port} --rdzv_conf timeout={PATIENCE_S} -m distillkit.rank {store.resolve()} {stage}"
    )


def _failure(ticket: Ticket, error: Any, size: int) -> EngineError:
    number, failure = error.get_first_failure()
    if failure.exitcode < 0:
        how = f"was killed by {signal.Signals(-failure.exitcode).name}"
        if failure.exitcode == -signal.SIGKILL:
            how += " (as the system does when memory runs out)"
    else:
        how = f"failed: {_last_line(failure)}"
    return EngineError(
        f"{ticket.name}: process {number} of {size} {how}; the others were stopped; what is finished is safe; "
        f"log: {ticket.scratch / LOG}"
    )


def _last_line(failure: Any) -> str:
    told = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    lines = [line for line in str(told).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"exit code {failure.exitcode}"


class Follower(Writer):
    """What a rank beside the first writes goes nowhere; checkpoints lie in the one scratch folder of all."""

    def __init__(self, work: Path, number: int) -> None:
        self._shared = Writer(work).scratch
        folder = self._shared / f"rank-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        super().__init__(folder)

    @property
    def scratch(self) -> Path:
        return self._shared


def live(fields: dict[str, Any], agent: int) -> None:
    """A rank's whole life, in a process of its own, which it ends itself unless all went well: the agent would let a
    rank that returns wait for the others.

    agent: the process that forked it, to die with.
    """
    die_with(agent)
    ticket = Ticket(**fields)
    signal.signal(signal.SIGINT, stop_once)
    signal.signal(signal.SIGTERM, stop_once)
    try:
        _take_part(ticket)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except DistillkitError as error:
        tell_error(ticket, error)
        traceback.print_exc()
        raise SystemExit(1) from None
    except Exception:  # its last line is told by the agent
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _take_part(ticket: Ticket) -> None:
    """Run the stage, its share of this process's threads taken."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    if (number := rank()) == 0:
        run_and_tell(ticket)
    else:
        with contextlib.suppress(Parted):
            run_here(ticket, Follower(Path(ticket.work), number), _unheard)


def _unheard(event: Event) -> None:
    """The first rank tells the same."""


def stop_once(*_: Any) -> NoReturn:
    """Interrupt the stage, once: Ctrl-C comes from the terminal, and then as SIGTERM from the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def join(store: str, stage: str) -> None:
    """A rank on a further machine: the first one has written the ticket before it lets any rank begin."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ticket = json.loads((Path(store) / "join" / f"{stage}.json").read_text("utf-8"))
    live(ticket, os.getppid())


if __name__ == "__main__":
    join(*sys.argv[1:])
