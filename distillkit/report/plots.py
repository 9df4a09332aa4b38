"""Figures of the report and the cards, by matplotlib: SVG inside the page, PNG beside a card.

Every function takes plain data and returns a Figure; equal data give equal bytes. Colours come from a set that
colour-blind readers can tell apart (Okabe and Ito, 2008) and hold on light and dark ground.
"""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#808080"
STYLE: dict[str, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
    "savefig.transparent": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "distillkit",
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}
WIDTH, HEIGHT = 5.2, 2.9
"""Inches."""


@contextmanager
def _axes(title: str, x: str = "", y: str = "", height: float = HEIGHT) -> "Iterator[tuple[Figure, Any]]":
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        axes.set_title(title, loc="left")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield figure, axes


def funnel(steps: Sequence[Mapping[str, Any]]) -> "Figure":
    """Rows kept at each stage, top to bottom; `steps` as in `show --json`."""
    with _axes("rows kept at each stage", "rows", height=0.6 + 0.34 * max(1, len(steps))) as (figure, axes):
        names = [step["stage"] for step in steps]
        kept = [step["rows_kept"] for step in steps]
        axes.barh(
            range(len(steps)), [max(s["rows_in"], s["rows_kept"]) for s in steps], color=GREY, alpha=0.25
        )
        axes.barh(range(len(steps)), kept, color=COLOURS[0])
        for position, n in enumerate(kept):
            axes.annotate(f" {n:,}", (n, position), va="center")
        axes.set_yticks(range(len(steps)), names)
        axes.invert_yaxis()
        axes.grid(False)
        return figure


def length_histogram(tokens: Mapping[str, Sequence[int]]) -> "Figure":
    """Distribution of completion lengths, one outline per group."""
    with _axes("completion length", "tokens", "share of traces") as (figure, axes):
        highest = max((max(each) for each in tokens.values() if each), default=1)
        bins = [highest * step / 40 for step in range(41)]
        for colour, (name, values) in zip(COLOURS, tokens.items(), strict=False):
            if values:
                weights = [1 / len(values)] * len(values)
                axes.hist(
                    values,
                    bins=bins,
                    weights=weights,
                    histtype="stepfilled",
                    alpha=0.35,
                    color=colour,
                    label=name,
                )
        if len(tokens) > 1:
            axes.legend()
        return figure


def lines(
    title: str, x: str, y: str, series: Mapping[str, Sequence[tuple[float, float]]], *, share: bool = False
) -> "Figure":
    """Curves over a common x; missing values are None-free (x, y) pairs. `share` fixes y to [0, 1]."""
    with _axes(title, x, y) as (figure, axes):
        for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    label=name,
                    linewidth=1.6,
                    marker="o" if len(points) < 12 else None,
                    markersize=3,
                )
        if share:
            axes.set_ylim(-0.03, 1.03)
        if len(series) > 1:
            axes.legend()
        return figure


def bands(
    title: str, y: str, series: Mapping[str, Sequence[tuple[float, float, float, float]]], x: str = "k"
) -> "Figure":
    """Curves with intervals: (x, value, low, high) points, x on a log scale of base 2 (pass@k)."""
    with _axes(title, x, y) as (figure, axes):
        for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
            if points:
                at, value, low, high = zip(*points, strict=True)
                axes.plot(at, value, color=colour, label=name, linewidth=1.6, marker="o", markersize=3)
                axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_ylim(-0.03, 1.03)
        if len(series) > 1:
            axes.legend()
        return figure


def intervals(title: str, entries: Sequence[tuple[str, float, float | None, float | None]]) -> "Figure":
    """A dot with its interval per entry (name, value, low, high), x in [0, 1]."""
    with _axes(title, height=0.7 + 0.32 * max(1, len(entries))) as (figure, axes):
        for position, (_, value, low, high) in enumerate(entries):
            colour = COLOURS[position % len(COLOURS)]
            if low is not None and high is not None:
                axes.plot([low, high], [position, position], color=colour, linewidth=2.5, alpha=0.5)
            axes.plot([value], [position], marker="o", color=colour)
            axes.annotate(
                f"{value:.3f}",
                (value, position),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(entries)), [name for name, *_ in entries])
        axes.set_ylim(len(entries) - 0.4, -0.8)
        axes.set_xlim(-0.03, 1.05)
        return figure


def to_svg(figure: "Figure") -> str:
    """The figure as an inline `<svg>` that scales with its container."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)


def save_png(figure: "Figure", path: Path) -> None:
    """The figure as a PNG on white, for a card."""
    figure.savefig(
        path, format="png", dpi=140, facecolor="white", transparent=False, metadata={"Software": None}
    )
