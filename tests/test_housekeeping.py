"""ls and gc: what a store holds, and what goes without being missed."""

from pathlib import Path

import pytest
from inprocess import curation, distillkit

from distillkit.durable import locked
from distillkit.errors import MissingError
from distillkit.housekeeping import collect, list_store
from distillkit.run_folder import open_run
from distillkit.store import Store


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A folder in which the recipe ran twice, the second time with a stage changed."""
    recipe = curation(tmp_path)
    for sets in ([], ["--set", "stages.kept.rules.0.min=0.0"]):
        assert distillkit("run", recipe, "--store", tmp_path / "store", *sets).code == 0
    return tmp_path


def test_nothing_goes_that_a_run_refers_to(ran: Path) -> None:
    store = ran / "store"
    before = [artifact.path for artifact in Store(store).all()]
    assert collect(store, remove=True) == ["nothing to remove"]
    assert [artifact.path for artifact in Store(store).all()] == before


def test_what_no_run_refers_to_is_told_first_and_removed_when_told(ran: Path) -> None:
    store = ran / "store"
    (store / "runs" / "curation" / "2" / "run.json").unlink()
    told = collect(store, remove=False)
    assert len(told) == 3 and all(line.startswith("would remove ") and "MiB" in line for line in told)
    assert len(list_store(store)["artifacts"]) == 11
    assert [line.replace("removed", "would remove") for line in collect(store, remove=True)] == told
    assert len(list_store(store)["artifacts"]) == 8
    again = distillkit("run", ran / "curation.yaml", "--store", store)
    assert again.code == 0 and again.out.count("from the store") >= 8


def test_runs_of_single_seeds_hold_their_artifacts(ran: Path) -> None:
    store = ran / "store"
    assert distillkit("run", ran / "curation.yaml", "--store", store, "--seeds", "7").code == 0
    assert not [line for line in collect(store, remove=False) if "/artifacts/" in line]


def test_work_goes_unless_a_process_holds_it(ran: Path) -> None:
    store = Store(ran / "store")
    (store.work / "sample-0" / "tables").mkdir(parents=True)
    (store.work / "sample-1").mkdir()
    with locked(store.work / "sample-1.lock", print):
        [line] = collect(store.root, remove=True)
    assert (
        "sample-0" in line and not (store.work / "sample-0").exists() and (store.work / "sample-1").exists()
    )


def test_it_refuses_beside_a_run_at_work(ran: Path) -> None:
    runs, says = ran / "store" / "runs", "other/1: this run is at work"
    with open_run(runs, "other", "name: other"), pytest.raises(MissingError, match=says):
        collect(ran / "store", remove=True)


def test_a_corrupt_artifact_is_listed_as_one(ran: Path) -> None:
    victim = Store(ran / "store").all()[0].path
    (victim / "manifest.json").write_text("{")
    entry = next(each for each in list_store(ran / "store")["artifacts"] if each["name"] == victim.name)
    assert entry["type"] == "corrupt" and entry["bytes"] > 0


def test_an_empty_folder_is_an_empty_store(tmp_path: Path) -> None:
    assert list_store(tmp_path) == {"runs": [], "artifacts": []}
    assert collect(tmp_path, remove=True) == ["nothing to remove"]


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_no_store(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / kind).write_text("")
    with pytest.raises(MissingError, match="no store there; give --store DIR"):
        list_store(tmp_path / kind)
    with pytest.raises(MissingError, match="no store there; give --store DIR"):
        collect(tmp_path / kind, remove=True)


def test_gc_on_the_command_line_asks_for_yes(ran: Path) -> None:
    store = ran / "store"
    (store / "runs" / "curation" / "2" / "run.json").unlink()
    assert distillkit("gc", "--store", store).out.count("would remove") == 3
    assert distillkit("gc", "--store", store, "--yes").out.count("removed") == 3


def test_cached_labels_go_with_the_artifacts_that_have_them(ran: Path) -> None:
    store = ran / "store"
    kept = {path.name for path in (store / "labels").glob("*/*.parquet")}
    for run in ("1", "2"):
        (store / "runs" / "curation" / run / "run.json").unlink()
    told = collect(store, remove=False)[-1]
    assert kept and f"would remove {len(kept)} shards of labels" in told
    assert collect(store, remove=True)[-1] == told.removeprefix("would ").replace("remove", "removed", 1)
    assert not list((store / "labels").glob("*/*.parquet"))
    assert distillkit("run", ran / "curation.yaml", "--store", store).code == 0
