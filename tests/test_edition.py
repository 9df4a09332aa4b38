"""Editions on their shelf: known by content, whole, tagged once, and nothing lies on the disk twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.edition import (
    MAIN,
    Edition,
    Shelf,
    folder_name,
    payload_digest,
    seal,
    shelves,
    version_digest,
)
from distillkit.errors import MissingError, StageError

NAME = "me/traces"


def make(root: Path, version: str = "1.0.0", card: str = "# Traces\n", **files: str) -> Edition:
    """A sealed folder under its own name."""
    tree = root / f"tree-{version}"
    for name, text in {"README.md": card, "data/a.parquet": "rows", **files}.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    facts = {"name": NAME, "version": version, "kind": "dataset", "content": "c" * 64}
    edition = seal(tree, facts | {"files": {"data/a.parquet": {"rows": 1}}})
    return Edition.open(tree.rename(root / folder_name(edition)))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf.of(tmp_path / "store", "dataset", NAME)


def test_a_sealed_folder_is_read_back_and_verified(tmp_path: Path) -> None:
    edition = make(tmp_path)
    assert (edition.name, edition.version, edition.kind) == (NAME, "1.0.0", "dataset")
    assert edition.manifest["files"]["data/a.parquet"]["rows"] == 1
    assert edition.path.name == f"traces-{edition.digest}"
    assert edition.bytes == len("# Traces\n") + len("rows")
    edition.verify()


@pytest.mark.parametrize("name", ["README.md", "data/a.parquet", "manifest.json"])
def test_what_was_edited_by_hand_is_named(tmp_path: Path, name: str) -> None:
    edition = make(tmp_path)
    file = edition.path / name
    text = (
        file.read_text("utf-8").replace("rows", "rowz").replace("Traces", "traces").replace("1.0.0", "1.0.1")
    )
    file.write_text(text, "utf-8")
    with pytest.raises(StageError, match=f"{name}: was edited since the folder was sealed"):
        Edition.open(edition.path).verify()


def test_what_was_added_or_removed_by_hand_is_named(tmp_path: Path) -> None:
    edition = make(tmp_path)
    (edition.path / ".cache").mkdir()
    (edition.path / ".cache" / "note").write_text("of a tool")
    (edition.path / ".gitattributes").write_text("of the Hub")
    edition.verify()
    (edition.path / "data" / "more.txt").write_text("x")
    with pytest.raises(StageError, match=r"data/more\.txt: was added"):
        edition.verify()
    (edition.path / "data" / "more.txt").unlink()
    (edition.path / "data" / "a.parquet").unlink()
    with pytest.raises(StageError, match=r"data/a\.parquet: is missing"):
        edition.verify()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', '{"files": {"a": 1}}'])
def test_another_manifest_is_no_edition(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StageError, match=r"manifest\.json: not the manifest of a published folder"):
        Edition.open(tmp_path)
    with pytest.raises(MissingError, match="no published folder there"):
        Edition.open(tmp_path / "nowhere")


def test_a_version_is_known_by_its_content(tmp_path: Path, shelf: Shelf) -> None:
    first = make(tmp_path)
    kept = shelf.add(first.path)
    assert kept.digest == first.digest
    assert shelf.add(shutil.copytree(first.path, tmp_path / "elsewhere" / first.path.name)).path == kept.path
    assert [edition.digest for edition in shelf.editions()] == [first.digest]
    kept.verify()


def test_what_two_versions_share_lies_on_the_disk_once(tmp_path: Path, shelf: Shelf) -> None:
    old = shelf.add(make(tmp_path).path)
    copied = shutil.copytree(make(tmp_path, "1.1.0", **{"data/b.parquet": "more"}).path, tmp_path / "copied")
    new = shelf.add(copied)
    shared, own = new.path / "data" / "a.parquet", new.path / "data" / "b.parquet"
    assert shared.stat().st_ino == (old.path / "data" / "a.parquet").stat().st_ino
    assert own.read_text() == "more"
    new.verify()


def test_main_moves_and_a_tag_does_not(tmp_path: Path, shelf: Shelf) -> None:
    first, second = shelf.add(make(tmp_path).path), shelf.add(make(tmp_path, "1.1.0", **{"data/b": "x"}).path)
    shelf.advance(first, commit="1")
    shelf.tag("v1.0.0", first, commit="1")
    shelf.advance(second, commit="2")
    with pytest.raises(StageError, match=r"me/traces: the tag v1\.0\.0 stands for other content"):
        shelf.tag("v1.0.0", second)
    assert shelf.refs() == {"main": second.digest, "v1.0.0": first.digest}
    for revision, edition in ((MAIN, second), ("v1.0.0", first), (first.digest, first)):
        found = shelf.find(revision)
        assert found is not None
        assert found.path == edition.path
    assert shelf.find("v9") is None
    assert [(line["ref"], line["old"], line["new"], line["commit"]) for line in shelf.log()] == [
        ("main", None, first.digest, "1"),
        ("v1.0.0", None, first.digest, "1"),
        ("main", first.digest, second.digest, "2"),
    ]


def test_a_tag_stays_where_only_words_are_new(tmp_path: Path, shelf: Shelf) -> None:
    first = shelf.add(make(tmp_path).path)
    worded = shelf.add(make(tmp_path, card="# Traces, with scores\n", **{"lengths.png": "x"}).path)
    assert (first.digest != worded.digest, first.payload) == (True, worded.payload)
    shelf.tag("v1.0.0", first)
    shelf.tag("v1.0.0", worded)
    assert shelf.refs() == {"v1.0.0": first.digest}


def test_only_what_no_ref_names_is_loose(tmp_path: Path, shelf: Shelf) -> None:
    first, second = shelf.add(make(tmp_path).path), shelf.add(make(tmp_path, "1.1.0").path)
    shelf.tag("v1.0.0", first)
    assert shelf.loose() == [second.path]
    shelf.advance(second)
    assert shelf.loose() == []


def test_a_store_has_a_shelf_for_each_name(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert shelves(store) == []
    for kind, name in (("dataset", "me/x"), ("model", "me/x"), ("dataset", "toy-traces")):
        Shelf.of(store, kind, name).add(make(tmp_path / kind / name).path)
    assert sorted((shelf.root.name, shelf.repository) for shelf in shelves(store)) == [
        ("datasets--me--x", "me/x"),
        ("datasets--toy-traces", "toy-traces"),
        ("models--me--x", "me/x"),
    ]


NAMES = st.sampled_from(["README.md", "recipe.yaml", "lengths.png", "data/a", "data/b", "model.safetensors"])


@given(
    st.dictionaries(NAMES, st.sampled_from(["0", "1"])), st.dictionaries(NAMES, st.sampled_from(["0", "1"]))
)
def test_the_payload_is_the_files_that_are_no_words(one: dict[str, str], other: dict[str, str]) -> None:
    def manifest(files: dict[str, str]) -> dict[str, Any]:
        return {"files": {name: {"sha256": value, "bytes": 1} for name, value in files.items()}}

    def rows(files: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in files.items() if name.startswith(("data", "model"))}

    same = payload_digest(manifest(one)) == payload_digest(manifest(other))
    assert same == (rows(one) == rows(other))
    assert (version_digest(manifest(one)) == version_digest(manifest(other))) == (one == other)


def test_a_torn_line_of_the_log_is_left_out(tmp_path: Path, shelf: Shelf) -> None:
    shelf.advance(shelf.add(make(tmp_path).path))
    with (shelf.root / "log.jsonl").open("a") as file:
        file.write('{"time": 1, "ref": "ma')
    assert [line["ref"] for line in shelf.log()] == ["main"]
    assert json.dumps(shelf.log())
