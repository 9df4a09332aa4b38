"""Pick rows: one per cluster of near-duplicates, problems of a pass-rate band, k per problem, so many in all.

Clusters reach over problems and shards, so the choice is made once over all rows, with ids and keys in memory
and no text. Every draw is the digest of the seed and the row's id: it depends on no order, and a row that is
added upstream changes no other row's draw. Each step draws anew; else the winner of a large cluster, which
has the lowest of many draws, would win everywhere.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.reader import View
from distillkit.shingles import shingles
from distillkit.stages.base import LABELS, SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.select.choice import Balance, Candidate, best_first, cap_groups, in_turns, rank, spread
from distillkit.stages.selection import decided, finish, require_fields, write
from distillkit.values import values_of

PASS_RATE = "problem_pass_rate"
TOKENS = "measures.length.tokens"
"""Tokens of a completion whose source did not count them."""


class Select(Stage):
    """Makes a selection; the rest is rejected as unmeasured, too_long, pass_rate, duplicate, over_per_problem,
    over_quota, over_limit or over_tokens.

    In this order: a row outside of the band stands for no cluster, a duplicate takes no place of its problem.
    """

    VERSION: ClassVar[int] = 2
    MAKES: ClassVar[str] = SELECTION
    DRAWS: ClassVar[bool] = True

    kind: Literal["select"] = "select"
    input: Annotated[str | None, Wire((TRACES, SELECTION))] = None
    """Stage whose rows are picked from; left out: the nearest earlier traces or selection."""
    labels: Annotated[list[str], Wire((LABELS,), default="labels")] = []
    """Stages whose labels are read; left out: all earlier ones over the same text."""
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of a completion: as its source counted them, else those of a length measure."""
    pass_rate: tuple[float, float] | None = None
    """[low, high]: share of a problem's traces that are right, both ends included; an unknown one passes."""
    unique: bool | str = False
    """One row per cluster: of the dedup stage of that name, or true where there is only one."""
    per_problem: int | None = Field(None, ge=1)
    """Most rows of one problem."""
    order: tuple[str, ...] = ()
    """Fields that say which rows of a cluster or problem come first: the smallest value, with a `-` before the field
    the largest; nulls last. Among equals `prefer` decides."""
    prefer: Literal["random", "shortest", "longest", "diverse"] = "random"
    """Which rows of a cluster or problem: any; those of fewest or most completion tokens (characters, where some row
    has no count); or, of a problem, those that share fewest phrases (a cluster's are alike: any of them)."""
    balance: Balance | None = None
    """Keep groups of rows in proportion."""
    limit: int | None = Field(None, ge=1)
    """Most rows in all, a random choice."""
    total_tokens: int | None = Field(None, ge=1)
    """Most completion tokens in all, a random choice."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        caps = (self.limit, self.total_tokens)
        if not (
            self.pass_rate or self.unique or self.per_problem or self.max_tokens or self.balance or any(caps)
        ):
            raise ValueError(
                "picks by nothing; give unique, pass_rate, per_problem, balance, max_tokens, limit or total_tokens"
            )
        if self.pass_rate is not None and not 0 <= self.pass_rate[0] <= self.pass_rate[1] <= 1:
            raise ValueError(f"pass_rate: {list(self.pass_rate)} is no band; give [low, high] within 0 to 1")
        if self.prefer == "diverse" and self.per_problem is None:
            raise ValueError("prefer: diverse chooses among a problem's rows; give per_problem")
        if (self.order or self.prefer != "random") and not (self.unique or self.per_problem):
            raise ValueError(
                "order and prefer choose among a cluster's or a problem's rows; give unique or per_problem"
            )
        if self.balance and not (self.balance.quotas or self.balance.ratio or any(caps)):
            raise ValueError("balance: against what? give quotas or ratio in it, or limit or total_tokens")
        return self

    def rule_fields(self) -> list[str]:
        found = [*([PASS_RATE] if self.pass_rate else []), *([self.cluster] if self.unique else [])]
        found += [each.removeprefix("-") for each in self.order]
        return [*found, *([self.balance.by] if self.balance else [])]

    @property
    def cluster(self) -> str:
        """Field of the cluster id."""
        return f"{self.unique}.cluster" if isinstance(self.unique, str) else "cluster"

    def run(self, job: Job) -> None:
        view = job.view()
        require_fields(view, self.rule_fields(), self.name)
        tasks = [_Task(self, view, shard) for shard in range(view.shards)]
        shards = list(job.executor.map(_candidates, tasks))
        self._choose(job, tasks, shards)
        for number, shard in enumerate(shards):
            rows = [decided(each.id, [each.reason] if each.reason else [], each.copies) for each in shard]
            rejected = Counter(each.reason for each in shard if each.reason is not None)
            write(job.out, number, rows, {"rejected": dict(rejected)})
            job.progress(number + 1, view.shards, unit="shards")
        finish(job, [view], self.name)

    def _choose(self, job: Job, tasks: "list[_Task]", shards: list[list[Candidate]]) -> None:
        """Set the reason of every row that is out."""
        everyone = [each for shard in shards for each in shard]
        self._measure(everyone, job, tasks)
        rank(everyone, self.order)
        self._drop_long(everyone)
        self._drop_duplicates(everyone, job.seed)
        self._cap_problems(job, tasks, shards)
        if self.balance is not None:
            cap_groups(everyone, self.balance, job.seed)
        self._cap_all(everyone, job.seed)

    def in_band(self, rate: float | None) -> bool:
        """Whether a problem's pass rate lets its rows stay."""
        return rate is None or self.pass_rate is None or self.pass_rate[0] <= rate <= self.pass_rate[1]

    def _measure(self, everyone: list[Candidate], job: Job, tasks: "list[_Task]") -> None:
        """Set the length that `prefer` compares; text is read only where somebody counted no tokens."""
        if self.prefer not in ("shortest", "longest"):
            return
        sign = 1 if self.prefer == "shortest" else -1
        counted = {each.id: each.tokens for each in everyone if each.tokens is not None}
        if len(counted) < len(everyone):
            counted = {id: n for found in job.executor.map(_characters, tasks) for id, n in found}
        for each in everyone:
            each.length = sign * counted[each.id]

    def _drop_long(self, everyone: list[Candidate]) -> None:
        if self.max_tokens is None and self.total_tokens is None:
            return
        for each in everyone:
            if each.reason is not None:
                continue
            if each.tokens is None:
                each.reason = "unmeasured"
            elif self.max_tokens is not None and each.tokens > self.max_tokens:
                each.reason = "too_long"

    def _drop_duplicates(self, everyone: list[Candidate], seed: int) -> None:
        best: dict[str, Candidate] = {}
        for each in best_first(everyone, "unique", seed) if self.unique else []:
            if each.cluster is not None and best.setdefault(each.cluster, each) is not each:
                each.reason = "duplicate"

    def _cap_problems(self, job: Job, tasks: "list[_Task]", shards: list[list[Candidate]]) -> None:
        """All rows of a problem are in one shard; its text is read only where the choice is by text."""
        if self.per_problem is None:
            return
        crowded = [self._crowded(shard, self.per_problem, job.seed) for shard in shards]
        if self.prefer == "diverse":
            asked = [
                _Spread(task.view, task.shard, groups)
                for task, groups in zip(tasks, crowded, strict=True)
                if groups
            ]
            for task, groups in zip(asked, job.executor.map(_spread_shard, asked), strict=True):
                crowded[task.shard] = groups
        for shard, groups in zip(shards, crowded, strict=True):
            over = {id for ids in groups.values() for id in ids[self.per_problem :]}
            for each in shard:
                if each.id in over:
                    each.reason = "over_per_problem"

    def _crowded(self, candidates: Sequence[Candidate], most: int, seed: int) -> dict[str, list[str]]:
        """Problem -> ids of its rows, best first, of the problems that have too many."""
        problems: dict[str, list[str]] = defaultdict(list)
        for each in best_first(candidates, "per_problem", seed):
            problems[each.problem].append(each.id)
        return {problem: ids for problem, ids in problems.items() if len(ids) > most}

    def _cap_all(self, everyone: list[Candidate], seed: int) -> None:
        """Drop what is over the limits, in turns of the groups where they are balanced."""
        if self.limit is None and self.total_tokens is None:
            return
        tokens = 0
        for place, each in enumerate(in_turns(everyone, "limit", seed)):
            tokens += each.copies * (each.tokens or 0)
            if self.limit is not None and place >= self.limit:
                each.reason = "over_limit"
            elif self.total_tokens is not None and tokens > self.total_tokens:
                each.reason = "over_tokens"


