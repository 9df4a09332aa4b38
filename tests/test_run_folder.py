from pathlib import Path

import pytest

from distillkit.errors import MissingError
from distillkit.run_folder import find_run, load_record, open_run


def test_runs_are_numbered_and_found(tmp_path: Path) -> None:
    for _ in range(2):
        with open_run(tmp_path / "runs", "quickstart", "name: quickstart") as folder:
            folder.record.status = "done"
            folder.save()
    assert folder.path == tmp_path / "runs" / "quickstart" / "2"
    assert find_run(tmp_path, None) == folder.path
    assert find_run(tmp_path, "quickstart") == folder.path
    assert find_run(tmp_path, "quickstart/1").name == "1"
    assert find_run(tmp_path, str(folder.path)) == folder.path
    assert load_record(folder.path).recipe == "quickstart"


def test_an_unfinished_run_goes_on_unless_the_recipe_changed(tmp_path: Path) -> None:
    with open_run(tmp_path, "r", "seed: 1") as folder:
        first = folder.path
    with open_run(tmp_path, "r", "seed: 1") as folder:
        assert folder.path == first
    with open_run(tmp_path, "r", "seed: 2") as folder:
        assert folder.path != first


def test_a_run_at_work_is_not_shared(tmp_path: Path) -> None:
    with open_run(tmp_path, "r", "seed: 1") as one, open_run(tmp_path, "r", "seed: 1") as two:
        assert one.path != two.path


@pytest.mark.parametrize("name", [None, "nothing", "nothing/3"])
def test_a_run_that_is_not_there(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(MissingError, match="no run there"):
        find_run(tmp_path, name)
