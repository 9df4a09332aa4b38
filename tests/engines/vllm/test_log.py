"""The cause is read from the log of a real process, whose standard error is a file or is not."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from distillkit.engines.vllm.log import Log
sys.stderr.write("ValueError: before\\n")
sys.stderr.flush()
log = Log()
sys.stderr.write(sys.argv[1])
sys.stderr.flush()
print(log.cause())
"""


def cause(text, stderr):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, text], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True
    )
    return ended.stdout.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "its log does not say why"),
        (
            "(EngineCore pid=3) ERROR 11-21 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n"
            "RuntimeError: Engine core initialization failed. See root cause above.\n",
            "OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
        ),
        ("KeyError: 'a'\nAssertionError: Not enough NUMA nodes\n", "AssertionError: Not enough NUMA nodes"),
        ("an Error without a colon\nNotAnErrorHere: no\n", "its log does not say why"),
    ],
)
def test_the_last_error_of_the_file_is_the_cause(tmp_path, text, expected):
    with (tmp_path / "log").open("w") as file:
        assert cause(text, file) == expected


def test_a_pipe_cannot_be_read_again():
    assert cause("ValueError: x\n", subprocess.PIPE) == "its log above says why"


def test_a_long_cause_is_cut(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert len(cause(f"ValueError: {'x' * 5000}\n", file)) == 400
