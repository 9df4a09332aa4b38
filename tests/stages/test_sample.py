import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from distillkit.artifact import Manifest, add_contents
from distillkit.check import check
from distillkit.engines.base import Completion
from distillkit.engines.replay import ReplayEngine, ReplaySession
from distillkit.engines.transformers import TransformersEngine
from distillkit.engines.vllm import VllmEngine
from distillkit.errors import RecipeError, StageError
from distillkit.events import Events
from distillkit.lock import Lock
from distillkit.recipe import load
from distillkit.runner import Run
from distillkit.sampling import Continuation
from distillkit.spec import identity
from distillkit.stages.base import PROBLEMS, WEIGHTS, Input, Job
from distillkit.stages.sample import Sample
from distillkit.store import Store, Writer
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import problem_schema, to_row, trace_of
from distillkit.verifiers.exact import Exact

TOY = {"name": "own", "model": "toy:base", "max_tokens": 48}


def job_for(root: Path, problems, request="out", shards=4, **other) -> Job:
    """A job whose input is an artifact of these problems."""
    store = Store(root)
    with store.building("problems", "a" * 64, print) as writer:
        found = store.find("problems", "a" * 64)
        if found is None:
            for shard in range(2):
                writer.write(shard, [to_row(p) for p in problems[shard::2]], problem_schema())
            found = store.seal(writer, Manifest("problems", "problems", PROBLEMS, "a" * 64, ""))
    out = store.work / request
    inputs = {
        "input": [Input("problems", PROBLEMS, found.content, artifact=found.path.name)],
        "model": [Input("toy:base", WEIGHTS, "weights", path=str(BASE))],
    }
    return Job(store, Writer(out), inputs, shards=shards, **other)


def rows(job, table="rows"):
    import pyarrow.parquet as pq

    return [
        row
        for shard in job.out.tables()[table]
        for row in pq.read_table(job.out.path / shard.file).to_pylist()
    ]


def test_it_writes_every_trace_and_says_what_it_cost(tmp_path):
    told = []
    job = job_for(
        tmp_path, generate(12, 1, "train"), seed=7, progress=lambda *done, **facts: told.append((done, facts))
    )
    Sample(**TOY, engine=TransformersEngine(), n=5).run(job)
    found = [trace_of(row) for row in rows(job)]
    assert len(found) == 60 == len({trace.id for trace in found})
    assert len(job.out.tables()["rows"]) == 4
    assert job.out.rows_in == 12
    assert job.out.summary == {
        "traces": 60,
        "prompt_tokens": sum(trace.prompt_tokens for trace in found),
        "completion_tokens": sum(trace.completion_tokens for trace in found),
        "finish_reasons": {"stop": 60},
    }
    assert job.out.telemetry["tokens"] == job.out.summary["completion_tokens"]
    assert job.out.telemetry["tokens_per_second"] > 0
    assert told[-1][0] == (60, 60)


def test_the_same_rows_from_the_store_and_from_another_number_of_shards(tmp_path):
    problems = generate(8, 1, "train")
    stage = Sample(**TOY, engine=TransformersEngine(), n=3)
    jobs = [job_for(tmp_path, problems, "one", seed=7), job_for(tmp_path, problems, "two", shards=2, seed=7)]
    jobs.append(job_for(tmp_path / "fresh", problems, seed=7))
    sums = []
    for job in jobs:
        stage.run(job)
        sums.append(add_contents([shard.content for shard in job.out.tables()["rows"]]))
    assert len(set(sums)) == 1
    assert jobs[1].out.telemetry["tokens"] == 0
    assert jobs[0].out.summary == jobs[1].out.summary == jobs[2].out.summary


def test_another_run_seed_is_another_sample(tmp_path):
    problems = generate(8, 1, "train")
    texts = []
    for seed in (1, 2):
        job = job_for(tmp_path, problems, str(seed), seed=seed)
        Sample(**TOY, engine=TransformersEngine(), n=4).run(job)
        texts.append(sorted((row["id"], row["completion"]) for row in rows(job)))
    assert [id for id, _ in texts[0]] == [id for id, _ in texts[1]]
    assert texts[0] != texts[1]


def test_recorded_completions_need_no_model(tmp_path):
    problems = generate(4, 1, "train")
    file = tmp_path / "r.jsonl"
    recorded = [
        {"problem_id": p.id, "completion": "<think> a </think> b", "finish_reason": "stop"}
        for p in problems[1:]
    ]
    file.write_text("\n".join(map(json.dumps, recorded)))
    job = job_for(tmp_path, problems)
    Sample(name="own", model="any/model", max_tokens=8, engine=ReplayEngine(file=str(file)), n=1).run(job)
    assert sorted(row["response"] for row in rows(job)) == ["", "b", "b", "b"]
    assert job.out.summary["finish_reasons"] == {"error": 1, "stop": 3}
    assert job.out.telemetry["tokens_per_second"] == 0


