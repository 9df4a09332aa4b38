"""Rows from where users keep them (a file, a function of their own), or from reasoning-gym; functions run in a worker.

No stage itself, but shared by those that read a source. A row that cannot be read is there all the same, as
None with the place where it stands, so that it can be counted and shown.
"""

import csv
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, JsonValue

from distillkit.artifact import Row
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.pool import Failure, Pool, StartError
from distillkit.spec import EXECUTION, SourceFile, Strict, file_digest, seed_of
from distillkit.toy.problems import Split, split_of
from distillkit.verifiers.logic import check_package, reference_of
from distillkit.verifiers.logic.gym import BLOCK, serve_problems
from distillkit.worker import check_function, user_function

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Found = tuple[str, Row | None]
"""Where a row stands ("train.jsonl:17") and its columns, None where it could not be read."""

Choose = Callable[[list[str]], list[str]]
"""Gets the names of all columns and returns those to read; raises RecipeError where one is missing."""

BLOCK_ROWS = 1000
"""Rows that are read, or asked of a user's function, at a time."""
_BATCH_BYTES = 8 * 2**20
_MEMORY_GIB = 8.0


def check_file(file: str) -> None:
    """Raises MissingError where there is no such file."""
    if not Path(file).is_file():
        raise MissingError(f"{file}: no such file (looked for in {Path(file).absolute().parent})")


def reader_of(path: Path, what: str = "problems") -> Callable[[Path, Choose], Iterator[Found]]:
    """The function that reads a file of this ending; raises RecipeError where it cannot hold rows."""
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise RecipeError(f"{path}: cannot be read as {what}; there are {', '.join(readers)}")
    return readers[path.suffix]


def _jsonl(path: Path, choose: Choose) -> Iterator[Found]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path.name}:{number}", _object(line)


def _object(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _json(path: Path, choose: Choose) -> Iterator[Found]:
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StageError(
            f"{path}: not JSON ({error}); one object per line belongs into a .jsonl file"
        ) from None
    if not isinstance(rows, list):
        raise StageError(f"{path}: not a list of objects")
    for number, row in enumerate(rows, 1):
        yield f"{path.name}:{number}", row if isinstance(row, dict) else None


def _csv(path: Path, choose: Choose) -> Iterator[Found]:
    csv.field_size_limit(2**31 - 1)  # tests of a coding problem are longer than the 128 KiB of the default
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        choose(header)
        for cells in filter(None, lines):
            whole = len(cells) == len(header)
            yield f"{path.name}:{lines.line_num}", dict(zip(header, cells, strict=True)) if whole else None


def _parquet(path: Path, choose: Choose) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Column chunks are read piece by piece: a row group may be gigabytes.
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            batches = file.iter_batches(_batch_rows(file), columns=choose(file.schema_arrow.names))
            for number, row in enumerate((row for batch in batches for row in _rows_of(batch)), 1):
                yield f"{path.name}:{number}", row
    except (pa.ArrowException, OSError) as error:
        raise StageError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]})") from None


def _batch_rows(file: "pq.ParquetFile") -> int:
    """Rows that are about `_BATCH_BYTES`, by the row group that has the largest."""
    groups = [file.metadata.row_group(at) for at in range(file.num_row_groups)]
    largest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1.0)
    return max(1, min(BLOCK_ROWS, int(_BATCH_BYTES / max(1.0, largest))))


def _rows_of(batch: "pa.RecordBatch") -> list[Row | None]:
    """The rows of a batch, None for one whose bytes are no text."""
    try:
        rows: list[Row | None] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        return [row for at in range(len(batch)) for row in _rows_of(batch.slice(at, 1))]


def serve_blocks(file: str, function: str, digest: str) -> Callable[[list[Any]], list[Any]]:
    """What a worker runs: [arguments, number] gives the rows of block `number` of `function(**arguments)`."""
    made: Callable[..., Iterable[Any]] = user_function(file, function, digest)
    rows: Iterator[Any] = iter(())
    following = -1

    def block(item: list[Any]) -> list[Any]:
        nonlocal rows, following
        arguments, number = item
        if number != following:  # the first block, or a fresh worker that goes on where another died
            rows = islice(made(**arguments), number * BLOCK_ROWS, None)
        following = number + 1
        return list(islice(rows, BLOCK_ROWS))

    return block


class Function(Strict):
    """A function of the user's that gives rows: `function(**arguments)` returns an iterable of dicts.

    It runs in a worker process. It may be endless where the stage has a `limit`, and it has to give the same
    rows each time.
    """

    file: SourceFile
    function: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    cpu_s: Annotated[float, EXECUTION] = Field(300.0, gt=0)
    """CPU seconds that a thousand rows may take."""

    def check(self) -> None:
        """Look for the function without running the file; raises RecipeError or MissingError."""
        check_function(self.file, self.function)

    def rows(self) -> Generator[Found, None, None]:
        """Its rows; raises StageError when it fails, with the line of the file that did."""
        start = [self.file, self.function, file_digest(Path(self.file))]
        with Pool(serve_blocks, start, workers=1, cpu_s=self.cpu_s, memory_gib=_MEMORY_GIB) as pool:
            for number in count():
                [block] = pool.map([[self.arguments, number]])
                if isinstance(block, Failure):
                    raise StageError(f"{self.file}: {self.function}() failed: {block.detail}")
                for at, row in enumerate(block, number * BLOCK_ROWS + 1):
                    yield f"{self.function}():{at}", row if isinstance(row, dict) else None
                if len(block) < BLOCK_ROWS:
                    return


class Puzzle(Strict):
    """A task of reasoning-gym with its settings: {task: gcd, settings: {max_value: 500}}.

    The task `composite` mixes others: settings: {datasets: [{name: gcd, weight: 2}, {name: maze, config: {}}]}.
    Equal seeds give equal problems. A question's digest decides its split, so that train and heldout never meet.
    """

    task: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """What the task's own configuration takes, `seed` and `size` aside."""
    cpu_s: Annotated[float, EXECUTION] = Field(300.0, gt=0)
    """CPU seconds that fifty problems may take."""

    def check(self) -> None:
        """Raises MissingError where the package is not installed."""
        check_package()

    def rows(self, seed: int, count: int, split: Split) -> Generator[Found, None, None]:
        """At least `count` entries of one split where the task has as many; some may be doubles.

        Raises:
            RecipeError: the task or a setting is unknown, or its scorer cannot be trusted.
            StageError: the task fails.
        """
        size = 8 * count + 200  # heldout is a quarter of them
        # The package seeds problem i with seed + i, so neighbouring seeds would make the same problems.
        start = [self.task, self.settings, seed_of("logic", seed), size]
        with Pool(serve_problems, start, workers=1, cpu_s=self.cpu_s, memory_gib=_MEMORY_GIB) as pool:
            for number in range(-(-size // BLOCK)):
                for at, entry in enumerate(self._block(pool, number), number * BLOCK):
                    if entry is None or split_of(entry["question"]) == split:
                        yield f"{self.task}:{at}", entry

    def _block(self, pool: Pool, number: int) -> list[Row | None]:
        try:
            [block] = pool.map([number])
        except StartError as error:
            raise RecipeError(f"logic: {error.why}") from None
        if isinstance(block, Failure):
            raise StageError(f"logic: task {self.task} failed: {block.detail}")
        found: list[Row | None] = block
        return found

    def reference(self, entry: Row) -> dict[str, JsonValue]:
        """What an answer to an entry is judged against by the verifier `logic`."""
        return reference_of(self.task, self.settings, entry)
