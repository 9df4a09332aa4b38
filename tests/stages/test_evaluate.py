"""Evaluate on sealed problems: recorded completions for the bookkeeping, the toy base for a real gap."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest, weights_content
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import StageError
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.evaluate import Evaluate
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Problem, problem_schema, to_row
from distillkit.verifiers import Exact

SHARDS = 3
RIGHT, WRONG, SILENT = (
    "<think> so </think> <answer> {} </answer>",
    "<answer> x </answer>",
    "<think> so 然后 </think>",
)


def evaluate(**fields: Any) -> Evaluate:
    return Evaluate(name="scores", **{"models": ["base"], "n": 4, "max_tokens": 64, **fields})


def seal_problems(store: Store, name: str, problems: list[Problem]) -> Input:
    request = digest([name, len(problems)])
    with store.building("problems", request, print) as out:
        job = Job(store, out, {}, shards=SHARDS)
        write_shards(job, [to_row(problem) for problem in problems], problem_schema())
        sealed = store.seal(out, Manifest(name, "problems", "problems", request, ""))
    return Input(name, "problems", sealed.content, artifact=sealed.path.name)


def weights(name: str, path: Path = BASE) -> Input:
    return Input(name, "weights", weights_content(path) if path.exists() else name, path=str(path))


def run(
    store: Store,
    stage: Evaluate,
    models: list[Input],
    verifiers: dict[str, Any] | None = None,
    seed: int = 1,
    warn: Callable[[str], None] = print,
    progress: Any = None,
    **problems: list[Input],
) -> Artifact:
    inputs = {"models": models, **problems}
    request = digest([stage.model_dump(mode="json"), seed, [each.name for each in models]])
    with store.building("evaluate", request, print) as out:
        job = Job(store, out, inputs, seed, SHARDS, verifiers or {"chain": Exact()}, warn=warn)
        job.progress = progress or job.progress
        stage.run(job)
        names = {slot: [{"name": end.name} for end in ends] for slot, ends in inputs.items()}
        return store.seal(out, Manifest("scores", "evaluate", "scores", request, "", inputs=names))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def heldout() -> list[Problem]:
    return sorted(generate(3, 1, "heldout"), key=lambda problem: problem.id)


@pytest.fixture
def replay(tmp_path: Path, heldout: list[Problem]) -> ReplayEngine:
    """Four recorded completions a problem: 4, 2 and 0 right; the last problem's second is cut short."""
    path = tmp_path / "recorded.jsonl"
    rows = []
    for problem, texts in zip(
        heldout, ([RIGHT] * 4, [RIGHT, WRONG, RIGHT, SILENT], [WRONG] * 4), strict=True
    ):
        for index, text in enumerate(texts):
            cut = problem is heldout[2] and index == 1
            rows.append(
                {
                    "problem_id": problem.id,
                    "index": index,
                    "completion": text.format(problem.reference),
                    "finish_reason": "length" if cut else "stop",
                    "completion_tokens": 10 + index,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return ReplayEngine(file=str(path))


def test_a_model_is_scored_and_every_completion_kept(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    made = run(
        store, evaluate(engine=replay), [weights("base")], problems=[seal_problems(store, "held", heldout)]
    )
    scores = made.manifest.summary["scores"]["base"]
    values = {metric: score["value"] for metric, score in scores.items()}
    assert values["pass@1"] == 0.5
    assert values["pass@2"] == pytest.approx((1 + 5 / 6 + 0) / 3, abs=1e-6)
    assert values["cons@2"] == pytest.approx((1 + (1 + 2 * 1 + 2 * 0.5) / 6 + 0) / 3, abs=1e-6)
    assert values["truncated"] == pytest.approx(1 / 12, abs=1e-6)
    assert values["no_answer"] == pytest.approx(1 / 12, abs=1e-6)
    assert values["mixed_language"] == pytest.approx(1 / 12, abs=1e-6)
    assert values["mean_tokens"] == 11.5
    assert scores["pass@1"]["n"] == 3
    assert scores["pass@1"]["samples"] == 12
    assert made.manifest.summary["gamma"] == []
    settings = made.manifest.summary["settings"]
    assert (settings["n"], settings["max_tokens"], settings["engine"]["kind"]) == ({"held": 4}, 64, "replay")
    assert made.count("completions") == made.count("verdicts") == 12
    assert (made.manifest.rows_in, made.manifest.rows_kept) == (12, 12)
    verdicts = {row["id"]: row for row in made.rows("verdicts")}
    for row in made.rows("completions"):
        verdict = verdicts[row["id"]]
        assert (verdict["model"], verdict["benchmark"]) == ("base", "held")
        assert (verdict["reason"] == "truncated") == (row["finish_reason"] == "length")
    table = {row["problem_id"]: row for row in made.rows("problems")}
    assert [table[problem.id]["correct"] for problem in heldout] == [4, 2, 0]
    assert [table[problem.id]["pass_rate"] for problem in heldout] == [1.0, 0.5, 0.0]


def test_several_benchmarks_have_their_own_samples_and_names(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    one, two = seal_problems(store, "one", heldout[:2]), seal_problems(store, "two", heldout)
    stage = evaluate(engine=replay, benchmarks={"one": 2, "two": 4})
    made = run(store, stage, [weights("base")], benchmarks=[one, two], problems=[two])
    scores = made.manifest.summary["scores"]["base"]
    assert scores["one/pass@1"]["samples"] == 4
    assert (
        scores["two/pass@1"]
        == run(store, evaluate(engine=replay), [weights("base")], problems=[two]).manifest.summary["scores"][
            "base"
        ]["pass@1"]
    )
    assert "one/pass@2" not in scores  # 2 samples leave no k up to n/2
    assert made.manifest.summary["settings"]["n"] == {"one": 2, "two": 4}
    assert made.manifest.rows_in == 16
    assert made.count("completions") == 12  # what both asked for stands once
    assert made.count("problems") == 5


def test_named_problems_and_benchmarks_are_both_scored(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    one, two = seal_problems(store, "one", heldout[:1]), seal_problems(store, "two", heldout[1:])
    stage = evaluate(engine=replay, problems="one", benchmarks={"two": 2})
    made = run(store, stage, [weights("base")], problems=[one], benchmarks=[two])
    scores = made.manifest.summary["scores"]["base"]
    assert scores["one/pass@1"]["value"] == 1.0
    assert scores["two/pass@1"]["value"] == 0.25


def test_a_second_run_makes_the_same_bytes(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    held = seal_problems(store, "held", heldout)
    first = run(store, evaluate(engine=replay), [weights("base")], problems=[held])
    shutil.rmtree(first.path)
    second = run(store, evaluate(engine=replay), [weights("base")], problems=[held])
    assert second.content == first.content


def test_what_was_sampled_before_a_failure_is_not_sampled_again(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    class Broken(Exact):
        def judge(self, answered: Any) -> Any:
            raise RuntimeError("no grader")

    held = seal_problems(store, "held", heldout)
    with pytest.raises(RuntimeError):
        run(store, evaluate(engine=replay), [weights("base")], {"chain": Broken()}, problems=[held])
    sampled = {path: path.read_bytes() for path in (store.root / "completions").rglob("*.jsonl")}
    assert sampled
    run(store, evaluate(engine=replay), [weights("base")], problems=[held])
    assert {path: path.read_bytes() for path in (store.root / "completions").rglob("*.jsonl")} == sampled


def test_two_names_of_equal_weights_share_their_rows(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    held = seal_problems(store, "held", heldout)
    stage = evaluate(engine=replay, models=["base", "copy"])
    made = run(store, stage, [weights("base"), weights("copy")], problems=[held])
    scores = made.manifest.summary["scores"]
    assert scores["base"] == scores["copy"]
    assert made.count("completions") == 12
    assert made.count("problems") == 6
    [gamma] = made.manifest.summary["gamma"]
    assert (gamma["model"], gamma["base"], gamma["benchmark"], gamma["k"]) == ("copy", "base", "held", 2)
    assert gamma["value"] is None  # of three problems one has a gap: too few to tell it from zero


def test_the_limit_takes_the_first_by_id(store: Store, heldout: list[Problem], replay: ReplayEngine) -> None:
    held = seal_problems(store, "held", heldout)
    made = run(store, evaluate(engine=replay).limited(1), [weights("base")], problems=[held])
    assert [row["problem_id"] for row in made.rows("problems")] == [heldout[0].id]


def test_progress_counts_all_models(store: Store, heldout: list[Problem], replay: ReplayEngine) -> None:
    told: list[tuple[int, int, str]] = []

    def tell(done: int, total: int, **facts: Any) -> None:
        told.append((done, total, facts["model"]))

    held = seal_problems(store, "held", heldout)
    stage = evaluate(engine=replay, models=["base", "other"])
    run(store, stage, [weights("base"), weights("other", Path("other"))], problems=[held], progress=tell)
    assert told[-1] == (24, 24, "other")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_no_problems_and_failed_completions_are_said(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    said: list[str] = []
    with pytest.raises(StageError, match="scores: held: no rows left"):
        run(store, evaluate(engine=replay), [weights("base")], problems=[seal_problems(store, "held", [])])
    held = seal_problems(store, "held", heldout)
    made = run(store, evaluate(engine=replay, n=5), [weights("base")], problems=[held], warn=said.append)
    assert said == [
        "3 of 15 completions failed and count in no score (no recorded completion)",
        "base on held: max_tokens 64 cut 8.3% of the completions, so it scores too low; raise it",
    ]
    assert made.manifest.summary["scores"]["base"]["pass@1"]["value"] == 0.5
    assert made.manifest.counts["unjudged"] == {"failed": 3}
    with pytest.raises(StageError, match=r"no score \(failed 3\); 5% may; see why the engine failed"):
        evaluate(engine=replay, n=5).accept(made.manifest)


def test_golds_that_cannot_be_judged_are_counted_and_capped(store: Store, replay: ReplayEngine) -> None:
    path = Path(replay.file)
    bad = Problem([{"role": "user", "content": "?"}], reference={"tests": 1}, domain="chain", split="heldout")
    rows = [{"problem_id": bad.id, "completion": "<answer> 1 </answer>", "finish_reason": "stop"}] * 4
    path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    problems = [*generate(3, 1, "heldout"), bad]
    stage = evaluate(engine=ReplayEngine(file=str(path)))
    made = run(store, stage, [weights("base")], problems=[seal_problems(store, "held", problems)])
    assert made.manifest.counts["unjudged"] == {"unparseable_gold": 4}
    assert (made.manifest.rows_in, made.manifest.rows_kept) == (16, 12)
    assert made.manifest.summary["scores"]["base"]["pass@1"]["value"] == 0.5
    with pytest.raises(StageError, match="scores: 4 of 16 completions have no score"):
        stage.accept(made.manifest)
    evaluate(max_unjudged=0.25).accept(made.manifest)


def sharpened(folder: Path) -> Path:
    """The toy base with its logits doubled: as if it sampled at half the temperature."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(BASE, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_real_models_and_the_gamma_between_them(store: Store, tmp_path: Path) -> None:
    held = seal_problems(store, "held", generate(24, 1, "heldout", terms=(3, 4)))
    models = [weights("toy:base"), weights("sharp", sharpened(tmp_path / "sharp"))]
    stage = evaluate(models=["toy:base", "sharp"], n=8, k=[2, 4], engine=TransformersEngine())
    made = run(store, stage, models, problems=[held])
    scores = made.manifest.summary["scores"]
    base, sharp = scores["toy:base"], scores["sharp"]
    assert 0 < base["pass@1"]["value"] < base["pass@2"]["value"] < base["pass@4"]["value"] < 1
    assert base["pass@1"]["low"] < base["pass@1"]["value"] < base["pass@1"]["high"]
    [gamma] = made.manifest.summary["gamma"]
    gap = base["pass@4"]["value"] - base["pass@1"]["value"]
    assert gamma["k"] == 4
    assert gamma["value"] == pytest.approx(
        (sharp["pass@1"]["value"] - base["pass@1"]["value"]) / gap, abs=1e-4
    )
    [difference] = made.manifest.summary["differences"]
    assert difference["value"] == pytest.approx(sharp["pass@1"]["value"] - base["pass@1"]["value"], abs=1e-5)
    assert (difference["model"], difference["base"], difference["n"]) == ("sharp", "toy:base", 24)
    [reach] = made.manifest.summary["reach"]
    assert reach["before"] == base["pass@4"] and reach["after"] == sharp["pass@4"]
    assert reach["difference"]["value"] < gap and reach["problems"] == 24
    assert made.manifest.summary["best"]["model"] == ("sharp" if difference["value"] > 0 else "toy:base")
    bands = [row for row in made.manifest.summary["bands"] if row["model"] == "sharp"]
    assert sum(row["problems"] for row in bands) == 24
    cost = made.manifest.summary["cost"][0]
    assert cost["completions"] == 192 and cost["operations"] == 2 * cost["active"] * cost["tokens"]
    again = run(store, stage.model_copy(update={"max_unjudged": 0.1}), models, problems=[held])
    assert again.content == made.content
    other = run(store, stage, models, problems=[held], seed=2)
    assert other.content != made.content


def test_a_lower_cap_is_cut_from_one_run(store: Store, heldout: list[Problem], replay: ReplayEngine) -> None:
    held = seal_problems(store, "held", heldout)
    said: list[str] = []
    stage = evaluate(engine=replay, max_tokens=[64, 9, 11])
    made = run(store, stage, [weights("base")], problems=[held], warn=said.append)
    summary = made.manifest.summary
    assert summary["settings"]["max_tokens"] == 64
    rows = {row["max_tokens"]: row["scores"] for row in summary["sweeps"]["max_tokens"]}
    assert list(rows) == [9, 11, 64]
    assert [rows[cap]["pass@1"]["value"] for cap in rows] == [0.0, pytest.approx(3 / 12), 0.5]
    assert [rows[cap]["truncated"]["value"] for cap in rows] == pytest.approx([1.0, 7 / 12, 1 / 12], abs=1e-6)
    assert [rows[cap]["mean_tokens"]["value"] for cap in rows] == [9.0, 10.75, 11.5]
    for metric in ("pass@1", "pass@2", "cons@2", "truncated", "no_answer", "mean_tokens"):
        assert rows[64][metric] == summary["scores"]["base"][metric]
    # Of the second problem the right one at index 0 and the wrong one at 1 are left: either has a vote, or none has.
    assert rows[11]["cons@2"]["value"] == pytest.approx((5 / 6 + (2 + 0.5) / 6 + 0) / 3, abs=1e-6)
    assert (
        made.manifest.telemetry["tokens"] == 3 * (10 + 11 + 12 + 13) and "cost" not in made.manifest.telemetry
    )
    assert made.manifest.rows_in == 12
    assert len(said) == 1 and "max_tokens 64 cut 8.3%" in said[0]


def test_where_no_tokens_are_counted_no_lower_cap_is_told(
    store: Store, tmp_path: Path, heldout: list[Problem]
) -> None:
    path = tmp_path / "uncounted.jsonl"
    rows = [
        {"problem_id": each.id, "index": index, "completion": RIGHT.format(each.reference)}
        for each in heldout
        for index in range(4)
    ]
    path.write_text("".join(json.dumps(row | {"finish_reason": "stop"}) + "\n" for row in rows), "utf-8")
    said: list[str] = []
    stage = evaluate(engine=ReplayEngine(file=str(path)), max_tokens=[64, 9])
    problems = [seal_problems(store, "held", heldout)]
    summary = run(store, stage, [weights("base")], problems=problems, warn=said.append).manifest.summary
    assert said == ["base: its engine counts no tokens, so no lower max_tokens can be told"]
    assert summary["sweeps"]["max_tokens"] == []
    assert (summary["cost"][0]["tokens"], summary["cost"][0]["operations"]) == (None, None)
    assert summary["scores"]["base"]["pass@1"]["value"] == 1.0


def test_what_is_cut_is_what_a_run_at_that_cap_gives(store: Store) -> None:
    held = seal_problems(store, "held", generate(8, 1, "heldout", terms=(3, 8)))
    options: dict[str, Any] = {"models": ["toy:base"], "engine": TransformersEngine()}
    swept = run(store, evaluate(**options, max_tokens=[8, 64]), [weights("toy:base")], problems=[held])
    apart = run(store, evaluate(**options, max_tokens=8), [weights("toy:base")], problems=[held])
    low, high = (row["scores"] for row in swept.manifest.summary["sweeps"]["max_tokens"])
    told = apart.manifest.summary["scores"]["toy:base"]
    assert low["truncated"]["value"] > 0 and low["mean_tokens"]["value"] < high["mean_tokens"]["value"]
    assert low == {name: told[name] for name in low}


def test_temperatures_are_swept_and_models_compared_at_the_first(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    held = seal_problems(store, "held", heldout)
    stage = evaluate(engine=replay, temperature=[0.6, 0, 1.5])
    told: list[tuple[int, int]] = []
    made = run(
        store,
        stage,
        [weights("base")],
        problems=[held],
        progress=lambda done, total, **facts: told.append((done, total)),
    )
    summary = made.manifest.summary
    assert summary["settings"]["temperature"] == 0.6
    rows = {row["temperature"]: row for row in summary["sweeps"]["temperature"]}
    assert {at: row["n"] for at, row in rows.items()} == {0: 1, 0.6: 4, 1.5: 4}
    assert rows[0.6]["scores"]["pass@1"] == summary["scores"]["base"]["pass@1"]
    assert rows[0]["scores"]["pass@1"]["samples"] == 3 and "cons@2" not in rows[0]["scores"]
    assert rows[1.5]["scores"]["cons@2"] == summary["scores"]["base"]["cons@2"]
    assert made.manifest.rows_in == 12 + 3 + 12 and told[-1] == (27, 27)
    assert made.count("completions") == 12 and made.count("swept_completions") == 15
    assert {row["temperature"] for row in made.rows("swept_verdicts")} == {0, 1.5}
    assert run(store, evaluate(engine=replay), [weights("base")], problems=[held]).manifest.summary[
        "sweeps"
    ] == {
        "temperature": [],
        "max_tokens": [],
    }


def test_the_vote_and_complexity_of_each_problem(
    store: Store, heldout: list[Problem], replay: ReplayEngine
) -> None:
    held = seal_problems(store, "held", heldout)
    stage = evaluate(engine=replay, complexity={"field": "extra.terms", "trained": [3, 5]})
    made = run(store, stage, [weights("base")], problems=[held])
    table = {row["problem_id"]: row for row in made.rows("problems")}
    votes = [
        (table[each.id]["vote_right"], table[each.id]["vote_wrong"], table[each.id]["answers"])
        for each in heldout
    ]
    assert votes == [(1.0, 0.0, 1), (0.5, 0.25, 2), (0.0, 0.75, 1)]
    summary = made.manifest.summary
    assert summary["votes"] == [
        {"model": "base", "benchmark": "held", "problems": 3}
        | {"right": 2, "wrong": 1, "tied": 0, "silent": 0, "answers": pytest.approx(4 / 3, abs=1e-6)}
    ]
    [curve] = summary["curves"]
    assert curve["k"] == [1, 2] and curve["pass"][0] == summary["scores"]["base"]["pass@1"]
    assert curve["cons"][1] == summary["scores"]["base"]["cons@2"]
    complexity = summary["complexity"]
    assert (complexity["field"], complexity["trained"]) == ("extra.terms", [3.0, 5.0])
    by_terms = {row["at"]: row["problems"] for row in complexity["rows"]}
    assert by_terms == dict.fromkeys(sorted(each.extra["terms"] for each in heldout), 1)
    said: list[str] = []
    other = evaluate(engine=replay, complexity="extra.level")
    made = run(store, other, [weights("base")], problems=[held], warn=said.append)
    assert made.manifest.summary["complexity"]["rows"] == []
    assert "complexity: no problem carries a number extra.level" in said


def test_another_verifier_rescores_what_the_store_has(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = seal_problems(store, "held", generate(4, 1, "heldout", terms=(3, 3)))
    stage = evaluate(models=["toy:base"], engine=TransformersEngine())
    first = run(store, stage, [weights("toy:base")], problems=[held])
    assert [row["sampled"] for row in first.manifest.telemetry["throughput"]] == [16]

    def opened(*_: object) -> None:
        raise AssertionError("it samples")

    monkeypatch.setattr(TransformersEngine, "open", opened)
    own = evaluate(
        models=["toy:base"],
        engine=TransformersEngine(),
        problems=None,
        benchmarks={"held": {"n": 4, "verifier": NEVER}},
    )
    again = run(store, own, [weights("toy:base")], benchmarks=[held])
    assert again.manifest.telemetry["throughput"] == []
    texts = [
        sorted((row["id"], row["completion"]) for row in each.rows("completions")) for each in (first, again)
    ]
    assert texts[0] == texts[1]
    assert first.manifest.summary["scores"]["toy:base"]["pass@1"]["value"] > 0
    assert again.manifest.summary["scores"]["toy:base"]["pass@1"]["value"] == 0
    assert again.manifest.summary["settings"]["benchmarks"]["held"]["verifier"] == "exact"


NEVER = {"kind": "exact", "marker": "nobody writes this:"}


def test_what_all_solve_and_what_none_solves(store: Store, tmp_path: Path, heldout: list[Problem]) -> None:
    path = tmp_path / "same.jsonl"
    for text, value in ((RIGHT, 1.0), (WRONG, 0.0)):
        rows = [
            {"problem_id": each.id, "completion": text.format(each.reference), "finish_reason": "stop"}
            for each in heldout
            for _ in range(4)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        held = seal_problems(store, f"held{value}", heldout)
        stage = evaluate(engine=ReplayEngine(file=str(path)), models=["base", "other"], max_tokens=[8, 64])
        models = [weights("base"), weights("other", Path("other"))]
        summary = run(store, stage, models, problems=[held]).manifest.summary
        score = summary["scores"]["base"]["pass@1"]
        assert (score["value"], score["error"], score["n"]) == (value, 0.0, 3)
        assert score["low"] <= value <= score["high"] and score["low"] < score["high"]
        [difference] = summary["differences"]
        assert (difference["value"], difference["model"], difference["base"]) == (0.0, "other", "base")
        assert [row["band"] for row in summary["bands"]] == ["sure" if value else "never"] * 2
        assert summary["best"]["clear"] is False
        assert summary["gamma"][0]["value"] is None  # there is no gap
        assert summary["sweeps"]["max_tokens"] == []  # nobody counted tokens
        json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": None}, "max_tokens: give it; the nearest held-out problems has none of its own"),
        ({"max_tokens": None, "benchmarks": {"mine": 4}}, "max_tokens: give it; mine has none of its own"),
        (
            {"max_tokens": None, "benchmarks": ["gsm8"]},
            "only built-in benchmarks have; did you mean gsm8k",
        ),
        ({"max_tokens": [8, 8]}, "max_tokens: [8, 8]: a value is there twice"),
        ({"temperature": []}, "at least 1 item"),
        ({"temperature": [0.5, -1]}, "greater than or equal to 0"),
        ({"complexity": "terms"}, "extra"),
        ({"benchmarks": {"aime24": {"samples": 3}}}, "Extra inputs"),
        ({"models": ["a", "a"]}, "models: a is there twice"),
        ({"models": []}, "at least 1 item"),
        ({"models": ["a", "b"], "base": "c"}, "base: c is none of the models (a, b)"),
        ({"models": ["a", "b"], "trained": "c"}, "trained: c is none of the models"),
        ({"models": ["a", "b"], "trained": "a"}, "trained: a is the base"),
        ({"k": [8]}, "k: 8 needs 8 samples per problem, n is 4; raise n or lower k"),
        ({"k": [1]}, "greater than or equal to 2"),
        ({"benchmarks": {"a": 0}}, "greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        evaluate(**fields)
    assert message in str(error.value)


def test_k_may_be_above_n_where_a_benchmark_has_the_samples() -> None:
    assert evaluate(k=[8], benchmarks={"big": 8}).k == [8]


def test_a_built_in_benchmark_brings_its_own_settings() -> None:
    stage = Evaluate(name="scores", models=["base"], benchmarks=["aime24", "gsm8k"])
    assert [stage.samples(name) for name in ("aime24", "gsm8k")] == [64, 1]
    assert stage.parameters.max_tokens == 32768 and stage.temperatures("aime24") == [0.6]
    own = Evaluate(name="s", models=["base"], temperature=1.0, max_tokens=99, benchmarks={"aime24": {"n": 8}})
    assert (own.samples("aime24"), own.temperatures("aime24"), own.parameters.max_tokens) == (8, [1.0], 99)
    pinned = own.pinned(lambda kind, name: "c" * 40)
    assert pinned.use("aime24").declared is not None
    assert Evaluate.model_validate(pinned.model_dump(mode="json")) == pinned
    assert pinned.pinned(lambda kind, name: "c" * 40) == pinned
    assert identity(pinned) != identity(
        own.model_copy(update={"temperature": 0.9}).pinned(lambda kind, name: "")
    )
