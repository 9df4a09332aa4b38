"""Screen: the numbers on judged groups, the stage on recorded completions."""

import json
import shutil
from math import comb
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest, Model, weights_content
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import StageError
from distillkit.scoring import Group, Judged
from distillkit.spec import identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.outlook import RlRun, cost_of, machine_of, run_of, size_of
from distillkit.stages.screen import KEPT_PER_PROMPT, Screen
from distillkit.stages.trial import Trial
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Problem, problem_schema, to_row
from distillkit.verifiers import Exact

VERIFIERS = {"chain": Exact()}


def screen(**fields: Any) -> Screen:
    return Screen(
        name="screening", model="toy:base", **{"max_tokens": 64, "engine": TransformersEngine(), **fields}
    )


def group(problem: str, right: int, of: int, unjudged: int = 0, **fields: Any) -> Group:
    """Judged completions of one prompt, so many right ones first."""

    def one(index: int, score: float | None, reason: str) -> Judged:
        known = {
            "finish_reason": "stop",
            "tokens": 9,
            "mixed": False,
            "language_share": 1.0,
            "reflections": 0,
        }
        return Judged(
            id=f"{problem}/o/{index}",
            problem_id=problem,
            domain="chain",
            score=score,
            answer="7",
            **{"reason": reason, **known, **fields},
        )

    judged = [one(i, *((1.0, "correct") if i < right else (0.0, "wrong"))) for i in range(of)]
    return judged + [one(of + i, None, "grader_timeout") for i in range(unjudged)]


def summary_of(stage: Screen, groups: list[Group]) -> dict[str, Any]:
    return stage.summarise(groups, [stage.row(each) for each in groups], VERIFIERS)


def example() -> list[Group]:
    """The worked example: 92, 18, 3 and 0 right of 128."""
    return [group(problem, right, 128) for problem, right in zip("abcd", (92, 18, 3, 0), strict=True)]


def test_the_worked_example() -> None:
    found = summary_of(screen(), example())
    assert found["scores"]["pass@1"]["value"] == pytest.approx(0.2207, abs=5e-5)
    assert found["scores"]["pass@64"]["value"] == pytest.approx(0.7195, abs=5e-5)
    assert found["scores"]["gap"]["value"] == pytest.approx(0.4988, abs=5e-5)
    predicted = {each["gamma"]: each["value"] for each in found["predicted"]}
    assert predicted[0.7] == pytest.approx(0.5699, abs=1e-4)
    assert list(predicted) == [0.6, 0.7, 0.9]
    assert found["bands"] == {"never": 1, "rare": 1, "hard": 1, "even": 1, "sure": 0}
    assert found["go"] is True
    curve = [found["scores"][f"pass@{k}"]["value"] for k in (1, 2, 4, 8, 16, 32, 64)]
    assert curve == sorted(curve)
    assert found["scores"]["gap"]["n"] == 4
    assert found["scores"]["gap"]["samples"] == 512


def test_the_plug_in_stands_beside_it_and_says_why_it_differs() -> None:
    found = summary_of(screen(), example())["plug_in"]
    assert found["pass_at_k"] == pytest.approx(0.6952, abs=5e-5)
    assert found["gap"] == pytest.approx(0.4745, abs=5e-5)
    assert {each["gamma"]: each["value"] for each in found["predicted"]}[0.7] == pytest.approx(
        0.5528, abs=5e-5
    )
    assert "C(n-c, 64) / C(n, 64)" in found["why"]
    assert summary_of(screen(), example())["within_reach"] == 3


def test_every_prompt_has_its_fate() -> None:
    stage = screen(gammas=[0.5, 1.0])
    rows = [stage.row(each) for each in example()]
    assert [row["band"] for row in rows] == ["even", "hard", "rare", "never"]
    rare = rows[2]
    assert (rare["id"], rare["n"], rare["correct"], rare["pass_rate"]) == ("c", 128, 3, 3 / 128)
    assert rare["fate"] == [
        pytest.approx((rare["pass_rate"] + rare["pass_at_k"]) / 2),
        pytest.approx(rare["pass_at_k"]),
    ]
    assert rows[3]["fate"] == [0.0, 0.0]
    assert rows[3]["signal"] == [0.0, 0.0]
    eight, sixteen = rows[0]["signal"]
    assert eight == pytest.approx(1 - (92 / 128) ** 8 - (36 / 128) ** 8)
    assert sixteen > eight


