"""Kill a run while it cuts and changes reasoning: what was sampled is kept, and the end is that of a quiet run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import command, contents, kill_when

RECIPE = Path(__file__).parent / "probes.yaml"

pytestmark = pytest.mark.slow


def sampled(store: Path) -> list[bytes]:
    """The whole lines of finished completions."""
    files = sorted((store / "completions").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_bytes().split(b"\n")[:-1]]
    return [line for line in lines if b'"key"' in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that nobody disturbed."""
    store = tmp_path_factory.mktemp("probed") / "store"
    answer = command("run", RECIPE, "--store", store)
    assert answer.returncode == 0, answer.stderr
    return store


def started(kind: str, files: int) -> Callable[[Path], Callable[[list[dict[str, Any]]], bool]]:
    """The point where a stage is at work and so many ledgers have been begun."""

    def reached(store: Path) -> Callable[[list[dict[str, Any]]], bool]:
        return lambda _: (
            any((store / "work").glob(f"{kind}-*/"))
            and len(list((store / "completions").glob("*.jsonl"))) >= files
        )

    return reached


@pytest.mark.parametrize(
    "point", [started("budget_curve", 2), started("probe", 2)], ids=["budgets", "probes"]
)
def test_killed_it_ends_the_same_and_samples_nothing_twice(
    point: Callable[[Path], Callable[[list[dict[str, Any]]], bool]], whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert kill_when(["run", RECIPE, "--store", store], store, point(store))
    before = sampled(store)
    assert before
    answer = command("run", RECIPE, "--store", store)
    assert answer.returncode == 0, answer.stderr
    assert contents(store) == contents(whole)
    after = sampled(store)
    assert set(before) <= set(after)
    assert len(after) == len(sampled(whole))
