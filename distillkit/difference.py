"""What changed between two versions of a dataset: rows, why rows were dropped, tokens and domains.

A version is an artifact of the store or a published folder, here or on the Hub. Rows are matched by id; files that
are equal on both sides are not opened where their sums are known, and so not fetched.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Row, state_of
from distillkit.grid import Grid, rich_table

if TYPE_CHECKING:
    from rich.console import RenderableType

FOLDED = "messages"
"""Prompts in traces, whole conversations in published rows: not comparable across kinds; ids tell prompts apart."""
KEPT, ABSENT = "kept", "absent"
"""What becomes of a row besides being dropped for a reason."""
EXAMPLES = 10
"""Ids of each kind of change that JSON names."""
SHOWN = 3
"""Those that a terminal does."""
COMPARED = 1000
"""Changed rows whose columns are compared: enough to say which."""


@dataclass
class Sums:
    """Rows, their completion tokens (where counted) and their domains."""

    rows: int = 0
    tokens: int = 0
    domains: Counter[str] = field(default_factory=Counter)

    @classmethod
    def over(cls, rows: Iterable[Row]) -> "Sums":
        """Those of some rows."""
        found = cls()
        for row in rows:
            found.add(row)
        return found

    def add(self, row: Row) -> None:
        """Count a row, too."""
        self.rows += 1
        self.tokens += row.get("completion_tokens") or 0
        if row.get("domain"):
            self.domains[row["domain"]] += 1


@dataclass(frozen=True)
class Part:
    """Some rows of a version: one shard or file."""

    digest: str
    """Parts of equal digests hold equal rows."""
    count: int
    rows: Callable[[], Iterator[Row]]
    """Its rows; `id` and whatever else makes a row what it is."""


@dataclass(frozen=True)
class Version:
    """One side of a comparison."""

    name: str
    parts: Sequence[Part]
    sums: Callable[[], Sums]
    """Those of all its rows."""
    dropped: Callable[[], dict[str, str]] = dict
    """Id -> reason of the rows that were dropped, where the version knows."""


@dataclass(frozen=True)
class Difference:
    """What `compare` found.

    rows_same, ...: numbers of ids; columns: name -> changed rows that differ there (of the first `COMPARED`).
    moved: (fate before, fate after) -> rows; a fate is KEPT, ABSENT or a reason.
    """

    names: tuple[str, str]
    sums: tuple[Sums, Sums]
    same: int
    added: list[str]
    removed: list[str]
    changed: list[str]
    columns: Counter[str]
    moved: Counter[tuple[str, str]]
    parts_same: int
    parts_read: int

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form: counts, and the first ids of each kind. Tokens that nobody counted are null."""
        sides = [
            {
                "name": name,
                "rows": sums.rows,
                "tokens": sums.tokens or (None if sums.rows else 0),
                "domains": dict(sorted(sums.domains.items())),
            }
            for name, sums in zip(self.names, self.sums, strict=True)
        ]
        kinds = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return {
            "before": sides[0],
            "after": sides[1],
            "rows": {"same": self.same, **{kind: len(ids) for kind, ids in kinds.items()}},
            "columns": dict(self.columns.most_common()),
            "moved": [{"from": a, "to": b, "rows": n} for (a, b), n in self.moved.most_common()],
            "examples": {kind: ids[:EXAMPLES] for kind, ids in kinds.items()},
            "parts": {"same": self.parts_same, "read": self.parts_read},
        }


def compare(before: Version, after: Version, *, shared_columns: bool = False) -> Difference:
    """What changed from one version to the other.

    shared_columns: compare only columns that both have, for versions of different kinds: a column that one kind has
    and the other has not is no change of a row.
    """
    shared = Counter(part.digest for part in before.parts) & Counter(part.digest for part in after.parts)
    old, _ = _split(before.parts, shared)
    new, new_same = _split(after.parts, shared)
    only = _names(old) & _names(new) - {FOLDED} if shared_columns else None
    states = {row["id"]: _state(row, only) for part in old for row in part.rows()}
    added, changed, same = list[str](), list[str](), sum(part.count for part in new_same)
    for part in new:
        for row in part.rows():
            state = states.pop(row["id"], None)
            if state is None:
                added.append(row["id"])
            elif state == _state(row, only):
                same += 1
            else:
                changed.append(row["id"])
    removed = list(states)
    return Difference(
        names=(before.name, after.name),
        sums=(before.sums(), after.sums()),
        same=same,
        added=sorted(added),
        removed=sorted(removed),
        changed=sorted(changed),
        columns=_columns(old, new, sorted(changed)[:COMPARED], only),
        moved=_moved(before, after, added, removed),
        parts_same=len(new_same),
        parts_read=len(old) + len(new),
    )


