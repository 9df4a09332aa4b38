"""A published folder is its Hub repository: what lies in it, that it loads, and that equal content is equal bytes."""

import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from distillkit import toy
from distillkit.artifact import Artifact, Manifest, content_of
from distillkit.edition import Shelf as Editions
from distillkit.errors import StageError
from distillkit.executor import Executor, Inline, Processes
from distillkit.reader import View
from distillkit.stages.base import LABELS, SELECTION, TRACES, WEIGHTS, Input, Job, write_shards
from distillkit.stages.publish import Publish
from distillkit.stages.publish.layout import pieces, published_columns, published_row, write_piece
from distillkit.stages.selection import selection_schema
from distillkit.store import Store, Writer
from distillkit.trace import Trace, to_row, trace_schema

WORLD = Path(__file__).parents[1] / "report" / "world.py"
SHARDS = 3
CARD_FILES = {"README.md", "manifest.json", "recipe.yaml", "funnel.png", "lengths.png"}

GOLDEN = {2: "6b4f117fa6f3d5eb93f5d14c2de78911de3223967604e37884c7d425da8e0720"}
"""Publish.VERSION -> content of the rows that `fixture_traces` become. A changed row needs a new VERSION."""


@pytest.fixture(scope="module")
def worlds() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish_world", WORLD)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["publish_world"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(worlds: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of real stages whose dataset is published without its rejected rows."""
    return worlds.make_world(tmp_path_factory.mktemp("world"))


