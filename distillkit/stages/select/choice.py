"""The steps of a choice among candidates, in memory and without their text; `select` reads and writes around it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import Field, model_validator

from distillkit.shingles import jaccard
from distillkit.spec import Strict
from distillkit.stages.selection import draw

if TYPE_CHECKING:
    from distillkit.shingles import Shingles

T = TypeVar("T")


@dataclass(slots=True)
class Candidate:
    """What the choice needs to know of a row; `reason` is set once it is out."""

    id: str
    problem: str
    copies: int
    cluster: str | None
    tokens: int | None
    group: str
    """What it is balanced by."""
    order: tuple[Any, ...]
    """Values of the declared order; their ranks once `rank` has seen all rows."""
    length: int = 0
    """What `prefer` compares: the smaller, the better."""
    reason: str | None = None


class Balance(Strict):
    """Groups of rows that shall not outweigh each other; with a limit, each gives as many as the others or all."""

    by: str = Field(min_length=1)
    """The field that names a row's group: `domain`, `source`, `problem_pass_rate`, ..."""
    edges: tuple[float, ...] = ()
    """Cut a number into bands at these values; a value on an edge belongs to the band above."""
    quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Most rows of a group, by its name; a group that is not named may have any number."""
    ratio: float | None = Field(None, ge=1)
    """No group has more than so many times the rows of the smallest."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges: {list(self.edges)} do not ascend")
        return self

    def group(self, value: Any) -> str:
        """Name of the group of a value: of a number between edges `0.25-0.5`, of a null `null`."""
        if value is None or value != value:
            return "null"
        if not self.edges or not isinstance(value, int | float):
            return str(value)
        ends = [f"{edge:g}" for edge in self.edges]
        above = sum(value >= edge for edge in self.edges)
        if 0 < above < len(ends):
            return f"{ends[above - 1]}-{ends[above]}"
        return f">={ends[-1]}" if above else f"<{ends[0]}"


def rank(everyone: Sequence[Candidate], order: Sequence[str]) -> None:
    """Turn the values of the declared order into ranks, so that any two rows compare; nulls come last."""
    for place, declared in enumerate(order):
        values = {each.order[place] for each in everyone} - {None}
        ascending = sorted(values, key=lambda value: (isinstance(value, str), value))
        if declared.startswith("-"):
            ascending.reverse()
        ranks = {value: n for n, value in enumerate(ascending)} | {None: len(ascending)}
        for each in everyone:
            each.order = (*each.order[:place], ranks[each.order[place]], *each.order[place + 1 :])


def best_first(candidates: Iterable[Candidate], step: str, seed: int) -> list[Candidate]:
    """Those that are still in, the preferred ones first, in an order of this step's own."""
    return sorted(
        (each for each in candidates if each.reason is None),
        key=lambda each: (each.order, each.length, *draw(step, seed, each.id)),
    )


def in_turns(everyone: Iterable[Candidate], step: str, seed: int) -> list[Candidate]:
    """Those that are still in, drawn one of each group after the other; where there is one group, simply drawn."""
    alive = sorted(
        (each for each in everyone if each.reason is None), key=lambda each: draw(step, seed, each.id)
    )
    seen: Counter[str] = Counter()
    turns = []
    for each in alive:
        turns.append((seen[each.group], each))
        seen[each.group] += 1
    return [each for _, each in sorted(turns, key=lambda turn: turn[0])]


def cap_groups(everyone: Iterable[Candidate], balance: Balance, seed: int) -> None:
    """Drop what is over a group's quota, then what is over the ratio to the smallest group that has rows."""
    alive = in_turns(everyone, "balance", seed)
    sizes = Counter(each.group for each in alive)
    room = {group: min(n, balance.quotas.get(group, n)) for group, n in sizes.items()}
    if balance.ratio is not None:
        smallest = min((n for n in room.values() if n), default=0)
        room = {group: min(n, int(balance.ratio * smallest)) for group, n in room.items()}
    for each in alive:
        room[each.group] -= 1
        if room[each.group] < 0:
            each.reason = "over_quota"


def spread(items: Sequence[T], texts: "Sequence[Shingles]") -> list[T]:
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
