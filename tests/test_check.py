"""What `check` refuses, warns of and lists, before anything is spent."""

from pathlib import Path

import pytest
from inprocess import curation, distillkit
from runs import MINI, command

from distillkit.check import Finding, check, check_data, foreign
from distillkit.errors import RecipeError
from distillkit.recipe import load

GRADER = "def grade(row):\n    return 1.0\n"


def finding(recipe: Path) -> Finding:
    return check(load(recipe), recipe.parent)


def test_every_wire_is_told_as_it_was_resolved(tmp_path: Path) -> None:
    found = finding(curation(tmp_path))
    assert [stage["name"] for stage in found.stages][:3] == ["problems", "traces", "judged"]
    assert found.stages[1] == {
        "name": "traces",
        "kind": "sample",
        "makes": "traces",
        "wires": {"input": ["problems"], "model": ["toy:base"]},
    }
    assert found.foreign == found.warnings == [] and found.commits == {}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("engine: {kind: replay, file: traces.jsonl}\n", "", "stages.traces: no engine; write engine:"),
        ("math: {kind: exact}", "code: {kind: exact}", "stages.judged: no verifier for domain 'math'"),
        ("file: traces.jsonl}\n  - {name: traces", "file: traces.jsonl, domain: sums}\n  - {name: traces",
         "stages.judged: no verifier for domain 'sums'"),
        ("math: {kind: exact}}\nstages:\n", "math: {kind: majority, of: {kind: exact}}}\nstages:\n"
         "  - {name: other, kind: problems, file: traces.jsonl}\n"
         "  - {name: early, kind: sample, model: toy:base, n: 4, max_tokens: 512, until: {correct: 1}}\n",
         "stages.early: until: verifiers.math: majority needs all traces of a problem"),
        ("n: 4", "n: 4, temperature: 0", "stages.traces: temperature 0 gives the same text 4 times"),
        ("file: traces.jsonl}\n  - {name: traces", "file: traces.txt}\n  - {name: traces",
         "stages.problems: .*traces.txt: cannot be read as problems"),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        finding(curation(tmp_path, (old, new)))


def test_a_domain_that_rows_name_is_left_to_the_run(tmp_path: Path) -> None:
    source = "file: traces.jsonl, columns: {domain: finish_reason}}\n  - {name: traces"
    assert finding(curation(tmp_path, ("file: traces.jsonl}\n  - {name: traces", source)))


def test_foreign_code_is_listed_wherever_it_hides(tmp_path: Path) -> None:
    (tmp_path / "grade.py").write_text(GRADER)
    remote = "{kind: vllm, engine_args: {trust_remote_code: true}}"
    recipe = curation(
        tmp_path,
        ("math: {kind: exact}", "math: {kind: python, file: grade.py, function: grade}"),
        ("  - {name: judged", "  - {name: scores, kind: evaluate, models: [toy:base], problems: problems, n: 4, "
         f"max_tokens: 8, engine: {remote}" + "}\n  - {name: judged"),
    )  # fmt: skip
    found = foreign(load(recipe))
    assert len(found) == 2
    assert found[0].startswith("stages.scores: ") and "trust_remote_code" in found[0]
    assert found[1] == f"verifiers.math: runs grade() of {(tmp_path / 'grade.py').resolve()}"
    checked = distillkit("check", recipe)
    assert checked.code == 0 and checked.out.count("foreign code (needs run --trust): ") == 2


def test_an_engine_of_two_stages_is_listed_for_each(tmp_path: Path) -> None:
    remote = "engine: {kind: vllm, engine_args: {trust_remote_code: true}}"
    recipe = curation(tmp_path, ("engine: {kind: replay, file: traces.jsonl}", remote))
    assert [line.split(":")[0] for line in foreign(load(recipe))] == ["stages.traces"]


def test_golds_are_tried_with_data(tmp_path: Path) -> None:
    recipe = curation(tmp_path, ("math: {kind: exact}", "math: {kind: math}"))
    (tmp_path / "traces.jsonl").write_text(
        '{"prompt": "1+1?", "reference": "2"}\n{"prompt": "1+2?", "reference": "\\\\frac{"}\n'
    )
    found = Finding("curation")
    check_data(load(recipe), recipe, tmp_path / "store", found)
    [warning] = found.warnings
    assert warning.startswith("stages.problems: 1 of 2 golds of domain math cannot be graded")
    (tmp_path / "traces.jsonl").write_text('{"prompt": "1+2?", "reference": "\\\\frac{"}\n')
    with pytest.raises(RecipeError, match=r"stages\.problems: no gold of domain math can be graded by math"):
        check_data(load(recipe), recipe, tmp_path / "store", found)


def test_online_says_what_it_could_not_ask_and_of_which_stage(tmp_path: Path) -> None:
    recipe = curation(tmp_path, ("toy:base", "org/name"))
    answer = command("check", recipe, "--online", HF_HUB_OFFLINE="1")
    assert answer.returncode == 3 and answer.stderr.count("\n") == 1
    assert "curation.yaml:9: stages.traces: org/name@main: offline (HF_HUB_OFFLINE)" in answer.stderr
    assert not recipe.with_suffix(".lock").exists()


@pytest.mark.slow
def test_deep_builds_what_trl_would_get() -> None:
    assert command("check", MINI, "--deep").returncode == 0
    both = "stages.zero.trainer={steps_per_generation: 2, generation_batch_size: 16}"
    answer = command("check", MINI, "--deep", "--set", both)
    assert answer.returncode == 2
    assert "stages.zero: TRL refuses its configuration: 'generation_batch_size' and" in answer.stderr


def test_check_is_offline_and_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = curation(tmp_path, ("toy:base", "org/name"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert distillkit("check", recipe).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curation.yaml", "traces.jsonl"]
