"""The guard on plain processes: it kills what was started under it, and only that."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_S

from distillkit.engines.vllm.guard import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")

PARENT = """
import subprocess, sys, time
from distillkit.engines.vllm.guard import guarded

def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)

before = sleeper()
with guarded() as guard:
    during = sleeper()
    if "starting" not in sys.argv:
        guard.started()
    after = sleeper()
    print(before.pid, during.pid, after.pid, flush=True)
    if "end" not in sys.argv:
        time.sleep(600)
print("ended", flush=True)
time.sleep(600)
"""


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def await_state(pid, wanted, patience_s=PATIENCE_S):
    until = time.monotonic() + patience_s
    while running(pid) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    assert running(pid) == wanted


@pytest.fixture
def parent(request):
    command = [sys.executable, "-c", PARENT, *request.param]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    yield process, pids
    process.kill()
    process.wait()
    for pid in pids:
        if running(pid):
            os.kill(pid, 9)


@pytest.mark.parametrize("parent", [["started"]], indirect=True)
def test_a_killed_parent_takes_with_it_what_was_started_under_the_guard(parent):
    process, (before, during, after) = parent
    process.kill()
    await_state(during, False)
    assert running(before) and running(after)


@pytest.mark.parametrize("parent", [["starting"]], indirect=True)
def test_a_parent_that_is_killed_while_the_engine_starts(parent):
    process, (before, during, after) = parent
    [guard] = children(process.pid) - {before, during, after}
    await_descriptors(guard, 3)
    process.kill()
    await_state(during, False)
    await_state(after, False)
    assert running(before)


@pytest.mark.parametrize("parent", [["end"]], indirect=True)
def test_a_guard_that_was_ended_kills_nobody(parent):
    process, pids = parent
    assert process.stdout.readline() == "ended\n"
    assert children(process.pid) == set(pids)
    process.kill()
    process.wait()
    assert all(running(pid) for pid in pids)


def await_descriptors(guard, wanted, patience_s=PATIENCE_S):
    """Until the guard holds this many processes, its parent among them."""
    until = time.monotonic() + patience_s
    held = 0
    while held != wanted and time.monotonic() < until:
        time.sleep(0.05)
        with suppress(FileNotFoundError):  # one that was closed meanwhile
            links = [link.readlink() for link in Path(f"/proc/{guard}/fd").iterdir()]
            held = sum("pidfd" in str(link) for link in links)
    assert held == wanted
