"""Sources of problems: what is mapped, what is counted, and what is refused with which words."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest
from distillkit.errors import DistillkitError, MissingError, RecipeError, StageError
from distillkit.spec import identity
from distillkit.stages.base import Job
from distillkit.stages.problems import Problems
from distillkit.store import Store
from distillkit.toy.problems import split_of
from distillkit.trace import Problem, problem_of

GSM8K = {"prompt": "question", "reference": "answer"}


def made(folder: Path, warnings: list[str] | None = None, **fields: Any) -> Artifact:
    """The sealed artifact of a problems stage with these fields."""
    stage = Problems(name="problems", **fields)
    stage.check(folder)
    store = Store(folder / "store")
    with store.building("problems", f"{len(store.all()):016x}", print) as out:
        stage.run(Job(store, out, {}, shards=4, warn=(warnings if warnings is not None else []).append))
        return store.seal(out, Manifest("problems", "problems", "problems", "request", ""))


def problems_of(artifact: Artifact) -> list[Problem]:
    return [problem_of(row) for row in artifact.rows()]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def sums(count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {n} + 1?", "answer": f"{n} plus 1\n#### {n + 1}", "level": n % 3}
        for n in range(count)
    ]


class TestToy:
    def test_makes_the_asked_number_of_one_split(self, tmp_path: Path) -> None:
        artifact = made(tmp_path, toy="chain", limit=40, terms=(3, 4), split="heldout", seed=3)
        found = problems_of(artifact)
        assert len(found) == 40 == artifact.manifest.rows_in
        assert (
            {problem.split for problem in found}
            == {"heldout"}
            == {split_of(problem.prompt) for problem in found}
        )
        assert artifact.manifest.counts["domain"] == {"chain": 40}

    def test_equal_declarations_give_equal_content_and_seeds_differ(self, tmp_path: Path) -> None:
        first, again, other = (made(tmp_path, toy="chain", limit=20, seed=seed) for seed in (1, 1, 2))
        assert first.content == again.content != other.content

    def test_domain_may_be_named(self, tmp_path: Path) -> None:
        assert {p.domain for p in problems_of(made(tmp_path, toy="chain", limit=5, domain="sums"))} == {
            "sums"
        }

    def test_more_than_there_are_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="only"):
            made(tmp_path, toy="chain", limit=10_000, terms=(2, 2))

    def test_talk(self, tmp_path: Path) -> None:
        found = problems_of(made(tmp_path, toy="chat", limit=30, split="heldout", seed=3))
        assert len(found) == 30 and {(p.domain, p.split) for p in found} == {("chat", "heldout")}
        assert all(p.reference and p.extra["asked"] in p.prompt for p in found)


class TestFile:
    def test_takes_only_rows_with_these_values(self, tmp_path: Path) -> None:
        file = write(tmp_path / "train.jsonl", sums(9))
        artifact = made(
            tmp_path, file=file, columns=GSM8K, where={"level": [1, 2]}, reference_pattern="#### (.+)"
        )
        assert len(problems_of(artifact)) == 6
        assert artifact.manifest.rejected == {"other_level": 3}
        with pytest.raises(RecipeError, match="no column 'lvl'"):
            made(tmp_path, file=file, columns=GSM8K, where={"lvl": [1]})

    def test_maps_columns_and_reads_the_gold_out_of_text(self, tmp_path: Path) -> None:
        file = write(tmp_path / "train.jsonl", sums(5))
        artifact = made(
            tmp_path, file=file, columns={**GSM8K, "extra": {"level": "level"}}, reference_pattern="#### (.+)"
        )
        found = {problem.prompt: problem for problem in problems_of(artifact)}
        problem = found["What is 3 + 1?"]
        assert (problem.reference, problem.extra, problem.domain, problem.source, problem.split) == (
            "4", {"level": 0}, "math", "train.jsonl", "train",
        )  # fmt: skip
        assert artifact.manifest.counts["domain"] == {"math": 5}

    def test_the_last_match_is_the_gold(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.jsonl", [{"prompt": "p", "reference": "#### 1\n#### 2"}])
        assert problems_of(made(tmp_path, file=file, reference_pattern="#### (.+)"))[0].reference == "2"

    def test_paths_lead_into_nested_columns_and_rows_may_name_their_domain(self, tmp_path: Path) -> None:
        system, user = {"role": "system", "content": "be brief"}, {"role": "user", "content": "1 + 1?"}
        rows = [
            {
                "chat": [system, user, {"role": "assistant", "content": "2"}],
                "reward": {"gold": 2.0},
                "kind": "sum",
                "lang": "en",
            },
            {"chat": [user], "reward": {"gold": {"tests": ["x"]}}, "kind": None, "lang": None},
        ]
        columns = {"prompt": "chat", "reference": "reward.gold", "domain": "kind", "language": "lang"}
        artifact = made(tmp_path, file=write(tmp_path / "a.jsonl", rows), columns=columns, domain="code")
        found = {problem.domain: problem for problem in problems_of(artifact)}
        assert found["sum"].messages == [system, user]  # an answer in the prompt would give it away
        assert (found["sum"].reference, found["sum"].language) == ("2", "en")
        assert (found["code"].reference, found["code"].language) == ({"tests": ["x"]}, None)

    def test_bad_rows_are_counted_with_a_reason_and_a_place(self, tmp_path: Path) -> None:
        rows: list[bytes] = [
            b'{"prompt": "a", "reference": "1"}',
            b'{"prompt": " a ", "reference": 1}',  # the same but for white space
            b"",
            b'{"prompt": "  ", "reference": "1"}',
            b'{"prompt": "b", "reference": null}',
            b'{"prompt": "b", "reference": NaN}',
            b'{"prompt": "b"}',
            b'{"prompt": 7, "reference": "1"}',
            b'{"prompt": ["a"], "reference": "1"}',
            b'{"prompt": "cut off',
            b'["a", "1"]',
            b'{"prompt": "\\ud800", "reference": "1"}',
            b'{"prompt": "\xff", "reference": "1"}',
            b"[" * 100_000,
        ]
        file = tmp_path / "rows.jsonl"
        file.write_bytes(b"\n".join(rows))
        warnings: list[str] = []
        manifest = made(tmp_path, warnings, file=str(file)).manifest
        assert manifest.rejected == {"duplicate": 1, "no_prompt": 3, "no_reference": 3, "unreadable": 5}
        assert (manifest.rows_in, manifest.rows_kept) == (13, 1)
        assert manifest.telemetry["rejected_examples"]["unreadable"] == "rows.jsonl:10"
        assert warnings == ["problems: 5 unreadable rows left out, e.g. rows.jsonl:10"]

    def test_a_bad_line_more_changes_no_content(self, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        file.write_text('{"prompt": "a", "reference": "1"}\n')
        before = made(tmp_path, file=str(file))
        file.write_text('{"prompt": "a", "reference": "1"}\n{broken\n')
        assert made(tmp_path, file=str(file)).content == before.content

    def test_all_formats_give_the_same_problems(self, tmp_path: Path) -> None:
        import csv

        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [{"question": f'{n} + "1",\nwhat?', "answer": str(n + 1), "unused": "x"} for n in range(5)]
        write(tmp_path / "a.jsonl", rows)
        (tmp_path / "a.json").write_text(json.dumps(rows))
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
            sheet = csv.DictWriter(file, list(rows[0]))
            sheet.writeheader()
            sheet.writerows(rows)
        ids = [
            {p.id for p in problems_of(made(tmp_path, file=str(tmp_path / f"a{ending}"), columns=GSM8K))}
            for ending in (".jsonl", ".json", ".parquet", ".csv")
        ]
        assert len(ids[0]) == 5 and ids == [ids[0]] * 4

    def test_a_ragged_or_undecodable_csv_row_is_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"prompt,reference\na,1\nb\nc,\xff\nd,4\n")
        manifest = made(tmp_path, file=str(tmp_path / "a.csv")).manifest
        assert (manifest.rows_kept, manifest.rejected) == (2, {"unreadable": 2})

    def test_parquet_values_that_json_lacks(self, tmp_path: Path) -> None:
        import datetime
        import decimal

        import pyarrow as pa
        import pyarrow.parquet as pq

        row = {
            "prompt": "p",
            "reference": decimal.Decimal("1.50"),
            "day": datetime.date(2026, 1, 2),
            "x": float("nan"),
        }
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
        columns = {"extra": {"day": "day", "x": "x"}}
        [problem] = problems_of(made(tmp_path, file=str(tmp_path / "a.parquet"), columns=columns))
        assert (problem.reference, problem.extra) == ("1.50", {"day": "2026-01-02", "x": None})

    @pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ".csv"])
    def test_a_column_that_is_not_there_names_those_that_are(self, tmp_path: Path, ending: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [{"question": "q", "gold": "1"}] * 3
        file = tmp_path / f"a{ending}"
        if ending == ".jsonl":
            write(file, rows)
        elif ending == ".json":
            file.write_text(json.dumps(rows))
        elif ending == ".csv":
            file.write_text("question,gold\nq,1\n")
        else:
            pq.write_table(pa.Table.from_pylist(rows), file)
        with pytest.raises(RecipeError, match=r"no column 'answer'; there are question, gold"):
            made(tmp_path, file=str(file), columns=GSM8K)

    def test_an_optional_column_that_is_not_there_is_a_mistake_too(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.jsonl", sums(3))
        with pytest.raises(RecipeError, match="no column 'lang'"):
            made(tmp_path, file=file, columns={**GSM8K, "language": "lang"})

    @pytest.mark.parametrize(
        ("name", "body", "error", "words"),
        [
            ("none.jsonl", None, MissingError, "no such file"),
            ("a.txt", b"x", RecipeError, r"\.jsonl, \.json, \.csv, \.parquet"),
            ("a.parquet", b"PAR1", StageError, "not a whole Parquet file"),
            ("a.json", b"[{]", StageError, "not JSON"),
            ("a.json", b'{"prompt": "a"}', StageError, "not a list"),
            ("a.jsonl", b"", StageError, "no problem left of 0 rows of a.jsonl"),
            ("a.csv", b"", RecipeError, "no column 'prompt'"),
            ("a.jsonl", b"nonsense\n" * 3, StageError, r"3 unreadable \(e.g. a.jsonl:1\)"),
            (
                "a.jsonl",
                b'{"prompt": "a", "reference": ""}',
                StageError,
                r"1 no_reference \(e.g. a.jsonl:1\)",
            ),
        ],
    )
    def test_files_that_give_nothing(
        self, tmp_path: Path, name: str, body: bytes | None, error: type[DistillkitError], words: str
    ) -> None:
        if body is not None:
            (tmp_path / name).write_bytes(body)
        with pytest.raises(error, match=words):
            made(tmp_path, file=str(tmp_path / name))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=8))
    def test_no_bytes_make_it_crash(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
    ) -> None:
        folder = tmp_path_factory.mktemp("bytes")
        file = folder / "a.jsonl"
        file.write_bytes(b"\n".join([*lines, b'{"prompt": "a", "reference": "1"}']))
        manifest = made(folder, file=str(file)).manifest
        assert manifest.rows_kept >= 1
        assert manifest.rows_in == manifest.rows_kept + sum(manifest.rejected.values())

    def test_identity_is_the_file_s_bytes(self, tmp_path: Path) -> None:
        first, copy = write(tmp_path / "a.jsonl", sums(2)), write(tmp_path / "b.jsonl", sums(2))
        stage = Problems(name="a", file=first)
        assert identity(stage) == identity(Problems(name="b", file=copy))
        before = identity(stage)
        write(tmp_path / "a.jsonl", sums(3))
        assert identity(stage) != before


class TestLimit:
    def test_the_first_rows_and_no_more_are_read(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.jsonl", [{"question": "", "answer": "1"}, *sums(50)])
        artifact = made(tmp_path, file=file, columns=GSM8K, limit=10)
        assert {p.prompt for p in problems_of(artifact)} == {f"What is {n} + 1?" for n in range(10)}
        assert (artifact.manifest.rows_in, artifact.manifest.rejected) == (11, {"no_prompt": 1})

    def test_a_shuffle_ignores_the_order_and_grows(self, tmp_path: Path) -> None:
        forward, backward = write(tmp_path / "a.jsonl", sums(60)), write(tmp_path / "b.jsonl", sums(60)[::-1])
        few, again, more, other = (
            made(tmp_path, file=file, columns=GSM8K, shuffle=True, limit=limit, seed=seed)
            for file, limit, seed in [(forward, 7, 1), (backward, 7, 1), (forward, 20, 1), (forward, 7, 2)]
        )
        ids = [{p.id for p in problems_of(each)} for each in (few, again, more, other)]
        assert [len(each) for each in ids] == [7, 7, 20, 7]
        assert ids[0] == ids[1] < ids[2]
        assert ids[0] != ids[3]
        assert few.manifest.rejected == {"over_limit": 53} and few.manifest.rows_in == 60

    def test_a_smoke_run_takes_fewer_but_never_more(self) -> None:
        assert Problems(name="a", toy="chain", limit=100).limited(8).limit == 8
        assert Problems(name="a", toy="chain", limit=5).limited(8).limit == 5
        assert Problems(name="a", hub="a/b").limited(8).limit == 8


class TestPython:
    SOURCE = """
