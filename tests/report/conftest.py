"""One world for all tests of the report, and a browser where there is one."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distillkit.report.page import write_report


def load_world() -> ModuleType:
    """The module beside this file; tests are no package."""
    if "report_world" not in sys.modules:
        spec = importlib.util.spec_from_file_location("report_world", Path(__file__).with_name("world.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules["report_world"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["report_world"])
    return sys.modules["report_world"]


@pytest.fixture(scope="session")
def worlds() -> ModuleType:
    """The module that makes worlds."""
    return load_world()


@pytest.fixture(scope="session")
def world(worlds: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run with hostile traces and two trainings, and its report; not to be changed."""
    made = worlds.make_world(tmp_path_factory.mktemp("world"))
    worlds.add_trainings(made)
    write_report(made.run, made.store)
    return made


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright (pip install playwright)"
    )
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()
