"""Leaks become labels that say which benchmark row they are of, and problems that leak are never paid for."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.apply import apply
from distillkit.artifact import Artifact, Manifest, content_of
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.events import Events
from distillkit.executor import Processes
from distillkit.lock import Lock
from distillkit.recipe import load
from distillkit.runner import Run
from distillkit.spec import identity
from distillkit.stages.base import LABELS, PROBLEMS, TRACES, Input, Job, write_shards
from distillkit.stages.decontaminate import KEYS, Decontaminate
from distillkit.stages.problems import Problems
from distillkit.store import Store
from distillkit.trace import Problem, Trace, problem_schema, to_row, trace_schema
from distillkit.wiring import resolve

GOLDEN = "5fd7dec45704e931f3aac7b04fde1cc95974a8f9924cca479a886c59499e3800"
"""Content of the labels of `many()`."""
EXAM = [
    "A baker sells 48 cakes in April and half as many in May; how many cakes does she sell altogether?",
    "Find the number of ordered pairs of positive integers whose product is 400 and whose sum is even.",
    "已知函数的图像经过点求该函数在区间上的最大值与最小值之和",
    "What is 7 times 6?",
]
CLEAN = "Compare three kinds of apple that ripen late, and say which of them keeps best in a cold cellar."


def trace(problem: str, index: int, prompt: str, completion: str) -> Trace:
    messages = [{"role": "system", "content": EXAM[0]}, {"role": "user", "content": prompt}]
    return Trace(problem, messages, completion, "", completion, origin="o", index=index)


def sealed(store: Store, rows: list[Any], schema: Any, kind: str, name: str, shards: int = 3) -> Input:
    request = f"{len(store.all()):016x}"
    with store.building(name, request, print) as writer:
        write_shards(Job(store, writer, {}, shards=shards), [to_row(row) for row in rows], schema)
        made = store.seal(writer, Manifest(name, name, kind, request, ""))
    return Input(name, kind, made.content, artifact=made.path.name)


def exam(store: Store, texts: list[str] = EXAM, name: str = "exam") -> Input:
    problems = [
        Problem([{"role": "user", "content": text}], str(n), split="heldout") for n, text in enumerate(texts)
    ]
    return sealed(store, problems, problem_schema(), PROBLEMS, name)


def labelled(
    folder: Path, traces: list[Trace], *, workers: int = 1, warnings: list[str] | None = None, **fields: Any
) -> Artifact:
    store = Store(folder)
    stage = Decontaminate.model_validate({"name": "leaks", "against": ["exam"], **fields})
    inputs = {"input": [sealed(store, traces, trace_schema(), TRACES, "own")]}
    inputs["against"] = [exam(store)] if "exam" in stage.against else []
    with store.building("decontaminate", f"{len(store.all()):016x}", print) as writer:
        job = Job(store, writer, inputs, warn=(warnings if warnings is not None else []).append)
        job.executor = Processes(workers) if workers > 1 else job.executor
        stage.run(job)
        return store.seal(writer, Manifest("leaks", stage.kind, LABELS, f"{len(store.all()):016x}", ""))


def labels(made: Artifact) -> dict[str, tuple[Any, Any]]:
    """Trace id -> its two labels."""
    parsed = {row["id"]: (row["leak"], row["leak_weak"]) for row in made.rows()}
    return {key: tuple(each and json.loads(each) for each in found) for key, found in parsed.items()}


def many() -> list[Trace]:
    rng = random.Random(5)
    words = [f"word{n}" for n in range(300)]
    rows = []
    for problem in range(40):
        prompt = " ".join(rng.choices(words, k=30))
        if problem % 4 == 0:
            prompt += " " + ", ".join(EXAM[problem // 4 % 3].upper().split())
        for index in range(3):
            completion = " ".join(rng.choices(words, k=200))
            rows.append(trace(f"p{problem:02d}", index, prompt, completion + (EXAM[1] if index == 2 else "")))
    return rows


def test_a_leak_names_the_row_the_words_and_the_place(tmp_path: Path) -> None:
    prompt = f"Solve: {EXAM[1].lower().replace(' ', ', ')}"
    rows = [trace("a", 0, prompt, CLEAN), trace("a", 1, prompt, CLEAN), trace("b", 0, CLEAN, EXAM[1])]
    made = labelled(tmp_path, rows)
    found = labels(made)
    leak, weak = found["a/o/0"]
    assert weak is None and found["b/o/0"] == (None, None)  # system prompts are not looked at
    assert leak == found["a/o/1"][0]
    assert list(leak) == sorted(KEYS)
    assert leak["row"] == Problem([{"role": "user", "content": EXAM[1]}], "1").id
    assert (leak["benchmark"], leak["part"], leak["share"], leak["words"]) == ("exam", "prompt", 1.0, 18)
    assert leak["ngram"] == "find the number of ordered pairs of positive"
    assert prompt[leak["start"] : leak["end"]] == prompt.removeprefix("Solve: ").removesuffix(".")
    assert made.manifest.counts["leaks"] == {"exam": 2}


def test_on_names_the_part_and_its_gram(tmp_path: Path) -> None:
    rows = [trace("a", 0, EXAM[0], CLEAN), trace("b", 0, CLEAN, f"{CLEAN} {EXAM[1]}")]
    parts = {
        on: {
            key: leak and leak["part"]
            for key, (leak, _) in labels(labelled(tmp_path / on, rows, on=on)).items()
        }
        for on in ("prompt", "completion", "both")
    }
    assert parts["prompt"] == {"a/o/0": "prompt", "b/o/0": None}
    assert parts["completion"] == {"a/o/0": None, "b/o/0": "completion"}
    assert parts["both"] == {"a/o/0": "prompt", "b/o/0": "completion"}


def test_what_proves_nothing_is_told_apart(tmp_path: Path) -> None:
    rows = [trace("a", 0, "She lists ordered pairs of positive integers whose product is known.", CLEAN)]
    [(leak, weak)] = labels(labelled(tmp_path / "a", rows)).values()
    assert leak is None
    assert (weak["ngram"], weak["words"]) == ("ordered pairs of positive integers whose product is", 8)
    [(leak, weak)] = labels(labelled(tmp_path / "b", rows, share=0)).values()
    assert weak is None and leak["share"] < 0.5


def test_files_are_benchmarks_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [{"q": {"text": EXAM[0]}}, {"q": {"text": None}}, {"q": {"text": EXAM[3]}}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no json\n", "utf-8")
    entry = {"file": str(file), "columns": {"prompt": "q.text"}}
    warnings: list[str] = []
    rows = [trace("a", 0, f"{CLEAN}\n\nwhat IS 7 times 6\n\nBox it.", "")]
    made = labelled(tmp_path / "store", rows, against=[entry], warnings=warnings)
    [(leak, _)] = labels(made).values()
    assert (leak["benchmark"], leak["row"], leak["ngram"]) == ("mine.jsonl", 3, "what is 7 times 6")
    assert warnings == ["mine.jsonl: 2 of 4 rows have no text; they are not looked for"]
    with pytest.raises(StageError, match=r"mine.jsonl: none of its 1 rows has a text"):
        file.write_text('{"q": {"text": " "}}\n')
        labelled(tmp_path / "other", rows, against=[entry])
    with pytest.raises(RecipeError, match=r"mine.jsonl: no column 'prompt'; there are q"):
        labelled(tmp_path / "third", rows, against=[{"file": str(file)}])
    missing = Decontaminate.model_validate({"name": "x", "against": [{"file": str(tmp_path / "gone.csv")}]})
    with pytest.raises(MissingError, match=r"gone.csv: no such file"):
        missing.check(tmp_path)


def test_processes_make_the_same_labels(tmp_path: Path) -> None:
    alone, pooled = (labelled(tmp_path / str(n), many(), workers=n, on="both") for n in (1, 2))
    assert alone.content == pooled.content
    found = labels(alone)
    assert sum(leak is not None for leak, _ in found.values()) == 3 * 10 + 30


def test_changed_labels_need_a_new_version(tmp_path: Path) -> None:
    rows = [
        {"id": key, **label}
        for key, label in ((r.pop("id"), r) for r in labelled(tmp_path, many(), on="both").rows())
    ]
    assert (Decontaminate.VERSION, content_of(rows)) == (1, GOLDEN), "raise VERSION"


def test_labels_are_kept_for_the_same_benchmarks_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    text = sealed(store, many(), trace_schema(), TRACES, "own")
    kept = []
    for texts in (EXAM, EXAM, EXAM[:2]):
        stage = Decontaminate(name="leaks", against=["exam"])
        inputs = {"input": [text], "against": [exam(store, texts)]}
        with store.building("decontaminate", f"{len(store.all()):016x}", print) as writer:
            stage.run(Job(store, writer, inputs))
            kept.append(len(list((tmp_path / "labels").rglob("*.parquet"))))
            store.seal(writer, Manifest("leaks", stage.kind, LABELS, f"{len(store.all()):016x}", ""))
    assert kept == [3, 3, 6]


def test_odd_rows_are_data(tmp_path: Path) -> None:
    texts = [
        "",
        " \n",
        "\u200b",
        "\x00" * 50,
        "!" * 99_999,
        f"{'x ' * 300_000}{EXAM[0]}",
        "\u202eabc \u0627\u0644",
    ]
    rows = [trace(f"p{n}", 0, text, text) for n, text in enumerate(texts)]
    rows.append(Trace("none", [], "", "", "", origin="o"))
    found = labels(labelled(tmp_path, rows, on="both"))
    assert {key for key, (leak, _) in found.items() if leak} == {"p5/o/0"}
    stage = Decontaminate(name="x", against=["exam"])
    assert stage.label([], None) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"against": []},
        {"share": 1.5},
        {"n": 2},
        {"on": "prompts"},
        {"against": [{"files": "x"}]},
        {"common": 1},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Decontaminate.model_validate({"name": "leaks", "against": ["gsm8k"], **fields})


def test_every_label_is_declared() -> None:
    stage = Decontaminate(name="leaks", against=["gsm8k"])
    assert ["id", *(field for field in stage.fields() if "." not in field)] == stage.label_schema().names


HEAD = """\
name: guarded
engine: {kind: transformers}
verifiers: {math: {kind: math}}
stages:
  - {name: exam, kind: problems, file: exam.jsonl, split: heldout, columns: {prompt: q, reference: a}}
