"""The contract of a stage: a frozen declaration that can run, and says what it takes and makes.

A stage never looks anything up by itself: the runner resolves its wires, opens its inputs and hands it a Job.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field

from distillkit.artifact import Artifact, Counts, Manifest, Model, Row, shard_of
from distillkit.cluster import Replicas
from distillkit.durable import link_or_copy
from distillkit.errors import StageError
from distillkit.events import Progress, silent
from distillkit.executor import Executor, Inline
from distillkit.reader import View
from distillkit.spec import EXECUTION, Execution, Strict, digest, identity
from distillkit.store import Store, Writer
from distillkit.trace import Problem, Trace, problem_of, trace_of
from distillkit.verifiers import AnyVerifier

if TYPE_CHECKING:
    import pyarrow as pa

NAME = re.compile(r"[a-z][a-z0-9_-]*")

PROBLEMS, TRACES, LABELS, SELECTION = "problems", "traces", "labels", "selection"
PAIRS, WEIGHTS, SCORES, PUBLICATION = "pairs", "weights", "scores", "publication"
"""The artifact types that wires connect."""


@dataclass(frozen=True)
class Wire(Execution):
    """Marks a field that names earlier stages (a name, a list of names, or a dict by name).

    takes: artifact types that fit.
    default: what a field that was left out means: "nearest" earlier stage that fits, "labels" = every earlier
        label artifact over the same text, "none".
    external: names that are no stage are allowed too (a model on the Hub or in a folder, a benchmark).
    heldout: held-out problems are welcome (elsewhere they are refused).
    named: the names are part of what comes out (scores by model), and so of the identity; else only the
        contents behind them are.
    """

    takes: tuple[str, ...]
    default: str = "nearest"
    external: bool = False
    heldout: bool = False
    named: bool = False

    @property
    def outside(self) -> bool:  # type: ignore[override]
        return not self.named


@dataclass(frozen=True)
class Input:
    """One resolved end of a wire: an artifact of the store, or something external by its content."""

    name: str
    type: str
    content: str
    artifact: str = ""
    """Directory name in the store; empty for an external input."""
    path: str = ""
    """Folder or Hub repository of an external input."""
    revision: str | None = None
    """Commit of an external Hub input."""


@dataclass
class Job:
    """Everything a stage needs to run once."""

    store: Store
    out: Writer
    inputs: dict[str, list[Input]]
    seed: int = 0
    shards: int = 16
    verifiers: dict[str, AnyVerifier] = field(default_factory=dict)
    executor: Executor = field(default_factory=Inline)
    replicas: Replicas | None = None
    """Where engines open, if not in this process."""
    progress: Progress = silent
    warn: Callable[[str], None] = print
    recipe: str = ""
    """The resolved recipe as YAML, for what is published."""

    def artifacts(self, slot: str) -> list[Artifact]:
        """The sealed inputs of a wire, in the order the recipe names them."""
        return [
            self.store.open(each.artifact, each.name) for each in self.inputs.get(slot, []) if each.artifact
        ]

    def view(self, slot: str = "input") -> View:
        """The rows that come in by a wire, with every label artifact of the `labels` wire beside them."""
        [artifact] = self.artifacts(slot)
        return View.of(self.store, artifact, self.artifacts("labels"))

    def problems(self, slot: str = "input") -> list[Problem]:
        """All problems of a wire, sorted by id."""
        found = [problem_of(row) for artifact in self.artifacts(slot) for row in artifact.rows()]
        return sorted(found, key=lambda problem: problem.id)

    def models(self, slot: str = "model") -> list[Model]:
        """The weights of a wire."""
        return [self._model(each) for each in self.inputs[slot]]

    def _model(self, each: Input) -> Model:
        if not each.artifact:
            return Model(each.name, each.path, each.content, each.revision)
        return Model(each.name, str(self.store.open(each.artifact).path / "model"), each.content)


class Stage(Strict):
    """One step of a recipe. Subclasses set MAKES, declare fields and wires, and write `run`."""

    MAKES: ClassVar[str]
    """Artifact type that comes out."""
    DRAWS: ClassVar[bool] = False
    """Whether it draws random numbers from the run's seed, which then is part of its request."""
    JUDGES: ClassVar[bool] = False
    """Whether its kind uses the recipe's verifiers, which then are part of its request."""
    CHILD: ClassVar[bool] = False
    """Whether it holds a model: then it runs in a child process, so that memory is truly gone afterwards."""

    name: Annotated[str, EXECUTION, Field(pattern=f"^{NAME.pattern}$")]
    """Unique in the recipe; other stages refer to it. Renaming a stage repeats no work."""
    kind: str

    @property
    def judges(self) -> bool:
        """Whether this one, as it is declared, uses the recipe's verifiers."""
        return self.JUDGES

    def run(self, job: Job) -> None:
        """Write this stage's rows or files to `job.out`, continuing what an interrupted run left there."""
        raise NotImplementedError

    def accept(self, manifest: Manifest) -> None:
        """Check budgets against what came out, on cache hits too; raises StageError when one is crossed."""

    def check(self, recipe_folder: Path) -> None:
        """Refuse what would fail later, statically (no network, no heavy import).

        Raises RecipeError or MissingError.
        """

    def fields(self) -> list[str]:
        """Label fields that it adds, dotted; `x.*` stands for anything below x."""
        return []

    def limited(self, rows: int) -> Self:
        """This stage as a smoke run of at most `rows` problems would have it."""
        return self

    def foreign(self) -> list[str]:
        """What in it would run code of the recipe's author, one phrase each."""
        return []

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        """This stage with Hub datasets at a commit; `commit_of("dataset", "org/name@rev")` gives 40 hex digits."""
        return self

    def rule_fields(self) -> list[str]:
        """Label fields that it reads, to be checked against what earlier stages make."""
        return []

    @classmethod
    def wires(cls) -> dict[str, Wire]:
        """Field name -> its wire."""
        return {
            name: mark
            for name, info in cls.model_fields.items()
            for mark in info.metadata
            if isinstance(mark, Wire)
        }


