"""What goes wrong on a user's side: one clear line, the documented exit code, no traceback, nothing lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import Answer, curation, distillkit
from patience import PATIENCE_S
from runs import MINI, command, contents, events

from distillkit.durable import locked
from distillkit.store import Store

SOURCE = "file: traces.jsonl}\n  - {name: traces"
SECRET = "hf_secretvalue123"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the recipe ran to its end."""
    folder = tmp_path_factory.mktemp("whole")
    assert distillkit("run", curation(folder), "--store", folder / "store").code == 0
    return folder / "store"


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(whole, tmp_path / "store", symlinks=True)
    return tmp_path / "store"


REFUSED = {
    "unknown key": (("on: completion", "onn: completion"), 2,
                    "curation.yaml:12: stages.twins.onn: unknown key; did you mean on?"),
    "unknown kind": (("kind: verify", "kind: verfy"), 2,
                     "curation.yaml:10: stages.judged: unknown kind 'verfy'; did you mean verify?"),
    "wrong type": (("n: 4", "n: four"), 2,
                   "curation.yaml:9: stages.traces.n: input should be a valid integer"),
    "out of range": (("n: 4", "n: 0"), 2, "curation.yaml:9: stages.traces.n: input should be greater than or equal to 1"),
    "no value": (("n: 4", "n:"), 2, "curation.yaml:9: stages.traces.n: input should be a valid integer (got None)"),
    "a later stage": (("kind: verify", "kind: verify, input: chosen"), 2,
                      "curation.yaml:10: stages.judged.input: chosen stands later in the file"),
    "no such stage": (("kind: verify", "kind: verify, input: tracs"), 2,
                      "curation.yaml:10: stages.judged.input: no stage 'tracs'; did you mean traces?"),
    "a type that does not fit": (("kind: verify", "kind: verify, input: problems"), 2,
                                 "curation.yaml:10: stages.judged.input: problems makes problems, needed is traces or selection"),
    "a field that no stage makes": (("{field: score,", "{field: scroe,"), 2,
                                    "curation.yaml:13: stages.kept: field scroe: no earlier stage makes 'scroe'; did you mean score?"),
    "a missing file": ((SOURCE, SOURCE.replace("traces.jsonl", "nothing.jsonl")), 3,
                       "nothing.jsonl: no such file"),
    "an ending that nobody reads": ((SOURCE, SOURCE.replace("traces.jsonl", "traces.txt")), 2,
                                    "curation.yaml:8: stages.problems: "),
    "a model without a name": (("toy:base", "basis"), 2,
                               "curation.yaml:9: stages.traces.model: 'basis' is neither an earlier stage, nor org/name on the Hub"),
    "a model folder that is not there": (("toy:base", "./nothing"), 3,
                                         "curation.yaml:9: stages.traces.model: ./nothing: no model there (no config.json)"),
    "no verifier for a domain": (("math: {kind: exact}", "code: {kind: exact}"), 2,
                                 "curation.yaml:10: stages.judged: no verifier for domain 'math'; add it to `verifiers:`"),
    "foreign code": (("math: {kind: exact}", "math: {kind: python, file: grade.py, function: grade}"), 2,
                     "read it, then add --trust"),
    "not YAML": (("stages:", "stages: ["), 2, "not YAML"),
}  # fmt: skip
"""What -> (change of the good recipe, exit code, what the line says)."""


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_before_anything_is_made(what: str, tmp_path: Path) -> None:
    change, code, says = REFUSED[what]
    recipe = curation(tmp_path, change)
    (tmp_path / "grade.py").write_text("def grade(row):\n    return 1.0\n")
    for verb in ("run", "plan", "check")[: 1 if what == "foreign code" else None]:
        answer = distillkit(verb, recipe, "--store", tmp_path / "store")
        if verb == "plan" and answer.code == 0:
            continue  # a plan reads no file and asks no stage
        assert (answer.code, says in answer.mistake) == (code, True), answer.err
    assert not (tmp_path / "store" / "runs").exists()


