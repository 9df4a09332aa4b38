"""Find duplicates and near-duplicates; labels them and drops nothing (`select` takes one per cluster).

Clusters are global, so this is the one label stage that is not row-wise: each shard is sketched on its own,
candidates are found over all of them, and only candidates are read a second time and compared exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from xxhash import xxh3_128_hexdigest

from distillkit.artifact import Row
from distillkit.reader import View
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.clusters import candidates, jaccard, link, shingles, signatures
from distillkit.text import normalise
from distillkit.trace import Trace, trace_of

if TYPE_CHECKING:
    import pyarrow as pa

    from distillkit.stages.clusters import Shingles, Signature

Part = Literal["completion", "reasoning", "response", "prompt"]
BATCH = 512
"""Texts whose shingles are in memory at a time while they are signed."""


class Dedup(Stage):
    """Labels `cluster`, `duplicate` and `similarity`, the same whatever the shards and the input's order.

    Texts are equal when they are after folding white space and width; else as similar as the Jaccard index of
    their 5-word shingles says (a Chinese or Japanese character is a word, so is an operator; case and other
    punctuation do not count). A text of fewer words is compared whole; an empty one is nobody's duplicate.
    MinHash finds the candidates: it misses a pair just at the threshold with a chance of 0.4 %.
    """

    VERSION: ClassVar[int] = 1  # raise it with rensa's ALGORITHM_VERSION, too
    MAKES: ClassVar[str] = LABELS

    kind: Literal["dedup"] = "dedup"
    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose traces are compared; left out: the nearest earlier one."""
    on: Part = "completion"
    """What is compared. prompt: problems are, so that traces of one problem are no duplicates."""
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    """Jaccard similarity from which two texts belong together; a cluster's ends may be less alike."""

    def fields(self) -> list[str]:
        return ["cluster", "duplicate", "similarity"]

    def run(self, job: Job) -> None:
        view = job.view()
        job.out.rows_in = view.count
        labels = self._labels(job, [ShardTask(view, shard, self.on) for shard in range(view.shards)])
        for shard in range(view.shards):
            ids = [row["id"] for row in view.shard(shard, labels=False)]
            job.out.write(shard, [{"id": each, **labels[each]} for each in ids], schema())
            job.progress(shard + 1, view.shards, unit="shards")

    def _labels(self, job: Job, tasks: "list[ShardTask]") -> dict[str, Row]:
        """Trace id -> its labels."""
        sketches = list(job.executor.map(sketch, tasks))
        units = sorted((unit for found in sketches for unit in found.units), key=lambda unit: unit.first)
        heads: dict[str, str] = {}
        for unit in units:  # in order, so that equal texts are known by the smallest id
            if unit.text:
                heads.setdefault(unit.text, unit.first)
        signed = {text: row for found in sketches for text, row in found.signed.items()}
        firsts = self._firsts(job, tasks, [(text, signed[text]) for text in heads])
        labels: dict[str, Row] = {}
        for unit in units:
            text, similarity = firsts.get(unit.text, ("", 1.0))
            cluster = heads[text] if text else unit.first
            label = {
                "cluster": cluster,
                "duplicate": unit.first != cluster,
                "similarity": round(similarity, 4),
            }
            labels |= dict.fromkeys(unit.traces, label)
        return labels

    def _firsts(
        self, job: Job, tasks: "list[ShardTask]", signed: "list[tuple[str, Signature]]"
    ) -> dict[str, tuple[str, float]]:
        """Text -> the first text of its cluster, and the similarity to it; `signed` is in the ids' order."""
        import numpy as np

        if not signed:
            return {}
        texts = [text for text, _ in signed]
        matrix = np.stack([row for _, row in signed])
        groups = candidates(matrix, self.threshold)
        wanted = frozenset(texts[row] for group in groups for row in group)
        read: dict[str, Shingles] = {}
        for found in job.executor.map(reread, [replace(task, wanted=wanted) for task in tasks if wanted]):
            read |= found

        def similarity(a: int, b: int) -> float:
            return jaccard(read[texts[a]], read[texts[b]])

        first = link(matrix, groups, self.threshold, similarity)
        return {
            text: (texts[head], 1.0 if head == row else similarity(head, row))
            for row, (text, head) in enumerate(zip(texts, first.tolist(), strict=True))
        }


def schema() -> "pa.Schema":
    """Arrow schema of the labels."""
    import pyarrow as pa

    columns = {"id": pa.string(), "cluster": pa.string(), "duplicate": pa.bool_(), "similarity": pa.float64()}
    return pa.schema(list(columns.items()))


@dataclass(frozen=True, slots=True)
class Unit:
    """What is compared as one: a trace, or on prompts all traces of a problem."""

    first: str
    """Smallest id of its traces."""
    traces: tuple[str, ...]
    text: str
    """Digest of the normalised text; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """One shard's units, and the signature of each different text by its digest."""

    units: list[Unit]
    signed: "dict[str, Signature]"


@dataclass(frozen=True)
class ShardTask:
    """One shard to sketch, or to read again for the `wanted` texts; picklable, for any executor."""

    view: View
    shard: int
    on: Part
    wanted: frozenset[str] = frozenset()

    def texts(self) -> Iterator[tuple[Unit, str]]:
        """The shard's units with their texts."""
        members: dict[str, list[Trace]] = {}
        for row in self.view.shard(self.shard, labels=False):
            trace = trace_of(row)
            members.setdefault(trace.problem_id if self.on == "prompt" else trace.id, []).append(trace)
        for traces in members.values():
            ids = tuple(sorted(trace.id for trace in traces))
            text = _part(traces[0], self.on)
            normal = normalise(text).encode("utf-8", "surrogatepass")
            yield Unit(ids[0], ids, xxh3_128_hexdigest(normal) if normal else ""), text


def _part(trace: Trace, on: Part) -> str:
    if on == "prompt":
        return trace.prompt
    return {"completion": trace.completion, "reasoning": trace.reasoning, "response": trace.response}[on]


def sketch(task: ShardTask) -> Sketches:
    """The units of a shard, and a signature for each different text."""
    units: list[Unit] = []
    signed: dict[str, Signature] = {}
    waiting: dict[str, Shingles] = {}
    for unit, text in task.texts():
        units.append(unit)
        if unit.text and unit.text not in signed and unit.text not in waiting:
            waiting[unit.text] = shingles(text)
        if len(waiting) == BATCH:
            signed |= _sign(waiting)
            waiting = {}
    return Sketches(units, signed | _sign(waiting))


def _sign(texts: "dict[str, Shingles]") -> "dict[str, Signature]":
    return dict(zip(texts, signatures(list(texts.values())), strict=True))


def reread(task: ShardTask) -> "dict[str, Shingles]":
    """The shingles of the wanted texts that a shard has."""
    return {unit.text: shingles(text) for unit, text in task.texts() if unit.text in task.wanted}
