"""The candidate's side, inside its own sandbox: runs the program on an input, or serves calls into it.

Nothing here can be trusted once the candidate runs, and nothing here needs to be: it never sees an expected value.
Each test gets a process forked from this one, so that tests share no state and a crash costs one test alone.
Speaks frames (4 bytes of length, then content) on descriptors that the candidate's input() and print() cannot reach.
"""

from __future__ import annotations

import marshal
import os
import resource
import signal
import sys

from distillkit.verifiers.code import codec

TYPE_CHECKING = False  # typing and types would double the start of every sandbox
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

# Where judges that take a bare function or class import everything: what a candidate uses without importing it.
_ASSUMED = {
    "typing": "List Optional Dict Tuple Set Any Union Callable Iterable Iterator Generator Deque DefaultDict "
    "FrozenSet Sequence Mapping Literal TypeVar Generic NamedTuple",
    "collections": "deque defaultdict Counter OrderedDict namedtuple ChainMap",
    "heapq": "heappush heappop heapify heapreplace heappushpop nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "itertools": "accumulate chain combinations combinations_with_replacement permutations product groupby "
    "pairwise zip_longest islice starmap takewhile dropwhile cycle compress count repeat",
    "functools": "lru_cache cache reduce cmp_to_key partial wraps cached_property",
    "math": "inf gcd lcm sqrt isqrt ceil floor comb perm factorial log log2 log10 pi prod fabs hypot atan2 sin cos",
    "string": "ascii_lowercase ascii_uppercase ascii_letters digits",
    "operator": "xor itemgetter or_ and_ mul add",
    "random": "randint randrange choice shuffle",
    "copy": "deepcopy",
    "dataclasses": "dataclass field",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "datetime": "timedelta date",
}
_MODULES = {*_ASSUMED, "re", "json", "sys", "os", "time", "statistics", "heapq", "numpy"}
_DENIED = {1, 11, 12, 13, 27, 28, 30, 38, 97, 101, 113}
"""errno of what limits and isolation refuse: EPERM EAGAIN ENOMEM EACCES EFBIG ENOSPC EROFS ENOSYS, no network."""


def main() -> None:
    """Serve until the pipe ends: a job first, then one frame for each test."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    job = marshal.loads(_read(requests))
    program = Program(job["source"], job["cpu_s"], requests, answers)
    for name in job["warm"]:
        if name in job["source"]:  # imported once, for all tests
            _attempt(lambda name=name: __import__(name))
    while True:
        frame = _read(requests)
        if frame[:1] == b"s":
            _write(answers, program.run_on_input(frame[1:]))
        else:
            program.serve_calls()


def _read(descriptor: int) -> bytes:
    return _exactly(descriptor, int.from_bytes(_exactly(descriptor, 4), "big"))


def _exactly(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(descriptor: int, frame: bytes) -> None:
    rest = memoryview(len(frame).to_bytes(4, "big") + frame)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Program:
    """A candidate's program, compiled once; `refused` says why it does not compile."""

    def __init__(self, source: str, cpu_s: int, requests: int, answers: int) -> None:
        self._cpu_s, self._requests, self._answers = cpu_s, requests, answers
        self._code: CodeType | None = None
        self.refused = _attempt(lambda: self._compile(source))
        self._assumed: dict[str, Any] | None = None

    def _compile(self, source: str) -> None:
        self._code = compile(source, "<candidate>", "exec")

    def run_on_input(self, stdin: bytes) -> bytes:
        """b"outcome\\nerror\\n" and what it printed; through files of the sandbox's own, so that nothing can block."""
        if self.refused:
            return f"error\n{self.refused}\n".encode()
        given, printed = (os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600) for _ in range(2))
        told, tell = os.pipe()
        os.set_blocking(told, False)
        at = 0
        while at < len(stdin):
            at += os.write(given, stdin[at : at + (1 << 20)])
        os.lseek(given, 0, 0)
        child = os.fork()
        if not child:
            os.setsid()
            os.dup2(given, 0)
            os.dup2(printed, 1)
            for descriptor in (given, printed, told, self._requests, self._answers):
                os.close(descriptor)
            _limit_cpu(self._cpu_s)
            sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
            error = _attempt(lambda: self.load("__main__", {}), closing=True)
            os.write(tell, error.encode("utf-8", "replace")[:2000])
            os._exit(1 if error else 0)
        os.close(tell)
        outcome = _wait(child, self._cpu_s)
        try:
            error = os.read(told, 2000).decode("utf-8", "replace")
        except BlockingIOError:  # it ended without a word, and what it left behind holds the other end
            error = ""
        output = os.pread(printed, os.fstat(printed).st_size, 0)
        for descriptor in (given, printed, told):
            os.close(descriptor)
        return f"{outcome}\n{error}\n".encode() + output

    def serve_calls(self) -> None:
        """One process that loads the program and answers calls until told to end; then how it ended."""
        import json

        if self._assumed is None:
            self._assumed = {} if self._code is None else _assumed(self._code)
        child = os.fork()
        if not child:
            os.setsid()
            _limit_cpu(self._cpu_s)
            sys.set_int_max_str_digits(codec.MAX_DIGITS)
            Callee(self, json, self._requests, self._answers).serve()
            os._exit(0)
        _write(self._answers, b'{"ended": "%s"}' % _wait(child, self._cpu_s).encode())

    def load(self, name: str, assumed: dict[str, Any]) -> dict[str, Any]:
        """Run it as a module of that name and give its names."""
        module = sys.modules[name] = type(sys)(name)
        module.__dict__.update(assumed)
        if self._code is not None:
            exec(self._code, module.__dict__)
        return module.__dict__

    def load_assuming(self) -> dict[str, Any]:
        """The same, with what judges import for everyone."""
        return self.load("candidate", self._assumed or {})


