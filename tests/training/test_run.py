from pathlib import Path

import pytest

from distillkit.training.run import end_trackers


def test_wandb_is_told_that_the_training_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not installed here: a module of its name stands in."""
    (tmp_path / "wandb.py").write_text(
        "from pathlib import Path\n\n\ndef finish():\n    Path(__file__).with_name('told').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    end_trackers([])
    assert not (tmp_path / "told").exists()
    end_trackers(["tensorboard", "wandb"])
    assert (tmp_path / "told").exists()
