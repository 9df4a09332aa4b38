"""Stages that label: row by row, shard by shard beside the text, and never twice the same.

A labelled shard is kept store-wide by what decided it. Where rows were added, labels of problems that are as they
were are taken from the shard that was labelled last, so that a dataset grows without being labelled again.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from distillkit.artifact import STREAMED_ROWS, Counts, Row, problem_in, state_of
from distillkit.durable import link_or_copy, shared
from distillkit.executor import Inline
from distillkit.reader import BATCH_CHARACTERS, View
from distillkit.shard import is_intact
from distillkit.spec import identity
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.cached import Cached
from distillkit.store import Writer, merge_counts
from distillkit.trace import Trace, trace_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Given:
    """What labels are made with besides the traces: picklable, and the JSON that decides them of it."""

    value: Any = None
    key: Any = None


class Labeler(Stage):
    """A stage that writes labels beside the text; drops nothing."""

    MAKES: ClassVar[str] = LABELS
    PARALLEL: ClassVar[bool] = True
    """Whether shards may run in several processes (not where the stage has workers of its own)."""
    BATCH: ClassVar[int] = BATCH_CHARACTERS
    """Characters of text that `label` gets at a time, about."""

    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose traces are labelled; left out: the nearest earlier one."""

    def label_schema(self) -> "pa.Schema":
        """Arrow schema of the labels; the first column is `id`."""
        raise NotImplementedError

    def given(self, job: Job) -> Given:
        """What `label` gets besides the traces."""
        return Given()

    def label(self, traces: list[Trace], given: Any) -> list[Row]:
        """One row of labels per trace, in order; gets all traces of a problem together. given: `Given.value`."""
        raise NotImplementedError

    def counts(self, labels: list[Row]) -> Counts:
        """What the manifest counts of labels."""
        return {}

    def lasting(self, labels: list[Row]) -> bool:
        """Whether labels may be taken again by another run: not where the machine's load decided one."""
        return True

    def run(self, job: Job) -> None:
        view = job.view()
        job.out.rows_in = view.count
        given = self.given(job)
        tasks = [
            ShardTask(self, view, shard, given, job.out, job.store.root / "labels")
            for shard in range(view.shards)
            if not job.out.has(shard)
        ]
        executor = job.executor if self.PARALLEL else Inline()
        done = view.shards - len(tasks)
        for _ in executor.map(label_shard, tasks):
            done += 1
            job.progress(done, view.shards, unit="shards")


@dataclass(frozen=True)
class ShardTask:
    """One shard to label: picklable, so that any executor can take it."""

    stage: Labeler
    view: View
    shard: int
    given: Given
    out: Writer
    cache: Path

    @property
    def cached(self) -> Cached:
        """Where these labels are kept."""
        maker = [self.stage.kind, identity(self.stage), self.given.key]
        return Cached(self.cache, maker, self.view, self.shard)


@dataclass(frozen=True)
class Entry:
    """Labels of a shard in the cache, and which state of each problem they are of."""

    file: Path

    @property
    def problems(self) -> Path:
        return self.file.with_suffix(".json")

    def labels(self) -> "Kept":
        """Its labels; none where it is gone or damaged."""
        if not (self.problems.exists() and self.file.exists() and is_intact(self.file)):
            return NONE_KEPT
        return Kept(json.loads(self.problems.read_text("utf-8")), _rows(self.file))

    def keep(self, shard: Path, states: dict[str, str]) -> None:
        """Keep a labelled shard; shards of equal content, and other runs, may do so at the same time."""
        with shared(self.file) as file:
            link_or_copy(shard, file)
        with shared(self.problems) as file:
            file.write_text(json.dumps(states), "utf-8")


class Kept:
    """Labels by ascending id, and the state of each problem's traces that they are of; asked by ascending id."""

    def __init__(self, states: dict[str, str], rows: Iterator[Row]) -> None:
        self._states = states
        self._problems = groupby(rows, key=lambda row: problem_in(row["id"]))
        self._at = ("", list[Row]())

    def of(self, problem: str, state: str) -> list[Row] | None:
        """The labels of a problem's traces, where they are as they were."""
        if self._states.get(problem) != state:
            return None
        while self._at[0] != problem:
            following = next(self._problems, None)
            if following is None:
                return None
            self._at = (following[0], list(following[1]))
        return self._at[1]


NONE_KEPT = Kept({}, iter(()))


def _rows(file: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as shard:
        for batch in shard.iter_batches(STREAMED_ROWS):
            yield from batch.to_pylist()


def label_shard(task: ShardTask) -> None:
    """Label one shard, or link it from the store's cache."""
    cached = task.cached
    if not (cached.file.exists() and task.out.link(task.shard, cached.file)):
        work = _Work(task, cached.last())
        written = task.out.stream(task.shard, work.rows(), task.stage.label_schema(), counts=work.counts)
        if not work.lasting:
            return
        Entry(cached.file).keep(task.out.path / written.file, work.states)
    cached.note()


class _Work:
    """The labels of one shard as they are made; `counts`, `states` and `lasting` are complete behind the last."""

    def __init__(self, task: ShardTask, last: Path | None) -> None:
        self.counts: Counts = {}
        self.states: dict[str, str] = {}
        self.lasting = True
        self._task = task
        self._kept = Entry(last).labels() if last else NONE_KEPT

    def rows(self) -> Iterator[Row]:
        """A row of labels for every trace, by ascending id."""
        task = self._task
        for batch in task.view.batches(task.shard, labels=False, characters=task.stage.BATCH):
            labels = self._labels(batch)
            self.counts.update(merge_counts([self.counts, task.stage.counts(labels)]))
            yield from labels

    def _labels(self, batch: list[Row]) -> list[Row]:
        """Labels of a batch of whole problems: those that are kept, and the others anew."""
        found: dict[str, Row] = {}
        fresh: list[Row] = []
        for problem, rows in _by_problem(batch).items():
            state = self.states[problem] = state_of(rows).hex()
            kept = self._kept.of(problem, state)
            if kept is None:
                fresh += rows
            else:
                found |= {row["id"]: row for row in kept}
        traces = [trace_of(row) for row in fresh]
        made = self._task.stage.label(traces, self._task.given.value) if traces else []
        self.lasting = self.lasting and self._task.stage.lasting(made)
        found |= {trace.id: {"id": trace.id, **label} for trace, label in zip(traces, made, strict=True)}
        return [found[row["id"]] for row in batch]


def _by_problem(rows: Iterable[Row]) -> dict[str, list[Row]]:
    problems: dict[str, list[Row]] = {}
    for row in rows:
        problems.setdefault(problem_in(row["id"]), []).append(row)
    return problems
