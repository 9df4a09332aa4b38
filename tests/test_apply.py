import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distillkit.apply import apply
from distillkit.errors import MissingError, RecipeError, StageError

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
        (
            "dedup",
            ["treshold=0.5"],
            "--set treshold=0.5: stages.dedup.treshold: unknown key; did you mean threshold",
        ),
        ("dedup", ["threshold"], "write KEY=VALUE"),
        ("dedup", ["threshold=[1"], "the value is not YAML"),
        ("dedup", ["threshold.a=1", "threshold.a.b=1"], "threshold.a is a value, nothing lies below it"),
        ("dedup", ["input=3"], "input is given by the command itself"),
        ("verify", ["kind=filter"], "kind is given by the command itself"),
        ("verify", ["verifiers.math.kind=maths"], "verifiers.math: unknown kind 'maths'; did you mean math"),
        ("verify", ["verifiers=3"], "verifiers: input should be a valid dictionary"),
        ("filter", [], "apply filter: stages.filter.rules: is required"),
        ("select", [], "picks by nothing"),
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


ODD = [
    '{"prompt": "1+1?", "completion": "\\\\boxed{2}", "reference": NaN}',
    '{"prompt": "1+1?", "completion": "\\\\boxed{2} \\ud800", "reference": "2"}',
    '{"prompt": "1+1?", "completion": null, "reference": "2"}',
    '{"messages": [{"role": 3}], "completion": "\\\\boxed{2}", "reference": "2"}',
    '{"messages": [{"role": "user", "content": "1+1?"}], "completion": "\\\\boxed{2}", "reference": 2}',
    '{"prompt": "1+1?", "completion": "\\\\boxed{2}", "reference": "2", "prompt_tokens": "many", "finish_reason": 7}',
    '{"prompt": "1+1?", "completion": "\\\\boxed{2}", "reference": "2", "completion_tokens": 99999999999, "note": {}}',
    "[" * 3000,
    "[1]",
]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_odd_row_is_data_with_a_reason(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text("\n".join(ODD) + "\n")
    rows = run("verify", file, suffix=suffix)
    assert [row.get("reject_reason") for row in rows] == [
        "unreadable", "unreadable", "incomplete", "incomplete", None, None, None, "unreadable", "unreadable",
    ]  # fmt: skip
    assert [row.get("reason") for row in rows][4:7] == ["correct"] * 3
    if suffix == ".jsonl":
        text = file.with_name("odd-verify.jsonl").read_text("utf-8")
        assert "NaN" not in text and "\\ud800" in text
    again = file.with_name(f"odd-verify{suffix}")
    chained = run("filter", again, "rules=[{field: score, min: 1.0, reason: wrong}]")
    assert [row["kept"] for row in chained][2:] == [False, False, True, True, True, False, False]


def test_where_all_rows_drop_each_says_why(file: Path) -> None:
    rows = run("filter", file, "rules=[{field: domain, is: code, reason: other_domain}]")
    assert [row["kept"] for row in rows] == [False] * 6
    assert {row["reject_reason"] for row in rows} == {"other_domain", "unreadable", "incomplete"}
    last = run("select", file.with_name("rows-filter.jsonl"), "per_problem=1")
    assert [row["reject_reason"] for row in last] == [row["reject_reason"] for row in rows]


def test_a_file_without_rows_or_none_at_all(tmp_path: Path) -> None:
    for name, content in (("empty.jsonl", ""), ("words.jsonl", "words\n"), ("words.parquet", "words")):
        (tmp_path / name).write_text(content)
        with pytest.raises(StageError, match=name):
            run("verify", tmp_path / name)
    with pytest.raises(RecipeError, match="the input ends in"):
        run("verify", tmp_path / "x.csv")


def test_labels_of_several_types_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    rows = [{"prompt": "1?", "completion": "1", "score": score} for score in (1.0, "high")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecipeError, match="label columns \\(score\\): not of one type each"):
        run("filter", file, "rules=[{field: score, min: 1.0, reason: wrong}]")


def test_the_output_is_whole_or_not_there(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    apply("measure", file, file)  # in place: read before it is replaced
    assert len(file.read_text("utf-8").splitlines()) == 6 and file.read_bytes() != before
    (tmp_path / "folder.jsonl").mkdir()
    for target in (tmp_path / "folder.jsonl", tmp_path / "none" / "out.jsonl"):
        with pytest.raises(MissingError, match="give another place with -o"):
            apply("measure", file, target)
    assert not list(tmp_path.glob("*.part"))


def test_what_an_earlier_step_dropped_is_counted_apart(file: Path) -> None:
    filtered, chosen = file.with_name("filtered.jsonl"), file.with_name("chosen.jsonl")
    first = apply("filter", file, filtered, ["rules=[{field: prompt_tokens, is: null, reason: x}]"])
    assert first == {"rows": 6, "kept": 4, "refused": 2}
    assert apply("select", filtered, chosen, ["per_problem=1"]) == {
        "rows": 6, "kept": 3, "dropped before": 2, "refused": 0,
    }  # fmt: skip


def test_a_file_of_conversations_is_pointed_to_traces(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "1?"}]}))
    with pytest.raises(RecipeError, match=r"no column completion; .*preset: messages"):
        apply("measure", file, tmp_path / "out.jsonl")
