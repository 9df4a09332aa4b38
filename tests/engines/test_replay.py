import json

import pytest

from distillkit.artifact import Model
from distillkit.engines.base import Completion, Listed, Parameters, Request
from distillkit.engines.replay import ReplayEngine
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.index import Index
from distillkit.spec import identity

NO_MODEL = Model("none", "none", "none")


def replay(file, *requests):
    engine = ReplayEngine(file=str(file))
    assert engine.tokenizer(NO_MODEL) is None
    with engine.open(NO_MODEL, None) as session:
        return [completion for _, completion in session.generate(Listed(requests), Parameters(max_tokens=1))]


def request(problem_id="p", index=0, prompt="?"):
    return Request(
        f"{problem_id}/{index}", "rendered", 0, problem_id, index, [{"role": "user", "content": prompt}]
    )


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_rows_are_found_by_problem_or_prompt_and_index(tmp_path):
    file = write(
        tmp_path / "r.jsonl",
        {"problem_id": "p", "index": 1, "completion": "b", "finish_reason": "length", "completion_tokens": 3},
        {"problem_id": "p", "index": 0, "completion": "a", "finish_reason": "stop", "prompt_tokens": 2},
        {"prompt": "1 + 1", "completion": "first"},
        {"prompt": "1 + 1", "completion": "second", "finish_reason": "strange"},
    )
    found = replay(file, request(), request(index=1), request("q", 0, "1 + 1"), request("q", 1, "1 + 1"))
    assert found == [
        Completion("a", "stop", prompt_tokens=2),
        Completion("b", "length", completion_tokens=3),
        Completion("first", "unknown"),
        Completion("second", "unknown"),
    ]


def test_what_was_not_recorded_is_a_row_with_its_reason(tmp_path):
    file = write(tmp_path / "r.jsonl", {"problem_id": "p", "completion": "a"})
    missing = Completion("", "error", error="no recorded completion")
    assert replay(file, request(index=1), request("other")) == [missing, missing]


def test_parquet_is_read_too(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"problem_id": "p", "index": i, "completion": f"c{i}", "extra": "{}"} for i in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    assert [c.text for c in replay(tmp_path / "r.parquet", request(index=2), request(index=2999))] == [
        "c2",
        "c2999",
    ]


def parquet(path, rows, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_parquet_may_lie_in_any_order_and_lack_what_is_not_needed(tmp_path):
    rows = [{"prompt": f"q{i // 3}", "completion": f"c{i}\n\u2028", "noise": [i]} for i in range(400)]
    file = parquet(tmp_path / "r.parquet", rows, row_group_size=7)
    requests = [request("?", i % 3, f"q{i // 3}") for i in reversed(range(400))]
    assert [c.text for c in replay(file, *requests)] == [f"c{i}\n\u2028" for i in reversed(range(400))]


def test_a_parquet_file_without_completions_says_what_it_has(tmp_path):
    file = parquet(tmp_path / "r.parquet", [{"problem_id": "p", "text": "a", "more": 1}])
    with pytest.raises(RecipeError, match=r"needs `completion`.*has problem_id, text, more"):
        replay(file, request())


def test_a_problem_that_has_records_is_not_looked_for_by_its_prompt(tmp_path):
    file = write(
        tmp_path / "r.jsonl", {"problem_id": "p", "completion": "a"}, {"prompt": "?", "completion": "b"}
    )
    assert [c.text for c in replay(file, request("p", 0), request("other", 0))] == ["a", "b"]
    file = write(
        tmp_path / "two.jsonl",
        {"problem_id": "p", "index": 1, "completion": "a"},
        {"prompt": "?", "index": 0, "completion": "b"},
    )
    assert [c.finish_reason for c in replay(file, request("p", 0))] == ["error"]


def test_the_first_record_of_an_index_stays_and_others_count_on(tmp_path):
    file = write(
        tmp_path / "r.jsonl",
        {"problem_id": "p", "index": 0, "completion": "a"},
        {"problem_id": "p", "index": 0, "completion": "again"},
        {"problem_id": "p", "completion": "b"},
    )
    assert [c.text for c in replay(file, request(), request(index=1))] == ["a", "b"]


def test_any_text_and_any_line_end_are_replayed(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"problem_id": "p", "completion": "\\ud800"}\r\n  \r\n')
    with file.open("ab") as lines:
        lines.write('{"prompt": "\\ud800", "completion": "\u4f60\u2028"}'.encode())
    assert [c.text for c in replay(file, request(), request("other", 0, "\ud800"))] == [
        "\ud800",
        "\u4f60\u2028",
    ]


def test_memory_holds_places_and_no_text(tmp_path):
    import tracemalloc

    file = tmp_path / "r.jsonl"
    with file.open("w") as lines:
        for i in range(2000):
            lines.write(json.dumps({"problem_id": f"p{i // 8}", "completion": "x" * 5000}) + "\n")
    Index()  # imports numpy
    tracemalloc.start()
    assert all(len(c.text) == 5000 for c in replay(file, request("p0"), request("p249", 7)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < file.stat().st_size / 5


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("absent.jsonl", None, MissingError, "no such file"),
        ("r.csv", b"a,b", RecipeError, r"end in .jsonl or .parquet"),
        (
            "r.jsonl",
            b'{"problem_id": "p", "completion": "a"}\n{"problem',
            StageError,
            r"r.jsonl:2: not a JSON object",
        ),
        ("r.jsonl", b"[1]", StageError, r"r.jsonl:1: not a JSON object"),
        (
            "r.jsonl",
            b'{"problem_id": "p", "completion": "\xff"}',
            StageError,
            r"r.jsonl:1: not a JSON object",
        ),
        (
            "r.jsonl",
            b'{"problem_id": "p", "index": "x", "completion": "a"}',
            StageError,
            r":1: index 'x' is not a",
        ),
        (
            "r.jsonl",
            b'{"problem_id": "p", "text": "a"}',
            RecipeError,
            "needs `completion`.*has problem_id, text",
        ),
        ("r.jsonl", b'{"completion": "a"}', RecipeError, "needs `completion` and `problem_id` or `prompt`"),
        ("r.parquet", b"not parquet", StageError, "not readable as Parquet"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        replay(tmp_path / name, request())


def test_identity_is_the_content_of_the_file(tmp_path):
    one = write(tmp_path / "one.jsonl", {"problem_id": "p", "completion": "a"})
    two = write(tmp_path / "two.jsonl", {"problem_id": "p", "completion": "a"})
    same = identity(ReplayEngine(file=str(one))) == identity(ReplayEngine(file=str(two)))
    write(two, {"problem_id": "p", "completion": "b"})
    assert same
    assert ReplayEngine(file=str(one)).key() != ReplayEngine(file=str(two)).key()
