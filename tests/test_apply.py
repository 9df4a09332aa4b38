import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distillkit.apply import apply
from distillkit.errors import MissingError, RecipeError

RIGHT = "<think>Wait, 1+1 is 2.</think> It is \\boxed{2}."
ROWS: list[dict[str, Any]] = [
    {"prompt": "1+1?", "completion": RIGHT, "reference": "2", "note": "a"},
    {"prompt": "1+1?", "completion": RIGHT, "reference": "2", "note": "b"},
    {"prompt": "1+2?", "completion": "<think>也许是 4</think> \\boxed{4}", "reference": "3"},
    {"prompt": "1/2?", "reference": "0.5"},
    {"prompt": "5?", "completion": "<think>so \\boxed{5}", "reference": "5", "finish_reason": "length"},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    path.write_text("\n".join([*lines[:3], "not json", *lines[3:]]) + "\n")
    return path


def run(kind: str, source: Path, *sets: str, suffix: str = ".jsonl", **options: Any) -> list[dict[str, Any]]:
    target = source.with_name(f"{source.stem}-{kind}{suffix}")
    apply(kind, source, target, sets, **options)
    if suffix == ".parquet":
        return pq.read_table(target).to_pylist()
    return [json.loads(line) for line in target.read_text().splitlines()]


def test_verify_adds_labels_to_every_row_in_order(file: Path) -> None:
    rows = run("verify", file)
    assert [row.get("note") for row in rows] == ["a", "b", None, None, None, None]
    assert [row.get("reason") for row in rows] == ["correct", "correct", "wrong", None, None, "truncated"]
    assert [row.get("score") for row in rows] == [1.0, 1.0, 0.0, None, None, 0.0]
    assert [row.get("reject_reason") for row in rows] == [None, None, None, "unreadable", "incomplete", None]
    assert rows[0]["verdicts"]["math"]["answer"] == "2" and rows[0]["problem_pass_rate"] == 1.0


def test_the_steps_chain_over_files(file: Path) -> None:
    for kind in ("verify", "measure", "dedup"):
        run(kind, file)
        file = file.with_name(f"{file.stem}-{kind}.jsonl")
    rows = run(
        "filter",
        file,
        "rules=[{field: score, min: 1.0, reason: bad}, {field: measures.language.share, min: 0.9, reason: mixed}]",
    )
    assert [row["kept"] for row in rows] == [True, True, False, False, False, False]
    assert [row["reject_reason"] for row in rows] == [None, None, "bad", "unreadable", "incomplete", "bad"]
    chosen = run("select", file.with_name(f"{file.stem}-filter.jsonl"), "unique=true", suffix=".parquet")
    assert [row["kept"] for row in chosen] == [True, False, False, False, False, False]
    assert [row["reject_reason"] for row in chosen] == [
        None,
        "duplicate",
        "bad",
        "unreadable",
        "incomplete",
        "bad",
    ]


def test_another_verifier_by_domain(file: Path) -> None:
    rows = run("verify", file, "verifiers.sums.kind=exact", domain="sums")
    assert rows[0]["verdicts"]["sums"]["score"] == 1.0


def test_parquet_in_parquet_out(file: Path) -> None:
    rows = run("verify", file, suffix=".parquet")
    again = file.with_name(f"{file.stem}-verify.parquet")
    assert run("measure", again, suffix=".parquet")[0]["score"] == rows[0]["score"] == 1.0


@pytest.mark.parametrize(
    ("kind", "sets", "says"),
    [
        ("verifi", [], "no row stage of that kind"),
        ("dedup", ["treshold=0.5"], "treshold"),
        ("dedup", ["threshold"], "write KEY=VALUE"),
        ("filter", ["rules=[{field: nothing, min: 1, reason: x}]"], "no field 'nothing'"),
    ],
)
def test_a_mistake_is_one_line(file: Path, kind: str, sets: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        run(kind, file, *sets)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path: Path, file: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        run("verify", tmp_path / "nothing.jsonl")
    with pytest.raises(RecipeError, match=r"output ends in"):
        apply("verify", file, tmp_path / "out.csv")
    other = tmp_path / "other.jsonl"
    other.write_text('{"question": "1+1?", "completion": "2"}\n')
    with pytest.raises(RecipeError, match="no column prompt; there are completion, question"):
        run("verify", other)


def test_foreign_code_needs_trust(file: Path, tmp_path: Path) -> None:
    grader = tmp_path / "grader.py"
    grader.write_text("def grade(row):\n    return 1.0\n")
    sets = ["verifiers.math.kind=python", f"verifiers.math.file={grader}", "verifiers.math.function=grade"]
    with pytest.raises(RecipeError, match="--trust"):
        run("verify", file, *sets)
    assert run("verify", file, *sets, trust=True)[2]["score"] == 1.0
