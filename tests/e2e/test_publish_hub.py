"""From a recipe to the Hub and back: pushed, tagged, changed, pushed again, pulled on a fresh store and trained from."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from inprocess import curation, distillkit

_PATH = Path(__file__).parents[1] / "hub" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("hub_fixtures", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
hub, client = _FIXTURES.hub, _FIXTURES.client

NAME = "alice/curated"
PUBLISH = "repository: curated, version: 1.0.0"


def recipe(folder: Path, *changes: tuple[str, str], version: str = "1.0.0", more: str = "") -> Path:
    """The curation recipe, its dataset pushed."""
    return curation(folder, (PUBLISH, f"hub: {NAME}, version: {version}, license: mit{more}"), *changes)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def published(store: Path) -> Path:
    """The folder that the latest run published."""
    run = max((store / "runs" / "curation").iterdir(), key=lambda path: int(path.name))
    [folder] = (path for path in (run / "artifacts" / "dataset").iterdir() if path.is_dir())
    return folder


def test_a_run_ends_with_one_commit_and_one_tag(client: Any, tmp_path: Path) -> None:
    made = distillkit("run", recipe(tmp_path), "--store", tmp_path / "store")
    assert made.code == 0, made.err
    repository = client.repositories["dataset", NAME]
    [commit] = client.history("dataset", NAME)
    assert repository.private
    assert repository.tags == {"v1.0.0": commit.id}
    assert client.bytes_of("dataset", NAME, "v1.0.0") == files(published(tmp_path / "store"))
    assert f"pushed: {client.url}/datasets/{NAME}/tree/v1.0.0\n" in made.out
    manifest = json.loads((published(tmp_path / "store").parent / "manifest.json").read_text("utf-8"))
    assert manifest["telemetry"]["pushed"]["commit"] == commit.id


def test_the_next_version_keeps_the_changelog_and_what_did_not_change(client: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = recipe(tmp_path / "a", more=", changelog: The first rows.")
    assert distillkit("run", first, "--store", store).code == 0
    sent = len(client.sent)
    same = distillkit("run", first, "--store", store)
    assert same.code == 0, same.err
    second = recipe(
        tmp_path / "b", ("unique: twins, per_problem: 2", "unique: twins"), version="1.1.0",
        more=", changelog: More of each problem., rejected: true",
    )  # fmt: skip
    made = distillkit("run", second, "--store", store)
    assert made.code == 0, made.err
    assert [commit.title for commit in client.history("dataset", NAME)] == [f"{NAME} 1.1.0", f"{NAME} 1.0.0"]
    old, new = (client.bytes_of("dataset", NAME, tag) for tag in ("v1.0.0", "v1.1.0"))
    card = new["README.md"].decode()
    assert "- **1.1.0** More of each problem.\n- **1.0.0** The first rows." in card
    assert [c["config_name"] for c in yaml.safe_load(card.split("---\n")[1])["configs"]] == [
        "default",
        "rejected",
    ]
    assert any(name.startswith("rejected/") for name in new.keys() - old.keys())
    assert len(client.sent) - sent <= len(new.keys() - {n for n, body in old.items() if new.get(n) == body})
    log = (store / "published" / "datasets--alice--curated" / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["ref"] for line in log] == ["main", "v1.0.0", "main", "v1.1.0"]


def test_a_tag_that_exists_is_refused_before_anything_is_run(client: Any, tmp_path: Path) -> None:
    assert distillkit("run", recipe(tmp_path / "a"), "--store", tmp_path / "store").code == 0
    changed = recipe(tmp_path / "b", ("min: 0.9", "min: 0.5"))
    for store in (tmp_path / "store", tmp_path / "fresh"):
        told = distillkit("run", changed, "--store", store)
        assert told.code == 2
        assert re.search(
            r"stages\.dataset: alice/curated: tag v1\.0\.0 exists .* raise the version", told.mistake
        )
    assert not list((tmp_path / "fresh" / "artifacts").iterdir())
    online = distillkit("check", changed, "--online")
    assert online.code == 2
    assert "tag v1.0.0 exists" in online.mistake
    again = distillkit("run", recipe(tmp_path / "c"), "--store", tmp_path / "fresh")
    assert again.code == 0, again.err  # the same recipe makes the same version, on any machine
    assert len(client.history("dataset", NAME)) == 1


def refused(client: Any, folder: Path, more: str = "") -> str:
    """What a run and a check say alike, with nothing made or sent."""
    path = recipe(folder / "recipe", more=more)
    online = distillkit("check", path, "--online")
    told = distillkit("run", path, "--store", folder / "store")
    assert (online.code, online.mistake) == (told.code, told.mistake)
    assert told.code in (2, 3)
    assert not list((folder / "store" / "artifacts").iterdir())
    assert client.requests("POST|PUT") == []
    return told.mistake


def test_without_a_token_nothing_begins(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "HF_TOKEN" in refused(client, tmp_path)


def test_a_token_that_may_only_read_is_told(client: Any, tmp_path: Path) -> None:
    client.accounts[_FIXTURES.TOKEN] = _FIXTURES.Account("alice", role="read")
    told = refused(client, tmp_path)
    assert "may only read" in told
    assert _FIXTURES.TOKEN not in told


def test_someone_elses_name_is_told(client: Any, tmp_path: Path) -> None:
    path = curation(tmp_path, (PUBLISH, "hub: bob/curated, version: 1.0.0, license: mit"))
    told = distillkit("run", path, "--store", tmp_path / "store")
    assert told.code == 2
    assert "bob/curated: your HF_TOKEN's account may not write in bob" in told.mistake


def test_a_public_repository_asks_for_the_key(client: Any, tmp_path: Path) -> None:
    client.repository("dataset", NAME, private=False)
    assert "visibility: public" in refused(client, tmp_path)
    made = distillkit(
        "run", recipe(tmp_path / "b", more=", visibility: public"), "--store", tmp_path / "store"
    )
    assert made.code == 0, made.err


GATED = """
name: gated
stages:
  - {name: bought, kind: traces, hub: bob/gated, columns: {prompt: problem, completion: "answers[]"}}
