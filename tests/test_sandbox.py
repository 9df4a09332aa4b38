"""The sandbox: what it holds, what it says where it cannot, and that nothing outlives it."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from distillkit import sandbox, seccomp
from distillkit.errors import MissingError
from distillkit.sandbox import Box, BoxError, Level, Limits

ROOT = Path(__file__).parent.parent
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
LEVELS = [pytest.param("bubblewrap", marks=needs_bubblewrap), "none"]

ECHO = """
import os, sys
def read(size):
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data)) or os._exit(0)
    return data
def say(data):
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(1, data):]
def listen():
    return read(int.from_bytes(read(4), "big"))
"""


def box(
    body: str, level: Level = "bubblewrap", limits: Limits | None = None, site: tuple[Path, ...] = ()
) -> Box:
    """A box that runs the body of main(), with say(bytes) and listen() at hand."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    code = compile(f"{ECHO}\ndef main():\n{lines}", "program", "exec")
    return Box([("program", code)], limits or Limits(memory_mib=256), level, site)


def soon(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture(scope="module")
def attacks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attack_sandbox", ROOT / "scripts" / "attack_sandbox.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_bubblewrap
def test_no_attack_succeeds_as_this_user_or_as_nobody(attacks: ModuleType) -> None:
    with ThreadPoolExecutor(1) as other:
        nobody = other.submit(attacks.as_nobody) if os.geteuid() == 0 else None
        tables = [attacks.all_outcomes(), *([nobody.result()] if nobody else [])]
    assert len(attacks.ATTACKS) >= 25
    for table in tables:
        assert table.keys() == attacks.ATTACKS.keys()
        assert {name: said for name, said in table.items() if said.startswith("SUCCEEDED")} == {}


def test_the_attacks_would_be_noticed(attacks: ModuleType) -> None:
    harmless = [
        "TCP to a server of the host",
        "abstract UNIX socket of the host",
        "UNIX socket file of the host",
        "token files and the home",
        "a daemon that survives",
    ]
    with attacks.Range() as target:
        try:
            said = {name: attacks.outcome(name, target, "none", patience_s=0.3) for name in harmless}
        finally:
            for process in Path("/proc").glob("[0-9]*"):
                if attacks._is_survivor(process, -1, target.mark):
                    os.kill(int(process.name), signal.SIGKILL)
    assert [name for name, each in said.items() if not each.startswith("SUCCEEDED")] == []


@needs_bubblewrap
def test_root_never_starts_bubblewrap() -> None:
    with box("listen()") as running:
        lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
        users = {name: set(ids.split()) for name, _, ids in (line.partition(":") for line in lines)}
    expected = range(64000, 65000) if os.geteuid() == 0 else [os.geteuid()]
    [user] = users["Uid"]
    assert int(user) in expected
    if os.geteuid() == 0:
        assert users["Groups"] == set()


@needs_bubblewrap
def test_it_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    program = f"""
import os, sys, time
def main():
    os.write(1, b"\\0\\0\\0\\1x")
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(300)", "{mark}"])
"""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\nfrom distillkit.sandbox import Box, Limits\n"
        f"box = Box([('program', compile({program!r}, 'p', 'exec'))], Limits())\n"
        "box.receive(time.monotonic() + 60)\nprint('ready', flush=True)\ntime.sleep(300)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    until = soon()
    while not marked(mark) and time.monotonic() < until:
        time.sleep(0.02)
    assert marked(mark)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while marked(mark) and time.monotonic() < until:
        time.sleep(0.02)
    assert not marked(mark)


def marked(mark: str) -> list[str]:
    """Processes whose last argument is the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in arguments:
            found.append(process.name)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_frames_of_any_size_go_in_and_out(level: Level) -> None:
    with box("while True: say(listen())", level) as echo:
        for frame in (b"", b"x", os.urandom(3_000_000)):
            echo.send(frame, soon())
            assert echo.receive(soon()) == frame
        echo.send(bytes(2000), soon())
        with pytest.raises(BoxError, match="died"):
            echo.receive(soon(), max_bytes=1000)
        with pytest.raises(BoxError, match="died"):
            echo.send(b"", soon())


@pytest.mark.parametrize("level", LEVELS)
def test_silence_and_death_are_told_apart(level: Level) -> None:
    with box("listen(); listen()", level) as silent:
        silent.send(b"", soon())
        with pytest.raises(BoxError, match="wall"):
            silent.receive(soon(0.2))
    with box("os._exit(3)", level) as dead, pytest.raises(BoxError, match="died"):
        dead.receive(soon())
    with (
        box("time = 0\nwhile True: pass", level, Limits(cpu_s=1)) as busy,
        pytest.raises(BoxError, match="died"),
    ):
        busy.receive(soon(600))


@needs_bubblewrap
def test_memory_of_all_processes_counts_together() -> None:
    body = "for _ in range(8):\n  if not os.fork():\n    held = bytearray(b'x' * 60_000_000)\n    listen()\nlisten()"
    with box(body, limits=Limits(memory_mib=256)) as greedy, pytest.raises(BoxError, match="memory"):
        greedy.receive(soon())


@needs_bubblewrap
def test_a_program_finds_what_was_declared_and_the_same_order_each_time(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"site-{os.getpid()}"
    (folder / "mine").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "mine" / "__init__.py").write_text("WORD = 'found'\n")
    body = "import mine, json\nsay(json.dumps([mine.WORD, hash('x'), sorted(os.environ), os.listdir('/tmp')]).encode())"
    try:
        answers = []
        for _ in range(2):
            with box(body, site=(folder / "mine",)) as program:
                answers.append(json.loads(program.receive(soon())))
    finally:
        shutil.rmtree(folder)
    assert answers[0] == answers[1]
    assert answers[0][0] == "found"
    assert set(answers[0][2]) <= {
        "PYTHONHASHSEED",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PWD",
        "LC_CTYPE",
    }
    assert answers[0][3] == []


@needs_bubblewrap
def test_probe_says_what_this_machine_can_do() -> None:
    said = sandbox.probe()
    assert said.startswith("bubblewrap ")
    assert ("dropped from root to uid 64" in said) == (os.geteuid() == 0)
    assert sandbox.probe("none").startswith("none: ")


@pytest.fixture
def unprobed() -> None:
    for cached in (sandbox._probe, sandbox._program, sandbox.interpreter, seccomp.system_call_filter):
        cached.cache_clear()


def test_a_missing_program_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unprobed: None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt install bubblewrap"):
        sandbox.probe()


def test_a_bubblewrap_that_cannot_work_says_why(monkeypatch: pytest.MonkeyPatch, unprobed: None) -> None:
    folder = Path("/tmp") / f"fake-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)
    fake = folder / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    try:
        with pytest.raises(MissingError, match="No permissions to create new namespace; it must be") as error:
            sandbox.probe()
    finally:
        shutil.rmtree(folder)
        sandbox._program.cache_clear()
    assert "\n" not in str(error.value)


def test_an_interpreter_that_nobody_may_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unprobed: None
) -> None:
    monkeypatch.setattr(sandbox, "readable_inside", lambda path: False)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / f"python3.{sys.version_info.minor}").touch()
    with pytest.raises(MissingError, match="unprivileged user cannot read this interpreter"):
        sandbox.interpreter()


def test_a_folder_of_root_alone_is_not_readable_inside(tmp_path: Path) -> None:
    file = tmp_path / "closed" / "file"
    file.parent.mkdir()
    file.touch()
    file.parent.chmod(0o000 if os.geteuid() else 0o700)
    assert not sandbox.readable_inside(file)
    file.parent.chmod(0o700)
    assert sandbox.readable_inside(Path("/usr/bin"))


def test_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch, unprobed: None) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(MissingError, match="riscv64; use x86_64 or aarch64"):
        seccomp.system_call_filter()
