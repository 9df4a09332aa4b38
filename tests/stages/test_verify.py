"""Verify on sealed traces: labels beside the text, counts in the manifest, one budget."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillkit.artifact import Artifact, Manifest, Row, shard_of
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.spec import digest, identity
from distillkit.stages.base import LABELS, TRACES, Input, Job
from distillkit.stages.verify import Verify
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema
from distillkit.verifiers import AnyOf, AnyVerifier, Command, Exact, Judge, Majority, Math, Python, Weighted

SHARDS = 3

_spec = importlib.util.spec_from_file_location("faultserver", Path(__file__).parents[1] / "faultserver.py")
assert _spec is not None and _spec.loader is not None
faultserver = importlib.util.module_from_spec(_spec)
sys.modules["faultserver"] = faultserver
_spec.loader.exec_module(faultserver)


def trace(problem: int, index: int, answer: str, **fields: Any) -> Trace:
    """A finished trace of problem `problem` whose reference is the problem's number."""
    response = f"<answer>{answer}</answer>" if answer else "?"
    fields = {"reference": str(problem), "origin": "base", "finish_reason": "stop", "seed": index} | fields
    return Trace(f"{problem:016x}", [], response, "", response, index=index, **fields)


def verify(
    store: Store,
    traces: list[Trace],
    stage: Verify,
    verifiers: dict[str, AnyVerifier],
    request: str = "labels",
    warn: Callable[[str], None] = print,
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
        stage.run(Job(store, writer, inputs, shards=SHARDS, verifiers=verifiers, warn=warn))
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

    found = [tuple(list(labels[trace.id].values())[2:-1]) for trace in traces]
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


GRADER = """
def grade(row):
    return {"second look": 1.0, "half": 0.5}.get(row["answer"], 0.0)
"""


def test_both_verdicts_stay_where_one_looks_again_at_what_the_other_rejected(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GRADER)
    mine = Python(file=str(tmp_path / "mine.py"), workers=1)
    traces = [trace(7, i, answer) for i, answer in enumerate(["7", "second look", "8", ""])]
    made = verify(Store(tmp_path), traces, Verify(name="judged"), {"math": AnyOf(of=[Exact(), mine])})
    verdicts = {id: json.loads(row["verdicts"]) for id, row in by_id(made).items()}
    right, again, wrong, silent = (verdicts[each.id] for each in traces)
    assert list(right) == ["math", "math/exact"]
    assert again == {
        "math": {"score": 1.0, "reason": "correct", "answer": "second look"},
        "math/exact": {"score": 0.0, "reason": "wrong", "answer": "second look"},
        "math/python": {"score": 1.0, "reason": "correct", "answer": "second look"},
    }
    assert [wrong[name]["reason"] for name in ("math", "math/exact", "math/python")] == ["wrong"] * 3
    assert silent["math/exact"]["reason"] == "no_answer" and silent["math/python"]["answer"] == "?"
    assert {row["problem_pass_rate"] for row in by_id(made).values()} == {0.5}
    nested = Weighted.model_validate(
        {"of": [{"weight": 1, "verifier": AnyOf(of=[Exact(), mine])}, {"weight": 1, "verifier": Exact()}]}
    )
    deep = verify(Store(tmp_path), traces, Verify(name="judged"), {"math": nested}, "deep")
    assert set(json.loads(by_id(deep)[traces[1].id]["verdicts"])) == {
        "math", "math/any_of", "math/any_of/exact", "math/any_of/python", "math/exact",
    }  # fmt: skip


def test_a_pass_rate_is_told_only_where_nobody_chose_the_traces(tmp_path: Path) -> None:
    traces = [
        trace(7, 0, "7"),
        trace(7, 0, "7", origin="imported", seed=None),
        trace(7, 0, "7", origin="file", seed=None),
        trace(7, 0, "7", origin="stopped", sampling={"until": {"correct": 1}}),
    ]
    rows = by_id(verify(Store(tmp_path), traces, Verify(name="judged"), {"math": Exact()}))
    assert [rows[each.id]["problem_pass_rate"] for each in traces] == [1.0, None, 1.0, None]
    assert [rows[each.id]["problem_n"] for each in traces] == [1, 1, 1, 1]


def test_failed_traces_are_said_and_count_against_nobody(tmp_path: Path) -> None:
    said: list[str] = []
    traces = [trace(7, i, "7") for i in range(3)] + [trace(7, 3, "", finish_reason="error")]
    made = verify(Store(tmp_path), traces, Verify(name="judged"), {"math": Exact()}, warn=said.append)
    assert {row["problem_pass_rate"] for row in by_id(made).values()} == {1.0}
    assert made.manifest.counts["reason"] == {"correct": 3, "failed": 1}
    assert said == ["1 of 4 traces hold no completion (the engine failed): no score"]
    Verify(name="judged", max_unjudged=0).accept(made.manifest)


SPY = """
import json, os, sys

def grade(row):
    return not [name for name, value in os.environ.items() if "hf_secret" in value]

if __name__ == "__main__":
    for line in sys.stdin:
        row = json.loads(line)
        print(json.dumps({"request": row["request"], "score": float(grade(row))}), flush=True)
"""


def test_no_grader_sees_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "hf_secret")
    file = tmp_path / "spy.py"
    file.write_text(SPY)
    program: dict[str, Any] = {"command": [sys.executable, str(file)], "files": [str(file)], "workers": 1}
    judges: dict[str, AnyVerifier] = {
        "math": Python(file=str(file), workers=1),
        "words": Command.model_validate(program),
    }
    traces = [trace(p, 0, "1", domain=domain) for p, domain in enumerate(["math", "words"])]
    made = verify(Store(tmp_path / "store"), traces, Verify(name="judged"), judges)
    assert [row["score"] for row in made.rows()] == [1.0, 1.0]


