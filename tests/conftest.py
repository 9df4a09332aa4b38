"""Settings of every test: nothing here depends on how fast the machine is, and examples are drawn alike each time.

`DISTILLKIT_FUZZ=1 make test` draws new ones.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize="DISTILLKIT_FUZZ" not in os.environ)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the processes that test, one runs a module whole, so that what its tests share is made once.

    A module marked `spread` shares nothing within a process. (pytest 9.2 takes no notice of such groups.)
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None and item.get_closest_marker("spread") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
