"""Arrays in files that are whole or not there: what the parts of a shuffle hand on to one another."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.durable import disk_error

if TYPE_CHECKING:
    from numpy.typing import NDArray


def save_array(path: Path, array: "NDArray[Any]") -> None:
    """Write an array as .npy: temporary name, fsync, rename. Raises MissingError where the disk is full."""
    import numpy as np

    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # numpy tells a write that was cut short without an errno, and what cuts one short is a full disk.
        told = error if error.errno else OSError(errno.ENOSPC, str(error))
        raise disk_error(path, told) from None


def load_array(path: Path, *, mapped: bool = False) -> "NDArray[Any]":
    """The array of a file; mapped into memory page by page where only parts are read."""
    import numpy as np

    found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    return found
