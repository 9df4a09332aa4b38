"""Built-in benchmarks: each file is whole, and one is read from a real server at the commit that the lock holds."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from distillkit import benchmarks
from distillkit.errors import RecipeError
from distillkit.hub import parse_reference
from distillkit.store import Store
from distillkit.verifiers import KINDS

sys.path.insert(0, str(Path(__file__).parent))

from hubserver import HubServer

NAMES = (
    "aime24 aime25 amc23 math500 gpqa_diamond livecodebench minerva olympiadbench gsm8k humaneval mbpp ifeval"
).split()
QUESTION = "Every morning Aya goes for a walk of nine kilometres and stops at a coffee shop afterwards."


def test_those_that_the_docs_name_are_there() -> None:
    assert benchmarks.names() == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_declared_in_full(name: str) -> None:
    found = benchmarks.named(name)
    assert parse_reference(found.hub, "dataset").revision == "main"  # the lock says which commit
    assert found.prompt and found.columns["reference"]
    assert found.verifier.kind in KINDS
    assert found.n >= 1 and found.max_tokens >= 8192 and found.temperature > 0
    assert found.instruction or name == "ifeval"  # whose prompts are instructions themselves


def test_content_is_that_of_the_prompts() -> None:
    one = benchmarks.named("aime24")
    assert one.content("a" * 40) != one.content("b" * 40)
    assert one.content("a" * 40) == one.model_copy(update={"domain": "x"}).content("a" * 40)
    with pytest.raises(KeyError):
        benchmarks.named("aime1924")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def command(hub_url: str, folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`distillkit ...` in a fresh interpreter whose Hub is at the address."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub_url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "distillkit", *arguments],
        env=kept
        | settings
        | {"COLUMNS": "200", "PYTHONPATH": str(Path(benchmarks.__file__).parents[2])}
        | env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_run_reads_the_commit_that_the_lock_holds(hub: HubServer, tmp_path: Path) -> None:
    rows = [{"id": 60, "problem": QUESTION, "answer": "204"}, {"id": 61, "problem": None, "answer": "113"}]
    data = {"data/train-00000-of-00001.parquet": parquet(rows)}
    commit = hub.commit("dataset", "HuggingFaceH4/aime_2024", data)
    prompts = [QUESTION.upper(), "What does the Moon look like from the far side of Mars?"]
    lines = [json.dumps({"prompt": text, "reference": "1"}) + "\n" for text in prompts]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    stages = "[{name: train, kind: problems, file: train.jsonl, decontaminate: [aime24]}]"
    (tmp_path / "r.yaml").write_text(f"name: guarded\nstages: {stages}\n")
    done = command(hub.url, tmp_path, "check", "r.yaml")
    assert done.returncode == 0 and "decontaminate: aime24" in done.stdout and not hub.log
    done = command(hub.url, tmp_path, "run", "r.yaml")
    assert done.returncode == 0, done.stderr
    assert "leaked" in done.stdout
    lock = json.loads((tmp_path / "r.lock").read_text())
    assert lock == {"dataset:HuggingFaceH4/aime_2024": commit}
    [leaks] = [*(tmp_path / "store").rglob("leaks.jsonl")]
    leak = json.loads(leaks.read_text())
    assert (leak["benchmark"], leak["row"], leak["where"]) == ("aime24", 0, "train.jsonl:1")
    hub.commit("dataset", "HuggingFaceH4/aime_2024", {"data/train-00000-of-00001.parquet": parquet(rows[1:])})
    asked = len(hub.log)
    assert command(hub.url, tmp_path, "run", "r.yaml").returncode == 0
    assert len(hub.log) == asked  # the lock and the store know all of it


SCORED = """\
name: scored
verifiers: {math: {kind: math}}
engine: {kind: transformers}
stages:
  - name: scores
    kind: evaluate
    models: [toy:base]
    max_tokens: 8
    benchmarks: {aime24: 4, gpqa_diamond: {n: 2, temperature: 0.5}, ifeval: }
