"""Completions that were recorded before: tests, and the curation of traces without a model.

A file of any size: what is in memory is where each record lies, and a record is read when it is asked for.
"""

import hashlib
import json
import os
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING, Any, Literal

from distillkit.artifact import Model
from distillkit.engines.base import Completion, Engine, Feed, Parameters, Request
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.index import Index
from distillkit.spec import SourceFile
from distillkit.trace import FINISH_REASONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Record = dict[str, Any]

COLUMNS = (
    "problem_id",
    "prompt",
    "index",
    "completion",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
)
_ODD = 0x9E3779B97F4A7C15F39CC0605CEDC835
BATCH_ROWS = 64
"""Rows of a Parquet file that are in memory at a time."""


class ReplayEngine(Engine):
    """Hands out the rows of a jsonl or parquet file; weights and sampling parameters change nothing.

    A row has `completion`, and `problem_id` or `prompt` (the text of the last user message); it may have `index`
    (else rows of a problem count from 0 in the file's order), `finish_reason`, `prompt_tokens` and
    `completion_tokens`. What was not recorded becomes a row with finish_reason "error".
    """

    kind: Literal["replay"] = "replay"
    file: SourceFile
    """Path of the recorded completions, ending in .jsonl or .parquet."""

    @contextmanager
    def open(
        self, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> Iterator["ReplaySession"]:
        with open_lines(Path(self.file)) as lines:
            yield ReplaySession.over(self.file, lines)

    def tokenizer(self, model: Model | None) -> None:
        return None


@dataclass
class ReplaySession:
    """Where each record of a file lies, by problem and index."""

    lines: IO[bytes]
    places: Index
    rows: Counter[int]
    """Key of a problem id or prompt -> its records."""

    @classmethod
    def over(cls, file: str, lines: IO[bytes]) -> "ReplaySession":
        """Read all lines once.

        Raises:
            StageError: a line that is no JSON object.
            RecipeError: a row that lacks a needed column.
        """
        session = cls(lines, Index(), Counter())
        start = 0
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = _parsed(line, f"{file}:{number}")
                session._add(file, number, row, (start, len(line)))
            start += len(line)
        return session

    def _add(self, file: str, number: int, row: Record, place: tuple[int, int]) -> None:
        name = row.get("problem_id") or row.get("prompt")
        if not isinstance(name, str) or not isinstance(row.get("completion"), str):
            raise RecipeError(
                f"{file}: a row needs `completion` and `problem_id` or `prompt`; it has {', '.join(row)}"
            )
        whose = _key(name)
        index = row.get("index")
        try:
            index = self.rows[whose] if index is None else int(index)
        except (TypeError, ValueError, OverflowError):
            raise StageError(f"{file}:{number}: index {index!r} is not a whole number") from None
        if self.places.add(_sample(whose, index), place):
            self.rows[whose] += 1

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        for request in iter(feed.take, None):
            yield request, _completion(self._find(request))

    def _find(self, request: Request) -> Record | None:
        prompt = next((m["content"] for m in reversed(request.messages) if m["role"] == "user"), "")
        whose = _key(request.problem_id)
        place = self.places.find(_sample(whose if whose in self.rows else _key(prompt), request.index))
        if place is None:
            return None
        start, length = place
        record: Record = _loads(os.pread(self.lines.fileno(), length, start))
        return record


def _key(name: str) -> int:
    """128 bits for a problem id or a prompt: prompts are too long to keep."""
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")


def _sample(whose: int, index: int) -> int:
    """The key of one of a problem's samples; the odd factor keeps those of two problems apart."""
    return (whose + index * _ODD) % 2**128


def _completion(row: Record | None) -> Completion:
    if row is None:
        return Completion("", "error", error="no recorded completion")
    reason = row.get("finish_reason")
    return Completion(
        text=row["completion"],
        finish_reason=reason if reason in FINISH_REASONS else "unknown",
        prompt_tokens=row.get("prompt_tokens"),
        completion_tokens=row.get("completion_tokens"),
    )


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """The rows of a jsonl or parquet file as JSON lines.

    Raises:
        MissingError: no such file, or no disk space for the lines of a Parquet file.
        RecipeError: neither ending.
        StageError: damaged Parquet.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; give recorded completions")
    if path.suffix == ".parquet":
        # One row in the middle of Parquet costs the reading of its row group, so that all are written out first.
        with TemporaryFile(prefix="distillkit-") as lines:
            _write_lines(_parquet(path), path, lines)
            lines.seek(0)
            yield lines
    elif path.suffix in (".jsonl", ".json"):
        with path.open("rb") as lines:
            yield lines
    else:
        raise RecipeError(f"{path}: recorded completions end in .jsonl or .parquet")


def _write_lines(rows: Iterable[Record], path: Path, lines: IO[bytes]) -> None:
    try:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        lines.flush()
    except OSError as error:
        raise MissingError(
            f"{gettempdir()}: no room for the rows of {path} ({error.strerror}); set TMPDIR to a folder that has"
        ) from None


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=2**20) as file:
            names = file.schema_arrow.names
            # Where one is missing, all are read: the error tells what there is.
            columns = [name for name in names if name in COLUMNS] if "completion" in names else None
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise StageError(f"{path}: not readable as Parquet ({error})") from None


def _loads(line: bytes) -> Any:
    # Decoded here: json.loads looks for other encodings first, which takes half its time on a short line.
    return json.loads(line.removeprefix(BOM_UTF8).decode("utf-8", "surrogatepass"))


def _parsed(line: bytes, where: str) -> Record:
    try:
        row = _loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise StageError(f"{where}: not a JSON object; remove the line or record it again")
    return row
