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


def load_module(name: str) -> ModuleType:
    """A module beside this file; tests are no package."""
    full = f"report_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def worlds() -> ModuleType:
    """The module that makes worlds."""
    return load_module("world")


@pytest.fixture(scope="session")
def findings() -> ModuleType:
    """The module of summaries with everything that a page draws."""
    return load_module("findings")


@pytest.fixture(scope="session")
def world(worlds: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run with hostile traces and two trainings, and its report; not to be changed."""
    made = worlds.make_world(tmp_path_factory.mktemp("world"))
    worlds.add_trainings(made)
    write_report(made.run, made.store)
    return made


@pytest.fixture(scope="session")
def rich_world(worlds: ModuleType, findings: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with everything that an evaluation, probes and trainings may find; not to be changed."""
    made = worlds.make_world(tmp_path_factory.mktemp("rich"))
    worlds.add_trainings(made)
    worlds.add_findings(made, findings)
    write_report(made.run, made.store)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, closed with its module: while it is open, no other test could call asyncio.run."""
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
