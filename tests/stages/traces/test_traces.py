"""Trace sets as they lie around: each layout, each kind of bad row, and ids that outlive a new version."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hubserver import HubServer
from hypothesis import given
from hypothesis import strategies as st
from inprocess import distillkit
from patience import PATIENCE_S
from pydantic import ValidationError

from distillkit import shuffle
from distillkit.artifact import Artifact, Manifest
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.executor import Processes
from distillkit.spec import files_of, identity
from distillkit.stages import traces as module
from distillkit.stages.base import Job
from distillkit.stages.traces import Traces
from distillkit.stages.traces.row import verdicts_of
from distillkit.stages.traces.turns import Unfit
from distillkit.store import Store
from distillkit.trace import Trace, trace_of
from distillkit.training.examples import answer_of

PLAIN = {"prompt": "2 + 2?", "completion": "<think>\ntwo and two\n</think>\n\n\\boxed{4}", "reference": "4"}


def made(folder: Path, warnings: list[str] | None = None, workers: int = 1, **fields: Any) -> Artifact:
    """The sealed artifact of a traces stage with these fields."""
    stage = Traces(name="bought", **fields)
    stage.check(folder)
    store = Store(folder / "store")
    with store.building("traces", f"{len(store.all()):016x}", print) as out:
        job = Job(store, out, {}, shards=4, warn=(warnings if warnings is not None else []).append)
        if workers > 1:
            job.executor = Processes(workers)
        stage.run(job)
        return store.seal(out, Manifest("bought", "traces", "traces", "request", ""))


def traces_of(artifact: Artifact) -> list[Trace]:
    return [trace_of(row) for row in artifact.rows()]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read(folder: Path, rows: list[Any], **fields: Any) -> list[Trace]:
    return traces_of(made(folder, file=jsonl(folder / "rows.jsonl", rows), **fields))


class TestPresets:
    """Small rows in each real layout."""

    def test_openr1_math_has_a_trace_for_each_generation(self, tmp_path: Path) -> None:
        row = {
            "problem": "What is 6 * 7?", "solution": "It is 42.", "answer": "42", "problem_type": "Algebra",
            "question_type": "math-word-problem", "source": "olympiads", "uuid": "u-1",
            "is_reasoning_complete": [True, False], "correctness_count": 1,
            "generations": ["<think>\n6*7\n</think>\n\n\\boxed{42}", "<think>\nhm"],
            "correctness_math_verify": [True, False], "correctness_llama": None,
            "finish_reasons": ["stop", "length"], "messages": [{"role": "user", "content": "What is 6 * 7?"}],
        }  # fmt: skip
        one, two = sorted(
            read(tmp_path, [row], preset="openr1_math"), key=lambda trace: trace.finish_reason, reverse=True
        )
        assert (one.prompt, one.reference, one.source, one.model) == (
            "What is 6 * 7?", "42", "olympiads", "deepseek-ai/DeepSeek-R1"
        )  # fmt: skip
        assert (one.reasoning, one.response, one.finish_reason) == ("6*7", "\\boxed{42}", "stop")
        assert one.extra == {
            "row": "u-1", "complete": True, "problem_type": "Algebra", "question_type": "math-word-problem",
            "verdicts": {"math_verify": {"score": 1.0, "reason": "correct"}},
        }  # fmt: skip
        assert two.extra["verdicts"] == {"math_verify": {"score": 0.0, "reason": "wrong"}}
        assert (two.reasoning, two.response, two.finish_reason) == ("hm", "", "length")
        assert one.problem_id == two.problem_id and one.origin == two.origin

    def test_mixture_of_thoughts(self, tmp_path: Path) -> None:
        row = {
            "messages": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "<think>\nwell\n</think>\nSo."},
            ],
            "num_tokens": 30,
            "source": "open-r1/codeforces-cots",
        }
        [trace] = read(tmp_path, [row], preset="mixture_of_thoughts", domain="code")
        assert (trace.prompt, trace.reasoning, trace.response, trace.reference) == (
            "Why?",
            "well",
            "So.",
            None,
        )
        assert (trace.domain, trace.source, trace.extra) == (
            "code",
            "open-r1/codeforces-cots",
            {"num_tokens": 30},
        )
        assert trace.completion_tokens is None

    def test_openthoughts3(self, tmp_path: Path) -> None:
        row = {
            "difficulty": 7, "source": "stackexchange", "domain": "code",
            "conversations": [{"from": "human", "value": "Sort it."}, {"from": "gpt", "value": "<think>hm</think>sorted"}],
        }  # fmt: skip
        [trace] = read(tmp_path, [row], preset="openthoughts3")
        assert (trace.domain, trace.reasoning, trace.response, trace.model) == (
            "code",
            "hm",
            "sorted",
            "Qwen/QwQ-32B",
        )
        assert trace.messages == [{"role": "user", "content": "Sort it."}] and trace.extra == {
            "difficulty": 7
        }

    def test_s1k(self, tmp_path: Path) -> None:
        row = {
            "solution": "128", "question": "Find it.", "cot_type": "math", "source_type": "qq8933/AIME", "metadata": "{}",
            "gemini_thinking_trajectory": "g", "gemini_attempt": "ga", "gemini_grade": "No", "gemini_grade_reason": "r",
            "deepseek_thinking_trajectory": "It must be 128.", "deepseek_attempt": "\\boxed{128}",
            "deepseek_grade": "Yes", "deepseek_grade_reason": "equal",
        }  # fmt: skip
        [trace] = read(tmp_path, [row], preset="s1k_1_1")
        assert trace.completion == "<think>\nIt must be 128.\n</think>\n\n\\boxed{128}"
        assert (trace.reference, trace.reasoning, trace.response) == (
            "128",
            "It must be 128.",
            "\\boxed{128}",
        )
        assert trace.extra["verdicts"] == {"grade": {"score": 1.0, "reason": "correct"}}
        gemini = {
            "reasoning": "gemini_thinking_trajectory",
            "response": "gemini_attempt",
            "verdicts": {"grade": "gemini_grade"},
        }
        [other] = read(tmp_path, [row], preset="s1k_1_1", columns=gemini, model="gemini")
        assert (other.completion, other.model) == ("<think>\ng\n</think>\n\nga", "gemini")
        assert other.extra["verdicts"]["grade"]["score"] == 0.0 and other.problem_id == trace.problem_id

    @pytest.mark.parametrize(
        "answer",
        [
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
            {"role": "assistant", "content": "yes", "reasoning_content": "hm"},
            {"role": "assistant", "content": "yes", "reasoning": "hm", "tool_calls": None},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}],
            },
            {
                "role": "assistant",
                "content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "yes"}],
            },
        ],
    )
    def test_messages_give_the_same_completion_wherever_the_reasoning_stood(
        self, tmp_path: Path, answer: dict[str, Any]
    ) -> None:
        asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
        [trace] = read(tmp_path, [{"messages": [*asked, answer]}], preset="messages")
        assert trace.messages == asked
        assert answer_of(trace) == trace.completion == "<think>\nhm\n</think>\n\nyes"

    def test_sharegpt_of_several_turns(self, tmp_path: Path) -> None:
        said = [("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "<think>x</think>d")]
        row = {"conversations": [{"from": who, "value": text} for who, text in said], "id": "s-1"}
        [trace] = read(tmp_path, [row], preset="sharegpt")
        assert [(each["role"], each["content"]) for each in trace.messages] == [
            ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"),
        ]  # fmt: skip
        assert (trace.completion, trace.reasoning, trace.extra) == (
            "<think>x</think>d",
            "x",
            {"row": "s-1"},
        )

    def test_a_system_column_goes_in_front(self, tmp_path: Path) -> None:
        row = {
            "system": "Think.",
            "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}],
        }
        [trace] = read(tmp_path, [row], preset="sharegpt")
        assert trace.messages[0] == {"role": "system", "content": "Think."}

    def test_one_that_does_not_fit_says_what_it_looked_for_and_what_it_found(self, tmp_path: Path) -> None:
        file = jsonl(tmp_path / "rows.jsonl", [{"question": "q", "answer": "a"}])
        with pytest.raises(
            RecipeError,
            match=r"preset openr1_math looked for problem, generations\[\] and found question, answer",
        ):
            made(tmp_path, file=file, preset="openr1_math")

    def test_one_that_does_not_fit_is_told_before_a_long_file_is_read(self, tmp_path: Path) -> None:
        file = jsonl(tmp_path / "rows.jsonl", [{"question": "q"}] * 3 * module.BLOCK_ROWS)
        stage = Traces(name="bought", file=file, preset="openthoughts3")
        part = module._Part(stage, (Path(file),), 0, tmp_path / "spill", 1)
        with pytest.raises(RecipeError, match="looked for conversations"):
            module._spill(part)
        assert shuffle.facts_of(tmp_path / "spill", 0) is None

    def test_tool_turns_are_left_out_whole(self, tmp_path: Path) -> None:
        ask = {"role": "user", "content": "weather?"}
        rows = [
            {"messages": [ask, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]},
            {
                "messages": [
                    ask,
                    {"role": "tool", "content": "sunny"},
                    {"role": "assistant", "content": "sun"},
                ]
            },
            {"messages": [ask, {"role": "assistant", "content": [{"type": "tool_call", "value": "{}"}]}]},
            {"messages": [ask, {"role": "assistant", "content": "sun"}], "tools": "[{}]"},
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url"}]},
                    {"role": "assistant", "content": "a"},
                ]
            },
            {"messages": [ask, {"role": "assistant", "content": "sun"}], "tools": "[]"},
        ]
        found = made(tmp_path, file=jsonl(tmp_path / "rows.jsonl", rows), preset="messages").manifest
        assert (found.rows_kept, found.rejected) == (1, {"tools": 4, "not_text": 1})


class TestPublished:
    def test_it_gives_the_ids_and_texts_back(self, tmp_path: Path) -> None:
        from distillkit.reader import View
        from distillkit.stages.publish.layout import published_columns, published_row

        first = made(tmp_path, file=jsonl(tmp_path / "rows.jsonl", [PLAIN, PLAIN, PLAIN | {"reference": 4}]))
        view = View.of(Store(tmp_path / "store"), first)
        columns = published_columns(view)
        schema = pa.schema([(each.name, each.type) for each in columns])
        (tmp_path / "set" / "data").mkdir(parents=True)
        (tmp_path / "set" / "manifest.json").write_text("{}")
        rows = [published_row(row, columns) for row in view.rows()]
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "set" / "data" / "train-0.parquet")
        again = made(tmp_path, file=str(tmp_path / "set"), preset="published")
        assert again.content == first.content
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "set" / "data" / "train-1.parquet")
        twice = traces_of(made(tmp_path, file=str(tmp_path / "set"), preset="published"))
        assert len({each.id for each in twice}) == len(twice) == 6


class TestHub:
    def test_a_dataset_is_read_at_its_commit_like_a_file(self, tmp_path: Path) -> None:
        row = {
            "problem": "6 * 7?", "answer": "42", "uuid": "u-1", "source": "s",
            "generations": ["<think>\n6*7\n</think>\n\n\\boxed{42}", "41"], "finish_reasons": ["stop", None],
            "correctness_math_verify": [True, False], "is_reasoning_complete": [True, True],
            "problem_type": "A", "question_type": "q",
        }  # fmt: skip
        data = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row] * 3), data)
        pq.write_table(pa.Table.from_pylist([row] * 3), tmp_path / "rows.parquet")
        (tmp_path / "r.yaml").write_text(
            "name: r\nstages: [{name: bought, kind: traces, hub: lab/math@v1, preset: openr1_math}]\n"
        )
        with HubServer() as hub:
            commit = hub.commit("dataset", "lab/math", {"data/train-0.parquet": data.getvalue()}, "v1")
            kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
            settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
            command = ["-m", "distillkit", "run", str(tmp_path / "r.yaml"), "--store", str(tmp_path / "hub")]
            done = subprocess.run(
                [sys.executable, *command],
                env=kept | settings,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
        assert done.returncode == 0, done.stderr
        assert commit in (tmp_path / "r.lock").read_text()
        [found] = Store(tmp_path / "hub").all()
        same = made(tmp_path, file=str(tmp_path / "rows.parquet"), preset="openr1_math", source="lab/math")
        assert found.content == same.content and found.count() == 6

    def test_a_lock_pins_it_and_a_branch_is_never_read(self, tmp_path: Path) -> None:
        stage = Traces(name="a", hub="lab/set@v1")
        assert stage.pinned(lambda kind, name: "ab" * 20).hub == "lab/set@" + "ab" * 20
        with pytest.raises(RecipeError, match="at a commit only"):
            made(tmp_path, hub="lab/set")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/../..", sys.argv[1] + "/../../e2e"]
from distillkit.stages import traces as module
from test_traces import made

count = 0
def dying(function):
    def wrapped(*arguments):
        global count
        count += 1
        if count > int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return wrapped

owner, _, name = sys.argv[2].rpartition(".")
owner = getattr(module, owner) if owner else module
setattr(owner, name, dying(getattr(owner, name)))
made(Path(sys.argv[4]), file=sys.argv[5], source="s", **eval(sys.argv[6]))
"""


