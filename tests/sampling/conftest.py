import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("scripted", Path(__file__).with_name("scripted.py"))
scripted = importlib.util.module_from_spec(_spec)
sys.modules["scripted"] = scripted
_spec.loader.exec_module(scripted)


@pytest.fixture
def perform(tmp_path: Path) -> Callable[..., "scripted.Drawing"]:
    """Draw with a script into the store of this test."""
    return partial(scripted.perform, store=tmp_path)
