"""The command inside the test's own process, on recorded completions: a second where a real run takes half a minute."""

import io
import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from distillkit.cli import main
from distillkit.stages.sample import Sample

DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what a person sees of it."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line of a user's mistake; fails where it is anything else."""
        assert self.err.startswith("distillkit: ") and self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err + self.out
        return self.err.removeprefix("distillkit: ").rstrip()


def distillkit(*arguments: str | Path) -> Answer:
    """Run `distillkit ...` as the console script does; completions that are replayed need no child process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["distillkit", *map(str, arguments)]
    told = redirect_stdout(out), redirect_stderr(err)
    patches = patch.object(sys, "argv", argv), patch.object(Sample, "CHILD", False), patch.dict(os.environ)
    with patches[0], patches[1], patches[2], told[0], told[1]:
        os.environ.pop("COLUMNS", None)  # as wide as a pipe, whatever runs the tests
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def curation(folder: Path, *changes: tuple[str, str]) -> Path:
    """The recipe of tests/data/curation.yaml in a folder of its own, with pieces of its text replaced."""
    text = (DATA / "curation.yaml").read_text("utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / "traces.jsonl", folder)
    recipe = folder / "curation.yaml"
    recipe.write_text(text, "utf-8")
    return recipe