def folder_of(artifact: Artifact) -> Path:
    return artifact.path / str(artifact.manifest.summary["folder"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# A store by hand: few rows, every case.


def trace(number: int, **fields: Any) -> Trace:
    defaults = {
        "problem_id": f"{number:016x}",
        "messages": [{"role": "user", "content": f"{number} + 1"}],
        "completion": f"<think>so {number + 1}</think>{number + 1}",
        "reasoning": f"so {number + 1}",
        "response": f"{number + 1}",
        "reference": str(number + 1),
        "origin": "0" * 12,
        "finish_reason": "stop",
        "completion_tokens": number,
        "model": "base",
        "sampling": {"temperature": 0.6},
    }
    return Trace(**{**defaults, **fields})


def fixture_traces() -> list[Trace]:
    """Plain, prefilled, without reasoning, with nulls and with text of all kinds."""
    return [
        trace(1),
        trace(2, completion="so 3</think>3", reasoning="so 3", response="3"),
        trace(3, completion="4", reasoning="", response="4", completion_tokens=None, language="de"),
        trace(4, completion='<think>所以 "\\u0000" \n</think>{{5}}', source="s", extra={"level": [1, None]}),
    ]


class Shelf:
    """Traces, label artifacts and selections over them, sealed by hand."""

    def __init__(self, root: Path, traces: list[Trace]) -> None:
        self.store = Store(root)
        self.traces = traces
        self.text = self._seal("own", "traces", TRACES, [to_row(each) for each in traces], trace_schema())
        self.labels: list[Input] = []

    def label(self, stage: str, columns: dict[str, pa.DataType], values: list[dict[str, Any]]) -> None:
        rows = [{"id": each.id, **value} for each, value in zip(self.traces, values, strict=True)]
        schema = pa.schema([("id", pa.string()), *columns.items()])
        self.labels.append(self._seal(stage, "labels", LABELS, rows, schema))

    def select(self, stage: str, source: Input, reasons: dict[int, str]) -> Input:
        """Keep all rows of the source but those with a reason, by their place."""
        below = View.of(self.store, self.store.open(source.artifact, source.name))
        alive = {row["id"] for row in below.rows(labels=False)}
        rows = [
            {"id": each.id, "kept": place not in reasons, "reason": reasons.get(place)}
            for place, each in enumerate(self.traces)
            if each.id in alive
        ]
        return self._seal(stage, "filter", SELECTION, rows, selection_schema(), source)

    def _seal(
        self,
        name: str,
        kind: str,
        type_: str,
        rows: list[dict[str, Any]],
        schema: pa.Schema,
        source: Any = None,
    ) -> Input:
        with self.store.building(kind, f"{len(self.store.all()):016x}", print) as out:
            write_shards(Job(self.store, out, {}, shards=SHARDS), rows, schema)
            out.rows_kept = sum(row.get("kept", True) for row in rows)
            ends = [vars(source) | {"path": "", "revision": ""}] if source else []
            draft = Manifest(name, kind, type_, "", "", inputs={"input": ends} if source else {})
            artifact = self.store.seal(out, draft)
        return Input(name, type_, artifact.content, artifact=artifact.path.name)

    def publish(
        self,
        out: Path,
        source: Input | None = None,
        recipe: str = "name: x\n",
        executor: Executor | None = None,
        **fields: Any,
    ) -> Path:
        """The folder that a publish stage makes of a source in a work directory."""
        writer = Writer(out)
        stage = Publish(name="dataset", **{"repository": "me/few", "version": "1.0.0", **fields})
        inputs = {"input": [source or self.text], "labels": self.labels}
        stage.run(
            Job(self.store, writer, inputs, shards=SHARDS, recipe=recipe, executor=executor or Inline())
        )
        return out / writer.summary["folder"]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "store", fixture_traces())


def read(folder: Path, config: str = "data") -> list[dict[str, Any]]:
    return [row for file in sorted((folder / config).iterdir()) for row in pq.read_table(file).to_pylist()]


def by_number(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {int(row["problem_id"], 16): row for row in rows}


def test_a_folder_holds_a_repository_and_nothing_else(world: Any) -> None:
    dataset = world.artifacts["dataset"]
    folder = folder_of(dataset)
    assert [path.name for path in dataset.path.iterdir() if path.is_dir()] == [folder.name]
    data = {f"data/train-0000{n}-of-00002.parquet" for n in (0, 1)}
    assert set(files(folder)) == CARD_FILES | data
    assert dataset.manifest.rows_kept == dataset.manifest.rows_in == 100
    assert dataset.manifest.summary == {"folder": folder.name, "repository": "me/tiny", "version": "1.0.0"}


def test_the_manifest_has_every_file_and_names_the_folder(world: Any) -> None:
    folder = folder_of(world.artifacts["dataset"])
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    for name, data in files(folder).items():
        if name != "manifest.json":
            entry = manifest["files"].pop(name)
            assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            if name.startswith("data/"):
                table = pq.read_table(folder / name)
                assert entry["rows"] == table.num_rows
                assert entry["content"] == content_of(table.to_pylist())
                assert entry["counts"] == {"domain": {"math": table.num_rows}}
    assert manifest["files"] == {}
    assert (manifest["name"], manifest["version"], manifest["rows"]) == ("me/tiny", "1.0.0", 100)
    assert manifest["content"] == world.artifacts["chosen"].content
    assert [step["stage"] for step in manifest["funnel"]] == ["problems", "traces", "right", "chosen"]
    assert folder.name.startswith("tiny-")


def test_equal_content_is_equal_bytes_wherever_it_is_made(worlds: Any, world: Any, tmp_path: Path) -> None:
    other = worlds.make_world(tmp_path, until="dataset")
    first, second = (folder_of(each.artifacts["dataset"]) for each in (world, other))
    assert files(first) == files(second)
    assert first.name == second.name
    assert world.artifacts["dataset"].content == other.artifacts["dataset"].content
    for name, data in files(first).items():
        if not name.endswith(".png"):
            assert str(world.store.root.parent).encode() not in data, f"{name} names a folder of the author's"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """`datasets` with a cache of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()
    yield lambda *arguments, **options: datasets.load_dataset(
        *arguments, cache_dir=str(tmp_path / "hf"), **options
    )
    datasets.enable_progress_bars()


def test_it_loads_by_its_files_and_by_its_card(world: Any, offline: Any) -> None:
    folder = folder_of(world.artifacts["dataset"])
    by_files = offline("parquet", data_files=str(folder / "data" / "*.parquet"), split="train")
    by_card = offline(str(folder), split="train")
    assert by_files.num_rows == by_card.num_rows == 100
    assert by_files.features == by_card.features
    assert by_files["id"][:] == by_card["id"][:]
    row = by_card[0]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][-1]["content"].startswith("<think>")
    assert json.loads(row["verdicts"])["math"]["score"] == row["score"] == 1.0
    assert "language" in json.loads(row["measures"])


def test_rejected_rows_are_a_config_with_stage_and_reason(worlds: Any, tmp_path: Path, offline: Any) -> None:
    made = worlds.make_world(tmp_path, publish=", rejected: true", until="dataset")
    folder = folder_of(made.artifacts["dataset"])
    kept, rejected = (offline(str(folder), name, split="train") for name in ("default", "rejected"))
    assert (kept.num_rows, rejected.num_rows) == (100, 100)
    assert set(rejected["reject_reason"]) == {"wrong", "mixed_language"}
    assert set(rejected["reject_stage"]) == {"right"}
    assert not set(kept["id"]) & set(rejected["id"])
    assert set(rejected.column_names) - set(kept.column_names) == {"reject_stage", "reject_reason"}


def test_the_first_selection_that_dropped_a_row_is_named(shelf: Shelf, tmp_path: Path) -> None:
    first = shelf.select("clean", shelf.text, {0: "wrong"})
    second = shelf.select("few", first, {1: "over_limit"})
    folder = shelf.publish(tmp_path / "out", second, rejected=True)
    assert set(by_number(read(folder))) == {3, 4}
    found = {
        n: (row["reject_stage"], row["reject_reason"])
        for n, row in by_number(read(folder, "rejected")).items()
    }
    assert found == {1: ("clean", "wrong"), 2: ("few", "over_limit")}


def test_a_text_that_nothing_was_selected_of_has_no_rejected_rows(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.publish(tmp_path / "out", rejected=True)
    assert not (folder / "rejected").exists()
    card = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    assert [config["config_name"] for config in card["configs"]] == ["default"]


def test_the_completion_is_the_last_message_with_its_think_tag(shelf: Shelf, tmp_path: Path) -> None:
    rows = by_number(read(shelf.publish(tmp_path / "out")))
    assert [message["role"] for message in rows[1]["messages"]] == ["user", "assistant"]
    last = {number: row["messages"][-1]["content"] for number, row in rows.items()}
    assert last == {
        1: "<think>so 2</think>2",
        2: "<think>\nso 3</think>3",
        3: "4",
        4: '<think>所以 "\\u0000" \n</think>{{5}}',
    }


def test_labels_are_bare_where_unique_and_named_by_their_stage_where_not(
    shelf: Shelf, tmp_path: Path
) -> None:
    text, number = pa.string(), pa.float64()
    nothing: list[dict[str, Any]] = [{}] * 4
    shelf.label(
        "judged",
        {"score": number, "verdicts": text},
        [{"score": 1.0, "verdicts": '{"b":1,"a":[2]}'}, *nothing[:3]],
    )
    shelf.label("again", {"score": number}, [{"score": 0.5}] * 4)
    shelf.label("odd", {"measures": text}, [{"measures": "7"}] * 4)
    columns = [
        column.name
        for column in published_columns(View([shelf.store.open(shelf.text.artifact)], opened(shelf)))
    ]
    assert columns[-4:] == ["judged.score", "verdicts", "again.score", "measures"]
    row = by_number(read(shelf.publish(tmp_path / "out")))[1]
    assert {name: row[name] for name in columns[-4:]} == {
        "judged.score": 1.0,
        "verdicts": '{"a":[2],"b":1}',
        "again.score": 0.5,
        "measures": "7",
    }
    assert (row["reference"], row["sampling"]) == ('"2"', '{"temperature":0.6}')


def opened(shelf: Shelf) -> list[Artifact]:
    return [shelf.store.open(each.artifact, each.name) for each in shelf.labels]


def test_every_file_has_one_schema_also_where_a_column_is_empty(shelf: Shelf, tmp_path: Path) -> None:
    shelf.label("judged", {"answer": pa.string()}, [{"answer": "2"}, {}, {}, {}])
    folder = shelf.publish(tmp_path / "out")
    schemas = {str(pq.read_schema(file)) for file in (folder / "data").iterdir()}
    assert len(list((folder / "data").iterdir())) > 1
    assert len(schemas) == 1
    assert "null" not in schemas.pop().split("answer: ")[1].split("\n")[0]


def test_rows_of_an_unchanged_version_stay_the_same(shelf: Shelf) -> None:
    shelf.label("judged", {"score": pa.float64()}, [{"score": 1.0}, {"score": 0.0}, {}, {"score": 0.5}])
    view = View([shelf.store.open(shelf.text.artifact)], opened(shelf))
    columns = published_columns(view)
    found = content_of([published_row(row, columns) for row in view.rows()])
    assert GOLDEN.get(Publish.VERSION) == found, (
        "published rows changed: raise Publish.VERSION and note the digest"
    )


def test_half_a_folder_of_a_killed_run_leaves_nothing_behind(shelf: Shelf, tmp_path: Path) -> None:
    undisturbed = shelf.publish(tmp_path / "undisturbed")
    out = tmp_path / "out"
    for half in (out / "few-000000000000" / "data", out / ".scratch" / "tree" / "data", out / "tree"):
        half.mkdir(parents=True)
        (half / "train-00000-of-00001.parquet").write_bytes(b"half")
        (half / "train-00000-of-00002.parquet").write_bytes(b"half")
    folder = shelf.publish(out)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == [folder.name]
    assert files(folder) == files(undisturbed)
    assert not (out / ".scratch" / "tree").exists()


def test_a_folder_that_was_not_sealed_is_made_again(shelf: Shelf, tmp_path: Path) -> None:
    first = files(shelf.publish(tmp_path / "out"))
    assert files(shelf.publish(tmp_path / "out")) == first


def test_finished_files_of_a_killed_run_are_taken_as_they_are(shelf: Shelf, tmp_path: Path) -> None:
    undisturbed = shelf.publish(tmp_path / "undisturbed")
    out = Writer(tmp_path / "out")
    tree, notes = out.scratch / "tree", out.scratch / "portraits"
    first, *_ = pieces(View([shelf.store.open(shelf.text.artifact)], []), [], tree, notes)
    write_piece(first)
    inode = first.file.stat().st_ino
    folder = shelf.publish(out.path)
    assert (folder / first.name).stat().st_ino == inode
    assert files(folder) == files(undisturbed)


def test_many_processes_make_the_same_bytes(shelf: Shelf, tmp_path: Path) -> None:
    alone = shelf.publish(tmp_path / "alone")
    assert files(shelf.publish(tmp_path / "many", executor=Processes(2))) == files(alone)


def test_the_store_keeps_every_version_and_a_draft_may_go_on_under_its_number(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shelf.publish(tmp_path / "first", changelog="The first.")
    few = shelf.select("few", shelf.text, {0: "wrong"})
    second = shelf.publish(tmp_path / "second", few)
    third = shelf.publish(tmp_path / "third", few, version="1.1.0", changelog="Fewer.")
    told = capsys.readouterr().out
    assert (
        told
        == "me/few: the tag v1.0.0 stands for other content already, and tags do not move; raise the version\n"
    )
    kept = Editions.of(shelf.store.root, "dataset", "me/few")
    assert {edition.path.name for edition in kept.editions()} == {
        each.name for each in (first, second, third)
    }
    assert kept.refs() == {
        "main": third.name[-12:],
        "v1.0.0": first.name[-12:],
        "v1.1.0": third.name[-12:],
    }
    card = (third / "README.md").read_text("utf-8")
    assert "- **1.1.0** Fewer.\n- **1.0.0** The first.\n" in card


def test_a_place_is_the_hub_or_the_store() -> None:
    for fields in ({}, {"hub": "me/x", "repository": "x"}, {"hub": "x"}):
        with pytest.raises(ValidationError):
            Publish(name="x", version="1.0.0", **fields)
    smoke = Publish(name="x", hub="me/x", version="1.0.0").limited(5)
    assert (smoke.hub, smoke.title) == (None, "me/x")


def test_nothing_to_publish_is_one_clear_line(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "store", fixture_traces())
    empty = shelf.select("clean", shelf.text, dict.fromkeys(range(4), "wrong"))
    with pytest.raises(StageError, match=r"^dataset: no rows to publish; loosen the filters before it$"):
        shelf.publish(tmp_path / "out", empty)


@pytest.mark.parametrize(
    "fields", [{"version": "1.0"}, {"version": "v1.0.0"}, {"repository": "a/b/c"}, {"repository": "a b"}]
)
def test_names_and_versions_are_those_of_the_hub(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Publish(name="x", **{"repository": "me/x", "version": "1.0.0", **fields})


def test_the_card_stands_for_its_rows(world: Any) -> None:
    card = (folder_of(world.artifacts["dataset"]) / "README.md").read_text("utf-8")
    for part in (
        "100 reasoning traces of 50 problems",
        "- Teacher: `toy:base` (n 4, temperature 1, top_p 1, max_tokens 99; stage `traces`). Its licence: apache-2.0.",
        "- Problems: file: problems.jsonl, 50 of them (stage `problems`). Its licence is not known.",
        "| right | filter | mixed_language 50, wrong 50 | 200 | 100 |",
        "| mix languages | 0 (0.0%) |",
        "Licence of this dataset: none was declared",
        "| sampled by | toy:base 100 |",
        'load_dataset("me/tiny", revision="v1.0.0", split="train")',
        "It was not searched for the problems of any benchmark.",
        "```yaml\nname: tiny\n",
    ):
        assert part in card
    assert "\u202e" not in card


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Store, Input]:
    """The toy base as an SFT stage would have sealed it."""
    store = Store(tmp_path / "store")
    with store.building("sft", "0" * 16, print) as out:
        shutil.copytree(toy.BASE, out.path / "model")
        out.summary = {"steps": 3}
        base = {"name": "org/base", "type": WEIGHTS, "content": "c", "revision": "a" * 40}
        artifact = store.seal(
            out, Manifest("student", "sft", WEIGHTS, "0" * 16, "", inputs={"model": [base]})
        )
    return store, Input("student", WEIGHTS, artifact.content, artifact=artifact.path.name)


def test_a_model_folder_loads_as_it_is(weights: tuple[Store, Input], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    store, source = weights
    writer = Writer(tmp_path / "out")
    stage = Publish(name="model", repository="me/student", version="0.1.0", license="mit")
    stage.run(Job(store, writer, {"input": [source]}, recipe="name: x\n"))
    folder = tmp_path / "out" / writer.summary["folder"]
    names = set(files(folder))
    assert names == {"README.md", "manifest.json", "recipe.yaml", *(path.name for path in toy.BASE.iterdir())}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    original = transformers.AutoModelForCausalLM.from_pretrained(toy.BASE)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert (model(**inputs).logits == original(**inputs).logits).all()
    card = (folder / "README.md").read_text("utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert (header["base_model"], header["license"]) == ("org/base", "mit")
    assert f"| `student` | sft | `org/base` at `{'a' * 40}` |" in card