"""


def test_benchmarks_are_scored_by_name(hub: HubServer, tmp_path: Path) -> None:
    sums = [{"problem": f"{left} + 3", "answer": str(left + 3)} for left in range(6)]
    aime = [*sums, {"problem": "no gold", "answer": None}]
    science = {"Question": "3 + 4", "Correct Answer": "7"} | {
        f"Incorrect Answer {i}": str(i) for i in (1, 2, 3)
    }
    form = {
        "prompt": "8 - 5",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"relation": None}],
    }
    data = "data/train-00000-of-00001.parquet"
    commit = hub.commit("dataset", "HuggingFaceH4/aime_2024", {data: parquet(aime)})
    card = b"---\nconfigs:\n- {config_name: gpqa_diamond, data_files: gpqa.parquet}\n---\n"
    hub.commit("dataset", "Idavidrein/gpqa", {"gpqa.parquet": parquet([science]), "README.md": card})
    hub.commit("dataset", "google/IFEval", {data: parquet([form])})
    (tmp_path / "r.yaml").write_text(SCORED)
    done = command(hub.url, tmp_path, "run", "r.yaml")
    assert done.returncode == 0, done.stderr
    assert "aime24: 1 of 7 rows left out (no_reference 1); no score counts them" in done.stdout
    [path] = (tmp_path / "store" / "artifacts").glob("evaluate-*/manifest.json")
    manifest = json.loads(path.read_text())
    scores = manifest["summary"]["scores"]["toy:base"]
    assert (scores["aime24/pass@1"]["n"], scores["aime24/pass@1"]["samples"]) == (6, 24)
    assert (scores["gpqa_diamond/pass@1"]["n"], scores["ifeval/pass@1"]["samples"]) == (1, 1)
    settings = manifest["summary"]["settings"]["benchmarks"]
    assert settings["aime24"] == {
        "n": 4, "template": "chat", "temperature": 0.6, "top_p": 0.95, "max_tokens": 8,
        "verifier": "math", "hub": "HuggingFaceH4/aime_2024", "commit": commit,
    }  # fmt: skip
    assert (settings["gpqa_diamond"]["temperature"], settings["ifeval"]["n"]) == (0.5, 1)
    assert manifest["declared"]["benchmarks"]["gpqa_diamond"]["declared"]["verifier"]["kind"] == "choice"
    asked = len(hub.log)
    assert command(hub.url, tmp_path, "run", "r.yaml").returncode == 0
    assert len(hub.log) == asked  # the lock and the store know all of it


STUDIED = """\
name: studied
verifiers: {math: {kind: math}}
engine: {kind: transformers}
stages:
  - {name: scores, kind: evaluate, models: [toy:base], max_tokens: 32, benchmarks: {aime24: 3}}
  - {name: curve, kind: budget_curve, models: [toy:base], max_tokens: 32, benchmarks: [aime24], n: 2, budgets: [0, 16],
     force: {answer: "<answer>", max_tokens: 4}}
  - {name: probes, kind: probe, models: [toy:base], max_tokens: 32, benchmarks: {aime24: {n: 3}}}