def _split(parts: Sequence[Part], shared: Counter[str]) -> tuple[list[Part], list[Part]]:
    """The parts that the other side has not, and those that it has."""
    left = Counter(shared)
    own, same = [], []
    for part in parts:
        if left[part.digest] > 0:
            left[part.digest] -= 1
            same.append(part)
        else:
            own.append(part)
    return own, same


def _names(parts: Sequence[Part]) -> set[str]:
    """The columns of a version, by its first row."""
    return set(next((row for part in parts for row in part.rows()), {}))


def _state(row: Row, only: set[str] | None) -> bytes:
    """What a row says, in all its columns or in some."""
    return state_of([row if only is None else {name: row[name] for name in only & row.keys()}])


def _columns(
    old: Sequence[Part], new: Sequence[Part], ids: Sequence[str], only: set[str] | None
) -> Counter[str]:
    """Column -> rows among `ids` that differ there; a column that one side lacks counts."""
    wanted = set(ids)
    if not wanted:
        return Counter()
    earlier = {row["id"]: row for part in old for row in part.rows() if row["id"] in wanted}
    found: Counter[str] = Counter()
    for part in new:
        for row in part.rows():
            if row["id"] in wanted:
                before = earlier[row["id"]]
                found.update(
                    name
                    for name in sorted((only or before.keys() | row.keys()) - {"telemetry"})
                    if name not in before or name not in row or before[name] != row[name]
                )
    return found


def _moved(
    before: Version, after: Version, added: Sequence[str], removed: Sequence[str]
) -> Counter[tuple[str, str]]:
    """(fate before, fate after) -> rows whose fate is another one; where only one version tells what it dropped, of
    the rows that came or went."""
    old, new = before.dropped(), after.dropped()
    came, went = set(added), set(removed)
    moved: Counter[tuple[str, str]] = Counter()
    for id in came | went | (old.keys() | new.keys() if old and new else set()):
        was = old.get(id) or (KEPT if id in went else ABSENT)
        became = new.get(id) or (KEPT if id in came else ABSENT)
        if was != became:
            moved[was, became] += 1
    return moved


def render(difference: Difference) -> "RenderableType":
    """Tables for a terminal."""
    from rich.console import Group
    from rich.text import Text

    told = difference.as_json()
    notes = [f"{kind}, e.g. {', '.join(ids[:SHOWN])}" for kind, ids in told["examples"].items() if ids]
    parts = told["parts"]
    notes.append(f"files of rows: {parts['same']:,} equal, {parts['read']:,} read")
    return Group(*(rich_table(grid) for grid in grids(told) if grid.rows), *(Text(note) for note in notes))


def grids(told: dict[str, Any]) -> list[Grid]:
    """What `Difference.as_json` tells, as tables: rows, fates that moved, columns, sums."""
    before, after = told["before"], told["after"]
    rows = [[kind, f"{n:,}"] for kind, n in told["rows"].items()]
    fates = [[each["from"], each["to"], f"{each['rows']:,}"] for each in told["moved"]]
    columns = [[name, f"{n:,}"] for name, n in told["columns"].items()]
    domains = sorted(before["domains"].keys() | after["domains"].keys())
    sums = [
        _shift("rows", before["rows"], after["rows"]),
        _shift("tokens", before["tokens"], after["tokens"]),
    ]
    sums += [
        _shift(f"domain {each}", before["domains"].get(each, 0), after["domains"].get(each, 0))
        for each in domains
    ]
    return [
        Grid("versions", ["", before["name"], after["name"], "shift"], sums),
        Grid("rows", ["rows", "number"], rows),
        Grid("rows that went another way", ["from", "to", "rows"], fates, left=2),
        Grid("what changed in changed rows", ["column", "rows"], columns),
    ]


def _shift(name: str, before: int | None, after: int | None) -> list[str]:
    if before is None or after is None:
        return [name, *("not counted" if n is None else f"{n:,}" for n in (before, after)), ""]
    return [name, f"{before:,}", f"{after:,}", f"{after - before:+,}"]