def _wait(child: int, cpu_s: int) -> str:
    """ "ok" | "error" (it says which) | "cpu" | "died", once it and its process group are gone."""
    _, status, used = os.wait4(child, 0)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if os.WIFEXITED(status):
        return "error" if os.WEXITSTATUS(status) else "ok"
    stopped = os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU)
    # The kernel's limit counts clock ticks and wait4 the true time: on a busy machine they differ.
    return "cpu" if stopped and used.ru_utime + used.ru_stime > cpu_s / 2 else "died"


def _limit_cpu(cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))


def _attempt(act: Any, closing: bool = False) -> str:
    """Why it failed in one line, "" if it did not; what the sandbox refused starts with "denied "."""
    try:
        act()
        if closing:  # what the end of an interpreter does
            if "threading" in sys.modules:
                sys.modules["threading"]._shutdown()
            if "atexit" in sys.modules:
                sys.modules["atexit"]._run_exitfuncs()
            sys.stdout.flush()
    except SystemExit as error:
        if closing:
            return _attempt(sys.stdout.flush) or (
                "" if error.code in (None, 0) else f"SystemExit: {error.code}"
            )
        return "SystemExit"
    except BaseException as error:  # noqa: BLE001 - a process boundary: a candidate may raise anything
        return _describe(error)
    return ""


def _describe(error: BaseException) -> str:
    denied = isinstance(error, ModuleNotFoundError) or (
        isinstance(error, OSError) and (error.errno in _DENIED or type(error).__name__ == "gaierror")
    )
    try:
        said = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - its __str__ is the candidate's
        said = ""
    return f"{'denied ' if denied else ''}{type(error).__name__}: {said}"[:500]


def _assumed(code: CodeType) -> dict[str, Any]:
    used, waiting = set[str](), [code]
    for each in waiting:
        used.update(each.co_names)
        waiting += [const for const in each.co_consts if isinstance(const, type(code))]
    found: dict[str, Any] = {"ListNode": codec.ListNode, "TreeNode": codec.TreeNode}
    for module, names in _ASSUMED.items():
        for name in used.intersection(names.split()):
            found[name] = __import__(module).__dict__[name]
    for module in used & _MODULES - found.keys():
        try:
            found[module] = __import__(module)
        except ImportError:
            pass
    return found


class Callee:
    """Answers calls into a loaded program, in a process of their own."""

    def __init__(self, program: Program, json: Any, requests: int, answers: int) -> None:
        self._program, self._json, self._requests, self._answers = program, json, requests, answers
        self._names: dict[str, Any] = {}
        self._held: list[Any] = []

    def serve(self) -> None:
        """Say whether the program loads, then answer one call per frame until told to end."""

        def load() -> None:
            self._names = self._program.load_assuming()

        self._say({"raised": self._program.refused or _attempt(load)})
        while (call := self._json.loads(_read(self._requests))) is not None:
            reply: dict[str, Any] = {}
            error = _attempt(lambda call=call, reply=reply: reply.update(self._call(call)))
            self._say({"raised": error} if error else reply)

    def _say(self, message: dict[str, Any]) -> None:
        _write(self._answers, self._json.dumps(message).encode())

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        args, named = codec.decode(call["args"], self._make), codec.decode(call["named"], self._make)
        value = self._find(call["on"], call["name"])(*args, **named)
        return {"value": codec.encode(value, self._hold), "changed": self._changed(call, args, named)}

    def _find(self, on: int | None, name: str) -> Any:
        if on is not None:
            return getattr(self._held[on], name)
        if name not in self._names and "Solution" in self._names:
            return getattr(self._names["Solution"](), name)
        if name not in self._names:
            raise NameError(f"the answer defines no {name!r}")
        return self._names[name]

    def _changed(self, call: dict[str, Any], args: list[Any], named: dict[str, Any]) -> list[Any]:
        """[position or name, new value] of each list, dict or set argument that the call changed in place."""
        before = [*enumerate(call["args"]), *((key, value) for key, value in call["named"]["dict"])]
        after = [*args, *named.values()]
        found = []
        for (place, old), value in zip(before, after, strict=True):
            if isinstance(value, list | dict | set):
                new = codec.encode(value, self._hold)
                if new != old:
                    found.append([place, new])
        return found

    def _hold(self, value: Any) -> dict[str, int]:
        """Something that is not plain data stays here; the other side gets its number."""
        self._held.append(value)
        return {"held": len(self._held) - 1}

    def _make(self, name: str, content: Any) -> Any:
        if name == "held":
            return self._held[content]
        if name == "named":
            return self._names[content]
        kind = self._names.get(name)
        return codec.nodes(
            kind if isinstance(kind, type) else getattr(codec, name), name, content, self._make
        )