@pytest.mark.parametrize("content", ["", "# nothing\n", "- a list\n", "words\n", "\ttab: 1\n", "a: b: c\n"])
def test_a_file_that_is_no_recipe(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    answer = distillkit("run", tmp_path / "x.yaml", "--store", tmp_path / "store")
    assert answer.code == 2 and f"{tmp_path / 'x.yaml'}:1: " in answer.mistake


def test_no_recipe_at_all(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.yaml"):
        answer = distillkit("run", path, "--store", tmp_path / "store")
        assert answer.code == 3 and f"{path}: no such recipe" in answer.mistake


def test_every_mistake_of_a_recipe_is_a_line_of_its_own(tmp_path: Path) -> None:
    answer = distillkit("check", curation(tmp_path, ("n: 4", "nn: 4"), ("on: completion", "onn: completion")))
    assert answer.code == 2 and len(answer.err.splitlines()) == 2


# --- found while running -------------------------------------------------------------------------------------------


def again(recipe: Path, store: Path) -> Answer:
    answer = distillkit("run", recipe, "--store", store)
    assert answer.code == 0, answer.err
    return answer


def test_a_column_that_is_not_there(tmp_path: Path, store: Path) -> None:
    recipe = curation(tmp_path, (SOURCE, SOURCE.replace("}", ", columns: {reference: gold}}", 1)))
    answer = distillkit("run", recipe, "--store", store)
    assert answer.code == 2
    assert (
        "curation.yaml:8: stages.problems: traces.jsonl: no column 'gold'; there are prompt, reference"
        in answer.mistake
    )
    again(curation(tmp_path), store)


def test_nothing_left_after_filtering(tmp_path: Path, store: Path) -> None:
    answer = distillkit("run", curation(tmp_path, ("min: 1.0", "min: 2.0")), "--store", store)
    assert answer.code == 4
    assert "curation.yaml:13: stages.kept: none of 48 rows is left (wrong 46, unjudged 2)" in answer.mistake
    shown = json.loads(distillkit("show", "--store", store, "--json").out)["run"]
    assert shown["status"] == "failed" and "none of 48 rows is left" in shown["error"]
    assert again(curation(tmp_path), store).out.count("from the store") >= 8


def test_too_many_rows_that_nobody_could_judge(tmp_path: Path, store: Path) -> None:
    (tmp_path / "grade.py").write_text("def grade(row):\n    raise KeyError('gold')\n")
    python = "math: {kind: python, file: grade.py, function: grade}"
    recipe = curation(tmp_path, ("math: {kind: exact}", python))
    answer = distillkit("run", recipe, "--store", store, "--trust")
    assert answer.code == 4 and "traces have no score (grader_crashed" in answer.err
    assert "Traceback" not in answer.err
    (tmp_path / "grade.py").write_text("def grade(row):\n    return 1.0\n")
    assert distillkit("run", recipe, "--store", store, "--trust").code == 0


def test_a_problem_file_that_is_damaged(tmp_path: Path, store: Path) -> None:
    recipe = curation(tmp_path, (SOURCE, SOURCE.replace("traces.jsonl", "cut.parquet")))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    answer = distillkit("run", recipe, "--store", store)
    assert answer.code == 4 and "cut.parquet: not a whole Parquet file" in answer.mistake


def artifact(store: Path, stage: str) -> Path:
    return next(each.path for each in Store(store).all() if each.manifest.stage == stage)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.unlink()  # it may be a link to a label that other artifacts share
    file.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte flipped in a shard": (lambda path: flip(path / "tables/rows/00000.parquet"), "other bytes than were sealed"),
    "a shard cut short": (lambda path: os.truncate(path / "tables/rows/00000.parquet", 100), "missing or cut short"),
    "a shard removed": (lambda path: (path / "tables/rows/00001.parquet").unlink(), "missing or cut short"),
    "a manifest that is none": (lambda path: (path / "manifest.json").write_text("{"), "manifest cannot be read"),
    "a manifest of a later version": (
        lambda path: (path / "manifest.json").write_text(
            (path / "manifest.json").read_text().replace('"format": 1', '"format": 2')),
        "manifest cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_artifact_is_named_with_what_repairs_it(
    what: str, tmp_path: Path, store: Path, whole: Path
) -> None:
    damage, says = DAMAGES[what]
    victim = artifact(store, "traces")
    damage(victim)
    recipe = curation(tmp_path, ("share, min: 0.9", "share, min: 0.8"))  # a new filter reads the text anew
    answer = distillkit("run", recipe, "--store", store)
    assert answer.code == 4 and says in answer.mistake, answer.err
    [remedy] = re.findall(r"remove it \(rm -r (\S+)\) and run again", answer.mistake)
    assert Path(remedy).resolve() == victim.resolve()
    shutil.rmtree(remedy)
    again(curation(tmp_path), store)
    assert contents(store) == contents(whole)


def test_damaged_labels_are_not_taken_from_the_cache_that_shares_their_bytes(
    tmp_path: Path, whole: Path
) -> None:
    recipe, store = curation(tmp_path), tmp_path / "store"
    again(recipe, store)
    victim = artifact(store, "judged")
    for file in victim.glob("tables/rows/*.parquet"):
        data = bytearray(file.read_bytes())
        data[50] ^= 1
        with file.open("r+b") as shared:  # in place: the cache has the same inode
            shared.write(data)
    other = curation(tmp_path, ("share, min: 0.9", "share, min: 0.8"))
    assert distillkit("run", other, "--store", store).code == 4
    shutil.rmtree(victim)
    again(recipe, store)
    rows = [list(Store(each).open(victim.name).rows()) for each in (store, whole)]
    assert rows[0] == rows[1]


def test_an_artifact_without_a_manifest_is_none_and_made_anew(
    tmp_path: Path, store: Path, whole: Path
) -> None:
    (artifact(store, "judged") / "manifest.json").unlink()
    answer = again(curation(tmp_path), store)
    assert re.search(r"judged\s+verify\s+48 of 48\s+\d", answer.out)
    assert contents(store) == contents(whole)


def test_a_store_of_others_that_cannot_be_written(tmp_path: Path, store: Path) -> None:
    if not _mounted(tmp_path / "disk", "size=8m"):
        pytest.skip("only root can mount a small disk")
    try:
        shutil.copytree(store, tmp_path / "disk" / "store", symlinks=True)
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        there = ("--store", tmp_path / "disk" / "store")
        answer = distillkit("run", curation(tmp_path), *there)
        assert answer.code == 3 and "Read-only file system" in answer.mistake
        assert distillkit("show", *there).code == 0 and distillkit("gc", *there).code == 0
        other = distillkit("run", curation(tmp_path), "--store", tmp_path / "disk" / "other")
        assert other.code == 3 and "cannot make the store there (Read-only file system)" in other.mistake
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=False)


# --- disk space ----------------------------------------------------------------------------------------------------


def _mounted(folder: Path, options: str) -> bool:
    """Whether a memory disk could be mounted there."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


class Disk:
    """A disk with so many free KiB, until the rest is freed."""

    def __init__(self, folder: Path, total_kib: int) -> None:
        self.folder = folder
        self.total_kib = total_kib

    def leave(self, free_kib: int) -> None:
        """Empty it but for a file that leaves only this much."""
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        (self.folder / "ballast").write_bytes(bytes((self.total_kib - free_kib) * 1024))

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    if not _mounted(folder, "size=4m"):
        pytest.skip("only root can mount a small disk")
    try:
        yield Disk(folder, 4096)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


def test_no_disk_space_anywhere_in_a_run(tmp_path: Path, disk: Disk, whole: Path) -> None:
    """Wherever the disk fills up, from the first file to the report, the line is the same and the work goes on."""
    recipe, reached = curation(tmp_path), set()
    for free_kib in range(0, 240, 10):
        disk.leave(free_kib)
        answer = distillkit("run", recipe, "--store", disk.folder / "store")
        if answer.code == 0:
            break
        assert answer.code == 3 and "no disk space left" in answer.mistake, answer.err
        reached.add(answer.out.count(" s\n"))
    assert len(reached) > 4  # it ended in several stages
    disk.leave(120)
    assert distillkit("run", recipe, "--store", disk.folder / "store").code == 3
    disk.free()
    assert again(recipe, disk.folder / "store").out.count("from the store") > 2
    assert contents(disk.folder / "store") == contents(whole)


SAMPLED = """\
name: sampled
seed: 5
shards: 2
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 12}
  - {name: traces, kind: sample, model: toy:base, n: 8, max_tokens: 48}
  - {name: judged, kind: verify}