def test_no_problems_is_an_error(tmp_path):
    with pytest.raises(StageError, match="own: input: no rows left; give it problems"):
        Sample(**TOY, engine=TransformersEngine()).run(job_for(tmp_path, []))


def test_identity_leaves_out_names_and_wires():
    stage = Sample(**TOY, n=2, temperature=0.6)
    renamed = Sample(name="other", model="zero", input="problems", max_tokens=48, n=2, temperature=0.6)
    assert identity(stage) == identity(renamed)
    assert identity(stage) != identity(Sample(**TOY, n=3, temperature=0.6))


def test_checks():
    with pytest.raises(RecipeError, match=r"stages.own: temperature 0 gives the same text 2 times"):
        Sample(**TOY, n=2, temperature=0).check(Path())
    Sample(**TOY, n=1, temperature=0).check(Path())
    assert Sample(**TOY, engine=VllmEngine(engine_args={"trust_remote_code": True})).foreign()
    assert Sample(**TOY, engine=TransformersEngine()).foreign() == Sample(**TOY).foreign() == []
    with pytest.raises(ValidationError):
        Sample(**TOY, n=0)


UNTIL = {"until": {"correct": 2, "give_up_after": 6}, "n": 12, "engine": TransformersEngine()}


def judging(root: Path, problems, request="out", **other) -> Job:
    return job_for(root, problems, request, seed=7, verifiers={"chain": Exact()}, **other)


def test_until_asks_for_less_and_keeps_what_was_asked_and_why_it_stopped(tmp_path):
    problems = generate(12, 1, "train")
    job = judging(tmp_path, problems)
    stage = Sample(**TOY, **UNTIL)
    stage.run(job)
    found = [trace_of(row) for row in rows(job)]
    table = {row["id"]: row for row in rows(job, "problems")}
    assert sorted(table) == sorted(problem.id for problem in problems)
    for problem, row in table.items():
        mine = [trace for trace in found if trace.problem_id == problem]
        assert sorted(trace.index for trace in mine) == list(range(row["n"]))
        assert row["correct"] == sum(Exact().grade(trace).score == 1.0 for trace in mine)
    summary = job.out.summary
    assert summary["asked"] == summary["traces"] == len(found) < 12 * 12
    assert summary["right"] == sum(row["correct"] for row in table.values())
    assert sum(summary["stopped"].values()) == 12 and set(summary["stopped"]) <= {"enough", "hopeless", "all"}
    assert {json.dumps(trace.sampling["until"]) for trace in found} == {'{"correct": 2, "give_up_after": 6}'}
    assert stage.judges and not Sample(**TOY, n=12).judges
    assert identity(stage) != identity(Sample(**TOY, **UNTIL | {"until": None}))


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("keys", [{"n": 5, "engine": TransformersEngine()}, UNTIL])
def test_a_kill_while_shards_are_written_changes_nothing(tmp_path, monkeypatch, keys):
    problems = generate(12, 1, "train")
    stage = Sample(**TOY, **keys)
    whole = judging(tmp_path / "whole", problems)
    stage.run(whole)
    real, written = Writer.stream, []

    def stream(self, shard, *arguments, **named):
        if len(written) == 2:
            raise Stopped
        made = real(self, shard, *arguments, **named)
        if "/rows/" in made.file:
            written.append(made)
        return made

    torn = judging(tmp_path / "torn", problems)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "stream", stream)
        with pytest.raises(Stopped):
            stage.run(torn)
    times = {path: path.stat().st_mtime_ns for path in torn.out.path.rglob("rows/*.parquet")}
    assert len(times) == 2
    again = judging(tmp_path / "torn", problems)
    monkeypatch.setattr(TransformersEngine, "open", None)  # loading the model would fail
    stage.run(again)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert again.out.summary == whole.out.summary
    for table in whole.out.tables():
        assert [shard.content for shard in again.out.tables()[table]] == [
            shard.content for shard in whole.out.tables()[table]
        ]


def test_what_may_pass_stops_the_stage_above_max_failed_and_is_asked_again(tmp_path, monkeypatch):
    problems = generate(10, 1, "train")
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(json.dumps({"problem_id": p.id, "completion": "x"}) for p in problems))
    down = {problem.id for problem in problems[:2]}
    real = ReplaySession.generate

    def generate_flaky(self, feed, parameters):
        for request, completion in real(self, feed, parameters):
            if request.problem_id in down:
                completion = Completion("", "error", error="503", telemetry={"retry": True, "cost": 0.0})
            yield request, completion

    monkeypatch.setattr(ReplaySession, "generate", generate_flaky)
    stage = Sample(name="own", model="any/model", max_tokens=8, engine=ReplayEngine(file=str(file)))
    with pytest.raises(StageError, match=r"own: 2 of 10 completions failed \(503\), max_failed is 0.05; run"):
        stage.run(job_for(tmp_path, problems))
    said = []
    lenient = stage.model_copy(update={"max_failed": 0.5})
    assert identity(lenient) == identity(stage)
    lenient.run(job_for(tmp_path, problems, warn=said.append))
    assert said == ["2 of 10 completions failed (503); they are rows that say so"]
    down.clear()
    job = job_for(tmp_path, problems)  # shards of the run before are there, and are stale
    stage.run(job)
    assert {row["completion"] for row in rows(job)} == {"x"}
    assert job.out.summary["finish_reasons"] == {"unknown": 10}
    assert job.out.telemetry["tokens"] == 0


