"""Figures of the report and of the cards, by matplotlib: SVG inside the page, PNG beside a card.

Marks and axes only; titles, units and legends stand around a figure as text that wraps on a phone. Every function
takes plain data, equal data give equal bytes, and text is as grey as its surroundings (`currentColor`). Colours are
told apart by colour-blind readers (Okabe and Ito, 2008) and hold on light and dark ground.
"""

import html
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.durable import write_text
from distillkit.spec import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The n-th series of a figure has the n-th colour, round and round."""
INK = "#666b72"
STYLE: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9.5,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text: smaller, searchable, and drawn by the page's fonts
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
}
WIDTH, HEIGHT = 4.4, 2.5
"""Inches."""
ROW = 0.42
"""Inches of one row with its words above it."""
BINS = 40
"""Most bars of a histogram."""
LONGEST_NAME = 48
"""Characters; the middle of a longer name is left out."""

Interval = tuple[str, float, float | None, float | None]
"""(name, value, low, high); low and high are None where there is no interval."""


@contextmanager
def _axes(x: str = "", height: float = HEIGHT, left: float = 0.55) -> "Iterator[tuple[Figure, Any]]":
    """A figure with fixed margins in inches: letting matplotlib find them draws every figure twice."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        bottom = 0.5 if x else 0.3
        figure.subplots_adjust(left / WIDTH, bottom / height, 1 - 0.12 / WIDTH, 1 - 0.1 / height)
        axes = figure.subplots()
        axes.set_xlabel(x)
        axes.set_axisbelow(True)
        yield figure, axes


def funnel(steps: Sequence[Mapping[str, Any]]) -> "Figure":
    """Rows kept of those that came in, stage by stage; `steps` as in `show --json`."""
    with _axes(height=0.3 + ROW * max(1, len(steps)), left=0.12) as (figure, axes):
        coming = [max(step["rows_in"], step["rows_kept"]) for step in steps]
        for row, (step, n) in enumerate(zip(steps, coming, strict=True)):
            axes.barh(row + 0.2, n, height=0.34, color=INK, alpha=0.22)
            axes.barh(row + 0.2, step["rows_kept"], height=0.34, color=COLOURS[0])
            kept = f"{step['rows_kept']:,}" + (f" of {n:,}" if n != step["rows_kept"] else "")
            _label(axes, row, f"{step['stage']} ({step['kind']})", kept)
        _rows(axes, len(steps))
        axes.set_xlim(0, max([*coming, 1]))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        return figure


def intervals(
    entries: Sequence[Interval], colours: Sequence[int] | None = None, share: bool = True
) -> "Figure":
    """A dot with its interval per entry, on [0, 1] or on the part of it that they take up; below 0 where they go there.

    colours: a place in COLOURS for each entry; left out: their order. share: whether 1 is the most that there is.
    """
    with _axes(height=0.4 + ROW * max(1, len(entries)), left=0.12) as (figure, axes):
        ends = [end for _, *ends in entries for end in ends if end is not None]
        most, least = max(ends, default=1.0), min(0.0, *ends) if ends else 0.0
        right = 1.0 if share and most > 0.5 else most * 1.3 or 1.0
        for row, (name, value, low, high) in enumerate(entries):
            colour = COLOURS[(colours[row] if colours else row) % len(COLOURS)]
            axes.plot([least, right], [row + 0.2] * 2, color=INK, linewidth=6, alpha=0.13)
            if low is not None and high is not None:
                axes.plot([low, high], [row + 0.2] * 2, color=colour, linewidth=6, alpha=0.4)
            axes.plot([value], [row + 0.2], marker="o", markersize=6, color=colour, clip_on=False)
            _label(axes, row, name, f"{value:.3f}" if share else f"{value:,.1f}")
        _rows(axes, len(entries))
        axes.set_xlim(least, right)
        axes.locator_params(axis="x", nbins=5)
        return figure


def _label(axes: Any, row: int, name: str, number: str) -> None:
    """Words above a row: its name at the left, its number at the right."""
    short = name if len(name) <= LONGEST_NAME else f"{name[:20]} ... {name[-20:]}"
    place = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    axes.text(0, row - 0.22, short, ha="left", **place)
    axes.text(1, row - 0.22, number, ha="right", **place)


def _rows(axes: Any, count: int) -> None:
    axes.set_ylim(max(1, count) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)


def bars(counts: Mapping[str, int]) -> "Figure":
    """One bar per name, its count above it."""
    with _axes(left=0.12) as (figure, axes):
        drawn = axes.bar(list(counts), list(counts.values()), color=COLOURS[0], width=0.7)
        axes.bar_label(drawn, [f"{n:,}" for n in counts.values()], padding=2)
        axes.set_yticks([])
        axes.grid(False)
        axes.margins(y=0.12)
        axes.spines["left"].set_visible(False)
        return figure


