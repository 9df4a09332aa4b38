"""The different texts of all shards, gathered from their sketches into the folder of a corpus; and their shingles.

A text is known by the smallest id of what has it, and texts are numbered in the order of these ids, so that nothing
depends on how many shards there are.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from distillkit.artifact import problem_in
from distillkit.durable import disk_error, write_parquet
from distillkit.errors import StageError
from distillkit.shingles import shingles
from distillkit.stages.dedup.arrays import load_array, save_array
from distillkit.stages.dedup.bands import Bucket, Corpus
from distillkit.stages.dedup.signature import PERMUTATIONS
from distillkit.stages.dedup.sketch import NOTHING, Sketches, SketchTask, Texts, load

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from distillkit.stages.dedup.bands import Rows
    from distillkit.stages.dedup.signature import Signature


def units_file(corpus: Corpus, shard: int) -> Path:
    """(row of its text or -1 for an empty one, 1 where the text is known by its id) for each unit of a shard."""
    return corpus.folder / f"units-{shard:05d}.npy"


def heads_file(corpus: Corpus) -> Path:
    """The smallest id of each text."""
    return corpus.folder / "heads.parquet"


def gather(corpus: Corpus, tasks: Sequence[SketchTask], *, exact: bool, by_problem: bool) -> int:
    """Write what `corpus` and the two files hold; returns the number of texts. Skips what is written.

    exact: texts are the same when they are equal after normalisation; else when their words are.
    by_problem: texts of two problems are never the same, nor compared.
    """
    import pyarrow.parquet as pq

    if not heads_file(corpus).exists():
        _gather(corpus, tasks, exact=exact, by_problem=by_problem)
    return int(pq.read_metadata(heads_file(corpus)).num_rows)


def _gather(corpus: Corpus, tasks: Sequence[SketchTask], *, exact: bool, by_problem: bool) -> None:
    import numpy as np
    import pyarrow as pa

    firsts, digests = [], []
    for task in tasks:
        sketches = loaded(task)
        firsts.append(sketches.firsts)
        digests.append(sketches.exact if exact else sketches.words)
    ids = pa.concat_arrays(firsts)
    salts = _salts(ids) if by_problem else np.zeros(len(ids), np.uint64)
    rows, leads = _numbered(ids, np.concatenate(digests), salts)
    ends = np.cumsum([len(each) for each in firsts])
    shards = [np.arange(end - len(each), end) for each, end in zip(firsts, ends, strict=True)]
    for shard, units in enumerate(shards):
        save_array(units_file(corpus, shard), np.stack([rows[units], leads[units]], axis=1))
    known = np.flatnonzero(leads)
    known = known[np.argsort(rows[known])]
    save_array(corpus.salts, salts[known])
    save_array(corpus.signatures, _signatures(corpus, tasks, len(known)))
    write_parquet(pa.table({"id": ids.take(pa.array(known))}), heads_file(corpus))


def loaded(task: SketchTask) -> Sketches:
    """The sketches of a shard; raises StageError where they were damaged since they were made."""
    sketches = load(task.file)
    if sketches is None:
        raise StageError(f"{task.file}: damaged just now; run again to have it made anew")
    return sketches


def _salts(ids: "pa.StringArray") -> "NDArray[np.uint64]":
    """A hash of each id's problem."""
    import numpy as np

    hashes = (xxh3_64_intdigest(problem_in(each).encode()) for each in ids.to_pylist())
    return np.fromiter(hashes, np.uint64, len(ids))


def _numbered(
    ids: "pa.StringArray", digests: "NDArray[np.void]", salts: "NDArray[np.uint64]"
) -> "tuple[Rows, NDArray[np.bool_]]":
    """Unit -> row of its text, -1 for an empty one; and whether it has the smallest id of the text's units."""
    import numpy as np
    import pyarrow.compute as pc

    order = pc.sort_indices(ids).to_numpy().astype(np.int64)
    order = order[digests[order] != np.void(NOTHING)]
    halves = digests.view("<u8").reshape(-1, 2)[order]
    by_text = np.lexsort((salts[order], halves[:, 1], halves[:, 0]))  # stable: the smallest id first
    keys = np.column_stack([halves, salts[order]])[by_text]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1))) if len(keys) else by_text
    sizes = np.diff(np.append(starts, len(keys)))
    leaders = by_text[starts]  # of each text, by digest
    numbers: Rows = np.empty(len(leaders), np.int64)
    numbers[np.argsort(leaders)] = np.arange(len(leaders))
    rows: Rows = np.full(len(ids), -1, np.int64)
    leads: NDArray[np.bool_] = np.zeros(len(ids), bool)
    rows[order[by_text]] = np.repeat(numbers, sizes)
    leads[order[leaders]] = True
    return rows, leads


def _signatures(corpus: Corpus, tasks: Sequence[SketchTask], texts: int) -> "Signature":
    """A row per text: half a kilobyte each, the most that any one process holds of a corpus."""
    import numpy as np

    found: Signature = np.empty((texts, PERMUTATIONS), np.uint32)
    for shard, task in enumerate(tasks):
        rows, leads = load_array(units_file(corpus, shard)).T
        known = np.flatnonzero(leads)
        found[rows[known]] = loaded(task).signature[known]
    return found


@dataclass(frozen=True)
class SpillTask:
    """The contested texts of one shard; picklable."""

    corpus: Corpus
    texts: Texts
    buckets: int

    @property
    def places(self) -> Path:
        """(row, number of shingles) of each text, in the order of the file beside it."""
        return self.corpus.folder / f"spill-{self.texts.shard:05d}.npy"


def spill(task: SpillTask) -> None:
    """Write the shingles of a shard's contested texts, and where they lie; skips what is written."""
    import numpy as np

    if task.places.exists():
        return
    found = [load_array(Bucket(task.corpus, number).texts) for number in range(task.buckets)]
    contested = np.concatenate([np.empty(0, np.int64), *found])
    rows, leads = load_array(units_file(task.corpus, task.texts.shard)).T
    wanted = np.isin(rows, contested) & (leads > 0)
    places: list[tuple[int, int]] = []
    shingled = task.places.with_suffix(".u64")
    try:
        with shingled.open("wb") as out:
            at = 0
            for units in task.texts.batches() if wanted.any() else ():
                for unit, row, is_wanted in zip(units, rows[at:], wanted[at:], strict=False):
                    if is_wanted:
                        body = shingles(unit.text)
                        out.write(body.data)
                        places.append((int(row), len(body)))
                at += len(units)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise disk_error(shingled, error) from None
    save_array(task.places, np.array(places, np.int64).reshape(-1, 2))