class Labeler(Stage):
    """A stage that writes labels row by row, shard by shard beside the text; drops nothing.

    A labelled shard is kept store-wide by (identity, input shard), so that a dataset grows without being
    labelled again.
    """

    MAKES: ClassVar[str] = LABELS
    PARALLEL: ClassVar[bool] = True
    """Whether shards may run in several processes (not where the stage has workers of its own)."""

    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose traces are labelled; left out: the nearest earlier one."""

    def label_schema(self) -> "pa.Schema":
        """Arrow schema of the labels; the first column is `id`."""
        raise NotImplementedError

    def label(self, traces: list[Trace], verifiers: dict[str, AnyVerifier]) -> list[Row]:
        """One row of labels per trace, in order; gets all traces of a problem together."""
        raise NotImplementedError

    def counts(self, labels: list[Row]) -> Counts:
        """What the manifest counts of a shard's labels."""
        return {}

    def lasting(self, labels: list[Row]) -> bool:
        """Whether a shard's labels may be taken again by another run: not where the machine's load decided one."""
        return True

    def run(self, job: Job) -> None:
        view = job.view()
        job.out.rows_in = view.count
        tasks = [
            ShardTask(self, view, shard, job.verifiers, job.out, job.store.root / "labels")
            for shard in range(view.shards)
            if not job.out.has(shard)
        ]
        executor = job.executor if self.PARALLEL else Inline()
        done = sum(1 for shard in range(view.shards) if job.out.has(shard))
        for _ in executor.map(label_shard, tasks):
            done += 1
            job.progress(done, view.shards, unit="shards")


@dataclass(frozen=True)
class ShardTask:
    """One shard to label: picklable, so that any executor can take it."""

    stage: Labeler
    view: View
    shard: int
    verifiers: dict[str, AnyVerifier]
    out: Writer
    cache: Path

    @property
    def key(self) -> str:
        """Digest of what decides these labels."""
        judges = {name: identity(v) for name, v in self.verifiers.items()} if self.stage.JUDGES else {}
        return digest([self.stage.kind, identity(self.stage), judges, self.view.content(self.shard)])


def label_shard(task: ShardTask) -> int:
    """Label one shard, or link it from the store's cache; returns its rows."""
    cached = task.cache / task.key[:2] / f"{task.key}.parquet"
    if cached.exists() and task.out.link(task.shard, cached):
        return 0
    traces = [trace_of(row) for row in task.view.shard(task.shard, labels=False)]
    labels = task.stage.label(traces, task.verifiers)
    rows = [{"id": trace.id, **label} for trace, label in zip(traces, labels, strict=True)]
    shard = task.out.write(task.shard, rows, task.stage.label_schema(), counts=task.stage.counts(labels))
    if not task.stage.lasting(labels):
        return len(rows)
    cached.parent.mkdir(parents=True, exist_ok=True)
    temporary = cached.with_suffix(f".{task.shard}.part")
    link_or_copy(task.out.path / shard.file, temporary)
    temporary.replace(cached)
    return len(rows)


def write_shards(job: Job, rows: Iterator[Row] | list[Row], schema: "pa.Schema", table: str = "rows") -> int:
    """Spread rows over the job's shards by their problem and write them; returns how many there were."""
    buckets: list[list[Row]] = [[] for _ in range(job.shards)]
    for row in rows:
        buckets[shard_of(row["id"], job.shards)].append(row)
    for shard, bucket in enumerate(buckets):
        job.out.write(shard, bucket, schema, table)
    return sum(map(len, buckets))


def require_rows(count: int, where: str, advice: str) -> None:
    """Raises StageError when nothing is left to work on."""
    if count == 0:
        raise StageError(f"{where}: no rows left; {advice}")
