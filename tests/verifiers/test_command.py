"""A user's own program as a grader: what it gets, what it may answer, and what its failures cost."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distillkit.errors import MissingError, RecipeError
from distillkit.recipe import load
from distillkit.spec import digest, identity
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Command

PROGRAM = f"""#!{sys.executable}
import json, os, sys, time

def say(**answer):
    print(json.dumps(answer), flush=True)

for line in sys.stdin:
    row = json.loads(line)
    number, what = row["request"], row["answer"]
    if what == "hang":
        time.sleep(3600)
    elif what == "die":
        os._exit(7)
    elif what == "silent":
        continue
    elif what == "nonsense":
        print("score: one", flush=True)
    elif what == "bare":
        print("1", flush=True)
    elif what == "other":
        say(request=number + 1, score=1)
    elif what == "twice":
        say(request=number, score=1)
        say(request=number, score=0)
    elif what == "high":
        say(request=number, score=7)
    elif what == "told":
        say(request=number, score=0, reason="ambiguous")
    elif what == "skip":
        say(request=number, score=None)
    elif what == "huge":
        say(request=number, score=1, why="x" * 3_000_000)
    elif what == "secret":
        say(request=number, score=float("MY_API_TOKEN" in os.environ or "HF_TOKEN" in os.environ))
    elif what == "once":
        marker = sys.argv[1]
        if not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(3)
        say(request=number, score=1)
    else:
        say(request=number, score=float(what == row["reference"]))
