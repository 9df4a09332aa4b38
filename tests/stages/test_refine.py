"""Rewriting traces by a real server: what is kept of the parent, what cannot be used, and what is never asked twice."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

if "faultserver" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "faultserver", Path(__file__).parent.parent / "faultserver.py"
    )
    assert _spec is not None and _spec.loader is not None
    sys.modules["faultserver"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["faultserver"])
from faultserver import Call, Fault, FaultServer

from distillkit.artifact import Artifact, Manifest
from distillkit.engines.endpoint import EndpointEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.refine import PROMPT, Refine, read_json, read_tags, read_think
from distillkit.stages.verify import Verify
from distillkit.store import Store
from distillkit.toy import PACKAGED
from distillkit.trace import Trace, to_row, trace_of, trace_schema
from distillkit.verifiers.exact import Exact

SHARDS = 3


def parent(number: int, completion: str = "<think>\n1 加 2 是 3 是 3\n</think>\n\n3", **fields: Any) -> Trace:
    reasoning, _, response = completion.removeprefix("<think>").partition("</think>")
    return Trace(
        f"{number:016x}",
        [{"role": "user", "content": f"1 + 2 + {number} - {number}"}],
        completion,
        reasoning.strip(),
        response.strip(),
        **{
            "reference": "3",
            "domain": "chain",
            "source": "zero",
            "language": "en",
            "origin": "zero",
            **fields,
        },
    )


def sealed(store: Store, traces: list[Trace]) -> Input:
    request = digest([trace.id for trace in traces])
    with store.building("traces", request, print) as out:
        write_shards(Job(store, out, {}, shards=SHARDS), [to_row(each) for each in traces], trace_schema())
        made = store.seal(out, Manifest("traces", "traces", "traces", request, ""))
    return Input("traces", made.type, made.content, artifact=made.path.name)


def run(store: Store, stage: Refine, text: Input, name: str = "a", **inputs: list[Input]) -> Artifact:
    with store.building("refine", name * 16, print) as out:
        stage.run(Job(store, out, {"input": [text], "model": [], **inputs}, seed=3, shards=SHARDS))
        return store.seal(out, Manifest(stage.name, "refine", "traces", name * 16, ""))


def says(text: Callable[[str], str], finish: str = "stop") -> Callable[[Call], Fault]:
    """A rewriter whose answer is a function of what it is asked."""

    def plan(call: Call) -> Fault:
        message = {"role": "assistant", "content": text(call.body["messages"][-1]["content"])}
        return Fault(change={"choices": [{"index": 0, "finish_reason": finish, "message": message}]})

    return plan


def tidy(server: FaultServer, **fields: Any) -> Refine:
    engine = EndpointEngine(
        base_urls=[server.url],
        served_model="teacher",
        timeout_s=5,
        api_key_env=None,
        tries=1,
        require_reasoning=False,
    )
    return Refine(name="tidy", engine=engine, **{"max_tokens": 64, **fields})


WELL = "<reasoning>\nOne and two are three.\n</reasoning>\n<summary>\nSo it is \\boxed{3}.\n</summary>"


def test_a_rewrite_keeps_what_its_parent_says_of_itself_and_is_judged_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    traces = [parent(n, index=n % 2, extra={"terms": 2}) for n in range(6)]
    with FaultServer(says(lambda asked: WELL)) as server:
        made = run(store, tidy(server), sealed(store, traces))
        asked = {call.body["messages"][-1]["content"] for call in server.calls}
    found = [trace_of(row) for row in made.rows()]
    assert {trace.parent_id for trace in found} == {trace.id for trace in traces}
    assert len({trace.id for trace in found} - {trace.id for trace in traces}) == 6
    for trace in found:
        old = next(each for each in traces if each.id == trace.parent_id)
        kept = ("problem_id", "messages", "reference", "domain", "source", "language", "extra")
        assert all(getattr(trace, name) == getattr(old, name) for name in kept)
        assert trace.id.startswith(f"{old.problem_id}/{trace.origin[:12]}/")
        assert trace.reasoning == "One and two are three."
        assert trace.response == "So it is \\boxed{3}."
        assert trace.completion == f"<think>\n{trace.reasoning}\n</think>\n\n{trace.response}"
        assert trace.finish_reason == "stop"
    assert len(asked) == 6 and all(
        "1 加 2 是 3" in each and "{" not in each.replace("\\boxed{}", "") for each in asked
    )
    assert (made.manifest.rows_in, made.manifest.rows_kept, made.manifest.rejected) == (6, 6, {})
    assert made.manifest.summary["parents"] == made.manifest.summary["traces"] == 6
    text = Input("tidy", "traces", made.content, artifact=made.path.name)
    with store.building("verify", "v" * 16, print) as out:
        job = Job(store, out, {"input": [text]}, shards=SHARDS, verifiers={"chain": Exact()})
        Verify(name="judged").run(job)
        judged = store.seal(out, Manifest("judged", "verify", "labels", "v" * 16, ""))
    rows = list(judged.rows())
    assert [row["score"] for row in rows] == [1.0] * 6
    assert {row["problem_pass_rate"] for row in rows} == {
        None
    }  # rewrites of chosen traces say nothing of a model


def test_two_traces_of_one_problem_have_rewrites_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    twins = [
        parent(1, "<think>a</think> 3", index=0),
        parent(1, "<think>b</think> 3", index=0, origin="other"),
    ]
    with FaultServer(says(lambda asked: WELL)) as server:
        made = run(store, tidy(server, n=2), sealed(store, twins))
    ids = [row["id"] for row in made.rows()]
    assert len(ids) == len(set(ids)) == 4
    assert len({row["origin"] for row in made.rows()}) == 1


def test_an_answer_that_is_of_no_use_is_a_row_with_its_reason(tmp_path: Path) -> None:
    store = Store(tmp_path)
    traces = [parent(n, f"<think>case {n}</think> 3") for n in range(5)] + [parent(9, " ")]
    answers = [
        "I would rather not.",
        WELL.replace("One and two are three.", " "),
        "{}",
        WELL,
        "<summary>3</summary>",
    ]

    def answer(asked: str) -> str:
        return answers[int(asked.partition("case ")[2][0])]

    with FaultServer(says(answer)) as server:
        made = run(store, tidy(server), sealed(store, traces))
    assert made.manifest.rejected == {"unparseable": 3, "empty": 1, "no_completion": 1}
    assert (made.manifest.rows_in, made.manifest.rows_kept) == (6, 1)
    rejects = {row["parent_id"]: row for row in made.rows("rejected")}
    assert rejects[traces[0].id]["reason"] == "unparseable"
    assert rejects[traces[0].id]["text"].endswith("I would rather not.")
    assert set(rejects) == {trace.id for trace in traces[:5]} - {traces[3].id}


def test_a_truncated_rewrite_is_dropped_and_none_left_stops(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with FaultServer(says(lambda asked: WELL, "length")) as server, pytest.raises(StageError) as caught:
        run(store, tidy(server), sealed(store, [parent(1)]))
    assert "no rewrite is usable (1 truncated)" in str(caught.value)


def test_what_was_rewritten_is_never_asked_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    few, more = [parent(n) for n in range(4)], [parent(n) for n in range(7)]
    with FaultServer(says(lambda asked: WELL)) as server:
        first = run(store, tidy(server), sealed(store, few))
        assert len(server.calls) == 4
        second = run(store, tidy(server), sealed(store, more), "b")
        assert len(server.calls) == 7
    assert {row["id"] for row in first.rows()} < {row["id"] for row in second.rows()}


def test_a_server_that_fails_stops_the_stage_and_is_asked_for_the_rest_later(tmp_path: Path) -> None:
    store = Store(tmp_path)
    text = sealed(store, [parent(n, f"<think>case {n}</think> 3") for n in range(4)])
    well, broken = says(lambda asked: WELL), True

    def plan(call: Call) -> Fault:
        bad = broken and "case 2" in call.body["messages"][-1]["content"]
        return Fault(status=500) if bad else well(call)

    with FaultServer(plan) as server:
        stage = tidy(server)
        with pytest.raises(StageError) as caught:
            run(store, stage, text)
        assert "1 of 4 rewrites failed" in str(caught.value) and "run again" in str(caught.value)
        broken, before = False, len(server.calls)
        made = run(store, stage, text)
        assert len(server.calls) == before + 1
    assert made.manifest.rows_kept == 4


def test_a_prompt_of_its_own_is_filled_in_one_go(tmp_path: Path) -> None:
    file = tmp_path / "ask.txt"
    file.write_text("rewrite {prompt} : {reasoning} = {response} in {language}, keep {this}\n")
    stage = Refine(name="tidy", prompt=str(file), language="French", max_tokens=8)
    stage.check(tmp_path)
    tricky = parent(1, "<think>{response} and {prompt}</think> 3")
    question = stage.question(tricky, stage.asked())
    assert question.prompt == "rewrite 1 + 2 + 1 - 1 : {response} and {prompt} = 3 in French, keep {this}"
    assert question.id == tricky.id
    assert "French" in Refine(name="t", language="French", max_tokens=8).question(tricky, PROMPT).prompt


def test_the_prompt_decides_what_is_made_and_its_name_does_not(tmp_path: Path) -> None:
    for name, text in (("a", "x {reasoning}"), ("b", "x {reasoning}"), ("c", "y {reasoning}")):
        (tmp_path / name).write_text(text)
    made = [identity(Refine(name="t", prompt=str(tmp_path / name), max_tokens=8)) for name in "abc"]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0, "n": 2}, "the same text 2 times"),
        ({"engine": {"kind": "transformers"}}, "no model; engine transformers needs one"),
    ],
)
def test_what_cannot_work_is_refused_before(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Refine(name="t", max_tokens=8, **fields).check(Path())


def test_a_prompt_without_the_reasoning_or_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ask.txt").write_text("solve {prompt}")
    with pytest.raises(RecipeError, match=r"has no \{reasoning\}"):
        Refine(name="t", prompt=str(tmp_path / "ask.txt"), max_tokens=8).check(tmp_path)
    with pytest.raises(MissingError, match="no text file"):
        Refine(name="t", prompt=str(tmp_path / "gone.txt"), max_tokens=8).check(tmp_path)
    with pytest.raises(ValidationError):
        Refine(name="t", output="xml", max_tokens=8)


def said(text: str, reasoning: str = "") -> Trace:
    return Trace("p", [], text, reasoning, text.rpartition("</think>")[2].strip())


def test_the_three_ways_to_say_both_parts() -> None:
    assert read_tags(said(f"<think>my own <summary>no</summary></think>{WELL}")) == (
        "One and two are three.",
        "So it is \\boxed{3}.",
    )
    told = json.dumps({"reasoning": " a ", "summary": "b\n"})
    assert read_json(said(f"Here it is:\n```json\n{told}\n```")) == ("a", "b")
    assert read_json(said('{"reasoning": "line\nbreak", "summary": "b"}')) == ("line\nbreak", "b")
    assert read_json(said('{"reasoning": 1, "summary": "b"}')) is None
    assert read_json(said('["reasoning"]')) is None
    assert read_think(said("<think> tidy </think> 3 ")) == ("tidy", "3")
    assert read_think(said("no thought")) is None


@given(st.text('<>/reasonigumy \n{}"', max_size=60), st.sampled_from([read_tags, read_json, read_think]))
def test_no_text_breaks_a_reader(text: str, read: Any) -> None:
    parts = read(said(text))
    assert parts is None or all(part == part.strip() for part in parts)


@given(st.text(max_size=40), st.text(max_size=40))
def test_tags_give_back_what_stands_between_them(reasoning: str, summary: str) -> None:
    inside = (reasoning.replace("<", ""), summary.replace("<", ""))
    text = f"<reasoning>{inside[0]}</reasoning> and <summary>{inside[1]}</summary>"
    assert read_tags(said(text.replace("</think>", ""))) == (inside[0].strip(), inside[1].strip())


@pytest.mark.slow
def test_the_packaged_rewriter_makes_one_language_of_two(tmp_path: Path) -> None:
    file = tmp_path / "ask.txt"
    file.write_text("rewrite {prompt} : {reasoning}")
    raw = parent(1, "<think> 8 + 2 = 0 所以 0 - 2 = 8 </think> <answer> 8 </answer>", reference="8")
    raw = trace_of(to_row(raw) | {"messages": [{"role": "user", "content": "8 + 2 - 2"}]})
    stage = Refine(
        name="t",
        engine=TransformersEngine(),
        model="toy:world",
        prompt=str(file),
        max_tokens=64,
        temperature=0,
    )
    model = Input("toy:world", "weights", "w", path=str(PACKAGED["toy:world"]))
    made = run(Store(tmp_path / "store"), stage, sealed(Store(tmp_path / "store"), [raw]), model=[model])
    [row] = made.rows()
    assert "所以" not in row["completion"] and "<answer> 8 </answer>" in row["response"]
