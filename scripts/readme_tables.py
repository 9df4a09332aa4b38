"""Paste the funnel and the scores of a run into the README, between its two markers.

Usage: python scripts/readme_tables.py [RUN] [--store DIR]
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

from distillkit.grid import Grid, grid_markdown
from distillkit.run_folder import find_run
from distillkit.show import describe, funnel_grid, score_grid, screening_grid

README = Path(__file__).parent.parent / "README.md"
METRICS = ("pass@1", "pass@16", "cons@16", "mean tokens", "mixed language", "truncated")
SCREENED = ("pass@1", "pass@16", "gap", "predicted pass@1, gamma 0.9")
FUNNEL = ("problems", "traces", "kept", "chosen")


def picked(grid: Grid, names: tuple[str, ...], title: str) -> Grid:
    """Only the rows of those names."""
    return replace(grid, title=title, rows=[row for row in grid.rows if row[0] in names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--store", type=Path, default=Path("store"))
    arguments = parser.parse_args()
    described = describe(find_run(arguments.store, arguments.run), arguments.store)
    seconds = sum(stage["seconds"] for stage in described["timings"])
    scores = score_grid(described)
    tables = [
        picked(funnel_grid(described["funnel"]), FUNNEL, "What was dropped, and why"),
        picked(
            scores,
            METRICS,
            f"Scores on 200 held-out problems, 32 samples each ({seconds:.0f} s for everything)",
        ),
    ]
    if described["screening"]:
        screening = picked(
            screening_grid(described["screening"][0]), SCREENED, "What the screening had promised"
        )
        tables.append(replace(screening, notes=[]))
    body = "\n".join(grid_markdown(table) for table in tables)
    text = README.read_text("utf-8")
    new = re.sub(
        r"(<!-- tables: begin -->\n).*(<!-- tables: end -->)",
        lambda found: f"{found[1]}\n{body}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )
    README.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
