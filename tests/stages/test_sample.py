import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from distillkit.artifact import Manifest, add_contents
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.engines.vllm import VllmEngine
from distillkit.errors import RecipeError, StageError
from distillkit.spec import identity
from distillkit.stages.base import PROBLEMS, WEIGHTS, Input, Job
from distillkit.stages.sample import Sample
from distillkit.store import Store, Writer
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import problem_schema, to_row, trace_of

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


def rows(job):
    import pyarrow.parquet as pq

    return [
        row
        for shard in job.out.tables()["rows"]
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
