"""The contract of a stage: a frozen declaration that can run, and says what it takes and makes.

A stage never looks anything up by itself: the runner resolves its wires, opens its inputs and hands it a Job.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field

from distillkit.artifact import Artifact, Manifest, Model, Row, shard_of
from distillkit.cluster import Replicas
from distillkit.errors import StageError
from distillkit.events import Progress, silent
from distillkit.executor import Executor, Inline
from distillkit.reader import View
from distillkit.spec import EXECUTION, Execution, Naming, Strict
from distillkit.store import Store, Writer
from distillkit.trace import Problem, problem_of
from distillkit.verifiers import AnyVerifier

if TYPE_CHECKING:
    import pyarrow as pa

NAME = re.compile(r"[a-z][a-z0-9_-]*")

PROBLEMS, TRACES, LABELS, SELECTION = "problems", "traces", "labels", "selection"
PAIRS, WEIGHTS, SCORES, PUBLICATION = "pairs", "weights", "scores", "publication"
"""The artifact types that wires connect."""


@dataclass(frozen=True)
class Wire(Execution):
    """Marks a field that names earlier stages: a name, a `Naming` part of the stage, a list of such, or a dict by name.

    takes: artifact types that fit.
    kinds: stage kinds that fit, where not every stage of such a type does.
    default: what a field that was left out means: "nearest" earlier stage that fits, "labels" = every earlier
        label artifact over the same text, "none".
    external: names that are no stage are allowed too (a model on the Hub or in a folder, a benchmark).
    heldout: held-out problems are welcome (elsewhere they are refused).
    rates: reward models are meant, whose weights rate text; elsewhere they are refused, as they write none.
    instead: another wire of the stage that, where it is given, stands in for this one left out.
    named: the field is part of the identity (names that are part of what comes out, as scores by model are, or a
        `Naming` part that says more than a name); else only the contents behind the names are.
    """

    takes: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    default: str = "nearest"
    external: bool = False
    heldout: bool = False
    named: bool = False
    rates: bool = False
    instead: str | None = None

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

    @property
    def contents(self) -> dict[str, list[str]]:
        """Wire -> the contents of what comes in by it."""
        return {slot: [each.content for each in ends] for slot, ends in self.inputs.items()}

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
        found = [problem for problems in self.problem_lists(slot) for problem in problems]
        return sorted(found, key=lambda problem: problem.id)

    def problem_lists(self, slot: str) -> list[list[Problem]]:
        """The problems of each end of a wire, in the order the recipe names them."""
        return [[problem_of(row) for row in artifact.rows()] for artifact in self.artifacts(slot)]

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
    RATES: ClassVar[bool] = False
    """Whether its weights rate text instead of writing it."""
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

    def fit(self, inputs: "Mapping[str, Sequence[Stage]]") -> None:
        """Refuse, statically, stages that it cannot read though their type fits; inputs: wire -> what it comes from.

        Raises RecipeError.
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

    def judged(self, domains: Collection[str]) -> set[str]:
        """Which domains of its problems it needs a verifier for."""
        return set(domains)

    def reach(self, inputs: "Mapping[str, Sequence[Stage]]", recipe: str) -> None:
        """Ask the world outside (the Hub) whether this stage could end as it is declared, before anything is spent.

        inputs: wire -> the stages that it comes from; recipe: the resolved recipe as YAML.
        Raises RecipeError or MissingError.
        """

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


def names_in(given: Any) -> list[str]:
    """The names in what a wire's field holds."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, Naming):
        return given.names()
    inside = given if isinstance(given, Mapping | list | tuple) else []
    return [name for each in inside for name in names_in(each)]


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
