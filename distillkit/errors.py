"""What can go wrong, and the exit code that says so.

A user's mistake is one line (what, where, what to do) and never a traceback. A bad row is not an error at
all: it is data with a reason.
"""

import os
import re
from collections.abc import Collection
from typing import ClassVar


class DistillkitError(Exception):
    """Base of every error that a user is meant to read; its text is the whole message."""

    exit_code: ClassVar[int] = 1


class RecipeError(DistillkitError):
    """The recipe or the command line is wrong: a key, a type, a wire, a column."""

    exit_code = 2


class MissingError(DistillkitError):
    """Something that the machine lacks: a file, package, GPU, token, model or disk space; says how to get it."""

    exit_code = 3


class StageError(DistillkitError):
    """A stage crossed a budget, has nothing left, or met a corrupt artifact."""

    exit_code = 4


class EngineError(DistillkitError):
    """An engine or trainer process died or could not answer; says how much is safe."""

    exit_code = 5


def nearest(word: str, names: Collection[str], otherwise: str = "") -> str:
    """How a line about an unknown word ends: "; did you mean NAME?", "; OTHERWISE" where no name is close, or empty."""
    import difflib

    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else otherwise
    return hint and f"; {hint}"


SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text without the values of secret environment variables."""
    for name, value in os.environ.items():
        if len(value) >= 8 and SECRET.search(name):
            text = text.replace(value, f"<{name}>")
    return text
