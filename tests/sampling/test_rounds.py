"""Adaptive sampling and continuations with a real model that samples in blocks: whole rounds, the same again."""

import json
from functools import partial

import pytest

from distillkit.artifact import Model, content_of
from distillkit.engines.transformers import TransformersEngine, TransformersSession
from distillkit.sampling import Continuation, Plan, Sampling, Until, drawn
from distillkit.sampling.outcome import Outcome
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import to_row
from distillkit.verifiers.exact import Exact

TOY = Model("toy:base", str(BASE), "content")
SAMPLING = Sampling(engine=TransformersEngine(block=16), max_tokens=48)
PROBLEMS = generate(12, seed=3, split="train")
UNTIL = Until(correct=2, give_up_after=6)
N = 12


def run(store, sampling=SAMPLING, until=UNTIL, continued=None, n=N):
    plan = Plan.of(sampling, TOY, PROBLEMS, n, 5, until, continued)
    with drawn(plan, TOY, Store(store), verifiers={"chain": Exact()}) as found:
        return list(found.traces()), found


def content(traces):
    return content_of([to_row(trace) for trace in traces])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = tmp_path_factory.mktemp("whole")
    traces, found = run(store)
    return store, traces, found.outcomes


def test_each_problem_is_asked_up_to_the_sample_that_decides(whole):
    _, traces, outcomes = whole
    exact = Exact()
    for problem in PROBLEMS:
        mine = sorted((t for t in traces if t.problem_id == problem.id), key=lambda trace: trace.index)
        rights = [exact.grade(trace).score == 1.0 for trace in mine]
        assert outcomes[problem.id] == Outcome(len(mine), sum(rights), outcomes[problem.id].stopped)
        match outcomes[problem.id].stopped:
            case "enough":
                assert sum(rights) == 2 and rights[-1]
            case "hopeless":
                assert len(rights) == 6 and not any(rights)
            case "all":
                assert len(rights) == N and sum(rights) == 1
    assert {outcome.stopped for outcome in outcomes.values()} >= {"enough", "hopeless"}
    assert len(traces) < N * len(PROBLEMS)


@pytest.mark.parametrize("share", [0.1, 0.45, 0.8])
def test_cut_anywhere_it_ends_with_the_same_rows(whole, tmp_path, share):
    store, traces, outcomes = whole
    [path] = (store / "completions").glob("*.jsonl")
    data = path.read_bytes()
    (tmp_path / "completions").mkdir()
    (tmp_path / "completions" / path.name).write_bytes(data[: int(len(data) * share)])
    again, found = run(tmp_path)
    assert content(again) == content(traces)
    assert found.outcomes == outcomes


def test_a_plain_draw_before_it_leaves_little_to_ask(whole, tmp_path, monkeypatch):
    _, _, outcomes = whole
    run(tmp_path, until=None)
    monkeypatch.setattr(TransformersEngine, "open", None)  # loading the model would fail
    again, found = run(tmp_path)
    assert found.outcomes == outcomes
    assert [trace.id for trace in again] == [
        f"{problem}/{again[0].origin[:12]}/{index}"
        for problem in sorted(found.outcomes)
        for index in sorted(range(found.outcomes[problem].n), key=str)
    ]


def test_truncated_ones_go_on_in_a_round_of_their_own(tmp_path, monkeypatch):
    short = SAMPLING.model_copy(update={"max_tokens": 10})
    cut, _ = run(tmp_path, short, until=None, n=4)
    traces, _ = run(tmp_path, short, until=None, continued=Continuation(max_tokens=40), n=4)
    went_on = {trace.index: trace for trace in traces if "continued" in trace.sampling}
    assert went_on
    before = {(trace.problem_id, trace.index): trace for trace in cut}
    for trace in traces:
        first = before[trace.problem_id, trace.index]
        if first.finish_reason == "length":
            assert trace.completion.startswith(first.completion) and trace.completion_tokens > 10
            assert trace.finish_reason == "stop"
        else:
            assert trace.completion == first.completion
    monkeypatch.setattr(TransformersSession, "generate", partial(pytest.fail, "sampled again"))
    again, _ = run(tmp_path, short, until=None, continued=Continuation(max_tokens=40), n=4)
    assert content(again) == content(traces)


def test_telemetry_says_engine_host_and_latency(whole):
    _, traces, _ = whole
    for trace in traces:
        assert {"engine", "device", "latency_s", "host"} <= set(trace.telemetry)
    assert json.loads(to_row(traces[0])["sampling"])["until"] == {"correct": 2, "give_up_after": 6}