"""


def test_a_gated_source_is_refused_before_anything_is_spent(client: Any, tmp_path: Path) -> None:
    client.commit("dataset", "bob/gated", {"rows.jsonl": b'{"problem": "1 + 1?", "answers": ["2"]}\n'})
    client.repositories["dataset", "bob/gated"].gated = True
    path, lock = tmp_path / "gated.yaml", tmp_path / "gated.lock"
    path.write_text(GATED, "utf-8")
    for words in (("check", path, "--online"), ("run", path, "--store", tmp_path / "store")):
        told = distillkit(*words)
        assert told.code == 3
        assert f"gated; accept its terms at {client.url}/datasets/bob/gated" in told.mistake
        assert "stages.bought" in told.mistake
    assert not lock.exists()
    client.repositories["dataset", "bob/gated"].accepted.add("alice")
    assert distillkit("check", path, "--online").code == 0
    client.repositories[
        "dataset", "bob/gated"
    ].accepted.clear()  # as for whoever got the recipe with its lock
    told = distillkit("check", path, "--online")
    assert lock.exists()
    assert (told.code, "gated; accept its terms" in told.mistake) == (3, True)


def pushed(client: Any, tmp_path: Path) -> Path:
    """A store whose run pushed version 1.0.0."""
    store = tmp_path / "store"
    assert distillkit("run", recipe(tmp_path / "a"), "--store", store).code == 0
    return store


def test_a_dry_run_prints_the_diff_and_touches_nothing(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    client.log.clear()
    told = distillkit("push", "curation/kept", NAME, "--tag", "v1.1.0", "--dry-run", "--store", store)
    assert told.code == 0, told.err
    rows = [line.split() for line in told.out.splitlines() if line.strip()[:1] in ("+", "~", "-")]
    assert {(row[0], row[1]) for row in rows} >= {("~", "README.md"), ("~", "manifest.json")}
    assert "to delete" in told.out
    assert f"{NAME} 1.1.0" in told.out
    assert "distillkit-push: " in told.out
    assert client.requests("POST|PUT|DELETE") == []
    assert len(client.history("dataset", NAME)) == 1


def test_a_push_that_may_not_be_is_refused_before_anything_is_laid_out(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pushed(client, tmp_path)
    shelves = sorted((store / "published").iterdir())
    client.log.clear()
    client.repository("model", "alice/weights", private=True)
    for name, reason in (("bob/curated", "may not write in bob"), ("alice/weights", "exists as a model")):
        told = distillkit("push", "curation/kept", name, "--tag", "v1.1.0", "--store", store)
        assert (told.code, reason in told.mistake) == (2, True), told.err
    public = distillkit("push", "curation/kept", NAME, "--tag", "v1.1.0", "--public", "--store", store)
    assert "push: without --public" in public.mistake
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = distillkit("push", "curation/kept", NAME, "--tag", "v1.1.0", "--store", store)
    assert "a push needs the Hub" in offline.mistake
    assert sorted((store / "published").iterdir()) == shelves
    assert client.requests("POST|PUT|DELETE") == []


def test_a_stage_that_was_never_published_is_laid_out_and_pushed(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    told = distillkit(
        "push", "curation/1/kept", NAME, "--tag", "v1.1.0", "--message", "All that is right", "--store", store
    )
    assert told.code == 0, told.err
    assert client.history("dataset", NAME)[0].title == "All that is right"
    sent = client.bytes_of("dataset", NAME, "v1.1.0")
    assert "20 reasoning traces" in sent["README.md"].decode()
    assert sent["recipe.yaml"] == client.bytes_of("dataset", NAME, "v1.0.0")["recipe.yaml"]
    again = distillkit("push", "curation/1/kept", NAME, "--tag", "v1.1.0", "--store", store)
    assert again.code == 0, again.err
    assert len(client.history("dataset", NAME)) == 2


def test_a_published_stage_goes_where_it_was_told_as_it_is(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    assert distillkit("push", "curation/dataset", NAME, "--store", store).code == 0
    assert len(client.history("dataset", NAME)) == 1
    other = distillkit(
        "push", "curation/dataset", "lab/curated", "--tag", "v2.0.0", "--public", "--store", store
    )
    assert other.code == 0, other.err
    sent = client.bytes_of("dataset", "lab/curated", "v2.0.0")
    assert "# lab/curated" in sent["README.md"].decode()
    old = client.bytes_of("dataset", NAME, "v1.0.0")
    assert {n: b for n, b in sent.items() if "data/" in n} == {n: b for n, b in old.items() if "data/" in n}
    assert not client.repositories["dataset", "lab/curated"].private


SCORED = """
  - {{name: scores, kind: evaluate, models: [toy:base], problems: problems, n: 2, k: [2], max_tokens: 512}}
  - {{name: told, kind: publish, input: chosen, scores: scores, hub: {name}, version: 1.0.0, license: mit}}
