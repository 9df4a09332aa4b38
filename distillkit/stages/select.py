"""Pick rows: one per cluster of near-duplicates, problems of a pass-rate band, k per problem, so many in all.

Clusters reach over problems and shards, so the choice is made once over all rows, with ids and keys in memory
and no text. Every draw is the digest of the seed and the row's id: it depends on no order, and a row that is
added upstream changes no other row's draw. Each step draws anew; else the winner of a large cluster, which
has the lowest of many draws, would win everywhere.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from distillkit.artifact import Row
from distillkit.reader import View
from distillkit.spec import seed_of
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.clusters import jaccard, shingles
from distillkit.stages.selection import finish, require_fields, selection_schema

if TYPE_CHECKING:
    from distillkit.stages.clusters import Shingles

PASS_RATE = "problem_pass_rate"
T = TypeVar("T")


@dataclass(slots=True)
class _Candidate:
    """What the choice needs to know of a row; `reason` is set once it is out."""

    id: str
    problem: str
    cluster: str | None
    tokens: int | None
    characters: int
    length: int = 0
    reason: str | None = None


class Select(Stage):
    """Makes a selection; the rest is rejected as pass_rate, duplicate, over_per_problem or over_limit.

    In this order: a row outside of the band stands for no cluster, a duplicate takes no place of its problem.
    """

    MAKES: ClassVar[str] = SELECTION
    DRAWS: ClassVar[bool] = True

    kind: Literal["select"] = "select"
    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose rows are picked from; left out: the nearest earlier traces or selection."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = []
    """Stages whose labels are read; left out: all earlier ones over the same text."""
    pass_rate: tuple[float, float] | None = None
    """[low, high]: share of a problem's traces that are right, both ends included; an unknown one passes."""
    unique: bool | str = False
    """One row per cluster: of the dedup stage of that name, or true where there is only one."""
    per_problem: int | None = Field(None, ge=1)
    """Most rows of one problem."""
    prefer: Literal["random", "shortest", "diverse"] = "random"
    """Which rows of a problem or cluster: any; those of fewest completion tokens (characters, where some row
    has no count); or, of a problem, those that share fewest phrases (a cluster's are alike: any of them)."""
    limit: int | None = Field(None, ge=1)
    """Most rows in all, a random choice."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not (self.pass_rate or self.unique or self.per_problem or self.limit):
            raise ValueError("picks by nothing; give unique, pass_rate, per_problem or limit")
        if self.pass_rate is not None and not 0 <= self.pass_rate[0] <= self.pass_rate[1] <= 1:
            raise ValueError(f"pass_rate: {list(self.pass_rate)} is no band; give [low, high] within 0 to 1")
        if self.prefer == "diverse" and self.per_problem is None:
            raise ValueError("prefer: diverse chooses among a problem's rows; give per_problem")
        return self

    def rule_fields(self) -> list[str]:
        return [*([PASS_RATE] if self.pass_rate else []), *([self._cluster] if self.unique else [])]

    @property
    def _cluster(self) -> str:
        """Field of the cluster id."""
        return f"{self.unique}.cluster" if isinstance(self.unique, str) else "cluster"

    def run(self, job: Job) -> None:
        view = job.view()
        require_fields(view, self.rule_fields(), self.name)
        shards = [self._candidates(view.shard(shard)) for shard in range(view.shards)]
        everyone = [each for shard in shards for each in shard]
        counted = all(each.tokens is not None for each in everyone)
        for each in everyone:
            each.length = each.tokens if counted and each.tokens is not None else each.characters
        self._drop_duplicates(everyone, job.seed)
        for number, shard in enumerate(shards):
            self._cap_problems(view, number, shard, job.seed)
        self._cap_all(everyone, job.seed)
        for number, shard in enumerate(shards):
            rows = [{"id": each.id, "kept": each.reason is None, "reason": each.reason} for each in shard]
            rejected = Counter(each.reason for each in shard if each.reason is not None)
            job.out.write(number, rows, selection_schema(), counts={"rejected": dict(rejected)})
            job.progress(number + 1, view.shards, unit="shards")
        finish(job, view, self.name)

    def _candidates(self, rows: Iterable[Row]) -> list[_Candidate]:
        return [
            _Candidate(
                id=row["id"],
                problem=row["problem_id"],
                cluster=row[self._cluster] if self.unique else None,
                tokens=row["completion_tokens"],
                characters=len(row["completion"]),
                reason=None if self._in_band(row) else "pass_rate",
            )
            for row in rows
        ]

    def _in_band(self, row: Row) -> bool:
        rate = row[PASS_RATE] if self.pass_rate else None
        return rate is None or self.pass_rate is None or self.pass_rate[0] <= rate <= self.pass_rate[1]

    def _best_first(self, candidates: list[_Candidate], step: str, seed: int) -> list[_Candidate]:
        """Those that are still in, the preferred ones first, in an order of this step's own."""
        shortest = self.prefer == "shortest"
        return sorted(
            (each for each in candidates if each.reason is None),
            key=lambda each: (
                each.length if shortest else 0,
                seed_of("select", step, seed, each.id),
                each.id,
            ),
        )

    def _drop_duplicates(self, everyone: list[_Candidate], seed: int) -> None:
        best: dict[str, _Candidate] = {}
        for each in self._best_first(everyone, "unique", seed) if self.unique else []:
            if each.cluster is not None and best.setdefault(each.cluster, each) is not each:
                each.reason = "duplicate"

    def _cap_problems(self, view: View, shard: int, candidates: list[_Candidate], seed: int) -> None:
        """All rows of a problem are in one shard; its text is read only where the choice is by text."""
        if self.per_problem is None:
            return
        problems: dict[str, list[_Candidate]] = defaultdict(list)
        for each in self._best_first(candidates, "per_problem", seed):
            problems[each.problem].append(each)
        crowded = [group for group in problems.values() if len(group) > self.per_problem]
        if crowded and self.prefer == "diverse":
            rows = view.shard(shard, labels=False)
            texts = {row["id"]: row["reasoning"] or row["completion"] for row in rows}
            crowded = [spread(group, [shingles(texts[each.id]) for each in group]) for group in crowded]
        for group in crowded:
            for each in group[self.per_problem :]:
                each.reason = "over_per_problem"

    def _cap_all(self, everyone: list[_Candidate], seed: int) -> None:
        if self.limit is not None:
            alive = [each for each in everyone if each.reason is None]
            alive.sort(key=lambda each: (seed_of("select", "limit", seed, each.id), each.id))
            for each in alive[self.limit :]:
                each.reason = "over_limit"


def spread(items: list[T], texts: "list[Shingles]") -> list[T]:
    """The items, the first one first, then always the one whose text is least like those before it.

    Likeness to several is the likeness to the nearest (farthest-first traversal); ties keep the order.
    Source: Gonzalez 1985, Clustering to minimize the maximum intercluster distance.
    """
    left = list(range(1, len(items)))
    order = [0] if items else []
    nearest = [0.0] * len(items)
    while left:
        for each in left:
            nearest[each] = max(nearest[each], jaccard(texts[each], texts[order[-1]]))
        following = min(left, key=lambda each: (nearest[each], each))
        left.remove(following)
        order.append(following)
    return [items[each] for each in order]
