import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.artifact import Manifest, content_of
from distillkit.executor import Processes
from distillkit.stages.base import LABELS, TRACES, Input, Job, write_shards
from distillkit.stages.dedup import Dedup
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

GOLDEN = "7e078334b5e4f124a874c8173ed9ea0803851bdf30a6363e070634c0a46bf0c9"
"""Content of the labels of `many()`."""
LONG = " ".join(f"word{i}" for i in range(60))


def trace(problem: str, index: int, completion: str, prompt: str = "", reasoning: str = "") -> Trace:
    messages = [{"role": "user", "content": prompt or problem}]
    return Trace(problem, messages, completion, reasoning, completion, origin="o", index=index)


def run(
    folder: Path, rows: list[Trace], *, shards: int = 4, workers: int = 1, **fields: Any
) -> dict[str, dict[str, Any]]:
    """Trace id -> labels."""
    store = Store(folder)
    stage = Dedup.model_validate({"name": "twins", **fields})
    with store.building("traces", "a" * 16, print) as writer:
        write_shards(Job(store, writer, {}, shards=shards), [to_row(row) for row in rows], trace_schema())
        text = store.seal(writer, Manifest("own", "sample", TRACES, "a" * 16, ""))
    inputs = {"input": [Input("own", TRACES, text.content, artifact=text.path.name)]}
    with store.building("dedup", "b" * 16, print) as writer:
        job = Job(store, writer, inputs, shards=shards)
        job.executor = Processes(workers) if workers > 1 else job.executor
        stage.run(job)
        made = store.seal(writer, Manifest(stage.name, stage.kind, LABELS, "b" * 16, ""))
    assert made.shards() == shards
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


def test_labels_do_not_depend_on_shards_order_or_workers(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("fields", [{"threshold": 0.2}, {"threshold": 1.5}, {"on": "prompts"}, {"min": 1}])
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dedup.model_validate({"name": "twins", **fields})


def test_every_label_is_declared() -> None:
    from distillkit.stages.dedup import schema

    assert ["id", *Dedup(name="twins").fields()] == schema().names
