"""What is taken from the store and what is made anew; what a stray error leaves; what differs from run to run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from inprocess import curation, distillkit
from runs import contents

from distillkit.errors import EngineError, MissingError, RecipeError, StageError
from distillkit.runner import boundary, external_model, placed, redacted
from distillkit.store import Store

FILTER = "      - {field: score, min: 1.0, reason: wrong}"


def run(recipe: Path, store: Path, *arguments: str) -> dict[str, bool]:
    """Stage -> whether the run took it from the store."""
    answer = distillkit("run", recipe, "--store", store, *arguments)
    assert answer.code == 0, answer.err
    described = json.loads(distillkit("show", "--store", store, "--json").out)
    return {stage["stage"]: stage["cached"] for stage in described["timings"]}


def made(cached: dict[str, bool]) -> list[str]:
    return [stage for stage, taken in cached.items() if not taken]


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A folder in which the recipe ran once."""
    run(curation(tmp_path), tmp_path / "store")
    return tmp_path


def test_a_second_run_makes_nothing_and_starts_no_process(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillkit.launch.start", lambda *_: pytest.fail("a child was prepared for nothing"))
    assert made(run(ran / "curation.yaml", ran / "store")) == []


def test_a_moved_threshold_that_keeps_the_same_rows_rebuilds_nothing_after_it(ran: Path) -> None:
    recipe = curation(ran, (FILTER, FILTER.replace("1.0", "0.9")))
    assert made(run(recipe, ran / "store")) == ["kept"]


def test_a_threshold_that_keeps_other_rows_rebuilds_what_reads_them(ran: Path) -> None:
    recipe = curation(ran, (FILTER, FILTER.replace("1.0", "0.0")))
    assert made(run(recipe, ran / "store")) == ["kept", "chosen", "dataset"]


def test_a_renamed_stage_repeats_no_work(ran: Path) -> None:
    renamed = {
        "problems": "asked",
        "traces": "sampled",
        "judged": "graded",
        "measured": "told",
        "kept": "filtered",
    }
    recipe = curation(ran, *((f"name: {old}", f"name: {new}") for old, new in renamed.items()))
    assert made(run(recipe, ran / "store")) == ["dataset"]  # which writes down who labelled what
    del renamed["judged"], renamed["measured"]
    recipe = curation(ran, *((f"name: {old}", f"name: {new}") for old, new in renamed.items()))
    assert made(run(recipe, ran / "store")) == []


def test_a_rule_that_calls_a_stage_by_its_name_follows_it(ran: Path) -> None:
    recipe = curation(ran, ("field: score", "field: judged.score"))
    assert made(run(recipe, ran / "store")) == ["kept"]
    recipe = curation(ran, ("field: score", "field: graded.score"), ("name: judged", "name: graded"))
    assert made(run(recipe, ran / "store")) == ["kept", "dataset"]


WORKERS = ("seed: 3", "seed: 3\nexecution: {workers: 2}")


def test_more_workers_repeat_no_work(ran: Path) -> None:
    assert made(run(curation(ran, WORKERS), ran / "store")) == []


@pytest.mark.slow
def test_more_workers_make_the_same(ran: Path) -> None:
    run(ran / "curation.yaml", ran / "store", "--until", "chosen")
    assert len(made(run(curation(ran, WORKERS), ran / "other", "--until", "chosen"))) == 7
    assert contents(ran / "other") == contents(ran / "store")


def test_other_shards_are_other_work_with_the_same_content(ran: Path) -> None:
    before = contents(ran / "store")
    rebuilt = made(run(curation(ran, ("shards: 2", "shards: 3")), ran / "store"))
    assert rebuilt == [name for name in before if name != "dataset"]  # what is published knows no shards
    assert contents(ran / "store") == before


def test_the_seed_is_read_by_stages_that_draw_only(ran: Path) -> None:
    recipe = curation(ran, ("seed: 3", "seed: 4"))
    rebuilt = made(run(recipe, ran / "store"))
    assert {"traces", "chosen"} <= set(rebuilt)
    assert "problems" not in rebuilt


def test_a_changed_file_is_another_source_under_the_same_name(ran: Path) -> None:
    lines = (ran / "traces.jsonl").read_text("utf-8").splitlines(keepends=True)
    (ran / "traces.jsonl").write_text("".join(lines[:40]), "utf-8")
    assert "problems" in made(run(ran / "curation.yaml", ran / "store"))


def test_a_moved_folder_is_the_same_recipe(ran: Path) -> None:
    recipe = curation(ran / "elsewhere")
    assert made(run(recipe, ran / "store")) == []


def test_two_stores_hold_the_same_content_and_other_telemetry(ran: Path) -> None:
    run(ran / "curation.yaml", ran / "other")
    assert contents(ran / "store") == contents(ran / "other")

    def telemetry(store: Path) -> dict[str, Any]:
        return {a.path.name: a.manifest.telemetry for a in Store(store).all()}

    one, two = telemetry(ran / "store"), telemetry(ran / "other")
    assert one.keys() == two.keys()
    assert all(one[name]["started"] != two[name]["started"] for name in one)
    assert all({"host", "python", "versions", "seconds"} <= set(each) for each in one.values())


def test_the_run_folder_links_its_artifacts_and_keeps_the_resolved_recipe(ran: Path) -> None:
    folder = ran / "store" / "runs" / "curation" / "1"
    link = folder / "artifacts" / "kept"
    assert not link.readlink().is_absolute()
    assert json.loads((link / "manifest.json").read_text("utf-8"))["kind"] == "filter"
    assert (folder / "report.html").exists()
    shutil.move(ran / "store", ran / "moved")  # links are relative: a store can be moved
    shutil.copy(ran / "moved" / "runs" / "curation" / "1" / "recipe.yaml", ran / "again.yaml")
    assert made(run(ran / "again.yaml", ran / "moved")) == []


def test_events_say_what_happened(ran: Path) -> None:
    lines = (ran / "store" / "runs" / "curation" / "1" / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "run_started" and events[-1] | {"time": 0} == {
        "time": 0, "event": "run_finished", "status": "done",
    }  # fmt: skip
    finished = {event["stage"]: event for event in events if event["event"] == "stage_finished"}
    assert finished["kept"]["rows_in"] == 48 and finished["kept"]["rejected"]["wrong"] > 0


def test_a_stray_error_names_its_stage_and_leaves_its_traceback(tmp_path: Path) -> None:
    says = r"kept: ZeroDivisionError: .*the traceback is in .*error\.txt"
    with pytest.raises(StageError, match=says), boundary("kept", tmp_path):
        1 / 0
    assert "Traceback" in (tmp_path / "error.txt").read_text("utf-8")


def test_secrets_are_taken_out_of_errors_and_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretvalue123")
    monkeypatch.setenv("MY_PASSWORD", "correct horse")
    assert redacted("a hf_secretvalue123 and a correct horse") == "a <HF_TOKEN> and a <MY_PASSWORD>"
    with pytest.raises(StageError) as caught, boundary("kept", tmp_path):
        raise ValueError("denied for hf_secretvalue123")
    assert "<HF_TOKEN>" in str(caught.value)
    with pytest.raises(EngineError) as told, boundary("kept", tmp_path):
        raise EngineError("denied for hf_secretvalue123")
    assert str(told.value) == "denied for <HF_TOKEN>"
    assert "secretvalue" not in (tmp_path / "error.txt").read_text("utf-8") + str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no rows", "stages.kept: no rows"),
        ("stages.kept.rules: odd", "stages.kept.rules: odd"),
        ("kept: odd", "kept: odd"),
        ("artifact of stage kept is corrupt", "artifact of stage kept is corrupt"),
        ("20 rows kept", "stages.kept: 20 rows kept"),
        ("stages.kept2: odd", "stages.kept: stages.kept2: odd"),
    ],
)
def test_an_error_names_its_stage_once(text: str, says: str) -> None:
    with pytest.raises(MissingError) as caught, placed("kept"):
        raise MissingError(text)
    assert str(caught.value) == says


def test_a_model_folder_that_cannot_be_read(tmp_path: Path) -> None:
    from distillkit.lock import Lock

    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MissingError, match="no model that can be read"):
        external_model(str(tmp_path), Lock(None))


def test_hub_names_are_resolved_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(ref: Any) -> str:
        raise RecipeError(f"{ref}: no revision 'v9'")

    monkeypatch.setattr("distillkit.lock.resolve", refuse)
    answer = distillkit("run", curation(tmp_path, ("toy:base", "org/name@v9")), "--store", tmp_path / "store")
    assert answer.code == 2 and "curation.yaml:9: stages.traces: org/name@v9: no revision" in answer.mistake
    assert Store(tmp_path / "store").all() == []
