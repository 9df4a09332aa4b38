"""A folder becomes one commit and one tag, whatever was there before; the real client over real HTTP."""

import hashlib
import json
import threading
from pathlib import Path

import pytest
from hubserver import TOKEN, Account, Fault, folders

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.hub import Target, Upload, check_push, preview, push

NAME = "alice/traces"


def target(**more: object) -> Target:
    return Target(**({"kind": "dataset", "repository": NAME, "tag": "v1.0.0"} | more))


def test_a_version_is_one_commit_and_one_tag(client, tmp_path) -> None:
    folder = folders.make(tmp_path / "v1")
    pushed = push(folder, target(), "Version 1.0.0\n\nThe first.")
    repository = client.repositories["dataset", NAME]
    assert repository.private
    [commit] = client.history("dataset", NAME)
    assert pushed.commit == commit.id == repository.tags["v1.0.0"]
    assert pushed.url == f"{client.url}/datasets/{NAME}/tree/v1.0.0"
    assert client.bytes_of("dataset", NAME, "v1.0.0") == folders.content(folder)
    assert commit.title == "Version 1.0.0"
    assert commit.message.startswith("The first.\n\ndistillkit-push: ")
    assert client.tokens_at_storage == []
    assert sorted(client.sent) == sorted(set(client.sent))


def test_again_is_success_and_sends_nothing(client, tmp_path) -> None:
    folder = folders.make(tmp_path / "v1")
    first = push(folder, target(), "Version 1.0.0")
    client.log.clear()
    assert push(folder, target(), "Version 1.0.0") == first
    assert client.requests("PUT|/commit/|POST.*/tag/|preupload") == []
    later = folders.make(tmp_path / "v2", folders.shards(3), "1.1.0")
    push(later, target(tag="v1.1.0"), "Version 1.1.0")
    assert push(folder, target(), "Version 1.0.0") == first  # main has moved on, the version is there
    assert len(client.history("dataset", NAME)) == 2


def test_the_next_version_sends_what_is_new_and_deletes_what_is_gone(client, tmp_path) -> None:
    old = folders.shards(3)
    push(folders.make(tmp_path / "v1", old), target(), "1")
    new = dict(list(old.items())[:2]) | {"data/extra.parquet": b"new" * 100}
    folder = folders.make(tmp_path / "v2", new, "1.1.0")
    client.sent.clear()
    push(folder, target(tag="v1.1.0"), "2")
    assert client.sent == [hashlib.sha256(b"new" * 100).hexdigest()]
    assert client.bytes_of("dataset", NAME, "main") == folders.content(folder)
    assert client.bytes_of("dataset", NAME, "v1.0.0") == folders.content(tmp_path / "v1")


def test_rolling_back_is_a_commit_of_its_own(client, tmp_path) -> None:
    first, second = folders.make(tmp_path / "v1"), folders.make(tmp_path / "v2", folders.shards(1), "1.1.0")
    push(first, target(), "1")
    push(second, target(tag="v1.1.0"), "2")
    push(first, target(tag="v1.2.0"), "1 again")
    assert client.bytes_of("dataset", NAME, "main") == folders.content(first)
    assert len(client.history("dataset", NAME)) == 3


def test_a_card_may_change_on_main_and_the_tag_stays(client, tmp_path) -> None:
    folder = folders.make(tmp_path / "v1")
    push(folder, target(), "1")
    client.sent.clear()
    carded = folders.make(
        tmp_path / "carded", folders.shards(2) | {"README.md": b"---\nlicense: mit\n---\nscored"}
    )
    push(carded, target(tag=None), "Scores in the card")
    assert client.sent == []
    assert client.bytes_of("dataset", NAME, "main") == folders.content(carded)
    assert client.bytes_of("dataset", NAME, "v1.0.0") == folders.content(folder)


def test_a_tag_never_moves(client, tmp_path) -> None:
    folder = folders.make(tmp_path / "v1")
    first = push(folder, target(), "1")
    other = folders.make(tmp_path / "other", folders.shards(1))
    for attempt in (
        lambda: push(other, target(), "1"),
        lambda: preview(other, target(), "1"),
        lambda: check_push(target()),
    ):
        with pytest.raises(RecipeError, match=r"tag v1\.0\.0 exists .* never moves; raise the version"):
            attempt()
    assert client.repositories["dataset", NAME].tags == {"v1.0.0": first.commit}
    assert len(client.history("dataset", NAME)) == 1
    seen = []
    check_push(target(), lambda manifest: bool(seen.append(manifest) or True))
    assert seen == [json.loads((folder / "manifest.json").read_text())]


def test_a_tag_that_another_writer_makes_in_between(client, tmp_path) -> None:
    """Their content stays theirs; ours is on main, untagged, and said so."""
    folder = folders.make(tmp_path / "v1")
    repository = client.repository("dataset", NAME, private=True)

    initial = repository.branches["main"]
    client.faults.append(
        Fault(r"POST .*/commit/", status=503, call=lambda: repository.tags.update({"v1.0.0": initial}))
    )
    with pytest.raises(RecipeError, match=r"tag v1\.0\.0 exists"):
        push(folder, target(), "1")
    assert repository.tags["v1.0.0"] == initial


