"""Benchmarks as the texts that nothing may leak from: read, kept for the workers, and looked for.

No stage itself, but shared by `decontaminate`, which labels traces, and `problems`, which drops before anything is
paid.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from distillkit import benchmarks
from distillkit.artifact import Row
from distillkit.durable import write_text
from distillkit.errors import StageError
from distillkit.measures.overlap import Match, Overlap
from distillkit.reader import look_up
from distillkit.spec import SourceFile, Strict, canonical, digest
from distillkit.stages.base import Input, Job
from distillkit.stages.columns import Columns, messages_of
from distillkit.stages.source import check_file, reader_of
from distillkit.trace import Message, Problem, problem_of

PROMPT_SIZE, COMPLETION_SIZE = 8, 13
"""Words of an n-gram, as open-r1 and GPT-3 have them: a long text shares eight words with anything."""


class BenchmarkFile(Strict):
    """A benchmark in a file of the user's."""

    file: SourceFile
    """A .jsonl, .json, .csv or .parquet file."""
    columns: Columns = Columns(reference=None)
    """Only its `prompt` is read."""

    def check(self) -> None:
        """Raises MissingError or RecipeError where there is no such file."""
        reader_of(Path(self.file))
        check_file(self.file)

    def texts(self) -> Iterator[tuple[int, str]]:
        """Number from 1 and prompt of each row; empty where it has none."""
        path = Path(self.file)
        columns = Columns(prompt=self.columns.prompt, reference=None)

        def choose(names: list[str]) -> list[str]:
            return columns.among(names, path.name)

        for number, (_, row) in enumerate(reader_of(path)(path, choose), 1):
            if row is not None:
                choose(list(row))
            yield number, question(messages_of(look_up(row or {}, columns.prompt)))


Named = str | BenchmarkFile
"""An entry of a list of benchmarks: a problems stage, a built-in benchmark, or a file."""


def question(messages: Sequence[Message]) -> str:
    """All that a user says in a prompt."""
    return "\n".join(each["content"] for each in messages if each["role"] == "user")


@dataclass(frozen=True)
class Source:
    """One row of a benchmark: number from 1 in a file, from 0 on the Hub, id of a problem of a stage."""

    benchmark: str
    row: int | str
    text: str


@dataclass(frozen=True)
class Thresholds:
    """What makes a leak of shared n-grams; see `Overlap`."""

    share: float = 0.7
    run: int = 13
    common: int = 5


@dataclass(frozen=True)
class Sought:
    """Benchmarks to look for, in a file, so that a task of any executor carries a path only."""

    file: Path
    digest: str
    """Of the names and texts."""
    thresholds: Thresholds

    def find(self, text: str, size: int) -> "tuple[Row | None, Row | None]":
        """The leak in a text, and what is shared but proves nothing, as JSON; see `overlap.Found`."""
        found = _overlap(self, size).find(text)
        return self._row(found.leak), self._row(found.weak)

    def _row(self, match: Match | None) -> Row | None:
        if match is None:
            return None
        source = _read(self.file, self.digest)[match.reference]
        return {
            "benchmark": source.benchmark,
            "row": source.row,
            "share": round(match.share, 4),
            "words": match.run,
            "ngram": match.gram,
            "start": match.start,
            "end": match.end,
        }


def seek(job: Job, slot: str, named: Sequence[Named], thresholds: Thresholds = Thresholds()) -> Sought:
    """Everything that a wire and its files name, read.

    Raises:
        MissingError: a benchmark is gated, or out of reach and not in the local cache.
        StageError: one has no row with text.
    """
    sources: list[Source] = []
    for end in job.inputs.get(slot, []):
        sources += _sources(end.name, _texts(job, end), job.warn)
    for each in named:
        if isinstance(each, BenchmarkFile):
            sources += _sources(Path(each.file).name, each.texts(), job.warn)
    content = digest([asdict(each) for each in sources])
    file = job.out.scratch / f"benchmarks-{content[:16]}.json"
    write_text(file, json.dumps([asdict(each) for each in sources]))
    return Sought(file, content, thresholds)


@dataclass
class Guard:
    """Lets no problem in that is one of a benchmark, and keeps what it turned away."""

    sought: Sought
    leaks: list[Row] = field(default_factory=list)

    def admit(self, where: str, found: Problem | str) -> Problem | str:
        """The problem, or `leaked`; what is no problem stays the reason that it is."""
        if isinstance(found, str):
            return found
        text = question(found.messages)
        leak, _ = self.sought.find(text, PROMPT_SIZE)
        if leak is None:
            return found
        self.leaks.append({"where": where, **leak, "prompt": text})
        return "leaked"

    def report(self) -> str:
        """What was turned away, one JSON object a line."""
        return "".join(f"{canonical(leak).decode()}\n" for leak in self.leaks)


def _texts(job: Job, each: Input) -> Iterator[tuple[int | str, str | None]]:
    """Row and prompt of each row of one end of the wire."""
    if each.artifact:
        for row in job.store.open(each.artifact, each.name).rows():
            problem = problem_of(row)
            yield problem.id, question(problem.messages)
    else:
        yield from benchmarks.named(each.name).prompts(each.revision or "")


def _sources(
    name: str, texts: Iterable[tuple[int | str, str | None]], warn: Callable[[str], None]
) -> list[Source]:
    rows = list(texts)
    found = [Source(name, row, text) for row, text in rows if text and text.strip()]
    if not found:
        raise StageError(f"{name}: none of its {len(rows)} rows has a text to look for; see its columns")
    if len(found) < len(rows):
        warn(f"{name}: {len(rows) - len(found)} of {len(rows)} rows have no text; they are not looked for")
    return found


@lru_cache(maxsize=4)
def _read(file: Path, content: str) -> list[Source]:
    return [Source(**each) for each in json.loads(file.read_text("utf-8"))]


@lru_cache(maxsize=4)
def _overlap(sought: Sought, size: int) -> Overlap:
    """The index of a process: built by the first text that asks for it."""
    texts = [each.text for each in _read(sought.file, sought.digest)]
    return Overlap(texts, size, **asdict(sought.thresholds))
