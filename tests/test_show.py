import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from distillkit.artifact import Artifact, Manifest
from distillkit.errors import MissingError
from distillkit.run_folder import RunFolder, RunRecord
from distillkit.show import (
    describe,
    funnel,
    gamma_text,
    grids,
    markdown,
    render,
    sampling_grid,
    sampling_of,
    score_text,
    scores_of,
)
from distillkit.store import Store

SCHEMA = pa.schema([("id", pa.string())])
SETTINGS = {
    "n": {"heldout": 4},
    "temperature": 1.0,
    "top_p": 0.95,
    "max_tokens": 20480,
    "engine": {"kind": "replay"},
}


def score(value: float, low: float | None = None, high: float | None = None, n: int = 200) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "samples": 4 * n}


def seal(store: Store, stage: str, kind: str, type: str, **parts: Any) -> Artifact:
    """A sealed artifact; parts: rows, rows_in, rejected, summary, inputs."""
    request = f"{stage:0>16}"
    with store.building(kind, request, print) as out:
        rows = parts.get("rows", 0)
        if rows:
            out.write(0, [{"id": str(row)} for row in range(rows)], SCHEMA)
        out.rows_in = parts.get("rows_in", 0)
        out.counts = {"rejected": parts["rejected"]} if "rejected" in parts else {}
        out.summary = parts.get("summary", {})
        draft = Manifest(stage, kind, type, request, "", inputs=parts.get("inputs", {}))
        artifact = store.seal(out, draft)
    artifact.stage = stage
    return artifact


def evaluation(store: Store, stage: str = "scores", pass_at_1: float = 0.5) -> Artifact:
    scores = {
        "toy:base": {
            "pass@1": score(0.1, 0.08, 0.13),
            "pass@2": score(0.2),
            "pass@16": score(0.4),
            "cons@2": score(0.2),
            "mean_tokens": score(9.04, 8.9, 9.2),
        },
        "a_zero": {"pass@1": score(pass_at_1, 0.4, 0.6)},
    }
    gamma = {"model": "a_zero", "base": "toy:base", "benchmark": "heldout", "k": 2, **score(0.9, 0.8, 1.0)}
    summary = {"scores": scores, "gamma": [gamma], "settings": SETTINGS}
    inputs = {"models": [{"name": name, "type": "weights", "content": name} for name in scores]}
    return seal(store, stage, "evaluate", "scores", summary=summary, inputs=inputs)


def screening(store: Store) -> Artifact:
    summary = {
        "k": 64,
        "scores": {"pass@1": score(0.22), "pass@64": score(0.72, 0.1, 1.0), "gap": score(0.5, 0.1, 0.8)},
        "predicted": [{"gamma": 0.7, **score(0.57, 0.2, 0.9)}],
        "bands": {"never": 1, "rare": 1, "hard": 1, "even": 1, "sure": 0},
        "signal": {"8": 0.4, "16": 0.5},
        "min_gap": 0.1,
        "go": True,
        "reasons": ["the gap is wide"],
        "settings": {**SETTINGS, "n": 128},
    }
    inputs = {"model": [{"name": "toy:base", "type": "weights", "content": "c"}]}
    return seal(store, "screening", "screen", "scores", summary=summary, inputs=inputs)


def run_of(store: Store, artifacts: list[Artifact], number: int = 1, path: Path | None = None) -> RunFolder:
    folder = RunFolder(
        path or store.root / "runs" / "quick" / str(number), RunRecord("quick", number, "done")
    )
    folder.path.mkdir(parents=True)
    for artifact in artifacts:
        folder.add(
            artifact.stage, artifact.manifest.kind, artifact, cached=artifact.stage == "kept", seconds=1.25
        )
    folder.save()
    return folder


def curated(store: Store) -> list[Artifact]:
    return [
        seal(store, "problems", "problems", "problems", rows=3),
        seal(store, "kept", "filter", "selection", rows_in=9, rows=2, rejected={"wrong": 1, "mixed|odd": 6}),
        screening(store),
        evaluation(store),
    ]


