"""A box for code that nobody trusts: bubblewrap around a Python, with limits. All of it is on this page.

Inside there is no network, home, environment, token or other process; /usr, the interpreter and declared packages
are read-only, /tmp and /dev/shm small and gone afterwards. bubblewrap is never started by root (that leaves
/proc/sys writable): root drops to a user of its own first. What RSS cannot see (memfd, System V memory) and what no
program under test needs (ptrace, bpf, io_uring, mounts ...) is refused by a system call filter, so that a watchdog
on the resident memory of all processes bounds memory with no control group at hand.
"""

import marshal
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Literal

from distillkit.errors import MissingError
from distillkit.seccomp import system_call_filter

Level = Literal["bubblewrap", "none"]
"""How far code is kept from the machine; "none" is a plain process of the caller's with limits on itself."""

_MIB = 2**20
_FIRST_UID = 64000  # up to 64999: no distribution gives these to anybody
_WATCH_S = 0.05
_START_S = 30.0
_SITE = "/site"
# All that a program finds in its environment: sets iterate alike in every run, and libraries start no threads.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_ISOLATION = """
--unshare-all --unshare-user --disable-userns --as-pid-1 --die-with-parent --new-session --clearenv --cap-drop ALL
--hostname sandbox --ro-bind /usr /usr --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --proc /proc --remount-ro /proc
--dev-bind /dev/null /dev/null --dev-bind /dev/zero /dev/zero --dev-bind /dev/urandom /dev/urandom
--symlink urandom /dev/random --symlink /proc/self/fd /dev/fd
--symlink fd/0 /dev/stdin --symlink fd/1 /dev/stdout --symlink fd/2 /dev/stderr
""".split()
# Limits first, then the modules that the parent sends, then main() of the last one. -c keeps it off the disk.
_BOOT = """
import marshal, os, resource, sys
def read(size):
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
limits, site, modules = marshal.loads(read(int.from_bytes(read(4), "big")))
for kind, value in limits:
    resource.setrlimit(kind, (value, value))
sys.path += site
for name, code in modules:
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
    parent, _, last = name.rpartition(".")
    setattr(sys.modules.setdefault(parent, type(sys)(parent)), last, module)