class TestPreview:
    def test_says_all_and_touches_nothing(self, client, tmp_path) -> None:
        three = folders.shards(3) | {"README.md": b"the same card"}
        folder = folders.make(tmp_path / "v1", three)
        found = preview(folder, target(), "Version 1.0.0")
        assert found.creates and not found.done
        assert [change.path for change in found.added] == sorted(folders.content(folder))
        assert sum(c.bytes for c in found.added) == sum(map(len, folders.content(folder).values()))
        assert client.repositories == {}
        pushed = push(folder, target(), "Version 1.0.0")
        [commit] = client.history("dataset", NAME)
        assert found.message == f"{commit.title}\n\n{commit.message}"
        assert preview(folder, target(), "Version 1.0.0").done
        new = three | {"data/train-00000-of-00003.parquet": b"changed", "x.json": b"{}"}
        del new["data/train-00001-of-00003.parquet"]
        client.log.clear()
        found = preview(folders.make(tmp_path / "v2", new, "2.0.0"), target(tag="v2.0.0"), "2")
        names = [
            [c.path for c in changes]
            for changes in (found.added, found.changed, found.deleted, found.unchanged)
        ]
        assert names == [
            ["x.json"],
            ["data/train-00000-of-00003.parquet", "manifest.json"],
            ["data/train-00001-of-00003.parquet"],
            ["README.md", "data/train-00002-of-00003.parquet"],
        ]
        assert not client.requests("^(POST|PUT|DELETE)")
        assert client.repositories["dataset", NAME].branches["main"] == pushed.commit


