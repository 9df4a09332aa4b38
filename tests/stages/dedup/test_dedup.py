import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest, content_of
from distillkit.errors import MissingError
from distillkit.executor import Processes
from distillkit.spec import digest, identity
from distillkit.stages import dedup
from distillkit.stages.base import LABELS, TRACES, Input, Job, write_shards
from distillkit.stages.dedup import Dedup, bands, match, signature, sketch
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

GOLDEN = "7e078334b5e4f124a874c8173ed9ea0803851bdf30a6363e070634c0a46bf0c9"
"""Content of the labels of `many()`."""
Labels = dict[str, dict[str, Any]]
LONG = " ".join(f"word{i}" for i in range(60))


def trace(problem: str, index: int, completion: str, prompt: str = "", reasoning: str = "") -> Trace:
    messages = [{"role": "user", "content": prompt or problem}]
    return Trace(problem, messages, completion, reasoning, completion, origin="o", index=index)


def sealed(store: Store, rows: list[Trace], shards: int = 4) -> Artifact:
    """The traces as an artifact."""
    request = digest([shards, sorted([row.id, row.completion, row.reasoning] for row in rows)])
    with store.building("traces", request, print) as writer:
        write_shards(Job(store, writer, {}, shards=shards), [to_row(row) for row in rows], trace_schema())
        return store.seal(writer, Manifest("own", "sample", TRACES, request, ""))


def labelled(store: Store, text: Artifact, workers: int = 1, **fields: Any) -> Artifact:
    """The labels of an artifact; one that was killed goes on."""
    stage = Dedup.model_validate({"name": "twins", **fields})
    request = digest([text.content, identity(stage), text.shards()])
    inputs = {"input": [Input("own", TRACES, text.content, artifact=text.path.name)]}
    with store.building("dedup", request, print) as writer:
        job = Job(store, writer, inputs, shards=text.shards())
        job.executor = Processes(workers) if workers > 1 else job.executor
        stage.run(job)
        made = store.seal(writer, Manifest(stage.name, stage.kind, LABELS, request, ""))
    assert made.shards() == text.shards()
    assert not made.manifest.files
    return made


def run(folder: Path, rows: list[Trace], *, shards: int = 4, workers: int = 1, **fields: Any) -> Labels:
    """Trace id -> labels."""
    store = Store(folder)
    made = labelled(store, sealed(store, rows, shards), workers, **fields)
    return {row.pop("id"): row for row in made.rows()}