"""


def sampled(folder: Path) -> Path:
    recipe = folder / "sampled.yaml"
    recipe.write_text(SAMPLED)
    return recipe


@pytest.fixture(scope="module")
def sampled_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the sampling recipe ran undisturbed."""
    folder = tmp_path_factory.mktemp("sampled")
    answer = command("run", sampled(folder), "--store", folder / "store")
    assert answer.returncode == 0, answer.stderr
    return folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize(
    "free_kib", [pytest.param(64, marks=pytest.mark.soak), 76, pytest.param(88, marks=pytest.mark.soak)]
)
def test_no_disk_space_in_a_child_process(
    free_kib: int, tmp_path: Path, disk: Disk, sampled_whole: Path
) -> None:
    recipe, store = sampled(tmp_path), disk.folder / "store"
    disk.leave(free_kib)
    answer = command("run", recipe, "--store", store)
    assert answer.returncode == 3, answer.stderr
    assert answer.stderr.count("\n") == 1 and "no disk space left" in answer.stderr
    disk.free()
    assert command("run", recipe, "--store", store).returncode == 0
    assert contents(store) == contents(sampled_whole)


# --- two at once, and told to stop ---------------------------------------------------------------------------------


def start(*arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "distillkit", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment,
        start_new_session=True,
    )  # fmt: skip


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def waiting(store: Path) -> bool:
    return any(each["event"] == "waiting" for each in events(store))


