"""Find duplicates and near-duplicates; labels them and drops nothing (`select` takes one per cluster).

Clusters reach over shards, so this is the one label stage that is not row-wise. Each part is a task that writes a
file: sketches per shard, candidates per band, clusters per bucket, labels per shard. A killed run goes on from there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from distillkit.artifact import Row
from distillkit.durable import link_or_copy
from distillkit.executor import Inline
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.dedup.arrays import load_array
from distillkit.stages.dedup.bands import Bucket, Corpus, contest, in_bands, spread
from distillkit.stages.dedup.gather import SpillTask, gather, heads_file, loaded, spill, units_file
from distillkit.stages.dedup.match import confirm
from distillkit.stages.dedup.signature import Library, require
from distillkit.stages.dedup.sketch import Part, SketchTask, Texts, sketch_shard
from distillkit.store import Writer

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
FEW_ROWS = 2000
"""Traces up to which everything is done in this process."""


class Dedup(Stage):
    """Labels `cluster`, `duplicate` and `similarity`, the same whatever the shards, workers and order of the input.

    Texts are as similar as the Jaccard index of their 5-word shingles says: a Chinese or Japanese character is a
    word, so is an operator; case, spacing and other punctuation do not count. A text of fewer words is compared
    whole; an empty one is nobody's duplicate. MinHash only proposes pairs (it misses one just at the threshold with a
    chance of about 1 %); the true index of the two texts decides.
    """

    VERSION: ClassVar[int] = 2
    MAKES: ClassVar[str] = LABELS

    kind: Literal["dedup"] = "dedup"
    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose traces are compared; left out: the nearest earlier one."""
    on: Part = "completion"
    """What is compared. prompt: problems are, so that traces of one problem are no duplicates; both: the prompt with
    the completion behind it as one text, in which the longer one weighs more."""
    scope: Literal["global", "problem"] = "global"
    """Among which traces: all, or those of the same problem."""
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    """Jaccard similarity from which two texts belong together; a cluster's ends may be less alike. 1: only texts that
    are equal once white space, full-width and invisible characters are folded."""
    minhash: Library = "rensa"
    """Library that signs texts; datasketch (an extra) is the slower one, for machines that rensa has no build for."""

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if self.on == "prompt" and self.scope == "problem":
            raise ValueError("scope: problem: a problem has one prompt; compare prompts with scope: global")
        return self

    def fields(self) -> list[str]:
        return ["cluster", "duplicate", "similarity"]

    def check(self, recipe_folder: Path) -> None:
        require(self.minhash)

    def run(self, job: Job) -> None:
        view = job.view()
        job.out.rows_in = view.count
        corpus = Corpus(job.out.scratch, self.threshold)
        texts = [Texts(view, shard, self.on) for shard in range(view.shards)]
        sketches = [SketchTask(each, self.minhash, job.store.root / "labels") for each in texts]
        steps = _Steps(job, 3 * view.shards + corpus.bands)
        steps.do(sketch_shard, sketches)
        _hold(job.out.path, [each.file for each in sketches])
        size = gather(corpus, sketches, exact=self.threshold == 1, by_problem=self.scope == "problem")
        buckets: list[Bucket] = []
        if self.threshold < 1:
            bands = in_bands(corpus, size)
            steps.do(contest, bands)
            buckets = spread(corpus, bands, size)
            steps.do(spill, [SpillTask(corpus, each, len(buckets)) for each in texts if buckets])
            steps.do(confirm, buckets)
        labels = [LabelTask(corpus, each, buckets, job.out) for each in sketches]
        steps.do(label, [task for task in labels if not job.out.has(task.shard)])


def _hold(folder: Path, sketches: Iterable[Path]) -> None:
    """Share cached sketches with the artifact, hidden from its content, so that `gc` keeps them as long as it."""
    for file in sketches:
        if not (held := folder / ".sketches" / file.name).exists():
            link_or_copy(file, held)


class _Steps:
    """Maps tasks by the job's executor, and tells how many are done."""

    def __init__(self, job: Job, total: int) -> None:
        self._job, self._done, self._total = job, 0, total
        # Each part starts its processes anew, which takes longer than a few rows do.
        self._executor = job.executor if job.out.rows_in > FEW_ROWS else Inline()

    def do(self, work: Callable[[T], None], tasks: Iterable[T]) -> None:
        for _ in self._executor.map(work, tasks):
            self._done += 1
            self._job.progress(min(self._done, self._total), self._total, unit="steps")


@dataclass(frozen=True)
class LabelTask:
    """One shard to label; picklable."""

    corpus: Corpus
    sketches: SketchTask
    buckets: list[Bucket]
    out: Writer

    @property
    def shard(self) -> int:
        return self.sketches.texts.shard


def label(task: LabelTask) -> None:
    """Write the labels of one shard."""
    import numpy as np
    import pyarrow.parquet as pq

    with pq.ParquetFile(heads_file(task.corpus)) as file:
        heads = file.read()["id"].combine_chunks()
    first, similarity = np.arange(len(heads)), np.ones(len(heads))
    for bucket in task.buckets:
        rows, firsts, alike = load_array(bucket.file).T
        first[rows.astype(np.int64)], similarity[rows.astype(np.int64)] = firsts, alike
    texts = load_array(units_file(task.corpus, task.shard))[:, 0]
    clusters = heads.take(first[texts]).to_pylist() if len(heads) else []
    found: list[Row] = []
    for at, (traces, text) in enumerate(
        zip(loaded(task.sketches).traces.to_pylist(), texts.tolist(), strict=True)
    ):
        cluster = traces[0] if text < 0 else clusters[at]
        labels = {
            "cluster": cluster,
            "duplicate": traces[0] != cluster,
            "similarity": 1.0 if text < 0 else round(float(similarity[text]), 4),
        }
        found += ({"id": each, **labels} for each in traces)
    task.out.write(task.shard, found, schema())


def schema() -> "pa.Schema":
    """Arrow schema of the labels."""
    import pyarrow as pa

    columns = {"id": pa.string(), "cluster": pa.string(), "duplicate": pa.bool_(), "similarity": pa.float64()}
    return pa.schema(list(columns.items()))
