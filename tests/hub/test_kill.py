"""A push that is killed is gone on with: one commit, nothing missing, nothing extra, one file at most sent again.

The client is a real process, ended by SIGKILL at named points, and (soak) at random ones.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hubserver import TOKEN, Fault, folders
from patience import PATIENCE_S

NAME = "alice/traces"
PUSH = """
import sys
from pathlib import Path
from distillkit.hub import Target, push
push(Path(sys.argv[1]), Target("dataset", "alice/traces", tag="v1.0.0"), "Version 1.0.0")
"""


def start(hub, folder: Path, home: Path) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    path = {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    return subprocess.Popen(
        [sys.executable, "-c", PUSH, str(folder)],
        env=kept | settings | path,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_whole(hub, folder: Path) -> None:
    repository = hub.repositories["dataset", NAME]
    assert repository.private
    [commit] = hub.history("dataset", NAME)
    assert repository.tags == {"v1.0.0": commit.id}
    files = {name: blob for name, blob in commit.files.items() if name != ".gitattributes"}
    assert sorted(files) == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    for name, blob in files.items():
        with (folder / name).open("rb") as here, hub.blobs.open(blob.sha256) as there:
            while chunk := here.read(2**20):
                assert there.read(2**20) == chunk
            assert not there.read(1)


def finish(hub, folder: Path, home: Path) -> None:
    process = start(hub, folder, home)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert TOKEN not in errors


@pytest.mark.parametrize(
    "route, late",
    [
        pytest.param(r"PUT /storage/", False, id="a file on its way"),
        pytest.param(r"POST .*/commit/", True, id="committed but not told"),
        pytest.param(r"POST .*/tag/", False, id="committed but not tagged"),
        pytest.param(r"POST .*/tag/", True, id="tagged but not told", marks=pytest.mark.slow),
        pytest.param(r"POST .*/commit/", False, id="about to commit", marks=pytest.mark.slow),
    ],
)
def test_killed_at(hub, tmp_path, route, late) -> None:
    folder = folders.make(tmp_path / "v1", folders.shards(4, size=2**20))
    skip = 2 if "PUT" in route else 0
    fault = Fault(route, late=late, skip=skip, call=lambda: os.kill(process.pid, signal.SIGKILL))
    hub.faults.append(fault)
    process = start(hub, folder, tmp_path)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors
    finish(hub, folder, tmp_path)
    assert_whole(hub, folder)
    sendings = Counter(line.rpartition("/")[2] for line in hub.requests(r"^PUT /storage/"))
    assert len(sendings) == 4
    assert sorted(sendings.values()) == ([1, 1, 1, 2] if "PUT" in route else [1, 1, 1, 1])


def make_large(folder: Path, count: int, size: int) -> Path:
    """A sealed folder of large files that nothing can compress."""
    (folder / "data").mkdir(parents=True)
    listed = {}
    for number in range(count):
        body = random.Random(number).randbytes(size)
        name = f"data/train-{number:05d}-of-{count:05d}.parquet"
        (folder / name).write_bytes(body)
        listed[name] = {"bytes": size, "sha256": hashlib.sha256(body).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": listed}))
    return folder


def start_over(hub) -> None:
    for path in hub.blobs.folder.iterdir():
        path.unlink()
    hub.repositories.clear()
    hub.begun.clear()


@pytest.mark.soak
def test_killed_thirty_times(hub, tmp_path) -> None:
    """2 GB in 20 files; DISTILLKIT_SOAK_MB makes it smaller. A push that is through starts over on an empty Hub."""
    size = int(os.environ.get("DISTILLKIT_SOAK_MB", "2000")) * 10**6 // 20
    folder = make_large(tmp_path / "v1", 20, size)
    started = time.monotonic()
    finish(hub, folder, tmp_path)
    longest_s = time.monotonic() - started
    start_over(hub)
    rng, kills, resent, through = random.Random(17), 0, 0, 0
    while kills < 30:
        before = set(hub.begun)
        at = len(hub.begun)
        process = start(hub, folder, tmp_path)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0.5, longest_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        else:
            assert process.returncode == 0, errors
        again = [oid for oid in hub.begun[at:] if oid in before]
        assert len(again) <= 1, "more than the one file that was on its way was sent again"
        resent += len(again)
        if process.returncode == 0:
            assert_whole(hub, folder)
            through += 1
            start_over(hub)
    finish(hub, folder, tmp_path)
    assert_whole(hub, folder)
    print(f"{kills} kills, {resent} files sent again, {through + 1} pushes through")