def test_work_that_another_process_does_is_waited_for(tmp_path: Path, store: Path, whole: Path) -> None:
    """The other process is this one: it holds the lock of an artifact that is missing."""
    victim = artifact(store, "judged")
    shutil.rmtree(victim)
    with locked(store / "work" / f"{victim.name}.lock", print):
        run = start("run", curation(tmp_path), "--store", store)
        wait_for(lambda: waiting(store) or run.poll() is not None)
    out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
    assert f"judged: process {os.getpid()} works on it in this store; waiting for it" in out
    assert contents(store) == contents(whole)


@pytest.mark.slow
def test_two_runs_on_one_store_end_well(tmp_path: Path, sampled_whole: Path) -> None:
    recipe, store = sampled(tmp_path), tmp_path / "store"
    runs = [start("run", recipe, "--store", store) for _ in range(2)]
    told = [run.communicate(timeout=PATIENCE_S) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert "works on it in this store; waiting for it" in told[0][0] + told[1][0]
    records = [json.loads(path.read_text()) for path in store.glob("runs/sampled/*/run.json")]
    assert [record["status"] for record in records] == ["done", "done"]
    made = [[stage["artifact"] for stage in record["stages"]] for record in records]
    assert made[0] == made[1] and len(list((store / "artifacts").iterdir())) == 3
    assert contents(store) == contents(sampled_whole)


def reached(store: Path, stage: str, done: int) -> bool:
    return any(each.get("stage") == stage and each.get("done", -1) >= done for each in events(store))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "stage", "done"),
    [
        (signal.SIGINT, "zero", 2),
        (signal.SIGTERM, "traces", 0),
        pytest.param(signal.SIGTERM, "zero", 2, marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, "traces", 0, marks=pytest.mark.soak),
    ],
    ids=["SIGINT-zero", "SIGTERM-traces", "SIGTERM-zero", "SIGINT-traces"],
)
def test_told_to_stop_it_stops_and_goes_on_later(
    number: signal.Signals, stage: str, done: int, tmp_path: Path, undisturbed: Path
) -> None:
    store = tmp_path / "store"
    arguments: list[str | Path] = ["run", MINI, "--store", store, "--until", "traces"]
    if stage == "traces":  # the training is not asked for again
        shutil.copytree(undisturbed, store, symlinks=True)
        shutil.rmtree(artifact(store, "traces"))
        shutil.rmtree(store / "completions")
        shutil.rmtree(store / "runs")
    run = start(*arguments)
    wait_for(lambda: reached(store, stage, done) or run.poll() is not None)
    os.kill(run.pid, number)
    out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130, out + err
    assert err.strip() == "distillkit: interrupted; what is finished is safe, run again to go on"
    [record] = store.glob("runs/mini/*/run.json")
    assert json.loads(record.read_text())["status"] == "interrupted"
    later = command(*arguments)
    assert later.returncode == 0, later.stderr
    expected = contents(undisturbed)
    assert contents(store) == {name: expected[name] for name in contents(store)}
    assert len(list(store.glob("runs/mini/*"))) == 1  # it went on under its own number