def many(seed: int = 3) -> list[Trace]:
    """Traces of 60 problems with exact, near and no duplicates, across problems too."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(2000)]
    texts = [[rng.choice(words) for _ in range(rng.randint(3, 120))] for _ in range(60)]
    rows = []
    for problem in range(60):
        for index in range(4):
            text = list(rng.choice(texts))
            if rng.random() < 0.5:
                text[rng.randrange(len(text))] = "edited"
            rows.append(trace(f"p{problem:02d}", index, " ".join(text)))
    return rows


def test_clusters_have_a_first_and_its_duplicates(tmp_path: Path) -> None:
    near = LONG.replace("word59", "changed")
    rows = [
        trace("b", 0, LONG),
        trace("b", 1, near),
        trace("c", 0, f"  {LONG}\n"),
        trace("a", 0, "something else altogether, long enough to be compared by its words"),
    ]
    labels = run(tmp_path, rows)
    assert labels["a/o/0"] == {"cluster": "a/o/0", "duplicate": False, "similarity": 1.0}
    assert labels["b/o/0"] == {"cluster": "b/o/0", "duplicate": False, "similarity": 1.0}
    assert labels["b/o/1"] == {"cluster": "b/o/0", "duplicate": True, "similarity": round(55 / 57, 4)}
    assert labels["c/o/0"] == {"cluster": "b/o/0", "duplicate": True, "similarity": 1.0}


def test_labels_do_not_depend_on_shards_order_or_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup, "FEW_ROWS", 0)
    rows = many()
    expected = run(tmp_path / "a", rows, shards=1)
    assert sum(label["duplicate"] for label in expected.values()) > 100
    assert run(tmp_path / "b", rows, shards=7) == expected
    assert run(tmp_path / "c", rows[::-1], shards=3) == expected
    assert run(tmp_path / "d", rows, shards=2, workers=2) == expected


def test_changed_labels_need_a_new_version(tmp_path: Path) -> None:
    labels = [{"id": key, **label} for key, label in run(tmp_path, many()).items()]
    assert (Dedup.VERSION, content_of(labels)) == (2, GOLDEN), "raise VERSION"


def test_short_texts_are_compared_whole_and_empty_ones_not_at_all(tmp_path: Path) -> None:
    rows = [
        trace("a", 0, "<answer> 5 </answer>"),
        trace("b", 0, "<answer> 6 </answer>"),
        trace("c", 0, "yes"),
    ]
    rows += [trace("d", 0, "Yes"), trace("e", 0, ""), trace("f", 0, " \n")]
    labels = run(tmp_path, rows)
    assert {key: label["cluster"] for key, label in labels.items()} == {
        "a/o/0": "a/o/0",
        "b/o/0": "b/o/0",
        "c/o/0": "c/o/0",
        "d/o/0": "c/o/0",
        "e/o/0": "e/o/0",
        "f/o/0": "f/o/0",
    }


def test_on_names_the_part(tmp_path: Path) -> None:
    rows = [trace("a", 0, "one", reasoning=LONG), trace("b", 0, "two", reasoning=LONG)]
    assert run(tmp_path / "r", rows, on="reasoning")["b/o/0"]["duplicate"] is True
    assert run(tmp_path / "s", rows, on="response")["b/o/0"]["duplicate"] is False


def test_on_prompt_problems_are_compared(tmp_path: Path) -> None:
    rows = [trace(problem, index, f"{problem} {index}", prompt) for problem, prompt in
            (("a", LONG), ("b", LONG.upper()), ("c", "Another question")) for index in range(2)]  # fmt: skip
    labels = run(tmp_path, rows, on="prompt")
    assert {key for key, label in labels.items() if label["duplicate"]} == {"b/o/0", "b/o/1"}
    assert labels["b/o/1"]["cluster"] == labels["a/o/1"]["cluster"] == "a/o/0"


def test_the_threshold_decides(tmp_path: Path) -> None:
    near = LONG.replace("word20", "x").replace("word40", "y")  # 46 of 66 shingles shared
    rows = [trace("a", 0, LONG), trace("b", 0, near)]
    assert run(tmp_path / "low", rows, threshold=0.65)["b/o/0"]["similarity"] == round(46 / 66, 4)
    assert run(tmp_path / "high", rows, threshold=0.75)["b/o/0"]["duplicate"] is False


def test_odd_text_is_data(tmp_path: Path) -> None:
    rows = [
        trace("a", 0, "\x00" * 10),
        trace("b", 0, "!" * 100_000),
        trace("c", 0, "的" * 1000),
        trace("d", 0, "的" * 900),
    ]
    labels = run(tmp_path, rows)
    assert labels["d/o/0"]["cluster"] == "c/o/0"
    assert labels["b/o/0"]["duplicate"] is False


def test_no_traces_no_labels(tmp_path: Path) -> None:
    assert run(tmp_path, []) == {}


def test_both_is_the_prompt_with_its_completion(tmp_path: Path) -> None:
    other = LONG.replace("word", "term")
    rows = [
        trace("a", 0, LONG, "a question of its own"),
        trace("b", 0, LONG, "a question of its own"),
        trace("c", 0, LONG, other),
    ]
    assert clusters(run(tmp_path / "b", rows, on="both")) == {"a/o/0": ["a/o/0", "b/o/0"], "c/o/0": ["c/o/0"]}
    assert clusters(run(tmp_path / "c", rows)) == {"a/o/0": ["a/o/0", "b/o/0", "c/o/0"]}


def clusters(labels: Labels) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, label in sorted(labels.items()):
        found.setdefault(label["cluster"], []).append(key)
    return found


def test_within_a_problem_others_do_not_count(tmp_path: Path) -> None:
    near = LONG.replace("word59", "changed")
    rows = [trace("a", 0, LONG), trace("a", 1, near), trace("b", 0, LONG), trace("b", 1, LONG)]
    found = clusters(run(tmp_path / "p", rows, scope="problem"))
    assert found == {"a/o/0": ["a/o/0", "a/o/1"], "b/o/0": ["b/o/0", "b/o/1"]}
    assert len(clusters(run(tmp_path / "g", rows))) == 1


def test_at_one_only_equal_texts_are_duplicates(tmp_path: Path) -> None:
    texts = [
        "(2 + 3) * 4 and some more words",
        "(2 + 3)  * 4\nand some more words",
        "2 + (3 * 4) and some more words",
    ]
    rows = [trace(name, 0, text) for name, text in zip("abc", texts, strict=True)]
    found = clusters(run(tmp_path, rows, threshold=1.0))
    assert found == {"a/o/0": ["a/o/0", "b/o/0"], "c/o/0": ["c/o/0"]}


@pytest.mark.skipif(not find_spec("datasketch"), reason="datasketch is not installed")
def test_the_fallback_finds_what_rensa_finds(tmp_path: Path) -> None:
    assert run(tmp_path / "d", many(), minhash="datasketch") == run(tmp_path / "r", many())


def test_a_library_that_is_not_there_is_said_before_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="rensa is not installed; pip install"):
        Dedup(name="twins").check(tmp_path)


@pytest.mark.parametrize("crowd", [False, True])
def test_clusters_are_those_of_all_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, crowd: bool
) -> None:
    """Against brute force over every pair, with plain sets of word tuples; with what is for crowds, too."""
    if crowd:
        monkeypatch.setattr(bands, "CROWD", 2)
        monkeypatch.setattr(match, "TURNS", 1)
    rows = many(seed=11)
    sets = {}
    for row in rows:
        words = row.completion.split()
        sets[row.id] = {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}
    ids = sorted(sets)
    first = {key: key for key in ids}
    for i, a in enumerate(ids):
        for b in ids[i + 1 :]:
            if len(sets[a] & sets[b]) >= 0.7 * len(sets[a] | sets[b]):
                x, y = sorted((first[a], first[b]))
                first = {key: x if each == y else each for key, each in first.items()}
    labels = run(tmp_path, rows, threshold=0.7)
    assert {key: label["cluster"] for key, label in labels.items()} == first


class TestCrowds:
    """Many texts that share a band."""

    def test_equal_texts_are_one(self, tmp_path: Path) -> None:
        labels = run(tmp_path, [trace(f"p{i:05d}", 0, LONG) for i in range(3000)])
        assert sum(label["duplicate"] for label in labels.values()) == 2999

    def test_alike_ones_are_compared_once_each(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = counted(monkeypatch)
        rows = [trace(f"p{i:05d}", 0, f"{LONG} its own {i}") for i in range(1000)]
        assert len(clusters(run(tmp_path, rows))) == 1
        assert len(asked) < 10 * len(rows)

    def test_boilerplate_is_not_compared_with_all_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = counted(monkeypatch)
        own = [" ".join(f"o{i}x{n}" for n in range(16)) for i in range(500)]
        rows = [
            trace(f"p{i:05d}", 0, f"{LONG} {text}") for i, text in enumerate(own)
        ]  # 0.64 alike, all pairs
        rows += [trace("q", 0, f"{LONG} {own[123]} and more"), trace("r", 0, f"{LONG} {own[400]} and more")]
        found = clusters(run(tmp_path, rows, threshold=0.7))
        assert [group for group in found.values() if len(group) > 1] == [
            ["p00123/o/0", "q/o/0"],
            ["p00400/o/0", "r/o/0"],
        ]
        assert len(asked) < 0.25 * len(rows) ** 2 / 2


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every exact comparison."""
    asked: list[int] = []
    exact = match.jaccard

    def counting(a: Any, b: Any) -> float:
        asked.append(len(a))
        return exact(a, b)

    monkeypatch.setattr(match, "jaccard", counting)
    return asked


