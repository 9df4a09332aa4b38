import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distillkit.store import Writer
from distillkit.training.completions import PER_STEP, STEPS, spread, write_completions


def row(step: int, prompt: str, completion: str) -> dict[str, Any]:
    return {
        "step": step,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
        "accuracy": 1.0,
        "format": float("nan"),
        "advantage": 0.5,
    }


def test_the_sample_is_bounded_and_one_per_prompt(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    folder.mkdir()
    for step in range(1, 31):
        rows = [row(step, f"p{i}", f"c{step}.{i}.{n}") for i in range(6) for n in range(2)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"completions_{step:05d}.parquet")
    write_completions(folder, ["accuracy", "format"], Writer(tmp_path / "out"))
    lines = [
        json.loads(line) for line in (tmp_path / "out" / "completions.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(lines) == STEPS * PER_STEP
    assert {line["step"] for line in lines} >= {1, 30}
    assert lines[1] == {
        "step": 1,
        "prompt": "p1",
        "completion": "c1.1.0",
        "rewards": {"accuracy": 1.0, "format": None},
        "advantage": 0.5,
    }


def test_no_completions_make_an_empty_file(tmp_path: Path) -> None:
    write_completions(tmp_path / "none", ["accuracy"], Writer(tmp_path / "out"))
    assert (tmp_path / "out" / "completions.jsonl").read_text("utf-8") == ""


@pytest.mark.parametrize(
    ("count", "most", "found"), [(3, 8, [0, 1, 2]), (10, 3, [0, 4, 9]), (9, 9, [*range(9)])]
)
def test_spread(count: int, most: int, found: list[int]) -> None:
    assert spread(range(count), most) == found