def length_histogram(lengths: Mapping[str, Sequence[int]], unit: str = "tokens") -> "Figure":
    """Share of the completions of each group by their length."""
    with _axes(unit) as (figure, axes):
        longest = max((max(each) for each in lengths.values() if each), default=1)
        width = max(1, -(-(longest + 1) // BINS))
        edges = [width * step for step in range(-(-(longest + 1) // width) + 1)]
        for colour, values in zip(cycle(COLOURS), lengths.values(), strict=False):
            if values:
                shares = [0.0] * (len(edges) - 1)
                for value in values:
                    shares[value // width] += 1 / len(values)
                axes.stairs(shares, edges, color=colour, fill=True, alpha=0.16)
                axes.stairs(shares, edges, color=colour, linewidth=1.6)
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(bottom=0)
        return figure


def lines(series: Mapping[str, Sequence[tuple[float, float]]], x: str = "step") -> "Figure":
    """Curves of (x, y) points; the y axis starts at 0 where nothing is below."""
    with _axes(x) as (figure, axes):
        for colour, points in zip(cycle(COLOURS), series.values(), strict=False):
            if points:
                _curve(axes, points, colour)
        axes.xaxis.get_major_locator().set_params(integer=True)
        values = [y for points in series.values() for _, y in points]
        if values and min(values) >= 0:
            axes.set_ylim(0, max(values) * 1.06 or 1)
        return figure


def _curve(axes: Any, points: Iterable[tuple[float, ...]], colour: str) -> None:
    at, value, *_ = zip(*points, strict=True)
    axes.plot(at, value, color=colour, linewidth=1.7, marker="o" if len(at) < 12 else None, markersize=3.5)


def bands(
    series: Mapping[str, Sequence[tuple[float, float, float, float]]],
    x: str = "k",
    doubling: bool = True,
    shaded: Sequence[float] | None = None,
    share: bool = True,
) -> "Figure":
    """Curves with intervals: (x, value, low, high) points.

    doubling: whether x doubles from point to point (pass@k). shaded: a range of x (what was trained on). share: whether
    the values are shares, on [0, 1].
    """
    with _axes(x) as (figure, axes):
        if shaded:
            axes.axvspan(shaded[0], shaded[1], color=INK, alpha=0.12, linewidth=0)
        for colour, points in zip(cycle(COLOURS), series.values(), strict=False):
            if points:
                at, _, low, high = zip(*points, strict=True)
                axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
                _curve(axes, points, colour)
        if doubling:
            ticks = sorted({point[0] for points in series.values() for point in points})
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        if share:
            axes.set_ylim(0, 1.04)
        else:
            axes.set_ylim(bottom=0)
        return figure


def tradeoff(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x: str,
    front: Sequence[tuple[float, float]] = (),
    knees: Mapping[str, tuple[float, float]] | None = None,
) -> "Figure":
    """What is gained (a share) against what is paid, each on a log scale: (x, y) points.

    front: the points that nothing beats, joined by a broken line. knees: where a curve flattens, a ring.
    """
    with _axes(x) as (figure, axes):
        if front:
            axes.plot(
                *zip(*front, strict=True),
                color=INK,
                linewidth=1.2,
                linestyle=(0, (4, 3)),
                drawstyle="steps-post",
            )
        for colour, (name, points) in zip(cycle(COLOURS), series.items(), strict=False):
            if points:
                _curve(axes, points, colour)
            if name in (knees or {}):
                at, value = (knees or {})[name]
                axes.plot([at], [value], "o", markersize=11, markerfacecolor="none", color=colour)
        _log_axis(axes, [at for points in series.values() for at, _ in points])
        axes.set_ylim(0, 1.04)
        return figure


def _log_axis(axes: Any, values: Sequence[float]) -> None:
    """A log scale whose labels are plain numbers: 1, 2, 5 of each decade, only the 1 where there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    few = max(values, default=1.0) < 100 * min(values, default=1.0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}")
    )


def cached_svg(folder: Path, label: str, draw: Callable[..., "Figure"], *data: Any) -> str:
    """`svg(draw(*data), label)`, drawn once and kept in `folder`: to import matplotlib takes a second."""
    key = digest([_source(), draw.__name__, label, data])
    file = folder / f"{key}.svg"
    text = file.read_text("utf-8") if file.exists() else ""
    if not text.endswith("</svg>"):
        text = svg(draw(*data), label, key)
        own = file.with_suffix(f".{os.getpid()}")  # two runs may draw the same
        write_text(own, text)
        own.replace(file)
    return text


@cache
def _source() -> str:
    return file_digest(Path(__file__))


def svg(figure: "Figure", label: str, salt: str = "") -> str:
    """The figure as an inline `<svg>` that scales with its container; `label` is what a screen reader says.

    salt: decides the ids inside, which must differ between the figures of one page.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": salt or label}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    drawn = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</defs>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"font-family: [^;\"]*; ", "", drawn)
    drawn = re.sub(r' id="[\w.]+_\d+"', "", drawn)  # nobody refers to these
    drawn = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", drawn, count=1)
    drawn = drawn.replace(INK, "currentColor")
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def save_png(figure: "Figure", path: Path) -> None:
    """The figure as a PNG on white, for a card."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure.savefig(
            path, format="png", dpi=180, facecolor="white", transparent=False, metadata={"Software": None}
        )
