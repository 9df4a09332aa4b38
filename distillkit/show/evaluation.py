"""What an evaluation found besides its scores, as tables: reach, votes, bands, complexity, sweeps, cost.

Every table is of one evaluate stage, from its manifest's summary; what an older artifact lacks is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.budget import money_text
from distillkit.grid import Grid
from distillkit.show.number import count_text, metric_words, power_text, score_text, signed_text, who

Summary = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

SWEPT = ("pass@1", "pass@", "cons@", "truncated", "no_answer", "mean_tokens")
"""Metrics of a sweep, in the order of its columns; `@` stands for any k."""


def evaluation_grids(summary: Summary) -> list[Grid]:
    """The tables of one evaluation that have rows."""
    sweeps = summary.get("sweeps") or {}
    made = [
        reach_grid(summary.get("reach") or []),
        band_grid(summary.get("bands") or []),
        vote_grid(summary.get("votes") or []),
        complexity_grid(summary.get("complexity") or {}),
        *(sweep_grid(name, sweeps.get(name) or []) for name in ("temperature", "max_tokens")),
        spending_grid(summary),
    ]
    return [grid for grid in made if grid.rows]


def reach_grid(rows: Rows) -> Grid:
    """pass@k before and after training: does anything rise above what the base reached?"""
    cells = [
        [
            who(row, rows),
            str(row.get("base", "")),
            count_text(row.get("k")),
            score_text("pass@", row.get("before")),
            score_text("pass@", row.get("after")),
            signed_text(row.get("difference")),
            f"{row.get('gained', 0):,} of {row.get('problems', 0):,}",
            f"{row.get('lost', 0):,}",
        ]
        for row in rows
    ]
    notes = [reach_text(row) for row in rows]
    header = ["model", "base", "k", "pass@k of the base", "pass@k", "difference", "newly solved", "lost"]
    return Grid("pass@k before and after", header, cells, left=2, notes=notes)


def reach_text(row: Mapping[str, Any]) -> str:
    """Whether a model does what its base could not, in words."""
    verb = "rises above" if row.get("above") else "does not rise above"
    return f"{row['model']} {verb} pass@{row.get('k')} of {row.get('base')}"


def band_grid(rows: Rows) -> Grid:
    """Scores and lengths of right and of wrong answers by how often the base solves a problem."""
    cells = [
        [
            who(row, rows),
            str(row.get("band")),
            count_text(row.get("problems")),
            score_text("pass@1", row.get("pass@1")),
            *(score_text("tokens", row.get(name)) for name in ("tokens", "right_tokens", "wrong_tokens")),
            score_text("truncated", row.get("truncated")),
        ]
        for row in rows
        if row.get("problems")
    ]
    header = ["model", "band", "problems", "pass@1", "tokens", "of right", "of wrong", "truncated"]
    notes = [f"bands are pass rates of {row.get('base')}" for row in rows[:1]]
    return Grid("by base pass rate", header, cells, left=2, notes=notes)


def vote_grid(rows: Rows) -> Grid:
    """The 1/A condition: voting helps where the right answer is likelier than each wrong one."""
    cells = [
        [
            who(row, rows),
            count_text(row.get("problems")),
            *(count_text(row.get(name)) for name in ("right", "wrong", "tied", "silent")),
            "" if row.get("answers") is None else f"{row['answers']:.1f}",
        ]
        for row in rows
    ]
    header = ["model", "problems", "right leads", "a wrong one leads", "tied", "no answer", "answers each"]
    note = "A vote is right in the end where the right answer is likelier than each wrong one."
    return Grid("which answer leads", header, cells, notes=[note])


def complexity_grid(found: Summary) -> Grid:
    """pass@1 against the complexity of a problem."""
    rows: Rows = found.get("rows") or []
    cells = [
        [
            who(row, rows),
            f"{row['at']:g}",
            count_text(row.get("problems")),
            score_text("pass@1", row.get("pass@1")),
            score_text("tokens", row.get("tokens")),
        ]
        for row in rows
    ]
    field = str(found.get("field", "complexity"))
    trained = found.get("trained")
    notes = [f"trained on {field} {trained[0]:g} to {trained[1]:g}"] if trained else []
    return Grid(
        "by complexity",
        ["model", field.rpartition(".")[2], "problems", "pass@1", "tokens"],
        cells,
        notes=notes,
    )


def sweep_grid(name: str, rows: Rows) -> Grid:
    """Scores at each temperature, or under each token cap."""
    metrics = swept_metrics(rows)
    cells = [
        [
            who(row, rows),
            f"{row[name]:,g}",
            *(score_text(metric, (row.get("scores") or {}).get(metric)) for metric in metrics),
        ]
        for row in rows
    ]
    notes = []
    if name == "max_tokens" and rows:
        notes.append("All caps are cut from one run at the largest: right only if finished within the cap.")
    words = {"temperature": "temperature", "max_tokens": "cap"}[name]
    return Grid(f"sweep of {name}", ["model", words, *map(metric_words, metrics)], cells, notes=notes)


def swept_metrics(rows: Rows) -> list[str]:
    """The metrics that the rows of a sweep have, in the order of SWEPT."""
    there = dict.fromkeys(metric for row in rows for metric in row.get("scores") or {})
    found = {
        name: None
        for want in SWEPT
        for name in there
        if name == want or (want.endswith("@") and name.startswith(want))
    }
    return list(found)


def spending_grid(summary: Summary) -> Grid:
    """Tokens, operations and money of the answers of each model, and how fast those came that were sampled now."""
    rows: Rows = summary.get("cost") or []
    speeds = _speeds(summary.get("throughput") or [])
    cells = [
        [
            who(row, rows),
            count_text(row.get("completions")),
            count_text(row.get("tokens")),
            count_text(speeds.get((row["model"], row.get("benchmark")))),
            power_text(row.get("active")),
            power_text(row.get("operations")),
            "" if row.get("money") is None else money_text(row["money"]),
        ]
        for row in rows
    ]
    header = ["model", "completions", "tokens", "tokens/s", "active parameters", "operations", "money"]
    notes = ["operations: 2 x active parameters x tokens"]
    if (summary.get("sweeps") or {}).get("temperature"):
        notes.append("completions of further temperatures are not among these")
    return Grid("cost of the evaluation", header, cells, notes=notes)


def _speeds(draws: Rows) -> dict[tuple[Any, Any], float]:
    """Tokens a second by (model, benchmark), over the draws of all its temperatures."""
    tokens: dict[tuple[Any, Any], float] = {}
    seconds: dict[tuple[Any, Any], float] = {}
    for each in draws:
        if each.get("tokens") and each.get("tokens_per_s"):
            key = each.get("model"), each.get("benchmark")
            tokens[key] = tokens.get(key, 0) + each["tokens"]
            seconds[key] = seconds.get(key, 0) + each["tokens"] / each["tokens_per_s"]
    return {key: tokens[key] / seconds[key] for key in tokens}


def best_text(best: Summary) -> str:
    """Which of several models is the best, and whether that is sure."""
    metric, sets = best.get("metric", "pass@1"), best.get("benchmarks") or 1
    over = f", mean over {sets} benchmarks" if sets > 1 else ""
    found = f"best: {best.get('model')} ({metric} {score_text(metric, best)}{over})"
    runner_up = best.get("runner_up")
    if runner_up is None:
        return found
    difference = signed_text(best.get("difference"))
    sure = "clear of" if best.get("clear") else "not to be told from"
    return f"{found}, {sure} {runner_up}{f', {difference}' if difference else ''}"
