"""Verify on sealed traces: labels beside the text, counts in the manifest, one budget."""

import json
from pathlib import Path
from typing import Any

import pytest

from distillkit.artifact import Artifact, Manifest, Row, shard_of
from distillkit.errors import RecipeError, StageError
from distillkit.spec import digest, identity
from distillkit.stages.base import LABELS, TRACES, Input, Job
from distillkit.stages.verify import Verify
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema
from distillkit.verifiers import AnyVerifier, Exact, Math

SHARDS = 3


def trace(problem: int, index: int, answer: str, **fields: Any) -> Trace:
    """A finished trace of problem `problem` whose reference is the problem's number."""
    response = f"<answer>{answer}</answer>" if answer else "?"
    fields = {"reference": str(problem), "origin": "base", "finish_reason": "stop"} | fields
    return Trace(f"{problem:016x}", [], response, "", response, index=index, **fields)


def verify(
    store: Store,
    traces: list[Trace],
    stage: Verify,
    verifiers: dict[str, AnyVerifier],
    request: str = "labels",
) -> Artifact:
    """Seal the traces, label them, seal the labels."""
    text = digest([trace.id for trace in traces])
    if store.find("sample", text) is None:
        with store.building("sample", text, print) as writer:
            for shard in range(SHARDS):
                rows = [to_row(trace) for trace in traces if shard_of(trace.id, SHARDS) == shard]
                writer.write(shard, rows, trace_schema())
            store.seal(writer, Manifest("own", "sample", TRACES, text, ""))
    sealed = store.find("sample", text)
    assert sealed is not None
    inputs = {"input": [Input("own", TRACES, sealed.content, sealed.path.name)], "labels": []}
    with store.building("verify", digest(request), print) as writer:
        stage.run(Job(store, writer, inputs, shards=SHARDS, verifiers=verifiers))
        return store.seal(writer, Manifest(stage.name, "verify", LABELS, digest(request), ""))


def by_id(artifact: Artifact) -> dict[str, Row]:
    return {row["id"]: row for row in artifact.rows()}


def test_every_trace_gets_its_labels(tmp_path: Path) -> None:
    traces = [
        *(trace(7, i, answer) for i, answer in enumerate(["7", "8", "", "7"])),
        trace(7, 4, "7", finish_reason="length"),
        *(trace(7, i, "8", origin="student") for i in range(2)),
        *(trace(8, i, answer, reference=None) for i, answer in enumerate(["8", "9"])),
        trace(9, 0, "Nine", domain="words", reference="nine"),
        trace(9, 1, "9", sampling={"until": {"correct": 1}}, reference="9", origin="picked"),
    ]
    judges: dict[str, AnyVerifier] = {"math": Exact(), "words": Exact(ignore_case=True)}
    made = verify(Store(tmp_path), traces, Verify(name="judged"), judges)
    labels = by_id(made)
    assert labels.keys() == {trace.id for trace in traces}

    found = [tuple(list(labels[trace.id].values())[2:]) for trace in traces]
    assert found == [
        (1.0, "correct", "7", 5, 0.4),
        (0.0, "wrong", "8", 5, 0.4),
        (0.0, "no_answer", None, 5, 0.4),
        (1.0, "correct", "7", 5, 0.4),
        (0.0, "truncated", None, 5, 0.4),
        (0.0, "wrong", "8", 2, 0.0),
        (0.0, "wrong", "8", 2, 0.0),
        (None, "unparseable_gold", "8", 2, None),
        (None, "unparseable_gold", "9", 2, None),
        (1.0, "correct", "Nine", 1, 1.0),
        (1.0, "correct", "9", 1, None),
    ]
    assert json.loads(labels[traces[1].id]["verdicts"]) == {
        "math": {"answer": "8", "reason": "wrong", "score": 0.0}
    }
    assert json.loads(labels[traces[9].id]["verdicts"]).keys() == {"words"}
    assert made.manifest.counts["unjudged"] == {"unparseable_gold": 2}
    assert made.manifest.counts["reason"] == {
        "correct": 4,
        "wrong": 3,
        "no_answer": 1,
        "truncated": 1,
        "unparseable_gold": 2,
    }
    assert made.manifest.rows_in == made.manifest.rows_kept == 11


def test_unjudged_traces_do_not_weigh_on_the_pass_rate(tmp_path: Path) -> None:
    traces = [trace(7, 0, "7"), trace(7, 1, "8"), trace(7, 2, r"3^{20000000}", reference=r"\frac{1}{7}")]
    made = verify(Store(tmp_path), traces, Verify(name="judged"), {"math": Math(cpu_s=0.4, workers=1)})
    rows = by_id(made)
    assert rows[traces[2].id]["reason"] == "grader_timeout"
    assert {(row["problem_n"], row["problem_pass_rate"]) for row in rows.values()} == {(3, 0.5)}


def test_the_budget_of_unjudged_traces(tmp_path: Path) -> None:
    traces = [trace(p, 0, "1", reference=None if p < 2 else "1") for p in range(20)]
    made = verify(Store(tmp_path), traces, Verify(name="judged"), {"math": Exact()})
    Verify(name="judged", max_unjudged=0.1).accept(made.manifest)
    with pytest.raises(
        StageError,
        match=r"judged: 2 of 20 traces have no score \(unparseable_gold 2\), max_unjudged is 0\.05",
    ):
        Verify(name="judged").accept(made.manifest)
    assert identity(Verify(name="a", max_unjudged=0.1)) == identity(Verify(name="b"))


def test_equal_input_gives_equal_labels_from_the_cache_too(tmp_path: Path) -> None:
    store, traces = Store(tmp_path), [trace(p, i, str(7 + i)) for p in range(6, 12) for i in range(3)]
    judges: dict[str, AnyVerifier] = {"math": Exact()}
    first = verify(store, traces, Verify(name="judged"), judges)
    cached = verify(store, traces, Verify(name="again"), judges, "second")
    fresh = verify(Store(tmp_path / "other"), traces[::-1], Verify(name="judged"), judges)
    assert first.content == cached.content == fresh.content
    assert first.manifest.counts == cached.manifest.counts == fresh.manifest.counts
    other = verify(store, traces, Verify(name="judged"), {"math": Exact(marker="A:")}, "third")
    assert other.content != first.content


def test_a_domain_without_a_verifier_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"no verifier for domain 'code' \(there is math\); add it to `verifiers:`"
    ):
        verify(Store(tmp_path), [trace(7, 0, "7", domain="code")], Verify(name="judged"), {"math": Exact()})