"""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    file = tmp_path / "grader"
    file.write_text(PROGRAM)
    file.chmod(0o755)
    made: list[Command] = []

    def make(**fields: object) -> Command:
        declared = {"command": ["./grader", str(tmp_path / "marker")], "files": [str(file)], "workers": 1}
        made.append(Command.model_validate(declared | fields))
        return made[-1]

    yield make
    for each in made:
        each.close()


def trace(answer: str, reference: object = "7", **fields: object) -> Trace:
    response = rf"\boxed{{{answer}}}"
    return Trace("p", [], response, "", response, reference=reference, finish_reason="stop", **fields)  # type: ignore[arg-type]


def test_each_row_gets_its_own_score_whatever_its_neighbours_do(command: Callable[..., Command]) -> None:
    expected = {
        "7": Verdict(1.0, "correct", "7"),
        "nonsense": Verdict(None, "grader_crashed", "nonsense"),
        "8": Verdict(0.0, "wrong", "8"),
        "twice": Verdict(1.0, "correct", "twice"),
        "9": Verdict(0.0, "wrong", "9"),
        "die": Verdict(None, "grader_crashed", "die"),
        "told": Verdict(0.0, "ambiguous", "told"),
        "skip": Verdict(None, "judge_unavailable", "skip"),
        "other": Verdict(None, "grader_crashed", "other"),
        "bare": Verdict(None, "grader_crashed", "bare"),
        "high": Verdict(None, "grader_crashed", "high"),
        "huge": Verdict(None, "grader_crashed", "huge"),
    }
    answers = [answer for each in expected for answer in (each, "7")]
    found = command().grade_all([trace(answer) for answer in answers])
    assert found[::2] == list(expected.values())
    assert found[1::2] == [expected["7"]] * len(expected)


def test_answers_given_twice_cost_no_neighbour_its_score(command: Callable[..., Command]) -> None:
    answers = ["twice", "7", "twice", "twice", "8", "7"] * 5
    found = command().grade_all([trace(answer) for answer in answers])
    assert [verdict.score for verdict in found] == [1.0, 1.0, 1.0, 1.0, 0.0, 1.0] * 5


def test_a_row_that_never_ends_costs_itself_alone(command: Callable[..., Command]) -> None:
    found = command(timeout_s=2).grade_all([trace("7"), trace("hang"), trace("8")])
    assert [each.reason for each in found] == ["correct", "grader_timeout", "wrong"]


def test_one_process_serves_many_rows_and_starts_again_after_a_death(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    once = command().grade_all([trace("7"), trace("once"), trace("7")])
    assert [each.score for each in once] == [1.0, 1.0, 1.0]
    rows = [trace(str(number % 13), str(number % 7), index=number) for number in range(300)]
    found = command().grade_all(rows)
    assert [each.score for each in found] == [float(n % 13 == n % 7) for n in range(300)]


@pytest.mark.slow
def test_thousands_of_rows_with_bad_ones_among_them_lose_and_shift_none(
    command: Callable[..., Command],
) -> None:
    bad = ["die", "nonsense", "twice", "other", "high"]
    answers = [bad[n // 20 % 5] if n % 20 == 7 else str(n % 11) for n in range(4000)]
    golds = [str(n % 7) for n in range(4000)]
    found = command(workers=2).grade_all([trace(a, g) for a, g in zip(answers, golds, strict=True)])
    expected = [
        {"twice": 1.0}.get(answer) if answer in bad else float(answer == gold)
        for answer, gold in zip(answers, golds, strict=True)
    ]
    assert [each.score for each in found] == expected


def test_it_sees_no_secret_and_no_telemetry(
    command: Callable[..., Command], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "s3cret-value")
    assert command().grade(trace("secret")).score == 0.0
    seer = tmp_path / "seer"
    seer.write_text(
        f"#!{sys.executable}\nimport json, sys\nfor line in sys.stdin:\n    row = json.loads(line)\n"
        "    ok = 'telemetry' not in row and row['prompt'] == 'ask' and row['extra'] == {'level': 3}\n"
        "    print(json.dumps({'request': row['request'], 'score': ok}), flush=True)\n"
    )
    seer.chmod(0o755)
    seen = Trace(
        "p", [{"role": "user", "content": "ask"}], "free", "", "free", finish_reason="stop",
        extra={"level": 3}, telemetry={"latency_s": 1.5},
    )  # fmt: skip
    verifier = command(command=["seer"], files=[str(seer)])
    assert verifier.grade(seen) == Verdict(1.0, "correct", "free")


def test_large_rows_pass_whole(command: Callable[..., Command]) -> None:
    long = "x" * 2_000_000
    row = Trace("p", [], long + r" \boxed{7}", "", long + r" \boxed{7}", reference="7", finish_reason="stop")
    assert command().grade(row).score == 1.0


def test_probe_and_check_say_what_is_wrong(command: Callable[..., Command], tmp_path: Path) -> None:
    assert command().probe(trace("7")).score == 1.0
    with pytest.raises(
        RecipeError, match=r"\./grader: failed on problem p: it answered 'score: one', which is no JSON"
    ):
        command().probe(trace("nonsense"))
    with pytest.raises(RecipeError, match="it ended without an answer \\(exit code 7\\)"):
        command().probe(trace("die"))
    with pytest.raises(RecipeError, match="'1', which does not name request"):
        command().probe(trace("bare"))
    with pytest.raises(RecipeError, match=r"must lie in \[0, 1\]"):
        command().probe(trace("high"))
    with pytest.raises(RecipeError, match=r"no answer within 0\.5 s"):
        command(timeout_s=0.5).probe(trace("silent"))
    command().check()
    with pytest.raises(MissingError, match="nowhere: no such program that may be executed; install it"):
        command(command=["nowhere"]).check()
    with pytest.raises(RecipeError, match="name it under `files:` too, so that its bytes count"):
        command(command=["./other"]).check()
    with pytest.raises(MissingError, match=r"gone: cannot be read"):
        command(files=[str(tmp_path / "gone")]).check()
    (tmp_path / "grader").chmod(0o644)
    with pytest.raises(MissingError, match="no such program that may be executed"):
        command().check()


def test_what_it_started_dies_with_it(command: Callable[..., Command], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f"#!/bin/sh\nsleep 3600 &\necho $! >> {pids}\nwait\n")
    wrapper.chmod(0o755)
    verifier = command(command=["wrapper"], files=[str(wrapper)], timeout_s=0.5)
    assert verifier.grade(trace("7")).reason == "grader_timeout"
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    for pid in started:
        for _ in range(100):
            if not _alive(pid):
                break
            time.sleep(0.05)
        assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_edited_program_is_another_verifier(command: Callable[..., Command], tmp_path: Path) -> None:
    first = command()
    before = digest(identity(first))
    assert first.grade(trace("8")).score == 0.0
    (tmp_path / "grader").write_text(PROGRAM.replace('what == row["reference"]', 'what == "8"'))
    assert digest(identity(first)) != before
    assert first.grade(trace("8")).score == 1.0
    assert identity(command(workers=2)) == identity(command(workers=1))
    assert identity(command(command=["./grader", "--strict"])) != identity(command())


def test_a_recipe_names_it_from_its_own_folder(
    command: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: mine\n"
        "verifiers: {math: {kind: command, command: [./grader, -x], files: [./grader]}}\n"
        "stages: [{name: p, kind: problems, toy: chain, limit: 4}]\n"
    )
    monkeypatch.chdir(tmp_path.parent)
    found = load(recipe).verifiers["math"]
    assert isinstance(found, Command)
    assert found.foreign() == ["runs ./grader -x"]
    with found:
        assert found.probe(trace("7")).score == 1.0
    again = Command.model_validate(json.loads(found.model_dump_json()))
    assert again == found and found.model_dump()["files"] == [str(tmp_path / "grader")]
