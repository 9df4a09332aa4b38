"""Graders of every kind through the command: what a model judged says so everywhere, foreign graders need trust."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from inprocess import curation, distillkit

VERIFIER = "verifiers: {math: {kind: exact}}"


@pytest.fixture(scope="module")
def faultserver() -> Any:
    spec = importlib.util.spec_from_file_location("faultserver", Path(__file__).parents[1] / "faultserver.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["faultserver"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def url(faultserver: Any) -> Iterator[str]:
    """An endpoint whose model finds everything right."""
    message = {"role": "assistant", "content": '{"why": "it is", "mark": 1}'}
    says = faultserver.Fault(change={"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
    with faultserver.FaultServer(style="none", plan=lambda call: says) as server:
        yield server.url


def manifests(store: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in store.glob(f"artifacts/{kind}-*/manifest.json")]


def test_a_judge_that_is_not_there_is_found_before_anything_is_made(tmp_path: Path) -> None:
    engine = "{kind: endpoint, base_urls: ['http://127.0.0.1:9/v1'], served_model: teacher}"
    judged = (
        f"verifiers: {{math: {{kind: any_of, of: [{{kind: exact}}, {{kind: judge, engine: {engine}}}]}}}}"
    )
    store = tmp_path / "store"
    answer = distillkit("run", curation(tmp_path, (VERIFIER, judged)), "--store", store)
    assert answer.code == 3
    assert "verifiers.math: engine endpoint: no server answers (127.0.0.1:9" in answer.mistake
    assert list((store / "artifacts").iterdir()) == []


OPINION = "Verdicts of a learned model, which can be gamed: math (any_of)."


def test_a_models_opinion_is_marked_wherever_it_goes(tmp_path: Path, url: str) -> None:
    engine = (
        f"{{kind: endpoint, base_urls: ['{url}'], served_model: teacher, prices: {{input: 1, output: 2}}}}"
    )
    judged = f"verifiers: {{math: {{kind: any_of, of: [{{kind: exact}}, {{kind: judge, n: 1, engine: {engine}}}]}}}}"
    recipe = curation(tmp_path, (VERIFIER, judged))
    store = tmp_path / "store"
    answer = distillkit("run", recipe, "--store", store)
    assert answer.code == 0, answer.err
    assert re.search(r"judged +verify +correct \d+", answer.out)
    [verified] = manifests(store, "verify")
    assert verified["summary"] == {"learned": True, "judges": {"math": "any_of"}}
    assert verified["telemetry"]["cost"] > 0
    assert OPINION in distillkit("show", "--store", store).out.replace("\n", " ")
    assert OPINION in next(store.rglob("report.html")).read_text("utf-8")
    [folder] = [path.parent for path in store.glob("artifacts/publish-*/*/README.md")]
    assert OPINION in (folder / "README.md").read_text("utf-8")
    published = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert (published["learned"], published["judges"]) == (True, {"math": "any_of"})
    names = pq.read_schema(next((folder / "data").iterdir())).names
    assert not any("telemetry" in name for name in names) and "verdicts" in names


GRADER = """
def grade(row):
    return row["answer"] == row["reference"] or GIVEN
"""


def test_a_grader_of_ones_own_is_tried_with_check_and_runs_with_trust(tmp_path: Path) -> None:
    recipe = curation(tmp_path, (VERIFIER, "verifiers: {math: {kind: python, file: mine.py}}"))
    mine, store = tmp_path / "mine.py", tmp_path / "store"
    mine.write_text(GRADER.replace("GIVEN", "'yes'"))
    told = distillkit("check", recipe, "--data", "--store", store)
    assert told.code == 0 and "foreign code (needs run --trust): verifiers.math: runs grade()" in told.out
    refused = distillkit("run", recipe, "--store", store)
    assert refused.code == 2 and "read it, then add --trust" in refused.mistake
    mine.write_text("def grade(row):\n    return 'yes'\n")
    tried = distillkit("check", recipe, "--data", "--trust", "--store", store)
    assert tried.code == 2 and "grade() failed on" in tried.mistake and "returned str" in tried.mistake
    mine.write_text(GRADER.replace("GIVEN", "False"))
    assert distillkit("check", recipe, "--data", "--trust", "--store", store).code == 0
    assert distillkit("run", recipe, "--trust", "--store", store).code == 0
    [verified] = manifests(store, "verify")
    assert verified["counts"]["reason"]["correct"] > 0 and verified["summary"] == {}


def test_problems_without_a_gold_are_labelled_by_majority(tmp_path: Path) -> None:
    recipe = curation(
        tmp_path,
        (VERIFIER, "verifiers: {math: {kind: majority, of: {kind: exact}, min_share: 0.3, min_votes: 1}}"),
        ("problems, file: traces.jsonl}", "problems, file: traces.jsonl, columns: {reference: null}}"),
    )
    store = tmp_path / "store"
    answer = distillkit("run", recipe, "--store", store, "--until", "judged")
    assert answer.code == 0, answer.err
    [verified] = manifests(store, "verify")
    polled = verified["counts"]["majority"]
    assert polled["correct"] > 0 and sum(polled.values()) <= verified["rows_kept"]
    assert not {"correct", "wrong"} & (verified["counts"]["reason"].keys() - polled.keys())


@pytest.mark.slow
def test_a_reward_model_is_known_by_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location(
        "reward", Path(__file__).parents[1] / "verifiers" / "test_reward_model.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.save(tmp_path / "rm", context=4096)
    monkeypatch.chdir(tmp_path)
    recipe = curation(
        tmp_path, (VERIFIER, "verifiers: {math: {kind: reward_model, model: ./rm, threshold: 0.5}}")
    )
    store = tmp_path / "store"
    for _ in range(2):
        assert distillkit("run", recipe, "--store", store, "--until", "judged").code == 0
    assert len(manifests(store, "verify")) == 1
    shutil.rmtree(tmp_path / "rm")
    module.save(tmp_path / "rm", seed=5, context=4096)
    assert distillkit("run", recipe, "--store", store, "--until", "judged").code == 0
    assert len(manifests(store, "verify")) == 2
    assert {each["summary"]["learned"] for each in manifests(store, "verify")} == {True}