@dataclass(frozen=True)
class _Task:
    """One shard to read: picklable, so that any executor can take it."""

    stage: Select
    view: View
    shard: int


def _candidates(task: _Task) -> list[Candidate]:
    """What the choice has to know of the rows of a shard."""
    stage, view = task.stage, task.view
    order = [field.removeprefix("-") for field in stage.order]
    measured = [TOKENS] if "measures" in view.fields else []
    fields = ["problem_id", "completion_tokens", *measured, *stage.rule_fields()]
    values = values_of(view, task.shard, list(dict.fromkeys(fields)))
    found = []
    for n, id in enumerate(values["id"]):
        tokens = values["completion_tokens"][n]
        found.append(
            Candidate(
                id=id,
                problem=values["problem_id"][n],
                copies=values["copies"][n],
                cluster=values[stage.cluster][n] if stage.unique else None,
                tokens=values[TOKENS][n] if tokens is None and measured else tokens,
                group=stage.balance.group(values[stage.balance.by][n]) if stage.balance else "",
                order=tuple(values[field][n] for field in order),
                reason=None if not stage.pass_rate or stage.in_band(values[PASS_RATE][n]) else "pass_rate",
            )
        )
    return found


def _characters(task: _Task) -> list[tuple[str, int]]:
    """(id, characters of its completion) of a shard's rows."""
    rows = task.view.stream(task.shard, labels=False, columns=["id", "completion"])
    return [(row["id"], len(row["completion"])) for row in rows]


@dataclass(frozen=True)
class _Spread:
    """A shard's crowded problems, each with the ids of its rows, best first."""

    view: View
    shard: int
    groups: dict[str, list[str]]


def _spread_shard(task: _Spread) -> dict[str, list[str]]:
    """The same groups, in the order in which `spread` takes them."""
    found = {}
    columns = ["id", "problem_id", "reasoning", "completion"]
    rows = task.view.stream(task.shard, labels=False, columns=columns)
    for problem, group in groupby(rows, key=lambda row: str(row["problem_id"])):
        ids = task.groups.get(problem, [])
        wanted = set(ids)
        texts = {
            row["id"]: shingles(row["reasoning"] or row["completion"]) for row in group if row["id"] in wanted
        }
        if ids:
            found[problem] = spread(ids, [texts[id] for id in ids])
    return found
