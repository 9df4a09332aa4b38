"""Completions that were recorded before: tests, and the curation of traces without a model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distillkit.artifact import Model
from distillkit.engines.base import Completion, Engine, Feed, Parameters, Request
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.spec import SourceFile
from distillkit.trace import FINISH_REASONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Record = dict[str, Any]


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
        session = ReplaySession(self.file)
        for row in read_rows(Path(self.file)):
            session.add(row)
        yield session

    def tokenizer(self, model: Model | None) -> None:
        return None


@dataclass
class ReplaySession:
    """All records of a file, by problem and index."""

    file: str
    records: dict[str, dict[int, Record]] = field(default_factory=dict)
    """Problem id or prompt -> index -> row."""

    def add(self, row: Record) -> None:
        """Take a row in; raises RecipeError where it lacks a needed column."""
        name = row.get("problem_id") or row.get("prompt")
        if not isinstance(name, str) or not isinstance(row.get("completion"), str):
            raise RecipeError(
                f"{self.file}: a row needs `completion` and `problem_id` or `prompt`; it has {', '.join(row)}"
            )
        known = self.records.setdefault(name, {})
        index = row.get("index")
        known.setdefault(len(known) if index is None else int(index), row)

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        for request in iter(feed.take, None):
            prompt = next((m["content"] for m in reversed(request.messages) if m["role"] == "user"), "")
            known = self.records.get(request.problem_id) or self.records.get(prompt) or {}
            yield request, _completion(known.get(request.index))


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


def read_rows(path: Path) -> Iterator[Record]:
    """Rows of a jsonl or parquet file.

    Raises:
        MissingError: no such file.
        RecipeError: neither ending.
        StageError: a line that is no JSON object, or damaged Parquet.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; give recorded completions")
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix in (".jsonl", ".json"):
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parsed(line, f"{path}:{number}")
    else:
        raise RecipeError(f"{path}: recorded completions end in .jsonl or .parquet")


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path}: not readable as Parquet ({error})") from None


def _parsed(line: str, where: str) -> Record:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise StageError(f"{where}: not a JSON object; remove the line or record it again")
    return row