def test_a_program_that_is_missing_stops_it_before_the_first_row(tmp_path: Path) -> None:
    judges: dict[str, AnyVerifier] = {"math": Exact(), "words": Command(command=["no-such-program"])}
    sums = [trace(p, 0, "1") for p in range(3)]
    assert verify(Store(tmp_path / "sums"), sums, Verify(name="judged"), judges).manifest.rows_kept == 3
    with pytest.raises(MissingError, match=r"no-such-program: no such program that may be executed"):
        verify(
            Store(tmp_path / "all"), [*sums, trace(3, 0, "1", domain="words")], Verify(name="judged"), judges
        )


def test_majority_labels_are_counted_as_such(tmp_path: Path) -> None:
    traces = [
        *(trace(7, i, answer, reference=None) for i, answer in enumerate("7787")),
        *(trace(8, i, answer, reference=None) for i, answer in enumerate("12")),
        trace(9, 0, "9"),
    ]
    made = verify(Store(tmp_path), traces, Verify(name="judged"), {"math": Majority(of=Exact())})
    assert made.manifest.counts["majority"] == {"correct": 3, "wrong": 1, "no_majority": 2}
    assert made.manifest.counts["unjudged"] == {"no_majority": 2}
    Verify(name="judged", max_unjudged=0).accept(made.manifest)
    told = json.loads(by_id(made)[traces[2].id]["verdicts"])["math"]["detail"]
    assert told == {"majority": True, "gold": "7", "votes": 3, "of": 4}


def test_what_judges_cost_is_told_but_is_not_content(tmp_path: Path) -> None:
    message = {"role": "assistant", "content": '{"why": "fine", "mark": 1}'}
    says = faultserver.Fault(change={"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
    traces = [trace(7, i, "7") for i in range(2)] + [trace(8, 0, "good", domain="essay", reference=None)]
    made = {}
    with faultserver.FaultServer(style="none", plan=lambda call: says) as server:
        for price in (1.0, 2.0):
            prices = {"input": 0.0, "output": price * 1e6 / 22}
            endpoint = {
                "kind": "endpoint",
                "base_urls": [server.url],
                "served_model": "teacher",
                "prices": prices,
            }
            judges: dict[str, AnyVerifier] = {
                "math": Exact(),
                "essay": Judge.model_validate({"engine": endpoint, "n": 3}),
                "other": Judge.model_validate({"engine": endpoint}),
            }
            made[price] = verify(Store(tmp_path / str(price)), traces, Verify(name="judged"), judges)
    cheap, dear = made.values()
    assert cheap.content == dear.content
    assert cheap.manifest.summary == {"learned": True, "judges": {"essay": "judge"}}
    assert [each.manifest.telemetry["cost"] for each in (cheap, dear)] == [3.0, 6.0]
    rows = by_id(dear)
    assert rows[traces[0].id]["telemetry"] is None
    assert json.loads(rows[traces[2].id]["telemetry"])["essay"]["cost"] == 6.0
    assert json.loads(rows[traces[2].id]["verdicts"])["essay"]["detail"]["marks"] == [1, 1, 1]
    plain = verify(Store(tmp_path), traces[:2], Verify(name="judged"), judges)
    assert plain.manifest.summary == {} and "cost" not in plain.manifest.telemetry


FLAKY = f"""#!{sys.executable}
import json, os, sys
for line in sys.stdin:
    row = json.loads(line)
    up = os.path.exists(sys.argv[1])
    print(json.dumps({{"request": row["request"], "score": 1 if up else None}}), flush=True)
"""


def test_what_an_outage_decided_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    grader, up = tmp_path / "grader", tmp_path / "up"
    grader.write_text(FLAKY)
    grader.chmod(0o755)
    command = Command.model_validate(
        {"command": ["grader", str(up)], "files": [str(grader)], "workers": 1, "timeout_s": 60}
    )
    judges: dict[str, AnyVerifier] = {"math": AnyOf(of=[Exact(), command])}
    store, traces = Store(tmp_path), [trace(7, 0, "8")]
    down = verify(store, traces, Verify(name="judged"), judges)
    assert [row["reason"] for row in down.rows()] == ["judge_unavailable"]
    up.touch()
    again = verify(store, traces, Verify(name="judged"), judges, "again")
    assert [row["reason"] for row in again.rows()] == ["correct"]