def test_what_it_cost_is_told_of_all_of_it(tmp_path, monkeypatch):
    problems = generate(4, 1, "train")
    (tmp_path / "r.jsonl").write_text("")
    monkeypatch.setattr(
        ReplaySession,
        "generate",
        lambda self, feed, parameters: (
            (request, Completion("x", "stop", telemetry={"cost": 0.125})) for request in iter(feed.take, None)
        ),
    )
    engine = ReplayEngine(file=str(tmp_path / "r.jsonl"))
    stage = Sample(name="own", model="any/model", max_tokens=8, engine=engine, n=2)
    stage.run(job_for(tmp_path, problems, "one"))
    told = []
    again = job_for(tmp_path, problems, "two", progress=lambda *done, **facts: told.append(facts))
    stage.run(again)
    assert again.out.telemetry["cost"] == 1.0
    assert "cost" not in told[-1]  # nothing was spent now


def test_a_template_file_stays_with_the_traces(tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }} A:<think>")
    job = job_for(tmp_path, generate(2, 1, "train"))
    stage = Sample(**TOY, engine=TransformersEngine(), template=str(tmp_path / "mine.jinja"))
    stage.run(job)
    assert (job.out.path / "template.jinja").read_text() == "{{ messages[0].content }} A:<think>"


class Chat(ReplayEngine):
    needs_model: ClassVar[bool] = False
    continues: ClassVar[bool] = False


def test_a_model_is_named_where_the_engine_needs_one_and_nowhere_else():
    bare = Sample(name="own", max_tokens=8)
    bare.check(Path())  # the engine may come from the recipe
    with pytest.raises(RecipeError, match=r"^no model; engine transformers needs one"):
        bare.model_copy(update={"engine": TransformersEngine()}).check(Path())
    chat = Chat(file="r.jsonl")
    bare.model_copy(update={"engine": chat}).check(Path())
    with pytest.raises(RecipeError, match=r"^model: engine replay serves a model of its own"):
        bare.model_copy(update={"engine": chat, "model": "toy:base"}).check(Path())
    with pytest.raises(RecipeError, match=r"^continue_truncated: engine replay takes messages"):
        bare.model_copy(update={"engine": chat, "continue_truncated": Continuation(max_tokens=1)}).check(
            Path()
        )
    with pytest.raises(
        RecipeError, match=r"^template: engine replay takes messages and its server renders them"
    ):
        bare.model_copy(update={"engine": chat, "template": "r1"}).check(Path())


@pytest.mark.parametrize(
    ("until", "match"),
    [
        ({"correct": 9}, r"until.correct: 9 is more than n \(8\)"),
        ({"give_up_after": 9}, r"until.give_up_after: 9 is more than n \(8\)"),
        ({"correct": 0}, "greater than or equal to 1"),
        ({"corect": 1}, "Extra inputs"),
    ],
)
def test_an_until_that_cannot_be(until, match):
    with pytest.raises(ValidationError, match=match):
        Sample(**TOY, n=8, until=until)


def test_a_recipe_that_judges_while_it_samples_needs_a_verifier_and_its_identity(tmp_path):
    text = """
name: adaptive
engine: {kind: transformers}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 4}
  - {name: own, kind: sample, model: toy:base, max_tokens: 8, n: 4, until: {correct: 1}}
"""
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(
        RecipeError, match=r"stages.own: no verifier for domain 'chain'; add it to `verifiers:`"
    ):
        check(load(tmp_path / "r.yaml"), tmp_path)
    check(load(tmp_path / "r.yaml", ["stages.own.until=null"]), tmp_path)
    requests = []
    for marker in ("A:", "B:"):
        (tmp_path / "r.yaml").write_text(text + f"verifiers: {{chain: {{kind: exact, marker: '{marker}'}}}}")
        for sets in ([], ["stages.own.until=null"]):
            recipe = load(tmp_path / "r.yaml", sets)
            check(recipe, tmp_path)
            run = Run(recipe, Store(tmp_path / "s"), Events(tmp_path / "e"), Lock(tmp_path / "l"))
            run.execute(until="problems")
            [_, step] = run.steps()
            requests.append(run.request(step, run.inputs(step)))
    assert len(set(requests)) == 3 and requests[1] == requests[3]