module.main()
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one box may use; the kernel enforces all but `memory_mib` of the whole box (the watchdog does)."""

    cpu_s: int = 60
    """CPU seconds of each process."""
    memory_mib: int = 1024
    """Address space of each process, and resident memory of all of them together."""
    processes: int = 16
    """Processes and threads; at level "none" not limited (the count would hold the caller's own)."""
    open_files: int = 64
    file_mib: int = 16
    """Size of one file."""
    tmp_mib: int = 64
    """Size of /tmp."""


class BoxError(Exception):
    """A box gave no answer: "wall" (not in time), "memory" (more than its limit) or "died" (it ended)."""

    def __init__(self, cause: Literal["wall", "memory", "died"]) -> None:
        super().__init__(cause)
        self.cause = cause


_dying: list[subprocess.Popen[bytes]] = []


class Box:
    """A running program in a sandbox, and frames (bytes) to and from it. For one thread at a time.

    Args:
        modules: (full name, code), imported ones first; `main()` of the last one is run. It speaks frames (4 bytes of
            length, big-endian, then content) on descriptors 0 and 1.
        site: files and folders that it may import besides the standard library.
    """

    def __init__(
        self,
        modules: Sequence[tuple[str, CodeType]],
        limits: Limits,
        level: Level = "bubblewrap",
        site: Sequence[Path] = (),
        errors: int = subprocess.DEVNULL,
    ) -> None:
        self._limits, self._unread, self.ended = limits, bytearray(), False
        self._boxed = boxed = level == "bubblewrap"
        as_root = boxed and os.geteuid() == 0
        filter_read = _pipe_holding(system_call_filter()) if boxed else None
        try:
            self.process = subprocess.Popen(
                _python(sys.executable)
                if filter_read is None
                else [_program(), "--seccomp", str(filter_read), *_bubblewrap(limits, tuple(site))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env={} if boxed else _ENVIRONMENT,  # {} for bubblewrap too: /proc/1/environ shows its own
                cwd="/",
                start_new_session=True,
                pass_fds=[] if filter_read is None else [filter_read],
                user=_uid() if as_root else None,
                group=_uid() if as_root else None,
                extra_groups=[] if as_root else None,
            )
        finally:
            if filter_read is not None:
                os.close(filter_read)
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        with suppress(BoxError):  # the first frame that it owes will say so
            self.send(_start(limits, boxed, tuple(site), tuple(modules)), time.monotonic() + _START_S)

    def send(self, frame: bytes, until: float) -> None:
        """Hand over one frame before `until` (monotonic seconds), or raise BoxError."""
        if self.ended:
            raise BoxError("died")
        rest = memoryview(len(frame).to_bytes(4, "big") + frame)
        while rest:
            self._await(self._in, select.POLLOUT, until)
            try:
                rest = rest[os.write(self._in, rest) :]
            except BrokenPipeError:
                raise self._end("died") from None

    def receive(self, until: float, max_bytes: int = 32 * _MIB) -> bytes:
        """The next frame from it, or BoxError; a frame longer than `max_bytes` counts as its death."""
        if self.ended:
            raise BoxError("died")
        size = int.from_bytes(self._read(4, until), "big")
        if size > max_bytes:
            raise self._end("died")
        return self._read(size, until)

    def _read(self, size: int, until: float) -> bytes:
        while len(self._unread) < size:
            self._await(self._out, select.POLLIN, until)
            data = os.read(self._out, 1 << 20)
            if not data:
                raise self._end("died")
            self._unread += data
        frame = bytes(self._unread[:size])
        del self._unread[:size]
        return frame

    def _await(self, descriptor: int, event: int, until: float) -> None:
        """Wait for a pipe; every _WATCH_S the memory of the whole box is looked at."""
        poll = select.poll()
        poll.register(descriptor, event)
        while not poll.poll(max(0.0, min(_WATCH_S, until - time.monotonic())) * 1000):
            if sum(map(_resident_mib, _descendants(self.process.pid))) > self._limits.memory_mib:
                raise self._end("memory")
            if time.monotonic() > until:
                raise self._end("wall")

    def _end(self, cause: Literal["wall", "memory", "died"]) -> BoxError:
        self.close()
        return BoxError(cause)

    def kill(self) -> None:
        """Kill everything in it: a process namespace dies with its first process, which bubblewrap then reaps.

        Not bubblewrap itself: its child would fall to the machine's process 1, which in a container may never reap.
        """
        if self.process.poll() is None:
            pid = self.process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children")
            with suppress(ProcessLookupError):
                first = children.read_text().split() if self._boxed and children.exists() else []
                if first:
                    os.kill(int(first[0]), signal.SIGKILL)
                else:
                    os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it; it is reaped a little later, because taking namespaces down takes a while. Idempotent."""
        self.ended = True
        self.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        _dying.append(self.process)
        _dying[:] = [each for each in _dying if each.poll() is None]

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def probe(level: Level = "bubblewrap") -> str:
    """What this machine can do, found by a real run of a program in a box; cached for the process.

    Raises MissingError where it cannot, with what to do.
    """
    if level == "none":
        return "none: candidates run as plain processes of yours"
    return _probe()


_HELLO = """
import os, sys
def main():
    text = f"Python {sys.version.split()[0]}".encode()
    os.write(1, len(text).to_bytes(4, "big") + text)
"""


@cache
def _probe() -> str:
    until = time.monotonic() + _START_S
    try:
        with Box([("hello", compile(_HELLO, "hello", "exec"))], Limits(), errors=subprocess.PIPE) as box:
            try:
                python = box.receive(until).decode()
            except BoxError as error:
                raise MissingError(_WITHOUT.format(_last_line(box) or error.cause)) from None
    except OSError as error:  # no right to become another user, or no memory for one more process
        raise MissingError(_WITHOUT.format(error)) from None
    user = f"dropped from root to uid {_uid()}" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    told = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=False).stdout
    return f"{told.strip() or 'bubblewrap'}, {python}, {user}"


_WITHOUT = (
    "bubblewrap does not work on this machine: {}; it must be 0.8 or newer, and unprivileged user namespaces allowed "
    "(Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0; container: --security-opt seccomp=unconfined "
    "and an unmasked /proc), or run untrusted code without protection by `sandbox: none` on the verifier and --trust"
)


def _last_line(box: Box) -> str:
    """What bubblewrap complained of."""
    assert box.process.stderr is not None
    with box.process.stderr as errors:
        return "".join(errors.read().decode(errors="replace").strip().splitlines()[-1:])


@cache
def _bubblewrap(limits: Limits, site: tuple[Path, ...]) -> list[str]:
    """The arguments of bubblewrap, and then the Python that it runs."""
    python = interpreter()
    prefix = str(python.parent.parent)
    command = [*_ISOLATION]
    for name, value in _ENVIRONMENT.items():
        command += ["--setenv", name, value]
    for name in ("/bin", "/lib", "/lib64", "/sbin"):
        path = Path(name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            command += ["--ro-bind", name, name]
    if not prefix.startswith("/usr"):
        command += ["--ro-bind", prefix, prefix]
    for folder in _undeclared_packages(prefix):  # hidden, so that only declared packages can be found
        command += ["--perms", "0555", "--size", "4096", "--tmpfs", folder]
    for path in site:
        command += ["--ro-bind", str(path), f"{_SITE}/{path.name}"]
    for folder, size_mib in (("/dev/shm", limits.tmp_mib // 2), ("/tmp", limits.tmp_mib)):
        command += ["--size", str(size_mib * _MIB), "--tmpfs", folder]
    return [*command, "--chdir", "/tmp", "--remount-ro", "/", "--", *_python(str(python))]


def _python(executable: str) -> list[str]:
    """No site, no user site, no safe-path surprises, no .pyc; not -I, which would ignore PYTHONHASHSEED."""
    return [executable, "-sSPB", "-c", _BOOT]


@cache
def _start(
    limits: Limits, boxed: bool, site: tuple[Path, ...], modules: tuple[tuple[str, CodeType], ...]
) -> bytes:
    """What _BOOT reads first."""
    found = [_SITE] if boxed else sorted({str(path.parent) for path in site})
    return marshal.dumps((_kernel_limits(limits, boxed), found if site else [], list(modules)))


def _kernel_limits(limits: Limits, boxed: bool) -> list[tuple[int, int]]:
    """(resource, value), set as hard limits by the box itself before any other code of it."""
    return [
        (resource.RLIMIT_AS, limits.memory_mib * _MIB),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_mib * _MIB),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        *([(resource.RLIMIT_NPROC, limits.processes)] if boxed else []),
    ]


@cache
def _program() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise MissingError(
            "the sandbox for untrusted code needs bubblewrap; install it: apt install bubblewrap (or dnf, pacman)"
        )
    return found


def _uid() -> int:
    """The user that root drops to: one per process of ours, so that nobody shares its process count."""
    return _FIRST_UID + os.getpid() % 1000


@cache
def interpreter() -> Path:
    """The base interpreter (not the virtual environment's link), or the system's of the same version."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    tried = [Path(sys.base_prefix).resolve() / "bin" / name, Path("/usr/bin") / name]
    for path in tried:
        if path.exists() and readable_inside(path):
            return path
    raise MissingError(
        f"{tried[0]}: the sandbox's unprivileged user cannot read this interpreter, and there is no {tried[1]}; "
        f"install {name} for all users (apt install {name}) or run distillkit as a normal user"
    )


def readable_inside(path: Path) -> bool:
    """Whether the user that the sandbox runs as can read a file or folder."""
    if os.geteuid() != 0:
        return os.access(path, os.R_OK)
    folders = all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
    return folders and bool(path.stat().st_mode & 0o004)


def _undeclared_packages(prefix: str) -> Iterator[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for root in {prefix, "/usr", "/usr/local"}:
        for folder in (
            f"lib/{version}/site-packages",
            f"lib/{version}/dist-packages",
            "lib/python3/dist-packages",
        ):
            if Path(root, folder).is_dir():
                yield f"{root}/{folder}"


def _pipe_holding(data: bytes) -> int:
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return read_end


def _descendants(pid: int) -> list[int]:
    """A process and everything that it started, however often that forked."""
    found = [pid]
    for each in found:
        found += _children(each)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def _resident_mib(pid: int) -> float:
    """Memory and swap that a process holds; 0 for one that is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmSwap:"))) / 1024
    return 0.0
