"""Budget curves: the arithmetic on points, and the stage on the toy base."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest, Model, weights_content
from distillkit.engines.endpoint import EndpointEngine
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import RecipeError, StageError
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.budget_curve import Answered, BudgetCurve
from distillkit.stages.forcing import Forcing
from distillkit.stages.frontier import front, knee
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Trace, problem_schema, to_row
from distillkit.verifiers import Exact

BUDGETS = [0, 8, 64]


def declared(**fields: Any) -> BudgetCurve:
    known = {
        "models": ["toy:base"],
        "budgets": BUDGETS,
        "max_tokens": 64,
        "n": 4,
        "engine": TransformersEngine(),
        "force": Forcing(answer="<answer>", max_tokens=4),
    }
    return BudgetCurve(name="curve", **known | fields)


def run(
    folder: Path, stage: BudgetCurve, count: int = 24, told: list[dict[str, Any]] | None = None
) -> Artifact:
    """The stage on held-out chains, in a store of this folder."""
    store = Store(folder)
    facts = [] if told is None else told
    with store.building("problems", digest(["problems", count]), print) as out:
        rows = [to_row(problem) for problem in generate(count, 1, "heldout")]
        write_shards(Job(store, out, {}, shards=2), rows, problem_schema())
        sealed = store.seal(out, Manifest("held", "problems", "problems", digest(["problems", count]), ""))
    inputs = {
        "problems": [Input("held", "problems", sealed.content, artifact=sealed.path.name)],
        "models": [Input("toy:base", "weights", weights_content(BASE), path=str(BASE))],
    }
    request = digest([stage.model_dump(mode="json"), len(list(store.artifacts.iterdir()))])
    with store.building("budget_curve", request, print) as out:
        job = Job(store, out, inputs, 1, 2, {"chain": Exact()})
        job.progress = lambda done, total, **more: facts.append(more)
        stage.run(job)
        return store.seal(out, Manifest("curve", "budget_curve", "scores", request, ""))


def rows(made: Artifact, table: str) -> list[dict[str, Any]]:
    return [row for shard in range(made.shards(table)) for row in made.stream(shard, table)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(tmp_path_factory.mktemp("curve") / "store", declared())


def test_a_budget_that_cuts_nothing_is_the_model_as_it_is(made: Artifact) -> None:
    curve = made.manifest.summary["curves"]["toy:base"]
    assert [point["budget"] for point in curve["points"]] == BUDGETS
    last = curve["points"][-1]
    for key in ("accuracy", "mean_tokens", "cost", "forced"):
        assert last[key] == curve["uncut"][key]
    assert last["forced"] == 0
    assert curve["uncut"]["accuracy"]["samples"] == 24 * 4


def test_what_thinks_longer_than_the_budget_is_cut_and_answers(made: Artifact) -> None:
    completions = {row["id"]: row for row in rows(made, "completions")}
    points = rows(made, "points")
    cut = [point for point in points if point["forced"]]
    assert {point["budget"] for point in cut} == {0, 8}
    for point in cut:
        trace = completions[point["trace_id"]]
        parent = completions[trace["parent_id"]]
        head, _, answer = trace["completion"].partition("\n</think>\n\n<answer>")
        assert parent["completion"].startswith(head)
        assert len(head.removeprefix("<think>").split()) == point["budget"] < len(parent["reasoning"].split())
        assert len(answer.split()) <= 4
        assert point["tokens"] == point["budget"] + trace["completion_tokens"]
    bare = [point for point in points if point["budget"] == 0 and not point["forced"]]
    assert bare
    assert not any(completions[point["trace_id"]]["reasoning"] for point in bare)


def test_tokens_and_cost_rise_with_the_budget(made: Artifact) -> None:
    curve = made.manifest.summary["curves"]["toy:base"]
    tokens = [point["mean_tokens"] for point in curve["points"]]
    assert tokens == sorted(tokens)
    assert curve["active_parameters"] == 335_616
    for point in curve["points"]:
        assert point["cost"] == pytest.approx(2 * 335_616 * point["mean_tokens"], rel=1e-3)


def test_a_second_run_samples_nothing_and_gives_the_same(made: Artifact) -> None:
    told: list[dict[str, Any]] = []
    again = run(made.path.parent.parent, declared(), told=told)
    assert again.content == made.content
    assert told
    assert all(facts["tokens"] == 0 for facts in told)


def test_a_further_budget_samples_its_own_cuts_only(made: Artifact) -> None:
    told: list[dict[str, Any]] = []
    more = run(made.path.parent.parent, declared(budgets=[0, 8, 16, 64]), told=told)
    assert sum(row["forced"] for row in rows(more, "points") if row["budget"] == 16) > 0
    before = made.manifest.summary["curves"]["toy:base"]["points"]
    after = more.manifest.summary["curves"]["toy:base"]["points"]
    assert [{**point, "front": None} for point in after if point["budget"] != 16] == [
        {**point, "front": None} for point in before
    ]


def point(budget: int, accuracy: float | None, cost: float | None = 1) -> dict[str, Any]:
    return {"budget": budget, "accuracy": {"value": accuracy}, "cost": cost}


@pytest.mark.parametrize(
    ("accuracies", "budget"),
    [
        ({1: 0.0, 2: 0.0, 4: 0.5, 8: 0.9, 16: 0.91, 32: 0.92}, 8),
        ({1: 0.0, 2: 0.0, 4: 0.5, 8: 0.9}, None),
        ({0: 0.1, 4: 0.5, 8: 0.5, 16: 0.4}, 4),
        ({4: 0.5}, None),
        ({4: 0.50, 16: 0.53}, 4),
        ({4: 0.50, 16: 0.55}, None),
        ({4: None, 8: 0.5, 16: 0.5}, 8),
        ({}, None),
    ],
)
def test_the_knee_is_where_doubling_stops_to_pay(
    accuracies: dict[int, float | None], budget: int | None
) -> None:
    found = knee([point(*each) for each in accuracies.items()], 0.02)
    assert (None if found is None else found["budget"]) == budget


def test_a_curve_on_which_nothing_is_right_has_no_knee() -> None:
    assert knee([{"budget": b, "accuracy": {"value": 0.0}} for b in (8, 16, 32)], 0.02) is None


def test_what_was_not_counted_has_no_length_and_no_cost() -> None:
    def one(index: int, tokens: int | None, reason: str = "stop") -> Answered:
        trace = Trace(
            "p", [], "7", "", "7", "7", "chain", finish_reason=reason, index=index, id=f"p/o/{index}"
        )
        return Answered(8, trace, tokens, False)

    model = Model("toy:base", str(BASE), "")
    stage = declared(budgets=[8])
    told = {}
    for name, answered in {
        "none": [one(0, None)],
        "some": [one(0, 6), one(1, None, "error")],
    }.items():
        judged = {each.id: each for each in stage.judge([a.trace for a in answered], {"chain": Exact()})}
        [told[name]] = stage._curve(model, answered, judged)["points"]
    assert (told["none"]["mean_tokens"], told["none"]["cost"]) == (None, None)
    assert (told["some"]["mean_tokens"], told["some"]["cost"]) == (6.0, 2 * 335_616 * 6)


def test_the_front_holds_what_no_other_point_beats() -> None:
    curves = {
        "small": {"points": [point(0, 0.2, 10), point(8, 0.5, 20), point(16, 0.5, 30)]},
        "large": {"points": [point(0, 0.4, 20), point(8, 0.9, 90), point(16, 0.8, 180)]},
        "unknown": {"points": [point(0, 1.0, None)]},
    }
    found = [(each["model"], each["budget"]) for each in front(curves)]
    assert found == [("small", 0), ("small", 8), ("large", 8)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"budgets": [8, 4]}, "the smallest first"),
        ({"budgets": [4, 4]}, "write each once"),
        ({"budgets": [4, 128]}, "128 is more than max_tokens"),
        ({"budgets": []}, "at least 1 item"),
        ({"budgets": [-1]}, "greater than or equal to 0"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        declared(**fields)


def test_engines_that_cannot_go_on_are_refused(tmp_path: Path) -> None:
    chat = EndpointEngine(base_urls=["http://127.0.0.1:9/v1"], served_model="x")
    with pytest.raises(RecipeError, match="takes messages"):
        declared(engine=chat).check(tmp_path)
    with pytest.raises(RecipeError, match="replay: recorded completions cannot go on"):
        declared(engine=ReplayEngine(file="x.jsonl")).check(tmp_path)


def test_without_problems_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no rows left"):
        run(tmp_path / "store", declared(), count=0)


def of_aime(**fields: Any) -> BudgetCurve:
    known = {"models": ["toy:base"], "budgets": [1024], "benchmarks": ["aime24"]}
    return BudgetCurve(name="curve", **known | fields)


def test_a_built_in_benchmark_brings_its_own_settings_but_not_its_samples() -> None:
    stage = of_aime()
    found = stage.parameters
    assert (found.max_tokens, found.temperature, found.top_p) == (32768, 0.6, 0.95)
    assert (stage.samples("aime24"), of_aime(benchmarks={"aime24": 8}).samples("aime24")) == (4, 8)
    own = of_aime(temperature=1.0, top_p=1.0, max_tokens=4096, benchmarks={"aime24": {"max_tokens": 2048}})
    assert (own.parameters.max_tokens, own.parameters.temperature, own.parameters.top_p) == (2048, 1.0, 1.0)
    plain = declared()
    assert (plain.parameters.temperature, plain.parameters.top_p, plain.cap) == (1.0, 1.0, 64)


def test_what_a_benchmark_is_asked_and_judged_by_is_part_of_what_the_stage_is() -> None:
    pinned = of_aime().pinned(lambda kind, name: "c" * 40)
    use = pinned.use("aime24")
    assert use.declared is not None and use.declared.verifier.kind == "math"
    assert BudgetCurve.model_validate(pinned.model_dump(mode="json")) == pinned
    assert pinned.pinned(lambda kind, name: "c" * 40) == pinned
    changed = use.declared.model_copy(update={"instruction": "Guess."})
    other = pinned.model_copy(update={"benchmarks": {"aime24": use.model_copy(update={"declared": changed})}})
    assert identity(other) != identity(pinned)
    # A stage of problems is known by its content: its name changes nothing.
    assert identity(declared(problems="one")) == identity(declared(problems="two"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"budgets": [40_000]}, "40000 is more than max_tokens \\(32768\\)"),
        (
            {"problems": "held", "max_tokens": 2048},
            "one set of problems makes one curve, here are aime24, held",
        ),
        ({"benchmarks": []}, "max_tokens: give it; the nearest held-out problems has none"),
        ({"models": ["a", "a"]}, "a is there twice"),
    ],
)
def test_sets_that_make_no_sense_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        of_aime(**fields)
