"""Trace sets that somebody else made, from files, the Hub or a function of the user's, as traces of one shape.

Whatever is curated has to come in first, and millions of rows do not fit in memory: rows are read once, spilled by
shard, and written shard by shard in the order of their ids.
"""

import heapq
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from xxhash import xxh3_64_hexdigest

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.events import Progress, silent
from distillkit.shuffle import PARTS, Shuffled, Spill, facts_of
from distillkit.spec import SourceFile, digest, files_of, seed_of
from distillkit.stages.base import TRACES, Job
from distillkit.stages.intake import Tally
from distillkit.stages.source import BLOCK_ROWS, Found, reader_of
from distillkit.stages.sourced import SourcedStage
from distillkit.stages.traces.columns import TraceColumns
from distillkit.stages.traces.preset import PLAIN, PRESETS, Preset, PresetName
from distillkit.stages.traces.row import TraceReader
from distillkit.stages.traces.shard import TraceShard, body_of, write_trace_shard
from distillkit.trace import Trace


class Traces(SourcedStage):
    """Existing traces; exactly one of file, hub and python says where from.

    A trace's id is its problem, its source and its completion: rows that come or go elsewhere in the source change
    none of it, so that the next version of a source is labelled and compared only where it changed.
    """

    MAKES: ClassVar[str] = TRACES
    # A preset is what its columns say today.
    VERSION: ClassVar[int] = int(
        digest([[name, each.columns.model_dump(), each.model] for name, each in PRESETS.items()])[:8], 16
    )

    kind: Literal["traces"] = "traces"
    file: SourceFile | None = None
    """A .parquet, .jsonl, .json or .csv file; a pattern (`data/*.parquet`); or a folder of such files, one that
    `publish` laid out too. Their shards need not have the same columns."""
    preset: PresetName | None = None
    """A layout in use; `columns` changes single ones of it."""
    columns: TraceColumns = TraceColumns()
    domain: str = "math"
    """Names the verifier of rows that do not say theirs."""
    source: str | None = None
    """What the traces name as their source, also in their ids: give the next version of a file the same. Left out: the
    Hub repository, the file's or folder's name, the function's."""
    model: str | None = None
    """Who gave the completions that do not say so; left out: whom the preset's card names."""
    max_characters: int = Field(1_000_000, ge=1)
    """A longer trace (prompt and completion) is left out as `too_long`."""

    def check(self, recipe_folder: Path) -> None:
        self._columns()
        super().check(recipe_folder)

    def check_file(self, file: str) -> None:
        for path in self._files():
            reader_of(path, self.MAKES)

    def domains(self) -> set[str]:
        """Domains of the traces, as far as the recipe tells; none where rows may say theirs."""
        return {self.domain} if self._columns().domain is None else set()

    def run(self, job: Job) -> None:
        spills = self._parts(job)
        tally = _spilled(job, spills, self.require)
        self._count(job, tally)
        folder = job.out.scratch
        shards = [Shuffled(folder, len(spills), shard) for shard in range(job.shards)]
        chosen = self._chosen(shards)
        if chosen is not None:
            left_out = tally.kept - sum(map(len, chosen))
            job.out.counts["rejected"] |= {"over_limit": left_out} if left_out else {}
        tasks = [
            TraceShard(each, job.out, None if chosen is None else frozenset(chosen[each.shard]))
            for each in shards
            if not job.out.has(each.shard)
        ]
        for done, _ in enumerate(job.executor.map(write_trace_shard, tasks), job.shards - len(tasks) + 1):
            job.progress(done, job.shards, unit="shards")

    def _parts(self, job: Job) -> "list[_Part]":
        """What is read side by side: files, in runs of equal number; all at once where the first ones will do."""
        paths = self._files() if self.file is not None else []
        one = self.limit is not None and not self.shuffle
        size = max(1, len(paths)) if one else max(1, -(-len(paths) // PARTS))
        runs = [tuple(paths[at : at + size]) for at in range(0, max(1, len(paths)), size)]
        return [_Part(self, run, number, job.out.scratch, job.shards) for number, run in enumerate(runs)]

    def _count(self, job: Job, tally: Tally) -> None:
        """Tell what came in; raises StageError where there is nothing."""
        job.out.rows_in = tally.kept + tally.rejected.total()
        job.out.counts = {"rejected": dict(tally.rejected)}
        job.out.telemetry |= {"rejected_examples": tally.examples, "source_rows": tally.rows}
        if not tally.kept:
            raise StageError(f"{self.name}: no trace in {tally.rows:,} rows of {self.origin}{tally.why()}")
        if tally.rejected:
            job.warn(f"left out{tally.why()}")

    def _chosen(self, shards: list[Shuffled]) -> list[set[int]] | None:
        """Places in each shard of the `limit` traces that are drawn; None where all are taken."""
        if self.limit is None or not self.shuffle:
            return None
        drawn = heapq.nsmallest(
            self.limit,
            (
                (seed_of("traces", self.seed, key), shard.shard, at)
                for shard in shards
                for at, key in enumerate(shard.keys())
            ),
        )
        chosen: list[set[int]] = [set() for _ in shards]
        for _, shard, at in drawn:
            chosen[shard].add(at)
        return chosen

    def found(self, paths: tuple[Path, ...], tally: Tally) -> Generator[Found, None, None]:
        """The rows of the source, of these files where it is files; the tally learns the names of their columns."""
        if self.file is None:
            yield from self.mapped_rows(self._choose)
        for path in paths:
            yield from reader_of(path, "traces")(
                path, lambda names: self._columns().among(tally.learn(names))
            )

    def reader(self) -> TraceReader:
        """What reads the rows."""
        columns = self._columns()
        named = digest(["traces", self.origin, columns.texts])[:12]  # as much as stands in an id
        given = Trace(
            "", [], "", "", "", domain=self.domain, source=self.origin, origin=named,
            model=self.model or self._preset.model,
        )  # fmt: skip
        return TraceReader(columns, given, self.max_characters)

    def require(self, names: list[str]) -> None:
        """Raises RecipeError where the source lacks a column of the text, or one that the recipe declares."""
        if missing := self._columns().missing(names, self.columns):
            who = f"preset {self.preset}" if self.preset else "this stage"
            raise RecipeError(
                f"stages.{self.name}: {self.origin}: {who} looked for {', '.join(missing)} and found "
                f"{', '.join(names) or 'no columns'}; map them with columns: or give another preset"
            )

    def _choose(self, names: list[str]) -> list[str]:
        self.require(names)
        return self._columns().among(names)

    def _columns(self) -> TraceColumns:
        return self.columns.over(self._preset.columns)

    @property
    def _preset(self) -> Preset:
        return PRESETS[self.preset] if self.preset is not None else PLAIN

    def _files(self) -> list[Path]:
        found = files_of(self.file or "")
        if not found:
            raise MissingError(
                f"{self.file}: no such file, no folder with data files, and no pattern that matches any"
            )
        return found

    @property
    def origin(self) -> str:
        return self.source if self.source is not None else super().origin


@dataclass(frozen=True)
class _Part:
    """A part of the source to spill: picklable, so that any executor can take it."""

    stage: Traces
    paths: tuple[Path, ...]
    number: int
    folder: Path
    shards: int


def _spilled(job: Job, parts: list[_Part], require: Callable[[list[str]], None]) -> Tally:
    """Spill the parts that are not there yet; what came in by all of them."""
    missing = [part for part in parts if facts_of(part.folder, part.number) is None]
    if len(missing) == 1:
        _spill(missing[0], job.progress)
    else:
        for done, _ in enumerate(job.executor.map(_spill, missing), len(parts) - len(missing) + 1):
            job.progress(done, len(parts), unit="parts")
    tally = Tally()
    for part in parts:
        tally.add(facts_of(part.folder, part.number))
    if tally.names:
        require(tally.names)
    return tally


def _spill(part: _Part, progress: Progress = silent) -> None:
    """Read a part and spill its traces; stops at the limit where the first ones will do."""
    stage, tally = part.stage, Tally()
    reader = stage.reader()
    spill = Spill(part.folder, part.number, part.shards)
    last = None if stage.shuffle else stage.limit
    with closing(stage.found(part.paths, tally)) as rows:
        for where, row in rows:
            tally.row(row)
            for found in reader.read(row):
                body = body_of(found) if isinstance(found, Trace) else None
                if body is None:
                    tally.reject(where, found if isinstance(found, str) else "unreadable")
                elif isinstance(found, Trace):
                    spill.add(f"{found.id} {xxh3_64_hexdigest(body)}", body)
                    tally.kept += 1
                if tally.kept == last:
                    break
            if tally.rows % BLOCK_ROWS == 0:
                progress(tally.rows, 0, unit="rows", kept=tally.kept)
                if tally.kept == 0:
                    stage.require(tally.names)
            if tally.kept == last:
                break
    spill.seal(tally.facts())
