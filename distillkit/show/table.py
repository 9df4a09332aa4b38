"""What came out of a run, as tables for the terminal, the report and the cards."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distillkit.budget import money_text
from distillkit.comparison import difference_text
from distillkit.grid import Grid, grid_markdown, rich_table, trimmed
from distillkit.show.evaluation import best_text, evaluation_grids
from distillkit.show.number import count_text, metric_words, score_text
from distillkit.show.run import Described
from distillkit.show.setting import opinions, settings_text
from distillkit.show.thinking import budget_grid, probe_grids
from distillkit.show.training import cost_grid, evaluation_grid
from distillkit.stats import BANDS

if TYPE_CHECKING:
    from rich.console import RenderableType

STOPPED = ("enough", "hopeless", "all")
"""Why a problem was asked no further."""


def grids(described: Described) -> list[Grid]:
    """The tables of a run, those that have rows."""
    made = [
        *(grid for each in described["screening"] for grid in (screening_grid(each), matrix_grid(each))),
        *(evaluation_grid(each) for each in described["trainings"]),
        funnel_grid(described["funnel"]),
        *(ablation_grid(step) for step in described["funnel"] if "ablation" in step),
        sampling_grid(described["sampling"]),
        score_grid(described),
        *(grid for each in described["evaluations"] for grid in evaluation_grids(each)),
        *(budget_grid(each) for each in described["budget_curves"]),
        *(grid for each in described["probes"] for grid in probe_grids(each)),
        *([seed_grid(described)] if "seeds" in described else []),
        cost_grid(described["cost"]),
        timing_grid(described["timings"]),
    ]
    return [trimmed(grid) for grid in made if grid.rows]


def funnel_grid(steps: Sequence[dict[str, Any]]) -> Grid:
    """Rows in and kept of each stage, and why the others were dropped."""
    rows = [
        [
            step["stage"],
            step["kind"],
            ", ".join(
                f"{reason} {n:,}" for reason, n in (step["rejected"] or step.get("verdicts", {})).items()
            ),
            f"{step['rows_in']:,}" if step["rows_in"] else "",
            f"{step['rows_kept']:,}",
        ]
        for step in steps
    ]
    notes = [f"{step['stage']}: {opinions(step['judges'])}" for step in steps if "judges" in step]
    for step in steps:
        if "copies" in step:
            seen = ", ".join(f"{name} {n:,}" for name, n in step["copies"].items())
            notes.append(f"{step['stage']}: rows that a trainer sees: {seen}.")
    return Grid(
        "funnel", ["stage", "kind", "dropped, or judged", "rows in", "kept"], rows, left=3, notes=notes
    )


def ablation_grid(step: dict[str, Any]) -> Grid:
    """What a filter would keep without each of its rules, and why the others would be dropped."""
    rows = [
        [
            without["rule"],
            ", ".join(f"{reason} {n:,}" for reason, n in without["rejected"].items()),
            f"{without['rows_kept'] - step['rows_kept']:+,}",
            f"{without['rows_kept']:,}",
        ]
        for without in step["ablation"]
    ]
    title = f"{step['stage']} without each of its rules"
    return Grid(title, ["left out", "dropped then", "more", "kept"], rows, left=2)


def sampling_grid(stages: Sequence[dict[str, Any]]) -> Grid:
    """What was asked for and what it cost, of the stages that stop early or are paid for."""
    rows = [
        [
            stage["stage"],
            f"{stage['asked'] or stage['traces']:,}",
            f"{stage['right'] / stage['asked']:.0%}" if stage["asked"] else "",
            *(f"{(stage['stopped'] or {}).get(why, 0):,}" if stage["stopped"] else "" for why in STOPPED),
            f"{stage['tokens']:,}",
            "" if stage["cost"] is None else money_text(stage["cost"]),
        ]
        for stage in stages
        if stage["stopped"] or stage["cost"] is not None
    ]
    return Grid("sampling", ["stage", "asked", "accepted", *STOPPED, "tokens", "cost"], rows)


def score_grid(described: Described) -> Grid:
    """Metrics by model, each value with its interval; the settings and gamma below."""
    scores = described["scores"]
    metrics = list(dict.fromkeys(metric for found in scores.values() for metric in found))
    rows = [
        [metric_words(metric), *(score_text(metric, found.get(metric)) for found in scores.values())]
        for metric in metrics
    ]
    problems = max((score.get("n", 0) for found in scores.values() for score in found.values()), default=0)
    screened = {each["stage"] for each in described["screening"]}
    notes = [
        f"{stage}: {settings_text(settings)}"
        for stage, settings in described["settings"].items()
        if stage not in screened
    ]
    notes += [gamma_text(each) for each in described["gamma"]]
    notes += [difference_text(each) for each in described["differences"]]
    notes += [
        f"{each['stage']}: {best_text(each['best'])}" for each in described["evaluations"] if each.get("best")
    ]
    return Grid(f"scores on {problems:,} problems", ["metric", *scores], rows, notes=notes)


def gamma_text(gamma: Mapping[str, Any]) -> str:
    """Gamma as realised in words."""
    gap = f"the gap pass@{gamma['k']} - pass@1 of {gamma['base']} on {gamma['benchmark']}"
    if gamma["value"] is None:
        return f"gamma of {gamma['model']}: none, {gap} cannot be told from zero"
    return f"gamma of {gamma['model']}: {score_text('gamma', gamma)} of {gap} ({gamma['n']:,} problems)"


def screening_grid(screening: Mapping[str, Any]) -> Grid:
    """What a base could do before RL, what RL may make of it, and why it is worth it or not."""
    k, scores = screening.get("k"), screening.get("scores") or {}
    predicted, plug_in = screening.get("predicted") or [], screening.get("plug_in") or {}
    shown = {"pass@1": scores.get("pass@1"), f"pass@{k}": scores.get(f"pass@{k}"), "gap": scores.get("gap")}
    shown |= {f"predicted pass@1, gamma {each['gamma']:g}": each for each in predicted}
    rows = [[name, score_text(name, score)] for name, score in shown.items()]
    biased = {f"pass@{k}": plug_in.get("pass_at_k"), "gap": plug_in.get("gap")} | {
        f"predicted pass@1, gamma {each['gamma']:g}": each["value"] for each in plug_in.get("predicted") or []
    }
    rows += [[f"{name}, plug-in", f"{value:.4f}"] for name, value in biased.items() if value is not None]
    bands, signal = screening.get("bands") or {}, screening.get("signal") or {}
    rows += [[f"prompts {name}", f"{bands[name]:,}"] for name in BANDS if name in bands]
    rows += [
        [f"groups of {size} with signal", f"{share:.3f}"]
        for size, share in sorted(signal.items(), key=lambda item: int(item[0]))
        if share is not None
    ]
    title = f"{screening['stage']}: {'go' if screening.get('go') else 'no-go'} for RL"
    notes = [*(screening.get("reasons") or []), settings_text(screening.get("settings") or {})]
    notes += [str(plug_in["why"])] if plug_in.get("why") else []
    cost = screening.get("rl_cost")
    notes += [rl_cost_text(cost)] if cost else []
    return Grid(title, ["screening", screening["model"]], rows, notes=notes)


def rl_cost_text(cost: Mapping[str, Any]) -> str:
    """What the RL run that a screening is for would take, in words."""
    rollouts = cost.get("rollouts") or {}
    share = f", {rollouts['share']:.0%} of it rollouts" if rollouts.get("share") is not None else ""
    money = f", {money_text(cost['money'])} in money" if cost.get("money") is not None else ""
    return (
        f"the RL run ({count_text(cost.get('steps'))} steps): about {count_text(cost.get('tokens'))} tokens, "
        f"{cost.get('gpu_hours') or 0:.3g} GPU-hours{share}{money}"
    )


MATRIX = ("answered", "formatted", "pass@1", "reflection", "mixed_language", "truncated", "mean_tokens")


def matrix_grid(screening: Mapping[str, Any]) -> Grid:
    """Templates by models on the same prompts: a template can break a base."""
    matrix = screening.get("matrix") or []
    rows = [
        [str(row["model"]), str(row.get("template")), *(score_text(name, row.get(name)) for name in MATRIX)]
        for row in matrix
    ]
    return Grid(
        f"{screening['stage']}: templates", ["model", "template", *map(metric_words, MATRIX)], rows, left=2
    )


SEED_METRICS = ("pass@1", "mean_tokens", "mixed_language")


def seed_grid(described: Described) -> Grid:
    """The main metrics of every model, a column for each seed, and their mean."""
    seeds: dict[str, Described] = described["seeds"]
    notes = [difference_text(each) for each in described["differences"]]
    scores = [each["scores"] for each in seeds.values()]
    keys = dict.fromkeys((model, metric) for each in scores for model in each for metric in each[model])
    rows = []
    for model, metric in keys:
        if metric.rpartition("/")[2] in SEED_METRICS:
            found = [each.get(model, {}).get(metric) for each in scores]
            values = [score["value"] for score in found if score and score["value"] is not None]
            mean = {"value": fmean(values) if values else None, "low": None, "high": None}
            rows.append(
                [model, metric_words(metric), *(score_text(metric, score) for score in [*found, mean])]
            )
    return Grid(
        "seeds", ["model", "metric", *(f"seed {seed}" for seed in seeds), "mean"], rows, left=2, notes=notes
    )


def timing_grid(stages: Sequence[dict[str, Any]]) -> Grid:
    """Seconds of each stage, and of all."""
    rows = [
        [each["stage"], each["kind"], "from the store" if each["cached"] else f"{each['seconds']:.1f}"]
        for each in stages
    ]
    total = sum(each["seconds"] for each in stages)
    return Grid("seconds", ["stage", "kind", "seconds"], rows, left=2, notes=[f"{total:.1f} s in all"])


def render(described: Described) -> "RenderableType":
    """The tables of a run for a terminal."""
    from rich.console import Group
    from rich.text import Text

    run = described["run"]
    head = Text(f"{run['recipe']} run {run['number']}: {run['status']}", style="bold")
    lines = [Text(line, style="yellow") for line in warnings(described)]
    body: list[RenderableType] = []
    for grid in grids(described):
        body += [Text(), rich_table(grid), *map(Text, grid.notes)]
    return Group(head, *lines, *body)


def warnings(described: Described) -> list[str]:
    """What a reader must know before the numbers."""
    run = described["run"]
    found = [str(run["error"])] if run["error"] else []
    if run["missing"]:
        found.append(f"no longer in the store: {', '.join(run['missing'])}; run again to make them anew")
    return found + [f"{each['stage']}: {each['text']}" for each in described["warnings"]]


def markdown(described: Described, pick: Callable[[Grid], bool] = lambda _: True) -> str:
    """The tables of a run (those that `pick` takes) as GitHub Markdown."""
    return "\n".join(grid_markdown(grid) for grid in grids(described) if pick(grid))
