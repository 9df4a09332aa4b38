"""Pools: no row is lost or shifted, whatever an item does to its worker."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S

from distillkit.errors import StageError
from distillkit.pool import Failure, Pool, StartError, close_shared, shared
from distillkit.spec import file_digest
from distillkit.worker import user_function

Make = Callable[..., Pool]

CODE = '''
import os, sys, time

def act(item):
    """Does what it is told."""
    if item == "loop":
        while True:
            pass
    if item == "big power":  # C code that never gives the interpreter lock back
        return len(str(7 ** 7 ** 12))
    if item == "eat":
        return len(bytearray(2 ** 33))
    if item == "raise":
        raise KeyError("answer")
    if item == "exit":
        sys.exit("bye")
    if item == "crash":
        os.kill(os.getpid(), 11)
    if item == "talk":
        print('["value", "forged"]', flush=True)
        return input()
    if item == "pid":
        return os.getpid()
    if item == "fork":
        return "child" if os.fork() == 0 else "parent"
    if item == "fork and raise":
        if os.fork() == 0:
            raise KeyError("child")
        return "parent"
    if item == "unjson":
        return {1, 2}
    if isinstance(item, dict) and "sleep" in item:
        with open(item["log"], "a") as log:
            log.write("slept ")
        time.sleep(item["sleep"])
    return item
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user") / "act.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def make_pool(file: Path) -> Iterator[Make]:
    pools: list[Pool] = []

    def make(function: str = "act", workers: int = 2, cpu_s: float = 0.5, **options: float) -> Pool:
        pools.append(
            Pool(
                user_function,
                (str(file), function, file_digest(file)),
                workers=workers,
                cpu_s=cpu_s,
                memory_gib=1,
                **options,
            )
        )
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def gone(pid: int) -> bool:
    """Whether the process ends; waits for it for a while."""
    for _ in range(300):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


def test_secrets_stay_with_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "my_secret", "DB_PASSWORD"):
        monkeypatch.setenv(name, "for nobody else")
    monkeypatch.setenv("HARMLESS", "yes")
    path = tmp_path / "environment.py"
    path.write_text("import os\ndef act(item):\n    return dict(os.environ)\n")
    with Pool(user_function, (str(path), "act", file_digest(path)), workers=1, cpu_s=1) as pool:
        [environment] = pool.map([0])
    assert environment["HARMLESS"] == "yes"
    assert "for nobody else" not in environment.values()


def test_results_keep_the_order_of_the_items(make_pool: Make) -> None:
    assert make_pool().map(list(range(1000))) == list(range(1000))
    assert make_pool().map([]) == []


def test_bad_items_cost_themselves_only(make_pool: Make) -> None:
    bad = {
        "loop": "cpu",
        "big power": "cpu",
        "eat": "died",
        "crash": "died",
        "raise": "raised",
        "exit": "raised",
    }
    items: list[object] = []
    for at, name in enumerate(bad):
        items += [at, name, -at, str(at)]
    results = make_pool().map(items)
    for item, result in zip(items, results, strict=True):
        if item in bad:
            assert isinstance(result, Failure) and result.cause == bad[str(item)], (item, result)
        else:
            assert result == item


def test_a_forked_server_is_replaced_from_the_same_clean_state(make_pool: Make) -> None:
    bad = {"loop": "cpu", "big power": "cpu", "eat": "died", "crash": "died", "raise": "raised"}
    items: list[object] = []
    for at, name in enumerate(bad):
        items += ["pid", at, name, -at, str(at)]
    pool = make_pool(workers=1, forks=True)
    results = pool.map(items)
    for item, result in zip(items, results, strict=True):
        if item in bad:
            assert isinstance(result, Failure) and result.cause == bad[str(item)], (item, result)
        elif item != "pid":
            assert result == item
    pids = [result for item, result in zip(items, results, strict=True) if item == "pid"]
    assert len(set(pids)) == 5  # one more after each death, none after "raise"
    pool.close()
    assert all(gone(pid) for pid in pids)


def test_a_forked_server_killed_from_outside_shifts_no_row(make_pool: Make) -> None:
    pool = make_pool(workers=1, forks=True)
    for _ in range(3):
        [pid] = pool.map(["pid"])
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert pool.map(list(range(20))) == list(range(20))


def test_a_failure_says_what_happened(make_pool: Make) -> None:
    raised, left, memory, crash, odd = make_pool(workers=1).map(["raise", "exit", "eat", "crash", "unjson"])
    line = CODE.split("\n").index('        raise KeyError("answer")') + 1
    assert raised.detail == f"KeyError: 'answer' (act.py:{line})"
    assert left.detail.startswith("SystemExit: bye")
    assert memory.detail == "out of memory"
    assert crash.detail == "killed by signal 11"
    assert "not JSON serializable" in odd.detail


def test_waiting_costs_no_cpu_time(make_pool: Make, tmp_path: Path) -> None:
    item = {"sleep": 0.6, "log": str(tmp_path / "log")}
    assert make_pool(cpu_s=0.2).map([item]) == [item]


def test_the_wall_clock_gives_one_lone_retry(make_pool: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    before, hung, after = make_pool(wall_s=1.0).map([1, {"sleep": 1000, "log": str(log)}, 2])
    assert (before, after) == (1, 2)
    assert isinstance(hung, Failure) and hung.cause == "wall"
    assert log.read_text() == "slept slept "


def test_talk_stays_out_of_the_pipes(make_pool: Make) -> None:
    talked, after = make_pool(workers=1).map(["talk", "after"])
    assert isinstance(talked, Failure) and talked.detail.startswith("EOFError")
    assert after == "after"


@pytest.mark.parametrize("forks", [False, True])
def test_a_child_that_comes_back_answers_no_row(make_pool: Make, forks: bool) -> None:
    pool = make_pool(workers=1, forks=forks)
    items = [item for number in range(20) for item in ("fork", number, "fork and raise", -number)]
    expected = [item for number in range(20) for item in ("parent", number, "parent", -number)]
    assert pool.map(items) == expected
    assert pool.map(["again"]) == ["again"]


def test_workers_stay_warm_and_serve_any_thread(make_pool: Make) -> None:
    pool = make_pool(workers=1)
    pids: list[int] = pool.map(["pid"])
    threads = [threading.Thread(target=lambda: pids.extend(pool.map(["pid", "pid"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 9
    assert len(set(pids)) == 1


def test_a_worker_that_died_between_two_maps_is_replaced(make_pool: Make) -> None:
    pool = make_pool(workers=1)
    [pid] = pool.map(["pid"])
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert pool.map([1, 2, 3]) == [1, 2, 3]


def test_close_ends_the_workers(make_pool: Make) -> None:
    pool = make_pool()
    pids = set(pool.map(["pid"] * 200))
    pool.close()
    pool.close()
    assert pids and all(gone(pid) for pid in pids)


def test_close_from_another_thread_ends_a_map(make_pool: Make, tmp_path: Path) -> None:
    pool, log = make_pool(), tmp_path / "log"
    failed: list[BaseException] = []

    def work() -> None:
        try:
            pool.map([{"sleep": 1000, "log": str(log)}] * 9)
        except StageError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not log.exists():
        time.sleep(0.05)
    pool.close()
    thread.join(timeout=PATIENCE_S)
    assert not thread.is_alive()
    assert "closed" in str(failed[0])


def test_a_start_that_fails_says_why(make_pool: Make, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"act\.py: no function 'nothing' in it"):
        make_pool("nothing").map([1])
    broken = tmp_path / "broken.py"
    broken.write_text("def act(item):\n    return = 1\n")
    pool = Pool(user_function, (str(broken), "act", file_digest(broken)), workers=1, cpu_s=1)
    with pool, pytest.raises(StartError, match="SyntaxError"):
        pool.map([1])


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def act(item):\n    return 1\n")
    digest = file_digest(path)
    path.write_text("def act(item):\n    return 2\n")
    pool = Pool(user_function, (str(path), "act", digest), workers=1, cpu_s=1)
    with pool, pytest.raises(StartError, match="changed while it was in use"):
        pool.map([1])


def test_shared_pools_are_one_per_setting(file: Path) -> None:
    args = (str(file), "act", file_digest(file))
    first = shared(user_function, args, workers=1, cpu_s=1)
    assert shared(user_function, args, workers=1, cpu_s=1) is first
    assert shared(user_function, args, workers=1, cpu_s=2) is not first
    [pid] = first.map(["pid"])
    close_shared(user_function)
    assert gone(pid)
    assert shared(user_function, args, workers=1, cpu_s=1) is not first
    close_shared()


@pytest.mark.parametrize("forks", [False, True])
def test_no_worker_outlives_a_killed_parent(file: Path, tmp_path: Path, forks: bool) -> None:
    """The worker is inside C code that holds the interpreter lock: only the kernel can end it."""
    log = tmp_path / "pid"
    script = f"""
        from distillkit.pool import Pool
        from distillkit.spec import file_digest
        from distillkit.worker import user_function
        from pathlib import Path
        file = {str(file)!r}
        pool = Pool(user_function, (file, "act", file_digest(Path(file))), workers=1, cpu_s=9999, forks={forks})
        [pid] = pool.map(["pid"])
        Path({str(log)!r}).write_text(str(pid) + ".")
        pool.map(["big power"])
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment)
    while not (log.exists() and log.read_text().endswith(".")):
        assert parent.poll() is None
        time.sleep(0.05)
    worker = int(log.read_text()[:-1])
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    assert gone(worker)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
COMMANDS = ("loop", "big power", "eat", "raise", "exit", "crash", "talk", "pid", "unjson")


def test_any_json_comes_back_as_it_was(make_pool: Make) -> None:
    pool = make_pool()

    @settings(max_examples=50, deadline=None)
    @given(st.lists(ANY_JSON, max_size=30))
    def check(items: list[object]) -> None:
        items = [item for item in items if item not in COMMANDS]
        assert pool.map(items) == json.loads(json.dumps(items))

    check()


def test_what_a_worker_started_dies_with_it(tmp_path: Path) -> None:
    """A grader that runs a compiler, say, and then runs out of time."""
    log, path = tmp_path / "pid", tmp_path / "parent.py"
    path.write_text(
        "import subprocess\n"
        "def act(log):\n"
        "    child = subprocess.Popen(['sleep', '1000'])\n"
        "    with open(log, 'a') as file: file.write(f'{child.pid} ')\n"
        "    while True: pass\n"
    )
    with Pool(user_function, (str(path), "act", file_digest(path)), workers=1, cpu_s=0.3) as pool:
        [result] = pool.map([str(log)])
    assert isinstance(result, Failure) and result.cause == "cpu"
    assert [gone(int(pid)) for pid in log.read_text().split()] == [True]
