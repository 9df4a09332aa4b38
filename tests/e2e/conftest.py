from pathlib import Path

import pytest
from runs import MINI, command


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an uninterrupted run of the mini recipe."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    answer = command("run", MINI, "--store", store)
    assert answer.returncode == 0, answer.stderr + answer.stdout
    return store
