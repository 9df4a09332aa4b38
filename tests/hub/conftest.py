"""A Hub of one's own for each test, and the real client in this process talking to it."""

import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubserver import TOKEN, Account, HubServer


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A server on which TOKEN belongs to alice, a member of the organization lab."""
    with HubServer() as server:
        server.accounts[TOKEN] = Account("alice", {"lab": "write", "readers": "read"})
        yield server


@pytest.fixture
def client(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The libraries in this process see `hub` and nothing else; what they wait for is a hundredth as long."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, close_session

    client = import_module("distillkit.hub.client")
    push = import_module("distillkit.hub.push")  # the package has a function of that name

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hurry = SimpleNamespace(**vars(time) | {"sleep": lambda s: time.sleep(s / 100)})
    monkeypatch.setattr(_http, "time", hurry)
    monkeypatch.setattr(client, "time", hurry)
    monkeypatch.setattr(push, "time", hurry)
    monkeypatch.setattr(client, "TIMEOUT_S", dict.fromkeys(("connect", "read", "write", "pool"), 2.0))
    close_session()
    return hub