def test_told_to_stop_while_it_waits(tmp_path: Path, store: Path) -> None:
    victim = artifact(store, "judged")
    shutil.rmtree(victim)
    with locked(store / "work" / f"{victim.name}.lock", print):
        run = start("run", curation(tmp_path), "--store", store)
        wait_for(lambda: waiting(store) or run.poll() is not None)
        os.kill(run.pid, signal.SIGTERM)
        _, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130 and "Traceback" not in err


# --- secrets and the Hub -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            {"HF_HUB_OFFLINE": "1"},
            "offline (HF_HUB_OFFLINE), and it is not in the local cache; run once online",
        ),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "the Hub cannot be reached"),
    ],
)
def test_a_hub_model_out_of_reach_stops_the_run_before_it_begins(
    environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    recipe, store = curation(tmp_path, ("toy:base", "org/none")), tmp_path / "store"
    answer = command("run", recipe, "--store", store, **environment, HF_TOKEN=SECRET)
    assert answer.returncode == 3 and answer.stderr.count("\n") == 1
    assert "curation.yaml:9: stages.traces: org/none@main: " in answer.stderr and says in answer.stderr
    assert list((store / "artifacts").iterdir()) == []
    assert not leaks(store, answer.stdout, answer.stderr)


def leaks(store: Path, *told: str) -> list[str]:
    """Where the secret can be read."""
    files = [
        str(path) for path in store.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    return files + [text for text in told if SECRET in text]


MAKES_AND_TELLS = """\
import os

def make():
    yield {"prompt": "1 + 1", "reference": "2"}
    raise RuntimeError("refused with " + os.environ.get("HF_TOKEN", "no token"))
"""


def test_a_secret_in_an_error_of_foreign_code_is_taken_out(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    (tmp_path / "make.py").write_text(MAKES_AND_TELLS)
    recipe = curation(
        tmp_path, (SOURCE, SOURCE.replace("file: traces.jsonl", "python: {file: make.py, function: make}"))
    )
    answer = distillkit("run", recipe, "--store", store, "--trust")
    assert answer.code == 4 and "make() failed: RuntimeError: refused with " in answer.mistake
    assert not leaks(store, answer.out, answer.err)


def test_a_run_that_succeeds_keeps_no_secret_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    answer = distillkit("run", curation(tmp_path), "--store", tmp_path / "store")
    assert answer.code == 0 and not leaks(tmp_path / "store", answer.out, answer.err)
    assert not leaks(tmp_path / "store", distillkit("show", "--store", tmp_path / "store", "--json").out)
