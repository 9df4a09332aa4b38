"""The worker's side of a pool: serves one function, item by item, until its pipe ends.

Kept apart from `pool` because it is all that a worker imports besides the function's own module.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from distillkit.errors import DistillkitError, MissingError, RecipeError

OUT_OF_MEMORY = 77
"""Exit code of a worker whose item met the memory limit."""
_RENEWED = 78
"""Exit code of a forked server that makes room for a fresh one."""


def serve() -> None:
    """The worker process: `make` once, then the work, in this process or in one that it forks."""
    requests, answers = _claim_pipes()
    start = json.loads(requests.readline())
    die_with(start["parent"])
    _limit_memory(start["memory_bytes"])
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, name = start["make"]
    made: dict[str, Callable[[Any], Any]] = {}

    def begin(args: list[Any]) -> None:
        made["function"] = importlib.import_module(module).__dict__[name](*args)

    _say(answers, _attempt(begin, start["args"]))

    def work() -> None:
        _work(made["function"], start["cpu_s"], requests, answers)

    if start["forks"]:
        _fork_off(work, answers)
    else:
        work()


def _work(function: Callable[[Any], Any], cpu_s: float, requests: BinaryIO, answers: BinaryIO) -> None:
    """One answer line for each item of each request line; a request of null asks for a fresh server."""
    own = os.getpid()
    for line in requests:
        items = json.loads(line)
        if items is None:
            os._exit(_RENEWED)
        for item in items:
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            answer = _attempt(function, item)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if os.getpid() != own:
                os._exit(
                    0
                )  # forked by the function, and come back: its answer would be taken for the next row's
            _say(answers, answer)


def _fork_off(work: Callable[[], None], answers: BinaryIO) -> None:
    """Let a child do the work; when an item kills it, say so and fork the next from the same clean state."""
    while True:
        own = os.getpid()
        child = os.fork()
        if child == 0:
            die_with(own)
            work()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            return
        _say(answers, json.dumps(["ready", None] if code == _RENEWED else ["died", code]).encode())


def _attempt(function: Callable[[Any], Any], item: Any) -> bytes:
    """JSON of ["value", value] or ["raised", why]."""
    try:
        return json.dumps(["value", function(item)]).encode()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # the heap is full of the item; only a new process is surely clean
    except BaseException as error:  # noqa: BLE001 - a process boundary; sys.exit() must not look like a crash
        return json.dumps(["raised", _describe(error)]).encode()


def _describe(error: BaseException) -> str:
    """One line: what was raised, and where outside of this file."""
    if isinstance(error, DistillkitError):
        return str(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:500]}{where}"


def _say(answers: BinaryIO, line: bytes) -> None:
    answers.write(line + b"\n")
    answers.flush()


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes under descriptors of their own, out of reach of the function's input() and print()."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent is gone, however busy it is then.

    Elsewhere than on Linux the end of the request pipe does it, once the item under way has ended.
    """
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit_memory(size_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = size_bytes if hard == resource.RLIM_INFINITY else min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def check_function(file: str, function: str) -> None:
    """Look for a function in a user's file without running it.

    Raises:
        MissingError: no such file.
        RecipeError: it is no Python, or has no such name at its top level.
    """
    path = Path(file)
    if not path.is_file():
        raise MissingError(f"{file}: no such file (looked for in {path.absolute().parent})")
    try:
        names = compile(path.read_bytes(), str(path), "exec").co_names
    except (SyntaxError, ValueError) as error:
        raise RecipeError(f"{file}: not Python ({error})") from None
    if function not in names:
        raise RecipeError(f"{file}: defines no function {function!r}")


def user_function(file: str, function: str, digest: str) -> Callable[[Any], Any]:
    """The function of that name in a user's file; a `make` for pools.

    digest: 64 hex digits, what `spec.file_digest` gave. The results are kept under it, so a file that was
    edited in the meantime is refused.

    Raises:
        RecipeError: the file changed or cannot be read, or there is no such function in it.
    """
    path = Path(file)
    source = path.read_bytes()
    if hashlib.blake2b(source, digest_size=32).hexdigest() != digest:
        raise RecipeError(f"{file}: changed while it was in use; run again")
    spec = importlib.util.spec_from_file_location(f"distillkit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{file}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # Not loader.exec_module: it would trust a __pycache__ by its time stamp, not these very bytes.
    exec(compile(source, str(path), "exec"), module.__dict__)
    found = module.__dict__.get(function)
    if not callable(found):
        raise RecipeError(f"{file}: no function {function!r} in it")
    return found  # type: ignore[no-any-return]
