"""`runs/<recipe>/<n>/`: what a run leaves for people: recipe, events, links to artifacts, report.

A run that was killed goes on under its own number when it is started again; a finished one gets a successor.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distillkit.artifact import MANIFEST, Artifact
from distillkit.durable import write_text
from distillkit.errors import MissingError
from distillkit.store import Store

RECORD = "run.json"


@dataclass
class RunRecord:
    """run.json: which artifacts a run has, stage by stage."""

    recipe: str
    number: int
    status: str = "running"
    """running, done, failed or interrupted; a killed run stays "running"."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """[{name, kind, artifact, seconds, cached}] in the order of the recipe."""
    seeds: list[int] = field(default_factory=list)
    error: str | None = None


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path = path
        self.record = record

    def save(self) -> None:
        """Write run.json atomically."""
        write_text(self.path / RECORD, json.dumps(asdict(self.record), indent=1))

    def add(self, name: str, kind: str, artifact: Artifact, *, cached: bool, seconds: float) -> None:
        """Record a finished stage and link its artifact."""
        entry = {
            "name": name,
            "kind": kind,
            "artifact": artifact.path.name,
            "cached": cached,
            "seconds": round(seconds, 2),
        }
        self.record.stages = [stage for stage in self.record.stages if stage["name"] != name] + [entry]
        link = self.path / "artifacts" / name
        link.parent.mkdir(exist_ok=True)
        temporary = link.with_name(f".{name}.part")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(artifact.path, link.parent))
        temporary.replace(link)
        self.save()


@contextmanager
def open_run(runs: Path, recipe: str, text: str) -> Iterator[RunFolder]:
    """The folder for a run of the resolved recipe `text`: the unfinished last one if it is the same, else a new number.

    A lock that dies with the process keeps two runs out of one folder.
    """
    number = max((n for n, _ in numbered(runs / recipe)), default=0)
    last = runs / recipe / str(number)
    if number and _unfinished(last, text):
        with _claimed(last) as claimed:
            if claimed:
                record = RunRecord(recipe, number)
                yield _begun(last, record)
                return
    while True:
        number += 1
        path = runs / recipe / str(number)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    with _claimed(path):
        write_text(path / "recipe.yaml", text)
        yield _begun(path, RunRecord(recipe, number))


def _begun(path: Path, record: RunRecord) -> RunFolder:
    folder = RunFolder(path, record)
    folder.save()
    return folder


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    with (path / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _unfinished(path: Path, text: str) -> bool:
    try:
        return load_record(path).status != "done" and (path / "recipe.yaml").read_text("utf-8") == text
    except (OSError, MissingError):
        return False


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Runs of a recipe by number, ascending."""
    if not folder.exists():
        return []
    return sorted((int(path.name), path) for path in folder.iterdir() if path.name.isdigit())


def load_record(path: Path) -> RunRecord:
    """run.json of a folder; raises MissingError where there is none."""
    try:
        return RunRecord(**json.loads((path / RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        raise MissingError(
            f"{path}: no run there (no readable {RECORD}); `distillkit ls` lists runs"
        ) from None


def find_run(store: Path, name: str | None) -> Path:
    """The folder that a person means: a path, `recipe`, `recipe/n`, or nothing for the latest of all.

    Raises MissingError when there is none.
    """
    runs = store / "runs"
    if name and (Path(name) / RECORD).exists():
        return Path(name)
    candidates = (
        [runs / name] if name else [p for p in (runs.iterdir() if runs.exists() else []) if p.is_dir()]
    )
    if name and (runs / name / RECORD).exists():
        return runs / name
    found = [path for folder in candidates for _, path in numbered(folder) if (path / RECORD).exists()]
    if not found:
        raise MissingError(f"{name or runs}: no run there; `distillkit ls` lists runs")
    return max(found, key=lambda path: (path / RECORD).stat().st_mtime)


def find_artifact(store: Store, name: str) -> Artifact:
    """The artifact that a person means: `RUN/STAGE` (a run as `find_run` takes it), its folder, or that folder's name.

    Raises:
        MissingError: there is none.
        StageError: it is corrupt.
    """
    folder = store.artifacts / Path(name).name
    if folder in (store.artifacts / name, Path(name).resolve()) and (folder / MANIFEST).exists():
        return store.open(folder.name)
    run, _, stage = name.rpartition("/")
    record = load_record(find_run(store.root, run or None))
    made = {each["name"]: each["artifact"] for each in record.stages}
    if stage not in made:
        raise MissingError(
            f"{name}: run {record.recipe}/{record.number} has no stage {stage!r}; it has {', '.join(made) or 'none'}"
        )
    return store.open(made[stage], stage)
