"""`distillkit diff` on real runs: what a threshold moves, what another source changes, what a folder knows."""

import json
from pathlib import Path
from typing import Any

import pytest
from inprocess import curation, distillkit


def run(folder: Path, *sets: str) -> None:
    done = distillkit("run", folder / "curation.yaml", "--store", folder / "store", *sets)
    assert done.code == 0, done.err


def diff(folder: Path, before: str, after: str) -> dict[str, Any]:
    told = distillkit("diff", before, after, "--store", folder / "store", "--json")
    assert told.code == 0, told.err
    return json.loads(told.out)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    curation(folder)
    run(folder)
    run(folder, "--set", "stages.kept.rules.0.min=0.0")
    return folder


def test_a_version_is_equal_to_itself(ran: Path) -> None:
    told = diff(ran, "curation/1/kept", "curation/1/kept")
    rows = told["rows"]
    assert rows["same"] == told["before"]["rows"] > 0
    assert rows["added"] == rows["removed"] == rows["changed"] == 0
    assert told["moved"] == [] and told["parts"]["read"] == 0


def test_a_moved_threshold_moves_rows_and_the_reasons_add_up(ran: Path) -> None:
    told = diff(ran, "curation/1/kept", "curation/2/kept")
    before, after, rows = told["before"], told["after"], told["rows"]
    assert rows["added"] > 0 and rows["removed"] == 0 and rows["changed"] == 0
    assert after["rows"] - before["rows"] == rows["added"]
    into = sum(each["rows"] for each in told["moved"] if each["to"] == "kept")
    assert into == rows["added"]
    assert all(each["from"] not in ("kept", "absent") for each in told["moved"])


def test_backwards_is_the_opposite(ran: Path) -> None:
    there, back = (
        diff(ran, *ends)
        for ends in (("curation/1/kept", "curation/2/kept"), ("curation/2/kept", "curation/1/kept"))
    )
    assert there["rows"]["added"] == back["rows"]["removed"]
    assert {(m["from"], m["to"], m["rows"]) for m in there["moved"]} == {
        (m["to"], m["from"], m["rows"]) for m in back["moved"]
    }


def test_published_folders_are_compared_without_opening_equal_files(ran: Path) -> None:
    told = diff(ran, "curation/1/dataset", "curation/2/dataset")
    rows = told["rows"]
    assert told["after"]["rows"] - told["before"]["rows"] == rows["added"] - rows["removed"]
    [folder] = (ran / "store" / "runs" / "curation" / "1" / "artifacts" / "dataset").glob("curated-*")
    same = diff(ran, str(folder), "curation/1/dataset")
    assert same["rows"]["same"] == told["before"]["rows"] and same["parts"]["read"] == 0


def test_labels_are_compared_row_by_row(ran: Path) -> None:
    told = diff(ran, "curation/1/measured", "curation/2/measured")
    assert told["rows"]["same"] == told["before"]["rows"]


def test_what_has_no_rows_and_what_is_not_there(ran: Path) -> None:
    store = ran / "store"
    missing = distillkit("diff", "curation/1/kept", "curation/1/nothing", "--store", store)
    assert missing.code == 3 and "it has problems" in missing.err
    nowhere = distillkit("diff", "curation/1/kept", "elsewhere/kept", "--store", store)
    assert nowhere.code == 3


def test_kinds_of_trace_sets_are_compared_by_the_columns_that_both_have(ran: Path) -> None:
    chosen = diff(ran, "curation/1/chosen", "curation/1/dataset")
    assert chosen["rows"] == {"same": chosen["before"]["rows"], "added": 0, "removed": 0, "changed": 0}
    kept = diff(ran, "curation/1/traces", "curation/1/kept")
    assert kept["rows"]["changed"] == 0 and kept["rows"]["removed"] > 0
    mixed = distillkit("diff", "curation/1/kept", "curation/1/measured", "--store", ran / "store")
    assert mixed.code == 2 and "compare two of a kind" in mixed.err


def test_a_person_sees_tables(ran: Path) -> None:
    told = distillkit("diff", "curation/1/kept", "curation/2/kept", "--store", ran / "store")
    assert told.code == 0
    for words in ("curation/1/kept", "curation/2/kept", "rows that went another way", "wrong"):
        assert words in told.out