class TestSketches:
    """What is kept between runs."""

    @pytest.fixture
    def signed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
        """How many texts were signed, call by call."""
        calls: list[int] = []

        def counting(texts: Any, library: Any) -> Any:
            calls.append(len(texts))
            return signature.signatures(texts, library)

        monkeypatch.setattr(sketch, "signatures", counting)
        return calls

    def test_another_threshold_or_scope_signs_nothing(self, tmp_path: Path, signed: list[int]) -> None:
        store = Store(tmp_path)
        text = sealed(store, many())
        labelled(store, text)
        calls = len(signed)
        assert calls == text.shards()
        labelled(store, text, threshold=0.6)
        labelled(store, text, scope="problem")
        assert len(signed) == calls

    def test_added_rows_sign_only_themselves(self, tmp_path: Path, signed: list[int]) -> None:
        rows = many()
        more = [trace(f"n{i:02d}", 0, f"{LONG} {i}") for i in range(24)]
        store = Store(tmp_path / "grown")
        labelled(store, sealed(store, rows))
        before = sum(signed)
        grown = labelled(store, sealed(store, rows + more))
        assert sum(signed) == before + len(more)
        other = Store(tmp_path / "fresh")
        assert labelled(other, sealed(other, rows + more)).content == grown.content

    def test_a_damaged_one_is_made_anew(self, tmp_path: Path, signed: list[int]) -> None:
        store = Store(tmp_path)
        text = sealed(store, many())
        expected = labelled(store, text, threshold=0.8).content
        [broken, cut, *_] = sorted((tmp_path / "labels").glob("*/*.parquet"))
        data = bytearray(broken.read_bytes())
        data[len(data) // 2] ^= 1
        broken.write_bytes(data)
        cut.write_bytes(cut.read_bytes()[:100])
        before = sum(signed)
        assert labelled(store, text, threshold=0.801).content == expected
        assert before < sum(signed) < 2 * before


POINTS = [("sketch_shard", 2), ("contest", 5), ("spill", 1), ("confirm", 0), ("label", 3)]


def die_at(folder: str, part: str, after: int) -> None:
    """Label, and be killed when so many tasks of a part are done; runs in a process of its own."""
    import os

    work, done = getattr(dedup, part), []

    def dying(task: Any) -> None:
        if len(done) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        work(task)
        done.append(task)

    setattr(dedup, part, dying)
    bands.FEW = 0
    store = Store(Path(folder))
    labelled(store, sealed(store, many()))


@pytest.mark.parametrize(("part", "after"), POINTS)
def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, after: int) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_dedup\n"
    code += f"test_dedup.die_at({str(tmp_path)!r}, {part!r}, {after})"
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    monkeypatch.setattr(bands, "FEW", 0)
    store = Store(tmp_path)
    text = sealed(store, many())
    [work] = (tmp_path / "work").glob("dedup-*/")
    files = [
        *(work / ".scratch").glob("*"),
        *work.glob("tables/*/*"),
        *(tmp_path / "labels").glob("*/*.parquet"),
    ]
    there = {path.name: path.stat().st_mtime_ns for path in files}
    assert there
    written = []
    save = np.save
    monkeypatch.setattr(np, "save", lambda file, *rest, **options: (written.append(file.name), save(file, *rest, **options)))  # fmt: skip
    made = labelled(store, text)
    assert not {Path(name).name.removesuffix(".part") for name in written} & set(there)
    kept = [*made.path.glob("tables/*/*"), *(tmp_path / "labels").glob("*/*.parquet")]
    assert all(path.stat().st_mtime_ns == there.get(path.name, path.stat().st_mtime_ns) for path in kept)
    assert content_of([dict(row) for row in made.rows()]) == GOLDEN


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": 0.2},
        {"threshold": 1.5},
        {"on": "prompts"},
        {"min": 1},
        {"on": "prompt", "scope": "problem"},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dedup.model_validate({"name": "twins", **fields})


def test_every_label_is_declared() -> None:
    from distillkit.stages.dedup import schema

    assert ["id", *Dedup(name="twins").fields()] == schema().names