"""


def test_a_benchmark_is_looked_behind_as_it_is_scored(hub: HubServer, tmp_path: Path) -> None:
    rows = [{"problem": f"{left} + 3", "answer": str(left + 3)} for left in range(4)]
    data = "data/train-00000-of-00001.parquet"
    commit = hub.commit("dataset", "HuggingFaceH4/aime_2024", {data: parquet(rows)})
    (tmp_path / "r.yaml").write_text(STUDIED)
    done = command(hub.url, tmp_path, "run", "r.yaml")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.lock").read_text()) == {"dataset:HuggingFaceH4/aime_2024": commit}
    store, found, texts = Store(tmp_path / "store"), {}, {}
    for kind in ("evaluate", "budget_curve", "probe"):
        [folder] = store.artifacts.glob(f"{kind}-*")
        made = store.open(folder.name)
        found[kind] = made.manifest
        rows = [row for row in made.rows("completions") if not row["parent_id"]]
        texts[kind] = {row["id"]: row["completion"] for row in rows}
    scored = found["evaluate"].summary["settings"]["benchmarks"]["aime24"]
    for kind, n in (("budget_curve", 2), ("probe", 3)):
        assert found[kind].declared["benchmarks"]["aime24"]["declared"]["verifier"]["kind"] == "math"
        assert found[kind].inputs["benchmarks"] == found["evaluate"].inputs["benchmarks"]
        settings = found[kind].summary["settings"]
        assert settings["benchmark"] == "aime24"
        assert {key: settings[key] for key in scored} == scored | {"n": n}
    # With evaluate's settings they look at evaluate's own completions.
    assert len(texts["evaluate"]) == len(texts["probe"]) == 12 and texts["probe"] == texts["evaluate"]
    assert len(texts["budget_curve"]) == 8 and texts["budget_curve"].items() <= texts["evaluate"].items()
    uncut = found["budget_curve"].summary["curves"]["toy:base"]["uncut"]["accuracy"]
    assert (uncut["n"], uncut["samples"]) == (4, 8)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[aime24]", "[aime24, math500]", "one set of problems makes one curve, here are aime24, math500"),
        ("[aime24]", "[aime42]", "'aime42' is neither an earlier problems stage nor a built-in benchmark"),
        ("[aime24]", "[humaneval]", "benchmarks.humaneval: code judges whole texts, and a forced answer is one line"),
        ("max_tokens: 32, benchmarks: [aime24]", "problems: scores", "max_tokens: give it; scores has none of its own"),
        ("{kind: math}}", "{kind: exact}}", "benchmarks.aime24: is judged by math, but verifiers.math of the recipe is"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_behind_is_refused_by_check(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    from distillkit.check import check
    from distillkit.recipe import load

    assert old in STUDIED
    (tmp_path / "r.yaml").write_text(STUDIED.replace(old, new))
    with pytest.raises(RecipeError) as error:
        check(load(tmp_path / "r.yaml"), tmp_path)
    assert says in str(error.value)


def test_a_stage_under_the_name_of_a_benchmark_is_named_as_problems(tmp_path: Path) -> None:
    from distillkit.check import check
    from distillkit.recipe import load

    (tmp_path / "in.jsonl").write_text('{"prompt": "1 + 1", "reference": "2"}\n')
    made = "stages:\n  - {name: aime24, kind: problems, file: in.jsonl, split: heldout}"
    text = STUDIED.replace("stages:", made)
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(
        RecipeError, match=r"benchmarks\.aime24: is the name of a stage here and of a built-in"
    ):
        check(load(tmp_path / "r.yaml"), tmp_path)
    for own in ("benchmarks: {aime24: 3}", "benchmarks: [aime24]", "benchmarks: {aime24: {n: 3}}"):
        text = text.replace(own, "problems: aime24")
    (tmp_path / "r.yaml").write_text(text)
    assert check(load(tmp_path / "r.yaml"), tmp_path).warnings == []


def test_a_judge_that_the_recipe_has_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(SCORED.replace("{kind: math}}", "{kind: exact}}"))
    done = command("http://127.0.0.1:9", tmp_path, "check", "r.yaml")
    assert done.returncode == 2
    assert "benchmarks.aime24: is judged by math, but verifiers.math of the recipe is exact" in done.stderr
    own = SCORED.replace("{kind: math}}", "{kind: exact}}").replace(
        "aime24: 4", "aime24: {verifier: {kind: exact}}"
    )
    (tmp_path / "r.yaml").write_text(own)
    assert command("http://127.0.0.1:9", tmp_path, "check", "r.yaml").returncode == 0
    (tmp_path / "r.yaml").write_text(SCORED.replace("aime24:", "aime42:"))
    done = command("http://127.0.0.1:9", tmp_path, "check", "r.yaml")
    assert done.returncode == 2 and "did you mean aime2" in done.stderr


def test_a_benchmark_out_of_reach_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "x", "completion": "y"}\n')
    done = command(
        "http://127.0.0.1:9",
        tmp_path,
        *("apply", "decontaminate", "in.jsonl", "-o", "out.jsonl", "--set", "against=[gpqa_diamond]"),
    )
    assert done.returncode == 3
    assert "Idavidrein/gpqa@main: the Hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    done = command("http://127.0.0.1:9", tmp_path, "apply", "decontaminate", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 2 and "against" in done.stderr


def test_a_benchmark_of_another_shape_says_which_columns_there_are(hub: HubServer, tmp_path: Path) -> None:
    hub.commit("dataset", "openai/openai_humaneval", {"test.jsonl": b'{"text": "def f(): ..."}\n'})
    (tmp_path / "in.jsonl").write_text('{"prompt": "x", "completion": "y"}\n')
    done = command(
        hub.url,
        tmp_path,
        *("apply", "decontaminate", "in.jsonl", "-o", "out.jsonl", "--set", "against=[humaneval]"),
    )
    assert done.returncode == 2
    assert "openai/openai_humaneval: has no column 'prompt' any more; there are text" in done.stderr


def test_names_are_refused_before_anything_is_asked() -> None:
    from distillkit.wiring import check_benchmark

    with pytest.raises(RecipeError, match="did you mean math500"):
        check_benchmark("math-500", "stages.x.against")