def test_signal_is_the_mean_over_prompts() -> None:
    found = summary_of(screen(n=4, k=2), [group("a", 2, 4), group("b", 4, 4)])
    assert found["signal"]["8"] == pytest.approx((1 - 2 * 0.5**8) / 2)


def test_a_small_gap_is_a_no_go_with_reasons() -> None:
    solved = [group(f"p{i}", 128, 128) for i in range(19)] + [group("q", 0, 128)]
    found = summary_of(screen(), solved)
    assert found["go"] is False
    first, *others = found["reasons"]
    assert first == "the gap pass@64 - pass@1 is 0.000 [0.000, 0.168], less than min_gap 0.1"
    assert "19 of 20 prompts are solved nearly always: nothing to gain there" in others
    assert "1 of 20 prompts were never solved: nothing to reward there" in others


def test_reasons_name_a_broken_template_and_a_low_cap() -> None:
    silent = [
        group("a", 0, 4, finish_reason="length", reason="truncated"),
        group("b", 0, 4, reason="no_answer"),
    ]
    reasons = summary_of(screen(n=4, k=2), silent)["reasons"]
    assert "50% of the completions give no answer: try another template" in reasons
    assert "50% of the completions are cut by max_tokens: raise it" in reasons


def test_prompts_with_too_few_judged_samples_tell_nothing() -> None:
    stage = screen(n=4, k=2)
    groups = [group("a", 1, 4), group("b", 1, 1, unjudged=3), group("c", 0, 0, unjudged=4)]
    rows = [stage.row(each) for each in groups]
    assert [row.get("band") for row in rows] == ["hard", None, None]
    assert rows[2] == {"id": "c", "n": 0, "correct": 0, "pass_rate": None}
    found = summary_of(stage, groups)
    assert found["scores"]["gap"]["n"] == 1
    assert sum(found["bands"].values()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 64}, "n: 64 is too few for pass@64: raise it to 128, or lower k, or allow_small_n: true"),
        ({"n": 63, "allow_small_n": True}, "n: 63 is too few for pass@64: raise it to 64, or lower k"),
        ({"n": 127, "k": 64}, "raise it to 128"),
        ({"k": 1}, "greater than or equal to 2"),
        ({"gammas": [1.1]}, "less than or equal to 1"),
    ],
)
def test_what_cannot_be_told_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        screen(**fields)
    assert message in str(error.value)


def test_small_n_is_allowed_when_asked_for_and_said() -> None:
    stage = screen(n=64, allow_small_n=True)
    found = summary_of(stage, [group("a", 32, 64)])
    assert "n 64 is below 2 x k: pass@64 of a prompt is little more than a coin" in found["reasons"]


def test_a_smoke_run_takes_fewer_prompts() -> None:
    assert screen(limit=100).limited(5).limit == 5
    assert screen(limit=3).limited(5).limit == 3


def run(
    root: Path, problems: list[Problem], right: list[int], warnings: list[str], **fields: Any
) -> tuple[Screen, Artifact]:
    """Screen on recorded completions: so many of n right, problem by problem; each is 5 tokens long."""
    store = Store(root / "store")
    with store.building("problems", "p" * 16, print) as out:
        rows = [to_row(problem) for problem in problems]
        write_shards(Job(store, out, {}, shards=2), rows, problem_schema())
        sealed = store.seal(out, Manifest("problems", "problems", "problems", "p" * 16, ""))
    stage = screen(**fields)
    path = root / "recorded.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "problem_id": problem.id,
                    "completion": f"<answer> {problem.reference if index < count else 'x'} </answer>",
                    "finish_reason": "stop",
                    "completion_tokens": 5,
                }
            )
            + "\n"
            for problem, count in zip(problems, right, strict=True)
            for index in range(stage.n)
        ),
        "utf-8",
    )
    stage = stage.model_copy(update={"engine": ReplayEngine(file=str(path))})
    model = Input("toy:base", "weights", "content", path="nowhere")
    inputs = {"model": [model], "input": [Input("problems", "problems", sealed.content, sealed.path.name)]}
    with store.building("screen", "s" * 16, print) as out:
        stage.run(Job(store, out, inputs, 1, 2, VERIFIERS, warn=warnings.append))
        return stage, store.seal(out, Manifest("screening", "screen", "scores", "s" * 16, ""))


