"""`ls` and `gc`: what a store holds, and what nobody refers to any more."""

import fcntl
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from distillkit.artifact import MANIFEST, load_manifest
from distillkit.edition import shelves
from distillkit.errors import MissingError
from distillkit.run_folder import RECORD, load_record, numbered


def run_folders(store: Path) -> list[Path]:
    """Every run of a store, those of single seeds too."""
    runs = store / "runs"
    recipes = sorted(runs.iterdir()) if runs.exists() else []
    found = [path for recipe in recipes if recipe.is_dir() for _, path in numbered(recipe)]
    return [p for run in found for p in [run, *sorted((run / "seeds").glob("*"))] if (p / RECORD).exists()]


def list_store(store: Path) -> dict[str, Any]:
    """{"runs": [{run, status, stages}], "artifacts": [{name, stage, type, rows, bytes}]}."""
    _require(store)
    runs = []
    for path in run_folders(store):
        record = load_record(path)
        runs.append(
            {
                "run": str(path.relative_to(store / "runs")),
                "status": record.status,
                "stages": len(record.stages),
            }
        )
    artifacts = [_entry(path) for path in _below(store / "artifacts") if (path / MANIFEST).exists()]
    return {"runs": runs, "artifacts": artifacts}


def _entry(path: Path) -> dict[str, Any]:
    try:
        manifest = load_manifest(path / MANIFEST)
    except (ValueError, KeyError, TypeError):
        return {"name": path.name, "stage": "", "type": "corrupt", "rows": 0, "bytes": size(path)}
    return {
        "name": path.name,
        "stage": manifest.stage,
        "type": manifest.type,
        "rows": manifest.rows_kept,
        "bytes": size(path),
    }


def size(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def render(listed: dict[str, Any]) -> RenderableType:
    """Two tables."""
    runs = Table("run", "status", "stages", box=None)
    for run in listed["runs"]:
        runs.add_row(run["run"], run["status"], str(run["stages"]))
    artifacts = Table("artifact", "stage", "type", "rows", "MiB", box=None)
    for each in listed["artifacts"]:
        artifacts.add_row(
            each["name"], each["stage"], each["type"], f"{each['rows']:,}", f"{each['bytes'] / 2**20:.1f}"
        )
    return Group(runs, artifacts)


def collect(store: Path, *, remove: bool) -> list[str]:
    """One line per artifact that no run refers to, per published version that has neither a tag nor `main`, and per
    work folder that no process holds; removes them when told.

    Raises MissingError where there is no store, or while a run is at work in it: what that one has made is not yet
    written down.
    """
    _require(store)
    runs = run_folders(store)
    for path in runs:
        if not _free(path / ".lock"):
            raise MissingError(f"{path}: this run is at work; wait until it has ended")
    used = {stage["artifact"] for path in runs for stage in load_record(path).stages}
    lines = [_dispose(path, remove) for path in _below(store / "artifacts") if path.name not in used]
    for path in _below(store / "work"):
        if path.is_dir() and _free(path.with_name(f"{path.name}.lock")):
            lines.append(_dispose(path, remove))
    lines += [_dispose(path, remove) for shelf in shelves(store) for path in shelf.loose()]
    kept = [path for path in _below(store / "artifacts") if path.name in used]
    lines += _forget_labels(store / "labels", kept, remove)
    return lines or ["nothing to remove"]


def _forget_labels(cache: Path, kept: Iterable[Path], remove: bool) -> list[str]:
    """Cached labels that no artifact to keep has; one that has them shares the file with the cache."""
    shared = {file.stat().st_ino for folder in kept for file in folder.rglob("*.parquet")}
    loose = [path for path in cache.glob("*/*.parquet") if path.stat().st_ino not in shared]
    freed = sum(path.stat().st_size for path in loose) / 2**20
    for path in loose if remove else []:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
    done = "removed" if remove else "would remove"
    return [f"{done} {len(loose)} shards of labels in {cache} ({freed:.1f} MiB)"] if loose else []


def _require(store: Path) -> None:
    if not store.is_dir():
        raise MissingError(f"{store}: no store there; give --store DIR")


def _below(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def _dispose(path: Path, remove: bool) -> str:
    line = f"{'removed' if remove else 'would remove'} {path} ({size(path) / 2**20:.1f} MiB)"
    if remove:
        shutil.rmtree(path)
    return line


def _free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