@pytest.mark.parametrize("fields", [{}, {"limit": 30, "shuffle": True}])
@pytest.mark.parametrize(
    ("where", "after"), [("Spill.add", 55), ("write_trace_shard", 0), ("write_trace_shard", 2)]
)
def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, where: str, after: int, fields: dict[str, Any]
) -> None:
    (tmp_path / "set").mkdir()
    for part in range(3):
        rows = [PLAIN | {"prompt": f"{n % 7}?", "completion": f"{part} {n}"} for n in range(20)]
        jsonl(tmp_path / "set" / f"{part}.jsonl", rows)
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    source = str(tmp_path / "set")
    whole = made(tmp_path / "whole", file=source, source="s", **fields)
    here = str(Path(__file__).parent)
    arguments = [here, where, str(after), str(tmp_path / "killed"), source, repr(fields)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    work = next((tmp_path / "killed" / "store" / "work").glob("traces-*[!k]"))
    finished = {path: path.stat().st_ino for path in work.rglob("*.parquet")}
    parts = {path.parent.name for path in work.rglob("facts.json")}
    assert len(finished) == (after if where == "write_trace_shard" else 0)
    assert parts == ({"000", "001"} if where == "Spill.add" else {"000", "001", "002"})
    again = made(tmp_path / "killed", file=source, source="s", **fields)
    assert again.content == whole.content and again.manifest.counts == whole.manifest.counts
    kept = {path.name: path.stat().st_ino for path in again.path.rglob("*.parquet")}
    assert {path.name: inode for path, inode in finished.items()}.items() <= kept.items()
    assert not list(again.path.glob(".scratch"))


class TestVerdicts:
    """What a source said of its traces: in rules, and beside our own."""

    RECIPE = """
name: old-verdicts
shards: 2
verifiers: {math: {kind: exact}}
stages:
  - {name: bought, kind: traces, file: rows.jsonl, columns: {verdicts: {maker: right}}}
  - {name: judged, kind: verify}
  - name: kept
    kind: filter
    rules:
      - {field: extra.verdicts.maker.score, min: 1.0, reason: maker_says_wrong}
      - {field: verdicts.imported/maker.reason, is: correct, reason: never}
      - {field: verdicts.math.score, min: 1.0, reason: maker_was_wrong}
"""

    def test_rules_read_them_and_verify_shows_them_beside_its_own(self, tmp_path: Path) -> None:
        rows = [
            PLAIN | {"right": True},
            PLAIN | {"right": False, "completion": "\\boxed{5}"},
            PLAIN | {"right": True, "completion": "\\boxed{6}"},
            PLAIN | {"right": None, "completion": "\\boxed{7}"},
        ]
        jsonl(tmp_path / "rows.jsonl", rows)
        (tmp_path / "r.yaml").write_text(self.RECIPE)
        answer = distillkit("run", tmp_path / "r.yaml", "--store", tmp_path / "store")
        assert answer.code == 0, answer.err
        store = Store(tmp_path / "store")
        [kept] = [each for each in store.all() if each.manifest.kind == "filter"]
        assert kept.manifest.rejected == {"maker_says_wrong": 1, "maker_was_wrong": 1, "unjudged": 1}
        [judged] = [each for each in store.all() if each.manifest.kind == "verify"]
        found = [json.loads(row["verdicts"]) for row in judged.rows()]
        pairs = [(v.get("imported/maker", {}).get("score"), v["math"]["score"]) for v in found]
        assert sorted(pairs, key=str) == [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (None, 0.0)]

    def test_they_do_not_pile_up_from_version_to_version(self) -> None:
        own = {"score": 1.0, "reason": "correct"}
        assert verdicts_of("published", {"math": own, "imported/maker": own}) == {"published/math": own}

    def test_a_domain_without_a_verifier_is_found_by_check(self, tmp_path: Path) -> None:
        recipe = tmp_path / "r.yaml"
        (tmp_path / "rows.jsonl").write_text("")
        stages = "[{name: a, kind: traces, file: rows.jsonl, preset: s1k_1_1, domain: sums}, {name: b, kind: verify}]"
        recipe.write_text(f"name: r\nverifiers: {{math: {{kind: exact}}}}\nstages: {stages}\n")
        answer = distillkit("check", recipe)
        assert answer.code == 2 and "no verifier for domain 'sums'" in answer.err


class TestPython:
    def test_rows_of_a_function(self, tmp_path: Path) -> None:
        code = (
            "def rows(n):\n    for i in range(n):\n        yield {'prompt': f'{i}?', 'completion': str(i)}\n"
        )
        (tmp_path / "own.py").write_text(code)
        own = {"file": str(tmp_path / "own.py"), "function": "rows", "arguments": {"n": 2500}}
        found = made(tmp_path, python=own)
        assert found.count() == 2500 and traces_of(found)[0].source == "rows"
        assert made(tmp_path, python=own | {"arguments": {"n": 10**9}}, limit=7).count() == 7


class TestFiles:
    def test_a_folder_is_its_data_files_of_one_ending(self, tmp_path: Path) -> None:
        for name in ("b.jsonl", "a.jsonl", "info.json", "data.csv", "README.md"):
            (tmp_path / name).write_text("")
        assert [path.name for path in files_of(str(tmp_path))] == ["a.jsonl", "b.jsonl"]
        for name in ("data/x.parquet", "rejected/y.parquet"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text("")
        assert [path.name for path in files_of(str(tmp_path))] == ["x.parquet"]

    def test_a_pattern_and_a_name_that_looks_like_one(self, tmp_path: Path) -> None:
        for name in ("p-1.jsonl", "p-2.jsonl", "q[1].jsonl"):
            (tmp_path / name).write_text("")
        assert [path.name for path in files_of(str(tmp_path / "p-*.jsonl"))] == ["p-1.jsonl", "p-2.jsonl"]
        assert [path.name for path in files_of(str(tmp_path / "q[1].jsonl"))] == ["q[1].jsonl"]
        assert files_of(str(tmp_path / "r-*.jsonl")) == [] == files_of(str(tmp_path / "none.jsonl"))


class TestColumns:
    def test_a_plain_file_needs_none(self, tmp_path: Path) -> None:
        row = PLAIN | {
            "domain": "sums",
            "language": "en",
            "finish_reason": "eos",
            "completion_tokens": 9.0,
            "model": "m",
        }
        [trace] = read(tmp_path, [row])
        assert (trace.domain, trace.language, trace.finish_reason, trace.completion_tokens, trace.model) == (
            "sums", "en", "stop", 9, "m",
        )  # fmt: skip
        assert (trace.reasoning, trace.response, trace.source) == ("two and two", "\\boxed{4}", "rows.jsonl")
        assert trace.seed is None  # so that no pass rate is made of what somebody chose

    def test_lists_of_objects_go_element_by_element(self, tmp_path: Path) -> None:
        row = {"q": {"text": "2 + 2?"}, "tries": [{"out": "4", "ok": True}, {"out": "5", "ok": False}]}
        columns = {"prompt": "q.text", "completion": "tries[].out", "verdicts": {"ok": "tries[].ok"}}
        found = {
            each.completion: each.extra["verdicts"]["ok"]["score"]
            for each in read(tmp_path, [row], columns=columns)
        }
        assert found == {"4": 1.0, "5": 0.0}

    def test_a_declared_column_has_to_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="looked for made_by and found prompt, completion, reference"):
            read(tmp_path, [PLAIN], columns={"model": "made_by"})

    def test_false_switches_one_off(self, tmp_path: Path) -> None:
        [trace] = read(
            tmp_path, [PLAIN | {"language": "xx"}], columns={"language": False, "reference": False}
        )
        assert trace.language is None and trace.reference is None

    def test_a_list_needs_a_list_of_completions(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="mark that one too"):
            Traces(name="a", file="x.jsonl", columns={"finish_reason": "reasons[]"}).check(tmp_path)

    def test_what_apply_dropped_stays_dropped(self, tmp_path: Path) -> None:
        rows = [PLAIN | {"kept": True}, PLAIN | {"kept": False, "reject_reason": "wrong"}]
        found = made(tmp_path, file=jsonl(tmp_path / "rows.jsonl", rows)).manifest
        assert (found.rows_kept, found.rejected) == (1, {"dropped_before": 1})

    def test_a_number_is_the_gold_that_a_problems_stage_makes_of_it(self, tmp_path: Path) -> None:
        from distillkit.trace import Problem

        expected = Problem([{"role": "user", "content": "2 + 2?"}], "4").id
        rows = [PLAIN | {"reference": gold} for gold in ("4", " 4 ", 4, 4.0)]
        assert {each.problem_id for each in read(tmp_path, rows)} == {expected}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (True, {"v": {"score": 1.0, "reason": "correct"}}),
            (0.25, {"v": {"score": 0.25, "reason": "partial"}}),
            (" No ", {"v": {"score": 0.0, "reason": "wrong"}}),
            (None, {}),
            ({"score": None, "reason": "unparseable_gold"}, {"v": {"score": None, "reason": "unparseable_gold"}}),
            ({"math": {"score": 1, "reason": "correct", "answer": "4", "x": 1}},
             {"v/math": {"score": 1.0, "reason": "correct", "answer": "4"}}),
        ],
    )  # fmt: skip
    def test_verdicts_in_every_form(self, value: Any, expected: dict[str, Any]) -> None:
        assert verdicts_of("v", value) == expected

    @pytest.mark.parametrize("value", ["maybe", 7, -0.5, [True]])
    def test_a_verdict_that_says_nothing_is_a_reason(self, value: Any) -> None:
        with pytest.raises(Unfit, match="bad_verdict"):
            verdicts_of("v", value)


