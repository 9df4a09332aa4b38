"""A table of text, and how it looks in a terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Grid:
    """A table of text, for any medium: the first `left` columns are words, the others numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 1
    notes: list[str] = field(default_factory=list)


def trimmed(grid: Grid) -> Grid:
    """The table without columns that are blank in every row; those of words stay."""
    kept = [n for n in range(len(grid.header)) if n < grid.left or any(row[n] for row in grid.rows)]
    rows = [[row[n] for n in kept] for row in grid.rows]
    return replace(grid, header=[grid.header[n] for n in kept], rows=rows)


def rich_table(grid: Grid) -> "Table":
    """The table for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=grid.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for position, name in enumerate(grid.header):
        table.add_column(Text(name), justify="left" if position < grid.left else "right")
    for row in grid.rows:
        table.add_row(*map(Text, row))  # Text: brackets in a cell are no markup
    return table


def grid_markdown(grid: Grid) -> str:
    """One table as GitHub Markdown, its title in bold above and its notes below."""
    ruler = ["---" if position < grid.left else "---:" for position in range(len(grid.header))]
    lines = [f"**{grid.title}**", "", *map(_markdown_row, [grid.header, ruler, *grid.rows]), ""]
    return "\n".join([*lines, *(f"{note}  " for note in grid.notes), ""])


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
