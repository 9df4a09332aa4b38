"""A version comes back byte for byte, and what is here already is not fetched again."""

import json
import shutil

import pytest
from hubserver import folders

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.hub import HubRef, Target, check_readable, fetch, push, remote_manifest

NAME = "alice/traces"


def ref(revision: str = "main") -> HubRef:
    return HubRef("dataset", NAME, revision)


@pytest.fixture
def pushed(client, tmp_path):
    """Two versions that share two of three shards."""
    old = folders.shards(3)
    new = dict(list(old.items())[:2]) | {"data/new.parquet": b"new" * 200}
    made = {}
    for version, files in (("1.0.0", old), ("1.1.0", new)):
        made[version] = folders.make(tmp_path / f"made-{version}", files, version)
        push(made[version], Target("dataset", NAME, tag=f"v{version}"), version)
    client.log.clear()
    return made


def fetched_files(client) -> list[str]:
    return sorted(line.rpartition("/")[2] for line in client.requests(r"^GET .*/resolve/"))


@pytest.mark.parametrize("redirects", [False, True])
def test_comes_back_as_it_went(client, pushed, tmp_path, redirects) -> None:
    client.redirects = redirects
    found = fetch(ref("v1.0.0"), tmp_path / "pulled")
    assert folders.content(tmp_path / "pulled") == folders.content(pushed["1.0.0"])
    assert found.commit == client.repositories["dataset", NAME].tags["v1.0.0"]
    assert found.manifest == json.loads((pushed["1.0.0"] / "manifest.json").read_text())
    assert found.reused_bytes == 0
    assert client.tokens_at_storage == []
    assert not list(tmp_path.glob("*.part"))


def test_what_is_here_is_not_fetched(client, pushed, tmp_path) -> None:
    fetch(ref("v1.0.0"), tmp_path / "old")
    client.log.clear()
    found = fetch(ref("v1.1.0"), tmp_path / "new", [tmp_path / "old", tmp_path / "no such folder"])
    assert folders.content(tmp_path / "new") == folders.content(pushed["1.1.0"])
    assert "train-00000-of-00003.parquet" not in fetched_files(client)
    assert "new.parquet" in fetched_files(client)
    assert found.reused_bytes == sum(map(len, list(folders.shards(3).values())[:2]))


def test_a_known_file_that_was_edited_is_fetched(client, pushed, tmp_path) -> None:
    old = tmp_path / "old"
    shutil.copytree(pushed["1.0.0"], old)
    (old / "data/train-00000-of-00003.parquet").write_bytes(b"edited")
    fetch(ref("v1.1.0"), tmp_path / "new", [old])
    assert folders.content(tmp_path / "new") == folders.content(pushed["1.1.0"])
    assert (old / "data/train-00000-of-00003.parquet").read_bytes() == b"edited"


def test_goes_on_where_it_was_cut(client, pushed, tmp_path) -> None:
    from hubserver import Fault

    client.faults.append(Fault(r"(GET|HEAD) .*/resolve/.*00002-of", status=404, times=1000))
    with pytest.raises((StageError, MissingError)):
        fetch(ref("v1.0.0"), tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    client.faults.clear()
    client.log.clear()
    fetch(ref("v1.0.0"), tmp_path / "pulled")
    assert folders.content(tmp_path / "pulled") == folders.content(pushed["1.0.0"])
    assert "train-00000-of-00003.parquet" not in fetched_files(client)


def test_the_manifest_alone(client, pushed) -> None:
    found = remote_manifest(ref("v1.1.0"))
    assert found["version"] == "1.1.0"
    assert found["commit"] == client.repositories["dataset", NAME].tags["v1.1.0"]
    assert fetched_files(client) == ["manifest.json"]


class TestRefused:
    def test_no_version_of_ours(self, client, tmp_path) -> None:
        client.commit("dataset", "lab/x", {"train.parquet": b"PAR1"})
        with pytest.raises(RecipeError, match=r"no manifest\.json of distillkit"):
            fetch(HubRef("dataset", "lab/x"), tmp_path / "pulled")

    def test_a_manifest_that_lies(self, client, pushed, tmp_path) -> None:
        files = client.bytes_of("dataset", NAME, "v1.0.0")
        client.commit("dataset", NAME, files | {"README.md": b"another"})
        with pytest.raises(StageError, match=r"README\.md is not what its manifest says"):
            fetch(ref(), tmp_path / "pulled")
        assert not (tmp_path / "pulled").exists()

    @pytest.mark.parametrize("name", ["../escape", "/etc/escape", "a/../../escape", "a\\..\\escape"])
    def test_a_manifest_that_leads_out(self, client, tmp_path, name) -> None:
        listed = {name: {"bytes": 1, "sha256": "0" * 64}}
        client.commit("dataset", NAME, {"manifest.json": json.dumps({"files": listed}).encode()})
        with pytest.raises(StageError, match="no file of a version; not fetched"):
            fetch(ref(), tmp_path / "deep" / "pulled")
        assert not list(tmp_path.rglob("escape"))

    def test_a_folder_that_exists(self, client, tmp_path) -> None:
        with pytest.raises(RecipeError, match="exists; name a new folder"):
            fetch(ref(), tmp_path)

    def test_unknown_names(self, client, pushed, tmp_path) -> None:
        with pytest.raises(RecipeError, match="no revision 'v9'"):
            fetch(ref("v9"), tmp_path / "pulled")
        with pytest.raises(MissingError, match="no such dataset, or a private one"):
            remote_manifest(HubRef("dataset", "alice/nothing"))

    def test_gated(self, client, tmp_path) -> None:
        client.commit("dataset", "bob/gated", {"manifest.json": b'{"files": {"a": {"sha256": "0"}}}'})
        client.repositories["dataset", "bob/gated"].gated = True
        for attempt in (check_readable, remote_manifest):
            with pytest.raises(MissingError, match=f"accept its terms at {client.url}/datasets/bob/gated,"):
                attempt(HubRef("dataset", "bob/gated"))
        client.repositories["dataset", "bob/gated"].accepted.add("alice")
        check_readable(HubRef("dataset", "bob/gated"))

    def test_offline(self, client, pushed, tmp_path, monkeypatch) -> None:
        commit = remote_manifest(ref("v1.0.0"))["commit"]
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        client.log.clear()
        assert remote_manifest(ref(commit))["version"] == "1.0.0"  # of the local cache
        with pytest.raises(MissingError, match="offline"):
            remote_manifest(ref("v1.0.0"))
        with pytest.raises(MissingError, match="offline"):
            fetch(ref(commit), tmp_path / "pulled")
        assert client.log == []