def test_a_base_is_screened(tmp_path: Path) -> None:
    warnings: list[str] = []
    problems = sorted(generate(3, 1, "train"), key=lambda problem: problem.id)
    stage, made = run(tmp_path, problems, [32, 8, 0], warnings, n=32, k=16)
    assert warnings == []
    rows = list(made.rows("problems"))
    table = {row["id"]: row for row in rows}
    assert [table[problem.id]["correct"] for problem in problems] == [32, 8, 0]
    assert [table[problem.id]["band"] for problem in problems] == ["sure", "hard", "never"]
    assert table[problems[1].id]["pass_at_k"] == pytest.approx(1 - comb(24, 16) / comb(32, 16))
    assert made.manifest.summary["scores"]["pass@1"]["value"] == pytest.approx(1.25 / 3, abs=1e-6)
    assert made.manifest.summary["scores"]["mean_tokens"]["value"] == 5.0
    assert made.manifest.summary["settings"]["n"] == 32
    assert made.count("verdicts") == made.manifest.rows_in == made.manifest.rows_kept == 96
    assert made.count("completions") == 3 * KEPT_PER_PROMPT
    stage.accept(made.manifest)


RECIPE = """\
budget: {gpu: a100, gpus: 2, money_per_gpu_hour: 2.0}
stages:
- {name: other, kind: grpo, screened: elsewhere, steps: 5, max_completion_length: 64}
- {name: zero, kind: grpo, screened: screening, steps: 100, num_generations: 16, max_completion_length: 4096}
"""


def test_the_cost_of_the_run_that_reads_the_screening() -> None:
    found = run_of(RECIPE, "screening")
    assert found is not None
    name, declared = found
    assert (name, declared.completions, declared.beta) == ("zero", 100 * 16 * 16, 0.0)
    dense = size_of(Model("m", "org/Model-30B", ""))
    sparse = size_of(Model("m", "org/Model-30B-A3B", ""))
    assert dense is not None and sparse is not None
    machine = machine_of(RECIPE)
    cost = cost_of(name, declared, dense, machine, 1000.0)
    assert (cost["from"], cost["gpu"], cost["gpus"], cost["parameters"]) == (
        "zero",
        "a100",
        2,
        30_000_000_000,
    )
    assert cost["rollouts"]["tokens"] == 100 * 16 * 16 * 1000
    assert cost["gpu_hours"] == pytest.approx(cost["rollouts"]["gpu_hours"] + cost["learning"]["gpu_hours"])
    assert cost["money"] == pytest.approx(2.0 * cost["gpu_hours"])
    mixture = cost_of(name, declared, sparse, machine, 1000.0)
    assert mixture["active"] == 3_000_000_000 and mixture["parameters"] == cost["parameters"]
    assert mixture["learning"]["gpu_hours"] == pytest.approx(cost["learning"]["gpu_hours"] / 10)
    assert cost_of(name, declared, dense, machine, 9000.0)["mean_tokens"] == 4096
    assert run_of(RECIPE, "none") is None and run_of("", "none") is None
    assert machine_of("").gpu == "h100"


def test_rollouts_dominate_where_answers_are_long() -> None:
    size = size_of(Model("m", "Qwen/Qwen2.5-7B", ""))
    declared = RlRun(steps=100, prompts_per_step=32, num_generations=16, max_completion_length=32768)
    assert size is not None
    assert cost_of("rl", declared, size, machine_of(""), 10_000)["rollouts"]["share"] > 0.5