def printed(described: dict[str, Any]) -> str:
    page = io.StringIO()
    Console(width=140, file=page).print(render(described))
    return page.getvalue()


def test_a_run_as_data(tmp_path: Path) -> None:
    store = Store(tmp_path)
    described = describe(run_of(store, curated(store)).path, tmp_path)
    assert described["run"] == {
        "recipe": "quick",
        "number": 1,
        "status": "done",
        "error": None,
        "missing": [],
    }
    assert described["funnel"] == [
        {"stage": "problems", "kind": "problems", "rows_in": 0, "rows_kept": 3, "rejected": {}},
        {
            "stage": "kept",
            "kind": "filter",
            "rows_in": 9,
            "rows_kept": 2,
            "rejected": {"mixed|odd": 6, "wrong": 1},
        },
    ]
    assert list(described["funnel"][1]["rejected"]) == ["mixed|odd", "wrong"]
    assert described["scores"]["a_zero"] == {"pass@1": score(0.5, 0.4, 0.6)}
    assert described["gamma"][0]["value"] == 0.9
    assert described["screening"][0]["model"] == "toy:base"
    assert described["settings"]["scores"] == SETTINGS
    assert described["timings"][1] == {"stage": "kept", "kind": "filter", "seconds": 1.25, "cached": True}
    assert json.loads(json.dumps(described)) == described


def test_a_run_as_tables(tmp_path: Path) -> None:
    store = Store(tmp_path)
    text = printed(describe(run_of(store, curated(store)).path, tmp_path))
    for line in (
        "quick run 1: done",
        "screening: go for RL",
        "0.570 [0.200, 0.900]",
        "the gap is wide",
        "mixed|odd 6, wrong 1",
        "0.500 [0.400, 0.600]",
        "9.0 [8.9, 9.2]",
        "samples per problem: heldout 4; temperature 1, top_p 0.95, at most 20,480 tokens, engine replay",
        "gamma of a_zero: 0.900 [0.800, 1.000] of the gap pass@2 - pass@1 of toy:base on heldout",
        "from the store",
        "5.0 s in all",
    ):
        assert line in text


def test_order_is_that_of_meaning_not_of_the_alphabet(tmp_path: Path) -> None:
    store = Store(tmp_path)
    described = describe(run_of(store, curated(store)).path, tmp_path)
    assert list(described["scores"]) == ["toy:base", "a_zero"]
    assert list(described["scores"]["toy:base"]) == ["pass@1", "pass@2", "pass@16", "cons@2", "mean_tokens"]
    bands = [row[0] for row in grids(described)[0].rows if row[0].startswith("prompts")]
    assert bands == ["prompts never", "prompts rare", "prompts hard", "prompts even", "prompts sure"]


def test_markdown_tables_are_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    described = describe(run_of(store, curated(store)).path, tmp_path)
    page = markdown(described, pick=lambda grid: grid.title == "funnel")
    assert "| kept | filter | mixed\\|odd 6, wrong 1 | 9 | 2 |" in page
    assert "| --- | --- | --- | ---: | ---: |" in page
    assert "**scores" not in page
    rows = [line for line in markdown(described).splitlines() if line.startswith("| pass@1 ")]
    assert rows == ["| pass@1 | 0.220 |", "| pass@1 | 0.100 [0.080, 0.130] | 0.500 [0.400, 0.600] |"]


def test_brackets_in_a_reason_are_no_markup(tmp_path: Path) -> None:
    store = Store(tmp_path)
    odd = seal(store, "kept", "filter", "selection", rows_in=1, rejected={"[bold]x[/]": 1})
    assert "[bold]x[/] 1" in printed(describe(run_of(store, [odd]).path, tmp_path))


def test_several_evaluations_are_told_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    both = [evaluation(store, "cold", 0.5), evaluation(store, "warm", 0.6)]
    zero = scores_of(both)["a_zero"]
    assert {name: each["value"] for name, each in zero.items()} == {"cold/pass@1": 0.5, "warm/pass@1": 0.6}


