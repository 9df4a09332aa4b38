import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from distillkit.artifact import Model, content_of
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine, TransformersSession
from distillkit.errors import EngineError, MissingError, RecipeError
from distillkit.sampling import Sampling, draw
from distillkit.spec import identity
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Problem, to_row

TOY = Model("toy:base", str(BASE), "content")
SAMPLING = Sampling(engine=TransformersEngine(block=40), max_tokens=48)
PROBLEMS = generate(15, seed=3, split="train")


def drawn(store, sampling=SAMPLING, problems=PROBLEMS, n=8, seed=5, progress=None):
    told = []

    def tell(done, total, **facts):
        told.append((done, total, facts))

    traces = list(draw(sampling, TOY, problems, n, seed, store, progress or tell))
    return {trace.id: trace for trace in traces}, told


def ledger_of(store):
    [path] = (store.root / "completions").glob("*.jsonl")
    return path


def lines(store):
    return [json.loads(line) for line in ledger_of(store).read_bytes().splitlines()]


def content(traces):
    return content_of([to_row(trace) for trace in traces.values()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with one finished draw, and its traces."""
    store = Store(tmp_path_factory.mktemp("whole"))
    traces, _ = drawn(store)
    return store, traces


def test_n_traces_per_problem_with_all_that_a_trace_carries(whole):
    _, traces = whole
    assert len(traces) == 15 * 8
    problems = {problem.id: problem for problem in PROBLEMS}
    for trace in traces.values():
        problem = problems[trace.problem_id]
        assert trace.id == f"{problem.id}/{trace.origin[:12]}/{trace.index}"
        assert (trace.messages, trace.reference, trace.domain) == (
            problem.messages,
            problem.reference,
            "chain",
        )
        assert (trace.model, trace.template) == ("toy:base", "chat")
        assert (trace.sampling["temperature"], trace.sampling["engine"]) == (1.0, "transformers")
        assert trace.completion_tokens <= 48 and trace.prompt_tokens >= 7
    assert {trace.index for trace in traces.values()} == set(range(8))
    assert len({trace.seed for trace in traces.values()}) == len(traces)
    thinking = [trace for trace in traces.values() if "</think>" in trace.completion]
    assert thinking
    assert all(trace.response in trace.completion and trace.reasoning for trace in thinking)


def test_a_second_draw_samples_nothing_and_gives_the_same_rows(whole, monkeypatch):
    store, traces = whole
    before = ledger_of(store).read_bytes()
    monkeypatch.setattr(TransformersEngine, "open", None)  # loading the model would fail
    again, told = drawn(store)
    assert content(again) == content(traces)
    assert [to_row(again[id]) for id in sorted(again)] == [to_row(traces[id]) for id in sorted(traces)]
    assert ledger_of(store).read_bytes() == before
    assert told[-1] == (120, 120, {"unit": "completions", "tokens": 0})


def test_progress_counts_what_is_sampled(tmp_path):
    _, told = drawn(Store(tmp_path), problems=PROBLEMS[:5])
    done, total, facts = told[-1]
    assert (done, total, facts["unit"]) == (40, 40, "completions")
    assert facts["tokens"] > 40
    assert facts["tokens_per_s"] > facts["rate"] > 0
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)


@pytest.mark.parametrize("share", [0.02, 0.31, 0.5, 0.77, 0.999])
def test_a_draw_cut_anywhere_ends_with_the_same_rows(whole, tmp_path, share):
    store, traces = whole
    data = ledger_of(store).read_bytes()
    torn = tmp_path / "completions" / ledger_of(store).name
    torn.parent.mkdir()
    torn.write_bytes(data[: int(len(data) * share)])
    kept = data[: int(len(data) * share)].count(b"\n")
    again, _ = drawn(Store(tmp_path))
    assert content(again) == content(traces)
    assert torn.read_bytes().splitlines()[:kept] == data.splitlines()[:kept]
    keys = [line["key"] for line in lines(Store(tmp_path)) if "key" in line]
    assert len(keys) == len(set(keys)) == 120


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from distillkit.artifact import Model
from distillkit.store import Store
from distillkit.engines.transformers import TransformersEngine
from distillkit.sampling import Sampling, draw
from distillkit.toy import BASE
from distillkit.toy.problems import generate
sampling = Sampling(engine=TransformersEngine(block=40), max_tokens=48)
problems = generate(15, seed=3, split="train")
for trace in draw(sampling, Model("toy:base", str(BASE), "content"), problems, 8, 5, Store(Path(sys.argv[2]))):
    print(trace.id, flush=True)
"""


def test_sigkill_in_the_middle_loses_and_repeats_nothing(whole, tmp_path):
    _, traces = whole
    package = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, package, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    finished = [child.stdout.readline().strip() for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    store = Store(tmp_path)
    recorded = [line for line in ledger_of(store).read_bytes().split(b"\n")[:-1] if b'"key"' in line]
    assert len(recorded) >= 50
    again, _ = drawn(store)
    assert set(finished) <= set(again)
    assert content(again) == content(traces)
    keys = [line["key"] for line in lines(store) if "key" in line]
    assert len(keys) == len(set(keys)) == 120


def test_a_higher_n_and_more_problems_ask_only_for_what_is_missing(whole, tmp_path):
    _, eight = whole
    store = Store(tmp_path)
    four, _ = drawn(store, n=4, problems=PROBLEMS[:10])
    before = ledger_of(store).read_bytes()
    more, told = drawn(store)
    assert ledger_of(store).read_bytes().startswith(before)
    assert {id: more[id] for id in four} == four
    assert told[-1][2]["tokens"] == sum(more[id].completion_tokens for id in set(more) - set(four))
    assert len([line for line in lines(store) if "key" in line]) == 120
    assert {id: trace.completion for id, trace in more.items()} == {
        id: t.completion for id, t in eight.items()
    }


def test_another_seed_or_parameter_is_another_completion(whole, tmp_path):
    _, traces = whole
    other_seed, _ = drawn(Store(tmp_path / "a"), seed=6, problems=PROBLEMS[:5])
    assert set(other_seed) < set(traces)
    assert sum(other_seed[id].completion != traces[id].completion for id in other_seed) > 10
    hot = SAMPLING.model_copy(update={"temperature": 2.0})
    other, _ = drawn(Store(tmp_path / "b"), hot, problems=PROBLEMS[:5])
    assert not set(other) & set(traces)


def test_problems_with_one_prompt_share_its_completions(tmp_path):
    ask = [{"role": "user", "content": "1 + 2"}]
    twins = [Problem(ask, reference="3"), Problem(ask, reference="4")]
    store = Store(tmp_path)
    traces, _ = drawn(store, problems=twins, n=6)
    assert len(traces) == 12
    assert len([line for line in lines(store) if "key" in line]) == 6
    one, two = ({t.index: t.completion for t in traces.values() if t.problem_id == p.id} for p in twins)
    assert one == two
    assert {t.reference for t in traces.values()} == {"3", "4"}


def test_r1_splits_at_the_opened_think_and_stops_behind_the_answer(tmp_path):
    file = tmp_path / "r.jsonl"
    rows = [
        {
            "problem_id": p.id,
            "completion": f" so it is {i} </think> <answer> {i} </answer>",
            "finish_reason": "stop",
        }
        for i, p in enumerate(PROBLEMS)
    ]
    rows[3]["completion"] = "never closed"
    file.write_text("\n".join(map(json.dumps, rows)))
    sampling = Sampling(engine=ReplayEngine(file=str(file)), template="r1", max_tokens=9, stop=["Q:"])
    assert sampling.parameters.stop == ("</answer>", "Q:")
    traces, _ = drawn(Store(tmp_path / "store"), sampling, n=1)
    found = {trace.problem_id: (trace.reasoning, trace.response) for trace in traces.values()}
    assert found[PROBLEMS[1].id] == ("so it is 1", "<answer> 1 </answer>")
    assert found[PROBLEMS[3].id] == ("never closed", "")
    assert {trace.template for trace in traces.values()} == {"r1"}


def test_what_has_no_completion_is_a_row_with_its_reason(tmp_path):
    (tmp_path / "r.jsonl").write_text("")
    sampling = Sampling(engine=ReplayEngine(file=str(tmp_path / "r.jsonl")), template="none", max_tokens=9)
    traces, _ = drawn(Store(tmp_path / "store"), sampling, n=2)
    assert {trace.finish_reason for trace in traces.values()} == {"error"}
    assert {trace.extra["error"] for trace in traces.values()} == {"no recorded completion"}
    assert {trace.extra["terms"] for trace in traces.values()} == {3, 4, 5, 6, 7, 8}


def test_an_engine_that_dies_says_how_much_is_safe(tmp_path, monkeypatch):
    real = TransformersSession.generate
    calls = []

    def generate(self, feed, parameters):
        calls.append(feed)
        if len(calls) == 3:
            raise EngineError("toy:base: out of memory")
        return real(self, feed, parameters)

    monkeypatch.setattr(TransformersSession, "generate", generate)
    with pytest.raises(EngineError, match="out of memory; 80 completions of this run are safe in the store"):
        drawn(Store(tmp_path))
    monkeypatch.undo()
    recorded = lines(Store(tmp_path))
    again, told = drawn(Store(tmp_path))
    assert len(again) == 120
    safe = sum(line["completion_tokens"] for line in recorded if "key" in line)
    assert told[-1][2]["tokens"] == sum(trace.completion_tokens for trace in again.values()) - safe


def test_two_draws_at_once_share_the_work(tmp_path):
    store, waited, results = Store(tmp_path), threading.Event(), []

    def tell(done, total, **facts):
        if "waiting_for" in facts:
            waited.set()

    first = draw(SAMPLING, TOY, PROBLEMS, 8, 5, store)
    begun = [next(first)]
    other = threading.Thread(target=lambda: results.append(drawn(store, progress=tell)[0]))
    other.start()
    assert waited.wait(30)
    begun += list(first)
    other.join(60)
    assert content(results[0]) == content({trace.id: trace for trace in begun})
    assert len([line for line in lines(store) if "key" in line]) == 120


def test_clear_errors(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RecipeError, match="no engine; write engine:"):
        drawn(store, Sampling(max_tokens=8))
    absent = Model("./absent", str(tmp_path / "absent"), "c")
    with pytest.raises(MissingError, match=r"\./absent: no model in"):
        list(draw(SAMPLING, absent, PROBLEMS, 1, 0, store))
    with pytest.raises(RecipeError, match="max_tokens 1000 is more than its context of 512"):
        drawn(store, SAMPLING.model_copy(update={"max_tokens": 1000}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 1},
        {"max_tokens": 0},
        {"stop": [""]},
        {"engine": {"kind": "vlm"}},
        {"template": "r2"},
        {"templat": "r1"},
    ],
)
def test_wrong_declarations_are_refused(wrong):
    with pytest.raises(ValidationError):
        Sampling.model_validate({"max_tokens": 8, **wrong})


def test_a_template_file_is_identity_by_its_bytes(tmp_path):
    for name in ("a.jinja", "b.jinja"):
        (tmp_path / name).write_text("{{ messages[0].content }}")
    one, two = (Sampling(max_tokens=8, template=str(tmp_path / f"{name}.jinja")) for name in "ab")
    assert identity(one) == identity(two)
    (tmp_path / "b.jinja").write_text("Q: {{ messages[0].content }}")
    assert identity(one) != identity(two)