def test_templates_and_bases_are_tried_on_the_same_prompts(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    problems = generate(6, 1, "train", terms=(3, 3))
    with store.building("problems", "p" * 16, print) as out:
        write_shards(Job(store, out, {}, shards=2), [to_row(each) for each in problems], problem_schema())
        sealed = store.seal(out, Manifest("problems", "problems", "problems", "p" * 16, ""))
    stage = screen(
        n=4, k=2, templates=["none", "r1"], models=["twin"], trial_n=2, trial_limit=3, max_tokens=24,
        rl={"steps": 10, "max_completion_length": 64},
    )  # fmt: skip
    base, twin = (
        Input(name, "weights", weights_content(BASE), path=str(BASE)) for name in ("toy:base", "twin")
    )
    inputs = {
        "model": [base],
        "models": [twin],
        "input": [Input("problems", "problems", sealed.content, sealed.path.name)],
    }
    said: list[str] = []
    with store.building("screen", "s" * 16, print) as out:
        stage.run(Job(store, out, inputs, 1, 2, VERIFIERS, warn=said.append))
        made = store.seal(out, Manifest("screening", "screen", "scores", "s" * 16, ""))
    cells = made.manifest.summary["matrix"]
    assert [(cell["model"], cell["template"]) for cell in cells] == [
        (model, template) for model in ("toy:base", "twin") for template in ("chat", "none", "r1")
    ]
    own, bare = cells[0], cells[1]
    assert (own["prompts"], own["samples"], own["pass@1"]["n"]) == (3, 6, 3)
    assert cells[3] == own | {"model": "twin"}  # equal weights, from the same completions
    assert own["answered"]["value"] > bare["answered"]["value"]  # a template can break a base
    assert own["formatted"]["value"] > bare["formatted"]["value"]
    rows = list(made.rows("trials"))
    assert {row["template"] for row in rows} == {"chat", "none", "r1"} and len(rows) == 9
    cost = made.manifest.telemetry["rl_cost"]
    assert (cost["from"], cost["steps"], cost["completions"]) == ("rl", 10, 10 * 16 * 8)
    assert "rl_cost" not in json.dumps(made.manifest.summary)  # a price changes no content
    assert identity(stage) == identity(stage.model_copy(update={"rl": None}))


def test_a_template_that_does_not_fit_a_base_is_a_cell_too(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(BASE, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    store = Store(tmp_path / "store")
    stage = screen(max_tokens=8)
    with store.building("screen", "t" * 16, print) as out:
        job = Job(store, out, {}, 1, 2, VERIFIERS)
        trial = Trial(stage, stage, 1, generate(1, 1, "train", terms=(3, 3)))
        cells = trial.cells([Model("plain", str(folder), "plain")], [None, "none"], job)
    assert cells[0]["refused"].startswith("template chat: the model's tokenizer has none")
    assert "pass@1" in cells[1]


def test_a_no_go_warns(tmp_path: Path) -> None:
    warnings: list[str] = []
    problems = generate(2, 1, "train")
    _, made = run(tmp_path, problems, [4, 4], warnings, n=4, k=2)
    assert made.manifest.summary["go"] is False
    [warning] = warnings
    assert warning.startswith("no-go for RL: the gap pass@2 - pass@1 is 0.000 [")


def test_screening_takes_the_first_prompts_by_id(tmp_path: Path) -> None:
    problems = sorted(generate(5, 1, "train"), key=lambda problem: problem.id)
    _, made = run(tmp_path, problems, [2] * 5, [], n=4, k=2, limit=2)
    assert sorted(row["id"] for row in made.rows("problems")) == [problem.id for problem in problems[:2]]


def test_no_prompts_and_no_judgement_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="screening: input: no rows left"):
        run(tmp_path / "none", [], [], [], n=4, k=2)
    bad = [Problem([{"role": "user", "content": "?"}], reference={"tests": 1}, domain="chain")]
    with pytest.raises(StageError, match="screening: prompts with 2 judged samples: no rows left"):
        run(tmp_path / "bad", bad, [0], [], n=4, k=2)
