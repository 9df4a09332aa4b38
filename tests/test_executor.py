import os

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
