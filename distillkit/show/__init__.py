"""What came out of a run, as plain data and as tables, for `distillkit show`, the report and the cards.

Everything is read from manifests and rows, so nothing can be shown that no stage did.
"""

from distillkit.show.run import (
    Described,
    Score,
    describe,
    funnel,
    gamma_of,
    load_artifacts,
    sampling_of,
    scores_of,
    screening_of,
    settings_of,
    timings,
)
from distillkit.show.table import (
    ablation_grid,
    funnel_grid,
    gamma_text,
    grids,
    markdown,
    opinions,
    render,
    sampling_grid,
    score_grid,
    score_text,
    screening_grid,
    seed_grid,
    settings_text,
    timing_grid,
    warnings,
)
from distillkit.show.terminal import render_one, render_rejected
from distillkit.show.traces import find_rejected, find_trace

__all__ = [
    "Described",
    "Score",
    "ablation_grid",
    "describe",
    "find_rejected",
    "find_trace",
    "funnel",
    "funnel_grid",
    "gamma_of",
    "gamma_text",
    "grids",
    "load_artifacts",
    "markdown",
    "opinions",
    "render",
    "render_one",
    "render_rejected",
    "sampling_grid",
    "sampling_of",
    "score_grid",
    "score_text",
    "scores_of",
    "screening_grid",
    "screening_of",
    "seed_grid",
    "settings_of",
    "settings_text",
    "timing_grid",
    "timings",
    "warnings",
]
