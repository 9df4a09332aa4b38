"""What came out of a run, as plain data and as tables, for `distillkit show`, the report and the cards.

Everything is read from manifests and rows, so nothing can be shown that no stage did.
"""

from distillkit.show.evaluation import (
    band_grid,
    complexity_grid,
    evaluation_grids,
    reach_grid,
    reach_text,
    spending_grid,
    sweep_grid,
    swept_metrics,
    vote_grid,
)
from distillkit.show.number import score_text, signed_text, who
from distillkit.show.pair import find_pair, render_pair
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
    summaries_of,
    timings,
)
from distillkit.show.setting import opinions, settings_text
from distillkit.show.table import (
    ablation_grid,
    funnel_grid,
    gamma_text,
    grids,
    markdown,
    matrix_grid,
    render,
    rl_cost_text,
    sampling_grid,
    score_grid,
    screening_grid,
    seed_grid,
    timing_grid,
    warnings,
)
from distillkit.show.terminal import render_one, render_rejected
from distillkit.show.thinking import budget_grid, knee_text, probe_grids
from distillkit.show.traces import find_rejected, find_trace
from distillkit.show.training import cost_grid, evaluation_grid

__all__ = [
    "Described",
    "Score",
    "ablation_grid",
    "band_grid",
    "budget_grid",
    "complexity_grid",
    "cost_grid",
    "describe",
    "evaluation_grid",
    "evaluation_grids",
    "find_pair",
    "find_rejected",
    "find_trace",
    "funnel",
    "funnel_grid",
    "gamma_of",
    "gamma_text",
    "grids",
    "knee_text",
    "load_artifacts",
    "markdown",
    "matrix_grid",
    "opinions",
    "probe_grids",
    "reach_grid",
    "reach_text",
    "render",
    "render_one",
    "render_pair",
    "render_rejected",
    "rl_cost_text",
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
    "signed_text",
    "spending_grid",
    "summaries_of",
    "sweep_grid",
    "swept_metrics",
    "timing_grid",
    "timings",
    "vote_grid",
    "warnings",
    "who",
]
