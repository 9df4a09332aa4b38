"""Every request of a push meets every fault: it ends right, or with one clear error and right when run again.

Never two commits, never a public repository.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import import_module

import pytest
from hubserver import TOKEN, Fault, folders

from distillkit.errors import DistillkitError
from distillkit.hub import HubRef, Target, fetch, push

NAME = "alice/traces"
TARGET = Target("dataset", NAME, tag="v1.1.0")
ROUTES = {
    "whoami": r"GET /api/whoami-v2",
    "info": r"GET /api/datasets/alice/traces$",
    "access": r"GET .*/auth-check/write",
    "refs": r"GET .*/refs",
    "log": r"GET .*/commits/",
    "tree": r"GET .*/tree/",
    "card": r"POST /api/validate-yaml",
    "modes": r"POST .*/preupload/",
    "batch": r"POST .*/objects/batch",
    "blob": r"PUT /storage/[0-9a-f]{64}$",
    "verify": r"POST /storage/.*/verify",
    "commit": r"POST .*/commit/",
    "tag": r"POST .*/tag/",
}


def soon() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


FAULTS = {
    "429 RateLimit": lambda route: Fault(route, status=429, headers={"RateLimit": '"api";r=0;t=2'}),
    "429 Retry-After": lambda route: Fault(route, status=429, headers={"Retry-After": "2"}),
    "429 Retry-After date": lambda route: Fault(route, status=429, headers={"Retry-After": soon()}),
    "500": lambda route: Fault(route, status=500),
    "503": lambda route: Fault(route, status=503),
    "503 twice, not JSON": lambda route: Fault(route, times=2, status=503, body=b"<html>busy</html>"),
    "drop": lambda route: Fault(route, drop=True),
    "hang": lambda route: Fault(route, hang_s=10),
    "cut answer": lambda route: Fault(route, truncate=1),
    "lost answer": lambda route: Fault(route, drop=True, late=True),
    "lost in silence": lambda route: Fault(route, hang_s=10, late=True),
    "503 but done": lambda route: Fault(route, status=503, late=True),
}
CORE = {"blob", "commit", "tag"}
CORE_FAULTS = {"429 Retry-After", "503", "drop", "lost answer"}
MATRIX = [
    pytest.param(route, fault, marks=[] if route in CORE and fault in CORE_FAULTS else pytest.mark.slow)
    for route in ROUTES
    for fault in FAULTS
]


@pytest.fixture
def second(client, tmp_path, monkeypatch):
    """A version is there; the next one adds, changes and deletes."""
    monkeypatch.setattr(
        import_module("distillkit.hub.client"),
        "TIMEOUT_S",
        dict.fromkeys(("connect", "read", "write", "pool"), 0.7),
    )
    push(folders.make(tmp_path / "v1", folders.shards(3)), Target("dataset", NAME, tag="v1.0.0"), "1")
    import_module("distillkit.hub.client")._api.cache_clear()  # forgets who we are: whoami is asked again
    return folders.make(tmp_path / "v2", folders.shards(2, salt="b") | folders.shards(1), "1.1.0")


def assert_right(client, folder) -> None:
    repository = client.repositories["dataset", NAME]
    assert repository.private
    assert [commit.title for commit in client.history("dataset", NAME)] == ["2", "1"]
    assert set(repository.tags) == {"v1.0.0", "v1.1.0"}
    assert client.bytes_of("dataset", NAME, "v1.1.0") == folders.content(folder)
    assert client.bytes_of("dataset", NAME, "main") == folders.content(folder)


@pytest.mark.parametrize("route, fault", MATRIX)
def test_passing_trouble(client, second, route, fault, caplog) -> None:
    struck = FAULTS[fault](ROUTES[route])
    client.faults.append(struck)
    push(second, TARGET, "2")
    assert struck.times == 0, "the fault never struck"
    assert_right(client, second)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "route", [pytest.param(route, marks=[] if route == "commit" else pytest.mark.slow) for route in ROUTES]
)
def test_a_stale_head(client, second, route) -> None:
    """412 says that others committed: a commit is built anew, elsewhere it is one clear error."""
    client.faults.append(Fault(ROUTES[route], status=412))
    try:
        push(second, TARGET, "2")
    except DistillkitError as error:
        assert route != "commit" and "412" in str(error) and "\n" not in str(error)
        push(second, TARGET, "2")
    assert_right(client, second)


@pytest.mark.parametrize("status", [pytest.param(503), pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "route", [pytest.param(r, marks=[] if r in CORE else pytest.mark.slow) for r in ROUTES if r != "verify"]
)
def test_lasting_trouble_is_one_clear_error(client, second, route, status, caplog) -> None:
    client.faults.append(Fault(ROUTES[route], times=10_000, status=status, drop=status is None))
    with pytest.raises(DistillkitError) as raised:
        push(second, TARGET, "2")
    assert "\n" not in str(raised.value)
    assert ("503" if status else "cannot be reached") in str(raised.value)
    assert TOKEN not in str(raised.value) + caplog.text
    assert len(client.history("dataset", NAME)) <= 2
    client.faults.clear()
    push(second, TARGET, "2")
    assert_right(client, second)


def test_a_blob_that_arrived_needs_no_second_look(client, second) -> None:
    client.faults.append(Fault(ROUTES["verify"], times=10_000, status=503))
    push(second, TARGET, "2")
    assert_right(client, second)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_first_push(client, tmp_path, fault) -> None:
    """Making the repository may fail as well: it is private whatever happens."""
    client.faults.append(FAULTS[fault](r"POST /api/repos/create"))
    folder = folders.make(tmp_path / "v1")
    push(folder, Target("dataset", NAME, tag="v1.0.0"), "1")
    assert client.repositories["dataset", NAME].private
    assert len(client.history("dataset", NAME)) == 1


def test_others_commit_on_top_before_a_lost_answer_is_missed(client, second) -> None:
    """Our commit is found behind theirs and tagged; it is not made again."""
    repository = client.repositories["dataset", NAME]

    def theirs() -> None:
        files = repository.files("main")
        made = repository.add(files, repository.branches["main"], "theirs")
        repository.branches["main"] = made.id

    client.faults.append(Fault(ROUTES["commit"], late=True, drop=True, call=theirs))
    pushed = push(second, TARGET, "2")
    assert [commit.title for commit in client.history("dataset", NAME)] == ["theirs", "2", "1"]
    assert repository.tags["v1.1.0"] == pushed.commit == client.history("dataset", NAME)[1].id


def test_an_old_commit_is_not_taken_for_a_lost_one(client, tmp_path) -> None:
    """Without a tag, going back to an earlier folder is a commit of its own, also where the first try fails."""
    first, second = folders.make(tmp_path / "1"), folders.make(tmp_path / "2", folders.shards(1), "2.0.0")
    main = Target("dataset", NAME)
    push(first, main, "1")
    push(second, main, "2")
    client.faults.append(Fault(ROUTES["commit"], status=503))
    push(first, main, "1 again")
    assert [commit.title for commit in client.history("dataset", NAME)] == ["1 again", "2", "1"]
    assert client.bytes_of("dataset", NAME, "main") == folders.content(first)


def test_a_hub_that_asks_for_an_hour_is_left(client, second) -> None:
    client.faults.append(Fault(ROUTES["commit"], status=429, headers={"Retry-After": "3600"}, times=100))
    with pytest.raises(DistillkitError, match="429"):
        push(second, TARGET, "2")
    assert len(client.requests(ROUTES["commit"])) == 2  # one for each version


def test_what_arrives_broken_is_not_tagged(client, second) -> None:
    """A Hub that keeps something else than it was sent."""
    repository = client.repositories["dataset", NAME]

    def spoil() -> None:
        made = repository.commits[repository.branches["main"]]
        made.files["README.md"] = client.blobs.small(b"spoilt")

    client.faults.append(Fault(ROUTES["commit"], late=True, drop=True, call=spoil))
    with pytest.raises(DistillkitError, match=r"has another README\.md; .*not tagged"):
        push(second, TARGET, "2")
    assert "v1.1.0" not in repository.tags


DOWNLOADS = {name: fault for name, fault in FAULTS.items() if "late" not in name and "done" not in name}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[] if f in ("503", "cut answer") else pytest.mark.slow) for f in DOWNLOADS],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fetching(client, second, tmp_path, method, fault) -> None:
    push(second, TARGET, "2")
    client.faults.append(FAULTS[fault](rf"{method} .*/resolve/.*parquet"))
    fetch(HubRef("dataset", NAME, "v1.1.0"), tmp_path / "pulled")
    assert folders.content(tmp_path / "pulled") == folders.content(second)