class TestIdentity:
    def test_an_id_is_of_the_problem_the_source_and_the_completion(self, tmp_path: Path) -> None:
        one = {each.id for each in read(tmp_path, [PLAIN, PLAIN | {"completion": "5"}])}
        more = [PLAIN | {"prompt": "new"}, PLAIN | {"completion": "5"}, PLAIN, PLAIN | {"completion": "6"}]
        later = {each.id for each in read(tmp_path, more)}
        assert one < later and len(later) == 4
        assert {each.count("/") for each in later} == {2}

    def test_the_next_file_of_a_source_has_the_ids_of_the_first(self, tmp_path: Path) -> None:
        one = made(tmp_path, file=jsonl(tmp_path / "v1.jsonl", [PLAIN]), source="mine")
        two = made(tmp_path, file=jsonl(tmp_path / "v2.jsonl", [PLAIN]), source="mine")
        other = made(tmp_path, file=str(tmp_path / "v2.jsonl"))
        assert one.content == two.content
        assert [t.id for t in traces_of(one)] != [t.id for t in traces_of(other)]

    def test_repeats_stay_and_ids_are_unique_in_any_order(self, tmp_path: Path) -> None:
        rows = [PLAIN] * 12 + [PLAIN | {"finish_reason": "stop"}]
        one = made(tmp_path, file=jsonl(tmp_path / "a.jsonl", rows), source="s")
        two = made(tmp_path, file=jsonl(tmp_path / "b.jsonl", rows[::-1]), source="s")
        found = traces_of(one)
        assert len({each.id for each in found}) == 13 and sorted(e.index for e in found) == list(range(13))
        assert one.content == two.content

    def test_neither_commit_nor_limit_changes_an_id(self) -> None:
        origins = {
            Traces(name="a", hub=f"lab/set@{commit}", limit=limit).reader().given.origin
            for commit, limit in (("ab" * 20, None), ("cd" * 20, 7))
        }
        assert len(origins) == 1

    def test_a_declaration_survives_the_way_to_a_child_process(self) -> None:
        stage = Traces(
            name="a", file="a.jsonl", preset="openr1_math", columns={"language": "lang", "id": False}
        )
        again = Traces.model_validate(stage.model_dump(mode="json"))
        assert again == stage and again._columns() == stage._columns()

    def test_the_bytes_of_several_files_are_the_identity(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        jsonl(tmp_path / "set" / "a.jsonl", [PLAIN])
        jsonl(tmp_path / "set" / "b.jsonl", [PLAIN])
        folder, pattern = (Traces(name="a", file=str(tmp_path / "set" / each)) for each in ("", "*.jsonl"))
        before = identity(folder)
        assert before == identity(pattern)
        jsonl(tmp_path / "set" / "b.jsonl", [PLAIN | {"completion": "5"}])
        assert identity(folder) != before


class TestBadInput:
    def test_a_bad_row_is_a_reason_with_a_place(self, tmp_path: Path) -> None:
        rows: list[Any] = [
            PLAIN,
            {"prompt": " ", "completion": "x"},
            {"prompt": "p", "completion": None},
            {"completion": "x"},
            PLAIN | {"completion": "x" * 5_000_000},
            PLAIN | {"completion": "half a pair \ud83d"},
            PLAIN | {"prompt": {"deep": {"er": 1}}},
            PLAIN | {"completion": ["a", "b"]},
            PLAIN | {"reference": float("nan")},
            [1, 2],
        ]
        file = Path(jsonl(tmp_path / "rows.jsonl", rows))
        with file.open("ab") as out:
            out.write(b'{"prompt": "torn\n{"prompt": "p", "completion": "\xff\xfe"}\n')
        warnings: list[str] = []
        artifact = made(tmp_path, warnings, file=str(file))
        rejected = {"no_prompt": 2, "no_completion": 1, "too_long": 1, "unreadable": 6}
        assert artifact.manifest.rejected == rejected
        assert artifact.manifest.rows_kept == 2 == artifact.manifest.rows_in - sum(rejected.values())
        examples = artifact.manifest.telemetry["rejected_examples"]
        assert examples["no_prompt"] == "rows.jsonl:2" and examples["too_long"] == "rows.jsonl:5"
        assert "6 unreadable (e.g. rows.jsonl:6)" in warnings[0]

    def test_zero_width_and_right_to_left_characters_are_kept(self, tmp_path: Path) -> None:
        text = "a\u200bb\u200e \u202eabc\u202c \u05e9\u05dc\u05d5\u05dd \ufeff \x00 end"
        [trace] = read(tmp_path, [PLAIN | {"completion": text}])
        assert trace.completion == text

    def test_ragged_lists_are_a_reason(self, tmp_path: Path) -> None:
        columns = {"prompt": "p", "completion": "g[]", "finish_reason": "f[]"}
        rows = [
            {"p": "a", "g": ["1", "2"], "f": ["stop"]},
            {"p": "b", "g": ["1", None], "f": ["stop", "stop"]},
            {"p": "c", "g": "1", "f": None},
            {"p": "d", "g": [], "f": []},
            {"p": "e", "g": None, "f": None},
        ]
        found = made(tmp_path, file=jsonl(tmp_path / "rows.jsonl", rows), columns=columns).manifest
        assert (
            found.rejected == {"ragged_lists": 1, "no_completion": 3, "not_a_list": 1}
            and found.rows_kept == 1
        )

    def test_shards_of_mixed_schemas_are_one_source(self, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        folder.mkdir()
        pq.write_table(
            pa.table({"prompt": ["a"], "completion": ["1"], "reference": ["x"]}), folder / "0.parquet"
        )
        pq.write_table(
            pa.table({"prompt": ["b"], "completion": ["2"], "reference": [7], "more": [1]}),
            folder / "1.parquet",
        )
        pq.write_table(pa.table({"prompt": [["c"]], "completion": ["3"]}), folder / "2.parquet")
        pq.write_table(pa.table({"other": [1]}), folder / "3.parquet")
        found = made(tmp_path, file=str(folder))
        assert sorted((t.prompt, t.reference) for t in traces_of(found)) == [("a", "x"), ("b", "7")]
        assert found.manifest.rejected == {"unreadable": 1, "no_prompt": 1}

    def test_bytes_that_are_no_text_cost_their_row_only(self, tmp_path: Path) -> None:
        broken = pa.array([b"good", b"\xff\xfe", b"fine"]).cast(pa.string(), safe=False)
        pq.write_table(pa.table({"prompt": ["a", "b", "c"], "completion": broken}), tmp_path / "x.parquet")
        found = made(tmp_path, file=str(tmp_path / "x.parquet"))
        assert sorted(t.completion for t in traces_of(found)) == ["fine", "good"]
        assert found.manifest.rejected == {"unreadable": 1}

    def test_bytes_in_a_column_are_no_json(self, tmp_path: Path) -> None:
        rows = [PLAIN | {"blob": b"\x00"}, PLAIN | {"blob": None}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        found = made(tmp_path, file=str(tmp_path / "x.parquet"), columns={"extra": {"blob": "blob"}}).manifest
        assert (found.rows_kept, found.rejected) == (1, {"unreadable": 1})

    def test_nothing_left_is_an_error_with_the_reasons(self, tmp_path: Path) -> None:
        with pytest.raises(
            StageError, match=r"no trace in 1 rows of rows.jsonl: 1 no_completion \(e.g. rows.jsonl:1\)"
        ):
            read(tmp_path, [{"prompt": "p", "completion": " "}])

    def test_an_empty_file_and_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="no trace in 0 rows"):
            read(tmp_path, [])
        with pytest.raises(MissingError, match="no pattern that matches"):
            made(tmp_path, file=str(tmp_path / "no" / "*.parquet"))

    def test_a_file_cut_short_is_named(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"prompt": ["a"], "completion": ["b"]}), tmp_path / "x.parquet")
        whole = (tmp_path / "x.parquet").read_bytes()
        (tmp_path / "x.parquet").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StageError, match=r"x.parquet: not a whole Parquet file"):
            made(tmp_path, file=str(tmp_path / "x.parquet"))

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({}, "exactly one of file, hub, python; has none"),
            ({"file": "a.jsonl", "hub": "a/b"}, "has file and hub"),
            ({"file": "a.jsonl", "config": "x"}, "config: has no meaning with file"),
            ({"file": "a.jsonl", "preset": "openr1"}, "openr1_math"),
            ({"file": "a.jsonl", "columns": {"prompt": "p[]"}}, "takes no"),
        ],
    )
    def test_declarations_that_mean_nothing(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            Traces(name="a", **fields)


class TestLimit:
    ROWS = [PLAIN | {"completion": str(n)} for n in range(40)]

    def test_the_first_ones(self, tmp_path: Path) -> None:
        assert sorted(int(t.completion) for t in read(tmp_path, self.ROWS, limit=5)) == [0, 1, 2, 3, 4]

    def test_random_ones_and_more_contain_the_fewer(self, tmp_path: Path) -> None:
        few = {t.completion for t in read(tmp_path, self.ROWS, limit=5, shuffle=True)}
        many = {t.completion for t in read(tmp_path, self.ROWS, limit=15, shuffle=True)}
        other = {t.completion for t in read(tmp_path, self.ROWS[::-1], limit=5, shuffle=True)}
        seeded = {t.completion for t in read(tmp_path, self.ROWS, limit=5, shuffle=True, seed=1)}
        assert few == other < many and len(few) == 5 and len(many) == 15 and seeded != few

    def test_those_over_it_are_counted(self, tmp_path: Path) -> None:
        file = jsonl(tmp_path / "rows.jsonl", self.ROWS)
        found = made(tmp_path, file=file, limit=5, shuffle=True).manifest
        assert (found.rows_in, found.rows_kept, found.rejected) == (40, 5, {"over_limit": 35})


def test_workers_files_and_their_order_decide_nothing(tmp_path: Path) -> None:
    rows = [PLAIN | {"prompt": f"{n % 7}?", "completion": f"answer {n}" * (n % 5 + 1)} for n in range(60)]
    one = made(tmp_path, file=jsonl(tmp_path / "all.jsonl", rows), source="s")
    (tmp_path / "set").mkdir()
    for part in range(3):
        jsonl(tmp_path / "set" / f"{part}.jsonl", rows[part::3][::-1])
    two = made(tmp_path, file=str(tmp_path / "set"), source="s", workers=2)
    assert one.content == two.content and two.manifest.rows_kept == 60


PEAK = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/../..", sys.argv[1] + "/../../e2e"]
from test_traces import made
made(Path(sys.argv[2]), file=sys.argv[3])
status = Path("/proc/self/status").read_text()  # what getrusage says is of the parent too
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    """Four times the text, all of it in one row group, takes about the same memory."""
    peaks = []
    for size in (1500, 6000):
        words = [f"word{n % 7919}" for n in range(size * 5)]
        rows = [PLAIN | {"completion": " ".join(words[n : n + 4000]), "prompt": f"{n}?"} for n in range(size)]
        folder = tmp_path / str(size)
        folder.mkdir()
        if ending == "jsonl":
            jsonl(folder / "rows.jsonl", rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
        arguments = [str(Path(__file__).parent), str(folder), str(folder / f"rows.{ending}")]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, timeout=PATIENCE_S
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] < peaks[0] + 120, peaks


@given(
    st.lists(
        st.fixed_dictionaries({}, optional={
            "prompt": st.one_of(st.text(), st.none(), st.integers()),
            "completion": st.one_of(st.text(), st.lists(st.text())),
            "reference": st.one_of(st.text(), st.floats(), st.none(), st.lists(st.integers())),
            "finish_reason": st.one_of(st.text(), st.booleans()),
            "completion_tokens": st.one_of(st.integers(), st.floats(), st.text()),
        }),
        max_size=8,
    )
)  # fmt: skip
def test_whatever_rows_hold_each_is_a_trace_or_a_reason(rows: list[dict[str, Any]]) -> None:
    reader = Traces(name="a", file="a.jsonl").reader()
    for row in rows:
        [found] = reader.read(row)
        if isinstance(found, Trace):
            assert found.completion == row["completion"] and found.prompt == row["prompt"]
        else:
            assert found in ("unreadable", "no_prompt", "no_completion", "not_text", "tools")
