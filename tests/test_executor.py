import os
import subprocess
import sys
from pathlib import Path

from distillkit.executor import Inline, Processes, executor_for


def square(n: int) -> int:
    return n * n


def process(_: int) -> int:
    return os.getpid()


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert list(Inline().map(square, range(5))) == [0, 1, 4, 9, 16]
    assert list(Processes(2).map(square, range(5))) == [0, 1, 4, 9, 16]


def test_processes_are_others() -> None:
    assert os.getpid() not in set(Processes(2).map(process, range(4)))


def test_one_worker_is_inline() -> None:
    assert isinstance(executor_for(1), Inline)
    assert executor_for(3) == Processes(3)


FRESH = """
import os, sys
from distillkit.executor import PRELOAD, Processes

def state(_):
    return PRELOAD in sys.modules, len(os.listdir("/proc/self/task"))

if __name__ == "__main__":
    print(*Processes(1).map(state, [0]))
"""


def test_workers_begin_with_the_stages_imported_and_one_thread(tmp_path: Path) -> None:
    """In a run of its own: this process may have started its fork server long ago."""
    script = tmp_path / "fresh.py"
    script.write_text(FRESH)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "(True, 1)\n"
