"""The child's side of `launch`: a server imports once and forks a child per ticket.

A child has its output in a log, tells its progress in a file, and dies with its parent however that one dies.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from distillkit.errors import DistillkitError
from distillkit.rank import run_ranks, stop_once
from distillkit.ticket import INTERRUPTED, LOG, Ticket, run_and_tell, tell_error
from distillkit.training.config import Training
from distillkit.worker import die_with

HIDDEN = ("vllm",)
"""Left out while preloading: TRL imports vLLM where it finds it, 4 s and 200 MB that a CPU run never uses."""


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
    signal.signal(signal.SIGINT, stop_once)
    signal.signal(signal.SIGTERM, stop_once)
    log = os.open(ticket.scratch / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(ticket.environment)
    try:
        stage = ticket.declared
        if isinstance(stage, Training) and stage.spread:
            return run_ranks(ticket, stage)
        run_and_tell(ticket)
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except DistillkitError as error:
        tell_error(ticket, error)
        traceback.print_exc()
        return 1
    except BaseException:  # noqa: BLE001 - a process boundary: the parent is told, and shows the log's end
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
