"""A chapter of the page: words, figures and tables; what has nothing to show is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distillkit.grid import Grid, trimmed
from distillkit.report import plots
from distillkit.report.material import Figure, Material

Score = Mapping[str, Any]
Point = tuple[float, float, float, float]
"""(x, value, low, high)."""

MOST_ROWS = 24
"""Dots of one figure; what is more stands in the table only."""


@dataclass(frozen=True)
class Section:
    """One chapter; `items` are what only this kind of chapter has."""

    name: str
    """Anchor in the page."""
    title: str
    intro: str = ""
    figures: list[Figure] = field(default_factory=list)
    grid: Grid | None = None
    folded: bool = False
    """Whether the tables are shown on demand only: the figures say most of them."""
    items: list[Any] = field(default_factory=list)
    more: list[Grid] = field(default_factory=list)
    """Further tables, each under its title."""
    part: str = ""
    """Which template part draws the items."""

    @property
    def grids(self) -> list[Grid]:
        """All tables that have rows."""
        every = (*([self.grid] if self.grid else []), *self.more)
        return [trimmed(grid) for grid in every if grid.rows]

    def __bool__(self) -> bool:
        return bool(self.figures or self.items or self.grids)


def point_of(x: float, score: Score | None) -> Point | None:
    """A point with its interval; None where there is no value."""
    if score is None or score.get("value") is None:
        return None
    value, low, high = score["value"], score.get("low"), score.get("high")
    return x, value, value if low is None else low, value if high is None else high


def points_of(pairs: Sequence[tuple[float | None, Score | None]]) -> list[Point]:
    """The points of a curve by rising x, without those that lack a value."""
    found = [point_of(x, score) for x, score in pairs if x is not None]
    return sorted(point for point in found if point is not None)


def interval_figure(
    material: Material,
    title: str,
    note: str,
    entries: Sequence[tuple[str, Score | None]],
    colours: Sequence[int] | None = None,
    *,
    share: bool = True,
) -> Figure | None:
    """A dot with its interval for each (name, score) that has a value; None where none has, or too many."""
    there = [at for at, (_, score) in enumerate(entries) if score and score.get("value") is not None]
    if not 0 < len(there) <= MOST_ROWS:
        return None
    drawn = [(entries[at][0], *(entries[at][1][key] for key in ("value", "low", "high"))) for at in there]  # type: ignore[index]
    places = [colours[at] if colours else at for at in there]
    return material.figure(title, note, plots.intervals, drawn, places, share)


def curve_figure(
    material: Material,
    title: str,
    note: str,
    series: Mapping[str, Sequence[Point]],
    x: str,
    *,
    doubling: bool = False,
    shaded: Sequence[float] | None = None,
    share: bool = True,
) -> Figure | None:
    """Curves with intervals; None where no curve has two points. shaded: a range of x."""
    if all(len(curve) < 2 for curve in series.values()):
        return None
    kept = {name: list(curve) for name, curve in series.items()}
    return material.figure(
        title,
        note,
        plots.bands,
        kept,
        x,
        doubling,
        shaded,
        share,
        legend=[name if curve else "" for name, curve in kept.items()],
    )


def present(*figures: Figure | None) -> list[Figure]:
    """Those that were drawn."""
    return [figure for figure in figures if figure is not None]