"""


def recipe(folder: Path, *stages: str) -> Any:
    (folder / "exam.jsonl").write_text("".join(json.dumps({"q": q, "a": 1}) + "\n" for q in EXAM), "utf-8")
    (folder / "r.yaml").write_text(HEAD + "".join(f"  - {stage}\n" for stage in stages), "utf-8")
    return load(folder / "r.yaml")


OWN = "{name: own, kind: sample, input: exam2, model: toy:base, n: 1, max_tokens: 8}"


def test_wires_take_stages_benchmarks_and_files(tmp_path: Path) -> None:
    declared = "{name: leaks, kind: decontaminate, input: own, against: [exam, gsm8k, {file: exam.jsonl, columns: {prompt: q}}]}"
    kept = "{name: kept, kind: filter, rules: [{field: leak, is: null, reason: leaked}, {field: leak_weak.share, max: 1, reason: x}]}"
    found = recipe(
        tmp_path,
        "{name: exam2, kind: problems, toy: chain, limit: 4, decontaminate: [exam]}",
        OWN,
        declared,
        kept,
    )
    wires = {step.name: step.wires for step in resolve(found)}
    assert wires["leaks"] == {"input": ["own"], "against": ["exam", "gsm8k"]}
    assert wires["exam2"] == {"decontaminate": ["exam"]}
    assert wires["own"]["input"] == ["exam2"]
    assert wires["kept"]["labels"] == ["leaks"]
    file = found.stage("leaks").against[2]
    assert Path(file.file) == tmp_path / "exam.jsonl"
    digests = identity(found.stage("leaks"))["against"]
    (tmp_path / "exam.jsonl").write_text('{"q": "another"}\n')
    assert identity(found.stage("leaks"))["against"] != digests


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            "[gsm8]",
            "'gsm8' is neither an earlier problems stage nor a built-in benchmark; did you mean gsm8k?",
        ),
        ("[quux]", "there are aime24, aime25, amc23"),
        ("[./mine.jsonl]", "write a file as {file: ./mine.jsonl, columns: {prompt: ...}}"),
        ("[leaks]", "leaks stands later in the file"),
        ("[own]", "own makes traces, needed is problems"),
    ],
)
def test_a_name_that_is_nothing_is_refused(tmp_path: Path, names: str, says: str) -> None:
    train = "{name: exam2, kind: problems, toy: chain, limit: 4}"
    with pytest.raises(RecipeError, match=r"stages\.leaks\.against") as caught:
        resolve(
            recipe(
                tmp_path, train, OWN, f"{{name: leaks, kind: decontaminate, input: own, against: {names}}}"
            )
        )
    assert says in str(caught.value)


def problems(folder: Path, texts: list[str], **fields: Any) -> Artifact:
    """What a problems stage keeps that is guarded against the exam."""
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps({"prompt": t, "reference": "1"}) + "\n" for t in texts), "utf-8")
    store = Store(folder / "store")
    stage = Problems(name="problems", file=str(file), **{"decontaminate": ["exam"], **fields})
    inputs = {"decontaminate": [exam(store)]}
    with store.building("problems", "f" * 16, print) as writer:
        stage.run(Job(store, writer, inputs, shards=2))
        return store.seal(writer, Manifest("problems", "problems", PROBLEMS, "f" * 16, ""))


def test_leaked_problems_are_left_out_before_the_limit(tmp_path: Path) -> None:
    texts = [
        EXAM[0],
        CLEAN,
        f"Q: {EXAM[1].upper()}",
        "What is 7 times 6?",
        "What is 7 times 6 plus 1?",
        f"{CLEAN} Why?",
    ]
    made = problems(tmp_path, texts, limit=3)
    assert {row["messages"][0]["content"] for row in made.rows()} == {CLEAN, texts[4], texts[5]}
    assert made.manifest.rejected == {"leaked": 3}
    assert made.manifest.telemetry["rejected_examples"] == {"leaked": "train.jsonl:1"}
    leaks = [json.loads(line) for line in (made.path / "leaks.jsonl").read_text("utf-8").splitlines()]
    assert [leak["where"] for leak in leaks] == ["train.jsonl:1", "train.jsonl:3", "train.jsonl:4"]
    assert leaks[1]["prompt"] == texts[2] and leaks[1]["benchmark"] == "exam"


def test_nothing_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"no problem left of 1 rows of train.jsonl: 1 leaked \(e.g. train.jsonl:1\)"
    ):
        problems(tmp_path, [EXAM[0]])


def test_apply_takes_files(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text(json.dumps({"q": EXAM[0]}) + "\n", "utf-8")
    rows = [
        {"prompt": EXAM[0], "completion": "96"},
        {"prompt": CLEAN, "completion": "the second"},
        {"prompt": "x"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    against = f"against=[{{file: {tmp_path}/bench.jsonl, columns: {{prompt: q}}}}]"
    counts = apply("decontaminate", tmp_path / "in.jsonl", tmp_path / "out.jsonl", [against])
    assert counts == {"rows": 3, "labelled": 2, "refused": 1}
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert out[0]["leak"]["benchmark"] == "bench.jsonl" and out[1]["leak"] is None
    kept = ["rules=[{field: leak, is: null, reason: leaked}]"]
    apply("filter", tmp_path / "out.jsonl", tmp_path / "kept.jsonl", kept)
    found = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text("utf-8").splitlines()]
    assert [row["reject_reason"] for row in found] == ["leaked", None, "incomplete"]
    with pytest.raises(RecipeError, match="apply decontaminate: against: 'aime2' is neither"):
        apply("decontaminate", tmp_path / "in.jsonl", tmp_path / "out.jsonl", ["against=[aime2]"])


def test_problems_are_made_anew_where_a_benchmark_changed(tmp_path: Path) -> None:
    lines = [
        json.dumps({"prompt": text, "reference": 1}) + "\n" for text in (EXAM[1], CLEAN, "Why is it so?")
    ]
    (tmp_path / "train.jsonl").write_text("".join(lines), "utf-8")
    found = recipe(tmp_path, "{name: train, kind: problems, file: train.jsonl, decontaminate: [exam]}")
    rejected = []
    for more in ("", "", json.dumps({"q": CLEAN, "a": 1})):
        with (tmp_path / "exam.jsonl").open("a", encoding="utf-8") as file:
            file.write(more)
        run = Run(found, Store(tmp_path / "store"), Events(tmp_path / "events.jsonl"), Lock(None))
        run.execute()
        rejected.append((run.done["train"].path.name, run.done["train"].manifest.rejected))
    assert rejected[0] == rejected[1] != rejected[2]
    assert (rejected[0][1], rejected[2][1]) == ({"leaked": 1}, {"leaked": 2})
