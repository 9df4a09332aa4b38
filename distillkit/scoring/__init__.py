"""From completions to numbers: each one judged and measured once, averaged per problem, then over problems.

Shared by every stage that scores, so that a model is screened and scored by one yardstick.
"""

from distillkit.scoring.contrast import bands, best, difference, differences, reach
from distillkit.scoring.judged import (
    Group,
    Judged,
    Scoring,
    by_problem,
    count_judged,
    outcome,
    verdict_row,
    verdict_schema,
    warn_failed,
)
from distillkit.scoring.metric import (
    LENGTH,
    SHARE,
    Ballot,
    Estimate,
    ballot,
    ballots_of,
    cons_at,
    counts_of,
    largest_k,
    mean_over,
    metrics,
    over_sets,
    pass_at,
    per_sample,
    realised_gamma,
    settings,
)
from distillkit.scoring.spending import Spending
from distillkit.scoring.vote import Leading, curve, cut, cut_votes, leading, tally

__all__ = [
    "LENGTH",
    "SHARE",
    "Ballot",
    "Estimate",
    "Group",
    "Judged",
    "Leading",
    "Scoring",
    "Spending",
    "ballot",
    "ballots_of",
    "bands",
    "best",
    "by_problem",
    "cons_at",
    "count_judged",
    "counts_of",
    "curve",
    "cut",
    "cut_votes",
    "difference",
    "differences",
    "largest_k",
    "leading",
    "mean_over",
    "metrics",
    "outcome",
    "over_sets",
    "pass_at",
    "per_sample",
    "reach",
    "realised_gamma",
    "settings",
    "tally",
    "verdict_row",
    "verdict_schema",
    "warn_failed",
]
