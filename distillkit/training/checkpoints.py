"""Whose checkpoints lie in a work directory: a training goes on from its own only.

The directory is named after what was asked for, so that others come there by hand alone (a copy, a moved store) or
from an older version; to go on from weights that were trained otherwise would be silent, and wrong.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from distillkit.durable import write_text
from distillkit.spec import Strict, digest, identity
from distillkit.training.parallel import rank

OWNER = "training.txt"
KEPT = "kept"
"""Folder of the weights that are to stay, by their steps."""


def sets_kept(steps: int, keep_steps: int) -> int:
    """Sets of weights that stay on the disk besides those of the last of so many steps."""
    return max(0, steps - 1) // keep_steps


def own_checkpoints(folder: Path, key: str, warn: Callable[[str], None]) -> None:
    """Put checkpoints aside that another training than that of this key left in a folder, and claim the folder."""
    if rank() != 0:
        return
    owner = folder / OWNER
    found = sorted(folder.glob("checkpoint-*"))
    if found and (not owner.exists() or owner.read_text("utf-8") != key):
        for path in found:
            aside = path.with_name(f"foreign-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        what = (
            "1 checkpoint of another recipe was"
            if len(found) == 1
            else f"{len(found)} checkpoints of another recipe were"
        )
        warn(f"{what} put aside in {folder} (foreign-checkpoint-...); this training begins anew")
    if not list(folder.glob("checkpoint-*")):
        shutil.rmtree(folder / KEPT, ignore_errors=True)
    write_text(owner, key)


def checkpoint_key(stage: Strict, seed: int, contents: dict[str, list[str]]) -> str:
    """A digest of everything that decides a training: the stage's identity, the seed and what comes in."""
    return digest([identity(stage), seed, contents])
