"""The verbs as a person types them: what they print, their JSON, their exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inprocess import curation, distillkit

from distillkit import __version__
from distillkit.cli import cli

VERBS = {
    "run",
    "check",
    "plan",
    "show",
    "report",
    "chat",
    "diff",
    "push",
    "pull",
    "ls",
    "gc",
    "init",
    "schema",
    "apply",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and a store in which it ran once."""
    folder = tmp_path_factory.mktemp("cli")
    answer = distillkit("run", curation(folder), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return folder


def as_json(*arguments: str | Path) -> dict[str, Any]:
    answer = distillkit(*arguments, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_the_verbs_are_there_and_have_help() -> None:
    assert set(cli.commands) == VERBS
    for verb in VERBS:
        answer = distillkit(verb, "--help")
        assert answer.code == 0 and answer.out.startswith(f"Usage: distillkit {verb}"), answer.err
    assert distillkit("--version").out == f"distillkit, version {__version__}\n"


def test_a_run_says_what_it_did_and_where_the_report_is(world: Path) -> None:
    answer = distillkit("run", world / "curation.yaml", "--store", world / "store")
    assert answer.code == 0 and answer.err == ""
    assert re.search(r"kept\s+filter\s+20 of 48\s+from the store", answer.out)
    assert "duplicate 34, no_reference 2" in answer.out
    page = Path(answer.out.split("report: ")[1].strip())
    assert page.name == "report.html" and page.stat().st_size > 1000


def test_check_json(world: Path) -> None:
    found = as_json("check", world / "curation.yaml")
    assert set(found) == {"recipe", "stages", "foreign", "machine", "warnings", "unseen", "commits"}
    assert all(set(stage) == {"name", "kind", "makes", "wires"} for stage in found["stages"])
    kept = next(stage for stage in found["stages"] if stage["name"] == "kept")
    assert kept["wires"] == {"input": ["traces"], "labels": ["judged", "measured", "twins"]}
    assert found["foreign"] == [] and found["recipe"] == "curation"


def test_plan_json(world: Path) -> None:
    found = as_json("plan", world / "curation.yaml", "--store", world / "store")
    assert set(found) == {
        "recipe",
        "stages",
        "total",
        "memory",
        "over_budget",
        "warnings",
        "foreign",
        "start",
    }
    assert all(set(s) == {"name", "kind", "state", "artifact", "rows", "cost"} for s in found["stages"])
    assert {stage["state"] for stage in found["stages"]} == {"stored"}
    assert set(found["total"]) == {"tokens", "gpu_hours", "memory_gb", "disk_gb", "money"}


def test_show_json(world: Path) -> None:
    found = as_json("show", "curation/1", "--store", world / "store")
    assert {"run", "funnel", "scores", "gamma", "settings", "screening", "timings"} <= set(found)
    assert found["run"]["status"] == "done" and found["run"]["number"] == 1
    every = {"stage", "kind", "rows_in", "rows_kept", "rejected"}
    assert all(set(step) - {"verdicts"} == every for step in found["funnel"])
    judged = next(step for step in found["funnel"] if step["stage"] == "judged")
    assert sum(judged["verdicts"].values()) == judged["rows_kept"]
    kept = next(step for step in found["funnel"] if step["stage"] == "kept")
    assert kept["rows_in"] == 48 and kept["rows_kept"] + sum(kept["rejected"].values()) == 48
    assert [step["cached"] for step in found["timings"]] == [False] * 8


def test_ls_json(world: Path) -> None:
    found = as_json("ls", "--store", world / "store")
    assert set(found) == {"runs", "artifacts"}
    assert found["runs"][0] == {"run": "curation/1", "status": "done", "stages": 8}
    assert all(set(each) == {"name", "stage", "type", "rows", "bytes"} for each in found["artifacts"])
    assert {each["type"] for each in found["artifacts"]} == {
        "problems", "traces", "labels", "selection", "publication",
    }  # fmt: skip


def test_the_same_facts_as_tables(world: Path) -> None:
    store = ("--store", world / "store")
    assert re.search(r"kept\s+filter\s+selection\s+input: traces; labels: judged, measured, twins",
                     distillkit("check", world / "curation.yaml").out)  # fmt: skip
    assert re.search(
        r"judged\s+verify\s+stored\s+48", distillkit("plan", world / "curation.yaml", *store).out
    )
    assert re.search(
        r"chosen\s+select\s+duplicate 2, over_per_problem 1\s+20\s+17", distillkit("show", *store).out
    )
    assert re.search(r"curation/1\s+done\s+8", distillkit("ls", *store).out)


def test_report_writes_the_page_anew(world: Path) -> None:
    page = world / "store" / "runs" / "curation" / "1" / "report.html"
    page.unlink()
    answer = distillkit("report", "curation/1", "--store", world / "store")
    assert answer.out.strip() == str(page) and page.exists()


def test_init_lists_copies_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(r"^quickstart\s+\w", distillkit("init").out, re.MULTILINE)
    assert distillkit("init", "quickstart").out == "wrote quickstart.yaml\n"
    assert distillkit("check", "quickstart.yaml").code == 0
    again = distillkit("init", "quickstart")
    assert again.code == 2 and "is there already" in again.mistake
    assert distillkit("init", "quickstart", "-o", "deep/mine.yaml").code == 0
    assert Path("deep/mine.yaml").read_text("utf-8") == Path("quickstart.yaml").read_text("utf-8")
    nothing = distillkit("init", "quickstar")
    assert nothing.code == 3 and "quickstart" in nothing.mistake


def test_schema_describes_a_recipe() -> None:
    schema = json.loads(distillkit("schema").out)
    assert {"name", "seed", "stages", "verifiers"} <= set(schema["properties"])
    assert "Filter" in schema["$defs"] and "properties" in schema["$defs"]["Filter"]


def test_apply_tells_what_it_did(world: Path) -> None:
    answer = distillkit("apply", "measure", world / "traces.jsonl", "-o", world / "measured.jsonl")
    assert answer.out == f"{world / 'measured.jsonl'}: 48 rows, 48 labelled, 0 refused\n"


def test_the_store_is_told_by_the_environment_too(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLKIT_STORE", str(world / "store"))
    assert as_json("ls")["runs"]


def test_until_stops_behind_a_stage(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path), tmp_path / "store"
    assert distillkit("run", recipe, "--store", store, "--until", "judged").code == 0
    made = as_json("ls", "--store", store)
    assert {each["stage"] for each in made["artifacts"]} == {"problems", "traces", "judged"}
    states = [s["state"] for s in as_json("plan", recipe, "--store", store)["stages"]]
    assert states == ["stored"] * 3 + ["make"] * 2 + ["unknown"] * 3


def test_only_takes_its_inputs_from_the_store(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path), tmp_path / "store"
    first = distillkit("run", recipe, "--store", store, "--only", "judged")
    assert first.code == 4 and "curation.yaml:8: stages.problems: not in the store yet" in first.mistake
    assert distillkit("run", recipe, "--store", store, "--until", "traces").code == 0
    assert distillkit("run", recipe, "--store", store, "--only", "judged").code == 0
    assert {each["stage"] for each in as_json("ls", "--store", store)["artifacts"]} == {
        "problems", "traces", "judged",
    }  # fmt: skip


def test_limit_is_a_smoke_run_of_the_whole_recipe(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path), tmp_path / "store"
    answer = distillkit("run", recipe, "--store", store, "--limit", "3")
    assert answer.code == 0, answer.err
    funnel = {step["stage"]: step["rows_kept"] for step in as_json("show", "--store", store)["funnel"]}
    assert funnel["problems"] == 3 and funnel["traces"] == 12


def test_seeds_are_one_run_each_reported_together(tmp_path: Path) -> None:
    recipe, store = curation(tmp_path), tmp_path / "store"
    answer = distillkit("run", recipe, "--store", store, "--seeds", "1,2")
    assert answer.code == 0, answer.err
    assert "seed 1\n" in answer.out and "seed 2\n" in answer.out
    found = as_json("show", "--store", store)
    assert set(found["seeds"]) == {"1", "2"} and found["run"]["status"] == "done"
    assert found["seeds"]["1"]["funnel"]
    again = distillkit("run", recipe, "--store", store, "--seeds", "2,1")
    assert again.out.count("from the store") >= 16


@pytest.mark.parametrize("seeds", ["nonsense", "1,,2", "1,1", "-1", "1.5", "", str(2**31)])
def test_seeds_that_are_none(world: Path, seeds: str) -> None:
    answer = distillkit("run", world / "curation.yaml", "--store", world / "store", f"--seeds={seeds}")
    assert answer.code == 2 and answer.mistake.startswith(f"--seeds {seeds}: write different whole numbers")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--until", "judge"], "no stage 'judge' in recipe curation; did you mean judged?"),
        (["--only", "zzz"], "no stage 'zzz' in recipe curation; there are problems, traces, judged"),
        (["--only", "judged", "--until", "kept"], "give one of the two"),
        (["--limit", "0"], "0 is not in the range"),
        (["--limit", "many"], "'many' is not a valid integer"),
        (["--lmit", "3"], "No such option '--lmit'"),
        (["--set", "stages.traces"], "write KEY=VALUE, e.g. stages.own.n=2"),
        (["--set", "stages.trace.n=2"], "nothing there is called 'trace'; did you mean traces?"),
        (["--set", "stages.traces.nn=2"], "--set stages.traces.nn=2: stages.traces.nn: unknown key; did you mean n?"),
        (["--set", "stages.traces.n=two"], "--set stages.traces.n=two: stages.traces.n: input should be a valid integer"),
        (["--set", "stages.traces.n=[2"], "the value is not YAML"),
        (["--set", "stages.traces.engine.kind=gpt"], "--set stages.traces.engine.kind=gpt: stages.traces.engine: unknown kind 'gpt'; there are"),
        (["--set", "seed=-1"], "--set seed=-1: seed: input should be greater than or equal to 0"),
        (["--set", "seed.a=1"], "seed is a value, nothing lies below it"),
    ],
)  # fmt: skip
def test_a_wrong_option_names_itself(world: Path, arguments: list[str], says: str) -> None:
    before = sorted((world / "store").rglob("*"))
    answer = distillkit("run", world / "curation.yaml", "--store", world / "store", *arguments)
    assert answer.code == 2 and says in answer.mistake
    assert sorted((world / "store").rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rn", "x.yaml"], "No such command 'rn'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["apply", "verify", "x.jsonl"], "Missing option '-o'"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], says: str) -> None:
    answer = distillkit(*arguments)
    assert answer.code == 2 and says in answer.mistake


@pytest.mark.parametrize("verb", ["ls", "gc", "show", "report"])
def test_no_store_there(tmp_path: Path, verb: str) -> None:
    answer = distillkit(verb, "--store", tmp_path / "nowhere")
    assert answer.code == 3 and "nowhere" in answer.mistake
    assert not (tmp_path / "nowhere").exists()


def test_a_place_that_cannot_be_written(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = distillkit("run", world / "curation.yaml", "--store", tmp_path / "file")
    assert run.code == 3 and "give --store DIR" in run.mistake
    init = distillkit("init", "quickstart", "-o", tmp_path / "file" / "x.yaml")
    assert init.code == 3 and "give another place with -o" in init.mistake
    apply = distillkit("apply", "measure", world / "traces.jsonl", "-o", tmp_path / "none" / "x.jsonl")
    assert apply.code == 3 and "no such folder" in apply.mistake


def test_output_goes_into_a_closed_pipe_quietly(world: Path) -> None:
    command = f"{sys.executable} -m distillkit schema | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ
    )
    assert answer.stderr == ""
