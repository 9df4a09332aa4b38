"""A measure of the user's own: one function in one file, run in a worker process.

It gets a trace as a dict and returns a dict of the declared keys. A row on which it fails gets nulls, and is counted.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.errors import RecipeError
from distillkit.measures.base import Labels, Measure
from distillkit.pool import Failure, StartError, close_shared, shared
from distillkit.spec import EXECUTION, SourceFile, file_digest
from distillkit.trace import Trace
from distillkit.worker import check_function, user_function

log = logging.getLogger(__name__)

MAX_LABEL_CHARS = 10_000
"""JSON of one row's labels; a measure that gives back the text would write it a second time."""

Key = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Python(Measure):
    """Runs `function` of `file` on each trace: {kind: python, name: jokes, file: my.py, function: count, keys: [n]}."""

    KEYS: ClassVar[dict[str, str]] = {}

    kind: Literal["python"] = "python"
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "python"
    """Its labels are `measures.<name>.<key>`."""
    file: SourceFile
    """A self-contained Python file; its bytes, not its name, are part of the identity."""
    function: str = "measure"
    """Takes a dict (the columns of a trace, `prompt` and `text`) and returns a dict with exactly `keys`."""
    keys: Annotated[tuple[Key, ...], Field(min_length=1)]
    """What it returns: numbers, booleans, strings, null, and lists and dicts of them."""
    cpu_s: Annotated[float, Field(gt=0)] = 10.0
    """CPU seconds that one row may take; beyond it the row counts as failed."""
    memory_gib: Annotated[float, Field(ge=1)] = 4.0
    """Address space of a worker in GiB."""
    workers: Annotated[int, Field(ge=1), EXECUTION] = 1
    """Worker processes of each process that measures shards."""

    @property
    def label(self) -> str:
        return self.name

    @property
    def label_keys(self) -> tuple[str, ...]:
        return self.keys

    def measure(self, trace: Trace) -> Labels:
        [labels] = self.measure_all([trace])
        return labels

    def measure_all(self, traces: Iterable[Trace]) -> list[Labels]:
        results = self._call([row_of(trace) for trace in traces])
        failures = [result.detail for result in results if isinstance(result, Failure)]
        if failures:
            log.warning(
                "%s: failed on %d of %d rows: %s", self.file, len(failures), len(results), failures[0]
            )
        return [self.failed if isinstance(result, Failure) else result for result in results]

    @property
    def failed(self) -> Labels:
        """The labels of a row on which it failed."""
        return dict.fromkeys(self.keys)

    def check(self) -> None:
        """Look for the function without running it; raises MissingError or RecipeError."""
        check_function(self.file, self.function)

    def foreign(self) -> list[str]:
        return [f"runs {self.function}() of {self.file}"]

    def probe(self, trace: Trace) -> Labels:
        """Its labels of one row, as a trial before a run.

        Raises RecipeError: there is no such function, it fails on the row, or returns something else than `keys`.
        """
        [result] = self._call([row_of(trace)])
        if isinstance(result, Failure):
            raise RecipeError(f"{self.file}: {self.function}() failed on {trace.id}: {result.detail}")
        labels: Labels = result
        return labels

    def close(self) -> None:
        """End its worker processes; the next row starts them again."""
        close_shared(labeler)

    def _call(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        if not rows:
            return []
        args = (self.file, self.function, file_digest(Path(self.file)), list(self.keys))
        pool = shared(labeler, args, workers=self.workers, cpu_s=self.cpu_s, memory_gib=self.memory_gib)
        try:
            return pool.map(rows)
        except StartError as error:
            named = self.file in error.why
            raise RecipeError(error.why if named else f"{self.file}: {error.why}") from None


def row_of(trace: Trace) -> dict[str, Any]:
    """What a measure sees: the columns of a trace, `prompt` and `text`; telemetry differs from run to run."""
    row = asdict(trace) | {"prompt": trace.prompt, "text": trace.text}
    del row["telemetry"]
    return row


def labeler(file: str, function: str, digest: str, keys: list[str]) -> Callable[[dict[str, Any]], Labels]:
    """What a worker serves: the user's function, its return value checked."""
    measure = user_function(file, function, digest)
    return lambda row: checked(measure(row), keys)


def checked(returned: Any, keys: Sequence[str]) -> Labels:
    """The labels as they were returned.

    Raises:
        TypeError: for what is no dict, or holds what JSON has no name for.
        ValueError: for other keys than those declared, NaN, an infinity, or more than MAX_LABEL_CHARS.
    """
    if not isinstance(returned, dict):
        raise TypeError(f"returned {type(returned).__name__}; return a dict with the keys {', '.join(keys)}")
    if set(returned) != set(keys):
        found = ", ".join(sorted(map(str, returned))) or "none"
        raise ValueError(f"returned the keys {found}; declared are {', '.join(keys)}")
    size = sum(_size(value, key) for key, value in returned.items())
    if size > MAX_LABEL_CHARS:
        raise ValueError(f"returned {size:,} characters; labels of one row may have {MAX_LABEL_CHARS:,}")
    return returned


def _size(value: Any, key: str) -> int:
    """Characters of a JSON value, about; raises TypeError or ValueError for what is none."""
    if value is None or isinstance(value, bool | int):
        return 8
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"returned {value} as {key}; return null where there is no number")
        return 8
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(_size(each, key) for each in value)
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return sum(len(name) + _size(each, key) for name, each in value.items())
    raise TypeError(f"returned {type(value).__name__} as {key}; return what JSON can hold")