import itertools, os

def endless(start=0, **more):
    for n in itertools.count(start):
        yield {"prompt": f"{n} + 1", "reference": n + 1}

def listed(count):
    print("to be ignored")
    return [{"prompt": f"p{n}", "reference": str(n)} for n in range(count)] + ["no row"]

def fails():
    yield {"prompt": "a", "reference": "1"}
    raise ValueError("half-way")

def dies():
    os.kill(os.getpid(), 9)

def dies_once(marker):
    for n in range(1500):
        if n == 1200 and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), 9)
        yield {"prompt": f"p{n}", "reference": str(n)}

def spins():
    while True:
        pass
"""

    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        (tmp_path / "mine.py").write_text(self.SOURCE)
        return str(tmp_path / "mine.py")

    def test_rows_come_from_a_worker_and_may_be_endless(self, tmp_path: Path, file: str) -> None:
        generator = {"file": file, "function": "endless", "arguments": {"start": 5}}
        artifact = made(tmp_path, python=generator, limit=1200, domain="sums")
        found = problems_of(artifact)
        assert len({p.id for p in found}) == 1200 and {p.source for p in found} == {"endless"}
        assert ("1204 + 1", "1205") in {(p.prompt, p.reference) for p in found}

    def test_a_list_will_do_and_what_is_no_row_is_counted(self, tmp_path: Path, file: str) -> None:
        manifest = made(
            tmp_path, python={"file": file, "function": "listed", "arguments": {"count": 3}}
        ).manifest
        assert (manifest.rows_kept, manifest.rejected) == (3, {"unreadable": 1})

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            ("fails", r"fails\(\) failed: ValueError: half-way \(mine.py:14\)"),
            ("dies", "killed by signal 9"),
            ("spins", "out of CPU time"),
            ("listed", "missing 1 required positional argument"),
        ],
    )
    def test_what_goes_wrong_in_it_is_one_line(
        self, tmp_path: Path, file: str, function: str, words: str
    ) -> None:
        with pytest.raises(StageError, match=words) as caught:
            made(tmp_path, python={"file": file, "function": function, "cpu_s": 0.5})
        assert "\n" not in str(caught.value)

    def test_a_worker_that_died_once_costs_no_row(self, tmp_path: Path, file: str) -> None:
        arguments = {"marker": str(tmp_path / "marker")}
        manifest = made(
            tmp_path, python={"file": file, "function": "dies_once", "arguments": arguments}
        ).manifest
        assert (manifest.rows_in, manifest.rows_kept) == (1500, 1500)

    def test_check_looks_for_the_function_without_running_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        stage = Problems(name="a", python={"file": str(file), "function": "rows"})
        with pytest.raises(MissingError, match="no such file"):
            stage.check(tmp_path)
        file.write_text("raise SystemExit\ndef row(): ...")
        with pytest.raises(RecipeError, match="no function 'rows'"):
            stage.check(tmp_path)
        file.write_text("def rows(:")
        with pytest.raises(RecipeError, match="not Python"):
            stage.check(tmp_path)
        file.write_text("raise SystemExit\ndef rows(): ...")
        stage.check(tmp_path)
        assert stage.foreign() == [f"runs rows() of {file}"]

    def test_the_file_and_the_arguments_are_identity_the_time_limit_is_not(self, file: str) -> None:
        def stage(**fields: Any) -> Any:
            return identity(Problems(name="a", python={"file": file, "function": "endless", **fields}))

        assert stage() == stage(cpu_s=1.0)
        assert stage() != stage(arguments={"start": 1})
        before = stage()
        Path(file).write_text("def endless(): return []")
        assert stage() != before


class TestHub:
    def test_a_lock_pins_it(self) -> None:
        asked: list[tuple[str, str]] = []

        def commit_of(kind: str, reference: str) -> str:
            asked.append((kind, reference))
            return "ab" * 20

        pinned = Problems(name="a", hub="lab/chains@v1").pinned(commit_of)
        assert pinned.hub == "lab/chains@" + "ab" * 20
        assert asked == [("dataset", "lab/chains@v1")]
        assert Problems(name="a", toy="chain", limit=1).pinned(commit_of).hub is None

    def test_a_moving_branch_is_never_read(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="at a commit only"):
            made(tmp_path, hub="lab/chains")

    def test_a_name_that_is_none_is_refused_offline(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="org/name"):
            Problems(name="a", hub="gsm8k").check(tmp_path)


DATA = Path(os.environ.get("DISTILLKIT_DATA") or "/nowhere")


@pytest.mark.skipif(not DATA.is_dir(), reason="DISTILLKIT_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("file", "prompt", "reference", "kept", "rejected"),
    [
        ("gsm8k/test.jsonl", "question", "answer", 1319, {}),
        ("math/train.jsonl", "problem", "answer", 2997, {"no_reference": 2, "duplicate": 1}),
        ("benchmarks/aime24.jsonl", "problem", "answer", 30, {}),
        ("code/HumanEval.jsonl", "prompt", "test", 164, {}),
    ],
)
def test_real_sources(
    tmp_path: Path, file: str, prompt: str, reference: str, kept: int, rejected: dict[str, int]
) -> None:
    pattern = "#### (.+)" if file.startswith("gsm8k") else None
    columns = {"prompt": prompt, "reference": reference}
    manifest = made(tmp_path, file=str(DATA / file), columns=columns, reference_pattern=pattern).manifest
    assert (manifest.rows_kept, manifest.rejected) == (kept, rejected)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "exactly one of toy, logic, file, hub, python; has none"),
        ({"toy": "chain", "file": "a.jsonl", "limit": 1}, "has toy and file"),
        ({"toy": "chain"}, "needs limit"),
        ({"toy": "chat", "limit": 1, "terms": (3, 4)}, "terms: has no meaning with toy: chat"),
        ({"toy": "chain", "limit": 1, "columns": GSM8K}, "columns: has no meaning with toy"),
        ({"file": "a.jsonl", "terms": [3, 4]}, "terms: has no meaning with file"),
        ({"file": "a.jsonl", "config": "main"}, "config: has no meaning with file:, only with hub"),
        ({"file": "a.jsonl", "reference_pattern": "#### ("}, "not a regular expression"),
        ({"file": "a.jsonl", "reference_pattern": "####"}, "exactly one group"),
        ({"file": "a.jsonl", "reference_pattern": "(#+) (.+)"}, "exactly one group.*has 2"),
        ({"file": "a.jsonl", "limit": 0}, "greater than or equal to 1"),
        ({"file": "a.jsonl", "columns": {"promt": "q"}}, "promt"),
        ({"file": "a.jsonl", "split": "test"}, "heldout"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Problems(name="a", **fields)


def test_a_range_that_is_none_is_refused_before_the_run() -> None:
    with pytest.raises(RecipeError, match="terms 5 to 3: give a range within 2 to 12"):
        Problems(name="a", toy="chain", limit=1, terms=(5, 3)).check(Path())


def test_a_declaration_survives_a_round_trip() -> None:
    stage = Problems(
        name="a", file="a.jsonl", columns=GSM8K, reference_pattern="#### (.+)", shuffle=True, limit=3
    )
    assert Problems.model_validate(stage.model_dump(mode="json")) == stage
    assert Problems.model_validate(stage.model_dump(mode="json", exclude_defaults=True)) == stage


class TestReferenceOfSeveralColumns:
    def test_an_object_is_made_of_them_and_null_columns_are_left_out(self, tmp_path: Path) -> None:
        rows = [
            {
                "task_id": 1,
                "prompt": "def f(x):",
                "test": "assert f(1)",
                "meta": {"name": "f"},
                "starter": None,
            },
            {
                "task_id": 2,
                "prompt": "def g(x):",
                "test": "assert g(1)",
                "meta": {"name": "g"},
                "starter": "import",
            },
            {"task_id": 3, "prompt": "def h(x):", "test": None, "meta": {}, "starter": None},
        ]
        names = {"test": "test", "entry_point": "meta.name", "starter": "starter"}
        artifact = made(
            tmp_path, file=write(tmp_path / "a.jsonl", rows), columns={"reference": names}, domain="code"
        )
        assert {p.prompt: p.reference for p in problems_of(artifact)} == {
            "def f(x):": {"test": "assert f(1)", "entry_point": "f"},
            "def g(x):": {"test": "assert g(1)", "entry_point": "g", "starter": "import"},
        }
        assert artifact.manifest.rejected == {"no_reference": 1}

    @pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
    def test_every_one_of_them_must_be_there(self, tmp_path: Path, ending: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows, file = [{"prompt": "a", "test": "b"}], tmp_path / f"a{ending}"
        if ending == ".jsonl":
            write(file, rows)
        elif ending == ".csv":
            file.write_text("prompt,test\na,b\n")
        else:
            pq.write_table(pa.Table.from_pylist(rows), file)
        columns = {"reference": {"test": "test", "name": "entry_point"}}
        with pytest.raises(RecipeError, match="no column 'entry_point'; there are prompt, test"):
            made(tmp_path, file=str(file), columns=columns)

    def test_the_same_values_from_one_column_or_several_make_the_same_problem(self, tmp_path: Path) -> None:
        flat = write(tmp_path / "a.jsonl", [{"prompt": "p", "query": "SELECT 1", "databases": ["", ""]}])
        deep = write(
            tmp_path / "b.jsonl", [{"prompt": "p", "gold": {"query": "SELECT 1", "databases": ["", ""]}}]
        )
        names = {"query": "query", "databases": "databases"}
        [first] = problems_of(made(tmp_path, file=flat, columns={"reference": names}, domain="sql"))
        [second] = problems_of(made(tmp_path, file=deep, columns={"reference": "gold"}, domain="sql"))
        assert first.id == second.id

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"columns": {"reference": {}}}, "at least 1"),
            ({"columns": {"reference": {"a": 1}}}, "string"),
            ({"columns": {"reference": {"a": "b"}}, "reference_pattern": "(.+)"}, "names several columns"),
        ],
    )
    def test_mappings_that_mean_nothing(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            Problems(name="a", file="a.jsonl", **fields)


class TestLogic:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("reasoning_gym", reason="needs reasoning-gym: pip install 'distillkit[logic]'")

    def test_a_task_becomes_problems_that_its_own_scorer_judges(self, tmp_path: Path) -> None:
        from distillkit.trace import Trace
        from distillkit.verifiers import Logic

        puzzle = {"task": "gcd", "settings": {"max_value": 300}}
        artifact = made(tmp_path, logic=puzzle, limit=30, seed=3)
        found = problems_of(artifact)
        assert len(found) == 30
        assert {(p.domain, p.source, p.split) for p in found} == {("logic", "reasoning-gym/gcd", "train")}
        assert found[0].extra == {"task": "gcd"} and found[0].reference["settings"] == {"max_value": 300}
        rows = [
            Trace(
                p.id,
                p.messages,
                "",
                "",
                rf"\boxed{{{p.reference['answer']}}}",
                p.reference,
                finish_reason="stop",
            )
            for p in found
        ]
        with Logic(workers=1) as verifier:
            assert {verdict.reason for verdict in verifier.grade_all(rows)} == {"correct"}

    @pytest.mark.parametrize("task", ["list_functions", "word_ladder"])  # by the global generator, by sets
    def test_equal_seeds_give_equal_content(self, tmp_path: Path, task: str) -> None:
        first, again, other = (made(tmp_path, logic={"task": task}, limit=8, seed=seed) for seed in (1, 1, 2))
        assert first.content == again.content != other.content

    def test_train_and_heldout_never_meet_whatever_the_seeds(self, tmp_path: Path) -> None:
        puzzle = {"task": "count_bits", "settings": {"min_n": 1, "max_n": 60}}
        warnings: list[str] = []
        train = made(tmp_path, warnings, logic=puzzle, limit=70, seed=1)
        heldout = made(tmp_path, warnings, logic=puzzle, limit=70, seed=2, split="heldout")
        first, second = ({p.prompt for p in problems_of(each)} for each in (train, heldout))
        assert first and second and not first & second
        assert train.manifest.rejected["duplicate"] > 0
        assert any("different problems of reasoning-gym/count_bits" in each for each in warnings)

    def test_more_of_them_contain_the_fewer(self, tmp_path: Path) -> None:
        few, more = (made(tmp_path, logic={"task": "maze"}, limit=limit) for limit in (5, 9))
        assert {p.id for p in problems_of(few)} < {p.id for p in problems_of(more)}

    def test_a_mixture_and_settings_of_other_types(self, tmp_path: Path) -> None:
        mixture = {"datasets": [{"name": "gcd"}, {"name": "dice", "weight": 3, "config": {"num_dice": 2}}]}
        found = problems_of(made(tmp_path, logic={"task": "composite", "settings": mixture}, limit=12))
        assert {p.reference["metadata"]["source_dataset"] for p in found} == {"gcd", "dice"}
        times = {"task": "time_intervals", "settings": {"min_date": "2020-01-01", "task_types": ["date"]}}
        assert all("answer" in p.reference for p in problems_of(made(tmp_path, logic=times, limit=3)))

    @pytest.mark.parametrize(
        ("puzzle", "words"),
        [
            ({"task": "gdc"}, "no task 'gdc'; did you mean gcd"),
            ({"task": "gcd", "settings": {"max": 3}}, "no setting 'max'; there are max_numbers"),
            ({"task": "gcd", "settings": {"min_numbers": 9}}, "refuses its settings"),
            ({"task": "game_of_life_halting"}, "gives full marks to 'zzz wrong'"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(
        self, tmp_path: Path, puzzle: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(RecipeError, match=words) as caught:
            made(tmp_path, logic=puzzle, limit=3)
        assert "\n" not in str(caught.value)

    def test_it_needs_a_limit_and_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from distillkit.verifiers import logic

        with pytest.raises(ValidationError, match="logic: needs limit:"):
            Problems(name="a", logic={"task": "gcd"})
        with pytest.raises(ValidationError, match="columns: has no meaning with logic:"):
            Problems(name="a", logic={"task": "gcd"}, limit=1, columns={"prompt": "q"})
        monkeypatch.setattr(logic, "find_spec", lambda name: None)
        with pytest.raises(MissingError, match=r"pip install 'distillkit\[logic\]'"):
            Problems(name="a", logic={"task": "gcd"}, limit=1).check(tmp_path)