"""


@pytest.mark.parametrize("edited", [False, True])
def test_scores_come_to_the_card_later_and_the_tag_stays(client: Any, tmp_path: Path, edited: bool) -> None:
    path = recipe(tmp_path / "a")
    if edited:  # the first run knew of no scores
        assert distillkit("run", path, "--store", tmp_path / "store").code == 0
    path.write_text(path.read_text("utf-8") + SCORED.format(name=NAME).lstrip("\n"), "utf-8")
    made = distillkit("run", path, "--store", tmp_path / "store")
    assert made.code == 0, made.err
    repository = client.repositories["dataset", NAME]
    _, first = client.history("dataset", NAME)
    assert repository.tags == {"v1.0.0": first.id}
    tagged, main = client.bytes_of("dataset", NAME, "v1.0.0"), client.bytes_of("dataset", NAME, "main")
    words = {"README.md", "manifest.json", "recipe.yaml"}
    assert {name for name in main if main[name] != tagged.get(name)} <= words
    assert b"## Scores" in main["README.md"]
    assert b"## Scores" not in tagged["README.md"]


def test_words_of_an_old_version_do_not_replace_a_newer_one(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    more = recipe(tmp_path / "b", ("unique: twins, per_problem: 2", "unique: twins"), version="1.1.0")
    assert distillkit("run", more, "--store", store).code == 0
    later = recipe(tmp_path / "c", ("license: mit", "license: mit, changelog: Told later."))
    told = distillkit("run", later, "--store", store)
    assert told.code == 0, told.err
    assert "main has gone on from v1.0.0" in told.out
    assert [commit.title for commit in client.history("dataset", NAME)] == [f"{NAME} 1.1.0", f"{NAME} 1.0.0"]


def test_a_smoke_run_is_nobodys_version(client: Any, tmp_path: Path) -> None:
    made = distillkit("run", recipe(tmp_path), "--store", tmp_path / "store", "--limit", "6")
    assert made.code == 0, made.err
    assert client.log == []
    assert f"# {NAME}" in (published(tmp_path / "store") / "README.md").read_text("utf-8")


def test_several_seeds_are_no_version(client: Any, tmp_path: Path) -> None:
    told = distillkit("run", recipe(tmp_path), "--store", tmp_path / "store", "--seeds", "1,2")
    assert told.code == 2
    assert "stages.dataset.hub: every seed would make another alice/curated 1.0.0" in told.mistake
    assert client.log == []


def test_pull_pins_reuses_and_refuses_what_was_edited(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    folder = tmp_path / "mine"
    told = distillkit("pull", f"{NAME}@v1.0.0", "-o", folder, "--store", tmp_path / "fresh")
    assert told.code == 0, told.err
    assert client.history("dataset", NAME)[0].id in told.out
    assert files(folder) == files(published(store))
    more = recipe(tmp_path / "b", ("unique: twins, per_problem: 2", "unique: twins"), version="1.1.0")
    assert distillkit("run", more, "--store", store).code == 0
    told = distillkit("pull", NAME, "-o", folder, "--store", tmp_path / "fresh")
    assert told.code == 0, told.err
    assert files(folder) == client.bytes_of("dataset", NAME, "v1.1.0")
    assert int(re.search(r"([\d,]+) were here", told.out)[1].replace(",", "")) > 0  # type: ignore[index]
    client.log.clear()
    assert ", 0 bytes fetched" in distillkit("pull", NAME, "-o", folder, "--store", store).out
    assert client.requests("resolve/.*parquet") == []
    file = next((folder / "data").iterdir())
    file.write_bytes(file.read_bytes() + b"x")
    edited = distillkit("pull", NAME, "-o", folder, "--store", store)
    assert (edited.code, file.name in edited.mistake) == (4, True)
    pushed_by_hand = distillkit("push", folder, NAME, "--tag", "v1.1.0", "--store", store)
    assert (pushed_by_hand.code, file.name in pushed_by_hand.mistake) == (4, True)


def test_a_pulled_version_lies_in_the_store_with_its_refs(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    fresh = tmp_path / "fresh"
    told = distillkit("pull", f"{NAME}@v1.0.0", "--store", fresh)
    assert told.code == 0, told.err
    [kept] = (fresh / "published").glob("*/versions/*")
    assert files(kept) == files(published(store))
    assert (kept.parents[1] / "refs" / "tags" / "v1.0.0").read_text("utf-8").strip() == kept.name[-12:]
    assert "0 bytes fetched" in distillkit("pull", NAME, "--store", fresh).out


MISTAKES = [
    (["push", "nothing/there", NAME], 3, "no run there"),
    (["push", "curation/none", NAME, "--tag", "v1.1.0"], 3, "has no stage 'none'"),
    (["push", "curation/measured", NAME, "--tag", "v1.1.0"], 2, "labels cannot be published"),
    (["push", "curation/kept", NAME], 2, "give its version, e.g. --tag v1.0.0"),
    (["push", "curation/kept", NAME, "--tag", "first"], 2, "a tag such as v1.2.0"),
    (["push", "curation/kept", "curated", "--tag", "v1.1.0"], 2, "write owner/name"),
    (["push", "curation/kept", NAME, "--tag", "v1.0.0"], 2, "tags do not move"),
    (["pull", "alice/nothing"], 3, "no such dataset"),
    (["pull", f"{NAME}@v9.0.0"], 2, "no revision 'v9.0.0'"),
    (["pull", NAME, "--kind", "model"], 3, "no such model"),
]


def test_mistakes_are_one_line(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    for arguments, code, words in MISTAKES:
        told = distillkit(*arguments, "--store", store)
        assert (told.code, words in told.mistake) == (code, True), told.mistake
    assert len(client.history("dataset", NAME)) == 1


def test_a_folder_with_another_name_on_its_card_is_not_pushed(client: Any, tmp_path: Path) -> None:
    store = pushed(client, tmp_path)
    folder = published(store)
    told = distillkit("push", folder, "alice/other", "--tag", "v1.0.0", "--store", store)
    assert told.code == 2
    assert f"its card speaks of {NAME} 1.0.0" in told.mistake
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert distillkit("push", copied, NAME, "--store", store).code == 0
    assert len(client.history("dataset", NAME)) == 1
    (copied / "data" / "more.txt").write_text("x")
    assert "data/more.txt" in distillkit("push", copied, NAME, "--store", store).mistake