def test_sets_of_problems_come_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = {"models": ["zero"], "problems": ["sums", "chat"], "benchmarks": ["aime24"]}
    inputs = {slot: [{"name": n, "type": slot, "content": n} for n in ends] for slot, ends in names.items()}
    metrics = {
        f"{each}/{name}": score(0.5) for each in ("aime24", "chat", "sums") for name in ("gap", "pass@1")
    }
    summary = {"scores": {"zero": metrics}, "settings": SETTINGS}
    made = seal(store, "scores", "evaluate", "scores", summary=summary, inputs=inputs)
    assert list(scores_of([made])["zero"]) == [
        "sums/pass@1", "sums/gap", "chat/pass@1", "chat/gap", "aime24/pass@1", "aime24/gap",
    ]  # fmt: skip


def test_a_run_without_scores_shows_its_funnel(tmp_path: Path) -> None:
    store = Store(tmp_path)
    described = describe(run_of(store, curated(store)[:1]).path, tmp_path)
    assert [grid.title for grid in grids(described)] == ["funnel", "seconds"]
    assert described["scores"] == {}


def test_a_failed_run_says_why_and_shows_what_it_has(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = run_of(store, curated(store)[:1])
    folder.record.status, folder.record.error = "failed", "kept: no rows left"
    folder.record.stages.append(
        {"name": "gone", "kind": "verify", "artifact": "verify-0", "seconds": 2.0, "cached": False}
    )
    folder.save()
    described = describe(folder.path, tmp_path)
    assert described["run"]["missing"] == ["gone"]
    text = printed(described)
    assert "kept: no rows left" in text
    assert "no longer in the store: gone" in text
    assert "problems" in text


def test_seeds_stand_side_by_side(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = run_of(store, [])
    folder.record.seeds = [1, 2]
    folder.save()
    for seed, value in ((1, 0.5), (2, 0.7)):
        run_of(store, [evaluation(store, f"scores{seed}", value)], path=folder.path / "seeds" / str(seed))
    described = describe(folder.path, tmp_path)
    assert described["seeds"]["2"]["scores"]["a_zero"]["pass@1"]["value"] == 0.7
    assert "| a_zero | pass@1 | 0.500 [0.400, 0.600] | 0.700 [0.400, 0.600] | 0.600 |" in markdown(described)


def test_label_stages_stand_in_the_funnel(tmp_path: Path) -> None:
    store = Store(tmp_path)
    judged = seal(store, "judged", "verify", "labels", rows_in=5, rows=5)
    weights = seal(store, "student", "sft", "weights")
    assert [step["stage"] for step in funnel([judged, weights])] == ["judged"]


def test_a_score_in_words() -> None:
    assert score_text("pass@1", score(0.5)) == "0.500"
    assert score_text("mean_tokens", score(1234.56, 1200.0, 1300.0)) == "1,234.6 [1,200.0, 1,300.0]"
    assert score_text("pass@1", None) == ""


def test_gamma_of_no_gap_in_words() -> None:
    gamma = {"model": "zero", "base": "b", "benchmark": "h", "k": 4, "value": None, "n": 3}
    assert (
        gamma_text(gamma) == "gamma of zero: none, the gap pass@4 - pass@1 of b on h cannot be told from zero"
    )


def test_no_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run there"):
        describe(tmp_path, tmp_path)


def test_sampling_that_stops_early_says_what_it_asked_and_what_it_cost(tmp_path: Path) -> None:
    stopped = {"enough": 3, "hopeless": 1}
    summary = {"traces": 9, "completion_tokens": 1200, "asked": 9, "right": 3, "stopped": stopped}
    until = seal(Store(tmp_path), "bought", "sample", "traces", rows=9, summary=summary)
    plain = seal(
        Store(tmp_path), "own", "sample", "traces", rows=2, summary={"traces": 2, "completion_tokens": 7}
    )
    [told, other] = sampling_of([until, plain])
    assert (told["asked"], told["right"], told["stopped"], told["cost"]) == (9, 3, stopped, None)
    assert (other["asked"], other["traces"]) == (None, 2)
    told["cost"] = 0.0123
    grid = sampling_grid([told, other])
    assert grid.rows == [["bought", "9", "33%", "3", "1", "0", "1,200", "0.012"]]