class TestRefused:
    """Before anything is sent; each by check_push too, which is asked before the first stage."""

    def refused(self, error: type[Exception], words: str, tmp_path: Path, **more: object) -> None:
        folder = folders.make(tmp_path / "folder")
        for attempt in (lambda: check_push(target(**more)), lambda: push(folder, target(**more), "1")):
            with pytest.raises(error, match=words) as raised:
                attempt()
            assert TOKEN not in str(raised.value)
            assert "\n" not in str(raised.value)

    def test_no_token(self, client, tmp_path, monkeypatch) -> None:
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
        self.refused(MissingError, "no token; set HF_TOKEN", tmp_path)
        assert client.log == []

    def test_unknown_token(self, client, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_expired")
        self.refused(MissingError, "does not know your HF_TOKEN", tmp_path)

    def test_read_only_token(self, client, tmp_path) -> None:
        client.accounts[TOKEN] = Account("alice", role="read")
        self.refused(MissingError, "may only read", tmp_path)

    def test_fine_grained_token(self, client, tmp_path) -> None:
        client.accounts[TOKEN] = Account(
            "alice", role="fineGrained", scopes=(("alice", "repo.content.read"),)
        )
        self.refused(MissingError, "may only read", tmp_path)

    def test_fine_grained_token_that_may(self, client, tmp_path) -> None:
        client.accounts[TOKEN] = Account("alice", role="fineGrained", scopes=(("alice", "repo.write"),))
        assert push(folders.make(tmp_path / "v1"), target(), "1").commit

    @pytest.mark.parametrize("owner", ["bob", "readers"])
    def test_foreign_namespace(self, client, tmp_path, owner) -> None:
        self.refused(
            RecipeError, rf"may not write in {owner}; it may in alice, lab", tmp_path, repository=f"{owner}/x"
        )
        assert client.repositories == {}

    def test_offline(self, client, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        self.refused(MissingError, "offline", tmp_path)
        assert client.log == []

    def test_the_other_type(self, client, tmp_path) -> None:
        client.repository("model", NAME, private=True)
        self.refused(RecipeError, "exists as a model, not a dataset", tmp_path)
        assert ("dataset", NAME) not in client.repositories

    def test_private_data_in_a_public_repository(self, client, tmp_path) -> None:
        client.repository("dataset", NAME)
        self.refused(
            RecipeError,
            r"is public on the Hub; say visibility: public \(push: with --public\) if that",
            tmp_path,
        )
        assert client.begun == []
        push(folders.make(tmp_path / "v1"), target(visibility="public"), "1")
        assert len(client.history("dataset", NAME)) == 1

    def test_never_made_public_by_a_push(self, client, tmp_path) -> None:
        client.repository("dataset", NAME, private=True)
        self.refused(RecipeError, "is private on the Hub", tmp_path, visibility="public")
        assert client.repositories["dataset", NAME].private

    def test_a_hub_that_makes_everything_public(self, client, tmp_path, monkeypatch) -> None:
        real = client.repository
        monkeypatch.setattr(client, "repository", lambda kind, name, private=False: real(kind, name))
        with pytest.raises(RecipeError, match="made it public, not private; nothing was sent"):
            push(folders.make(tmp_path / "v1"), target(), "1")
        assert client.begun == []

    def test_files_of_others(self, client, tmp_path) -> None:
        client.repository("dataset", NAME, private=True)
        client.commit("dataset", NAME, {"README.md": b"by hand", "mine.csv": b"1", "your.csv": b"2"})
        self.refused(RecipeError, r"no push of distillkit made \(mine.csv and 1 more\)", tmp_path)
        push(folders.make(tmp_path / "v1"), target(replace=True), "1")
        assert client.bytes_of("dataset", NAME, "main") == folders.content(tmp_path / "v1")

    def test_no_space(self, client, tmp_path) -> None:
        client.quota_bytes = 1500
        with pytest.raises(MissingError, match=r"no space left for it \(Private repository storage limit"):
            push(folders.make(tmp_path / "v1"), target(), "1")
        assert client.history("dataset", NAME) == []

    def test_a_card_with_bad_yaml(self, client, tmp_path) -> None:
        files = folders.shards(1) | {"README.md": b"---\nlicense: [mit\n---\n"}
        with pytest.raises(RecipeError, match=r"card's header is not valid .*YAML parsing error"):
            push(folders.make(tmp_path / "v1", files), target(), "1")
        assert client.history("dataset", NAME) == []

    @pytest.mark.parametrize("edit", ["changed", "added", "removed"])
    def test_a_folder_edited_by_hand(self, client, tmp_path, edit) -> None:
        folder = folders.make(tmp_path / "v1")
        path = folder / "data/train-00000-of-00002.parquet"
        if edit == "changed":
            path.write_bytes(path.read_bytes()[:-1] + b"!")
        elif edit == "added":
            path = folder / "data/new.parquet"
            path.write_bytes(b"new")
        else:
            path.unlink()
        for attempt in (push, preview):
            with pytest.raises(StageError, match=rf"{path.name} .*edited since"):
                attempt(folder, target(), "1")
        assert client.begun == []


class TestUpload:
    def test_files_travel_while_they_are_made(self, client, tmp_path) -> None:
        folder, made = tmp_path / "v1", folders.shards(3)
        with Upload(target()) as upload:
            (folder / "data").mkdir(parents=True)
            for number, body in enumerate(made.values()):
                part = folder / "data" / f"{number:05d}.parquet"
                part.write_bytes(body)
                upload.add(part)
            upload.settle()
            assert sorted(client.sent) == sorted(hashlib.sha256(body).hexdigest() for body in made.values())
            assert client.history("dataset", NAME) == []
            for number, name in enumerate(made):
                (folder / "data" / f"{number:05d}.parquet").rename(folder / name)
            folders.make(folder, made)
            upload.finish(folder, "1")
        assert len(client.sent) == 3
        assert client.bytes_of("dataset", NAME, "v1.0.0") == folders.content(folder)

    def test_left_without_an_end_it_shows_nothing(self, client, tmp_path) -> None:
        path = tmp_path / "00000.parquet"
        path.write_bytes(b"x" * 100)
        with pytest.raises(ZeroDivisionError), Upload(target()) as upload:
            upload.add(path)
            1 / 0
        assert client.history("dataset", NAME) == []

    def test_what_fails_in_the_background_is_told(self, client, tmp_path) -> None:
        client.quota_bytes = 10
        path = tmp_path / "00000.parquet"
        path.write_bytes(b"x" * 100)
        with Upload(target()) as upload:
            upload.add(path)
            with pytest.raises(MissingError, match="no space"):
                upload.settle()

    def test_progress_ends_at_all(self, client, tmp_path) -> None:
        folder, told = folders.make(tmp_path / "v1"), []
        push(folder, target(), "1", lambda done, total: told.append((done, total)))
        assert told == sorted(told)
        total = sum(map(len, folders.content(folder).values()))
        assert told[-1] == (total, total)


def test_parts_and_pages(client, tmp_path) -> None:
    client.part_bytes, client.page = 300, 2
    folder = folders.make(tmp_path / "v1", folders.shards(7))
    push(folder, target(), "1")
    assert client.bytes_of("dataset", NAME, "v1.0.0") == folders.content(folder)
    assert client.requests("PUT .*/part/4$")
    assert preview(folder, target(), "1").done


@pytest.mark.filterwarnings("ignore:It seems that you are about to commit a data file")
@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_four_writers_at_once(client, tmp_path, kind) -> None:
    """Linear history, every version whole under its tag, the last one on main."""
    versions = [
        folders.make(tmp_path / f"v{n}", folders.shards(2, salt=str(n)) | folders.shards(1), f"1.{n}.0")
        for n in range(4)
    ]
    errors: list[Exception] = []
    start = threading.Barrier(4)

    def write(number: int) -> None:
        try:
            start.wait()
            push(versions[number], target(kind=kind, tag=f"v1.{number}.0"), f"Version {number}")
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    log = client.history(kind, NAME)
    assert len(log) == 4 and sorted(commit.title for commit in log) == [f"Version {n}" for n in range(4)]
    assert [commit.parent for commit in log[:-1]] == [commit.id for commit in log[1:]]
    for number, folder in enumerate(versions):
        assert client.bytes_of(kind, NAME, f"v1.{number}.0") == folders.content(folder)
    assert client.bytes_of(kind, NAME, "main") in [folders.content(folder) for folder in versions]
