"""What came out of a run, as plain data and as tables, for `distillkit show`, the report and the cards.

Everything is read from manifests, so nothing can be shown that no stage did. The JSON keys are stable.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distillkit.artifact import MANIFEST, Artifact
from distillkit.budget import money_text
from distillkit.comparison import difference_text, differences
from distillkit.grid import Grid, grid_markdown, rich_table
from distillkit.run_folder import RECORD, RunRecord, load_record
from distillkit.stats import BANDS
from distillkit.store import Store

if TYPE_CHECKING:
    from rich.console import RenderableType

Described = dict[str, Any]
Score = dict[str, Any]
"""{value, low, high, n, samples}: n problems; low and high are None where there is no interval."""

STOPPED = ("enough", "hopeless", "all")
"""Why a problem was asked no further."""

FUNNEL_TYPES = ("problems", "traces", "labels", "selection", "pairs", "publication")
"""Artifact types that keep or drop rows."""


def describe(run: Path, store: Path) -> Described:
    """Everything of a run that is shown; a run that died half-way has what it got to.

    Keys: run {recipe, number, status, error, missing: stages whose artifact was removed}; funnel, sampling, scores,
    gamma, differences, settings, screening and timings as the functions below give them; and, where the run had
    several seeds, seeds {seed: the same again}, with the differences over all of them.

    Raises:
        MissingError: no run there.
        StageError: a corrupt artifact.
    """
    record = load_record(run)
    artifacts, missing = load_artifacts(record, Store(store))
    described: Described = {
        "run": {
            "recipe": record.recipe,
            "number": record.number,
            "status": record.status,
            "error": record.error,
            "missing": missing,
        },
        "funnel": funnel(artifacts),
        "sampling": sampling_of(artifacts),
        "scores": scores_of(artifacts),
        "gamma": gamma_of(artifacts),
        "differences": [each for one in _of_kind(artifacts, "evaluate") for each in differences([one])],
        "settings": settings_of(artifacts),
        "screening": screening_of(artifacts),
        "timings": timings(record),
    }
    if record.seeds:
        below = {str(seed): run / "seeds" / str(seed) for seed in record.seeds}
        present = {seed: path for seed, path in below.items() if (path / RECORD).exists()}
        described["seeds"] = {seed: describe(path, store) for seed, path in present.items()}
        described["differences"] = _over_seeds(list(present.values()), Store(store))
    return described


def _over_seeds(runs: Sequence[Path], store: Store) -> list[dict[str, Any]]:
    """Differences between models over the runs of several seeds, stage by stage."""
    by_stage: dict[str, list[Artifact]] = {}
    for run in runs:
        artifacts, _ = load_artifacts(load_record(run), store)
        for artifact in _of_kind(artifacts, "evaluate"):
            by_stage.setdefault(artifact.stage, []).append(artifact)
    return [each for evaluations in by_stage.values() for each in differences(evaluations)]


def load_artifacts(record: RunRecord, store: Store) -> tuple[list[Artifact], list[str]]:
    """The artifacts of a run in the recipe's order, and the stages whose artifact has left the store."""
    found, missing = [], []
    for stage in record.stages:
        if (store.artifacts / stage["artifact"] / MANIFEST).exists():
            found.append(store.open(stage["artifact"], stage["name"]))
        else:
            missing.append(stage["name"])
    return found, missing


def funnel(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{stage, kind, rows_in, rows_kept, rejected: {reason: n}}] of the stages that keep or drop rows."""
    return [
        {
            "stage": artifact.stage,
            "kind": artifact.manifest.kind,
            "rows_in": artifact.manifest.rows_in,
            "rows_kept": artifact.manifest.rows_kept,
            "rejected": dict(Counter(artifact.manifest.rejected).most_common()),
        }
        | ({"verdicts": verdicts} if (verdicts := _verdicts(artifact)) else {})
        | ({"judges": judges} if (judges := artifact.manifest.summary.get("judges")) else {})
        for artifact in artifacts
        if artifact.type in FUNNEL_TYPES
    ]


def _verdicts(artifact: Artifact) -> dict[str, int]:
    """Reason -> verdicts of a stage that judges, the most frequent first; none of any other."""
    counted = artifact.manifest.counts.get("reason", {}) if artifact.manifest.kind == "verify" else {}
    return dict(Counter(counted).most_common())


def sampling_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{stage, traces, tokens, asked, right, stopped, cost}] of the sample stages; None where there was none of it."""
    return [
        {
            "stage": artifact.stage,
            "traces": artifact.manifest.summary.get("traces", 0),
            "tokens": artifact.manifest.summary.get("completion_tokens", 0),
            "cost": artifact.manifest.telemetry.get("cost"),
            **{key: artifact.manifest.summary.get(key) for key in ("asked", "right", "stopped")},
        }
        for artifact in _of_kind(artifacts, "sample")
    ]


def scores_of(artifacts: Sequence[Artifact]) -> dict[str, dict[str, Score]]:
    """model -> metric -> score of every evaluate stage; with several, a metric is `<stage>/<metric>`."""
    evaluations = _of_kind(artifacts, "evaluate")
    found: dict[str, dict[str, Score]] = {}
    for artifact in evaluations:
        prefix = f"{artifact.stage}/" if len(evaluations) > 1 else ""
        for model in artifact.manifest.inputs["models"]:
            metrics = artifact.manifest.summary["scores"][model["name"]]
            ordered = {prefix + name: metrics[name] for name in sorted(metrics, key=_rank)}
            found.setdefault(model["name"], {}).update(ordered)
    return found


METRICS = (
    "pass@",
    "cons@",
    "gap",
    "truncated",
    "no_answer",
    "mean_tokens",
    "mean_terminated_tokens",
    "mean_right_tokens",
    "mean_wrong_tokens",
    "mixed_language",
    "language_share",
    "reflection",
)
"""The order that metrics are shown in: a manifest keeps none."""


def _rank(metric: str) -> tuple[str, int, int, str]:
    benchmark, _, name = metric.rpartition("/")
    head, at, k = name.partition("@")
    place = METRICS.index(head + at) if head + at in METRICS else len(METRICS)
    return benchmark, place, int(k or 0), name


def gamma_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Gamma as realised, [{stage, model, base, benchmark, k, value, low, high, n, samples}]."""
    return [
        {"stage": artifact.stage, **gamma}
        for artifact in _of_kind(artifacts, "evaluate")
        for gamma in artifact.manifest.summary["gamma"]
    ]


def settings_of(artifacts: Sequence[Artifact]) -> dict[str, dict[str, Any]]:
    """stage -> what its scores depend on besides the models: n, temperature, max_tokens, engine, ..."""
    found = [*_of_kind(artifacts, "evaluate"), *_of_kind(artifacts, "screen")]
    return {artifact.stage: artifact.manifest.summary["settings"] for artifact in found}


def screening_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Summaries of the screen stages, [{stage, model, k, scores, predicted, bands, signal, go, reasons}]."""
    found = []
    for artifact in _of_kind(artifacts, "screen"):
        [model] = artifact.manifest.inputs["model"]
        found.append({"stage": artifact.stage, "model": model["name"], **artifact.manifest.summary})
    return found


def _of_kind(artifacts: Sequence[Artifact], kind: str) -> list[Artifact]:
    return [artifact for artifact in artifacts if artifact.manifest.kind == kind]


def timings(record: RunRecord) -> list[dict[str, Any]]:
    """[{stage, kind, seconds, cached}]; cached: taken from the store."""
    return [
        {"stage": each["name"], "kind": each["kind"], "seconds": each["seconds"], "cached": each["cached"]}
        for each in record.stages
    ]


def grids(described: Described) -> list[Grid]:
    """The tables of a run, those that have rows."""
    made = [
        *(screening_grid(each) for each in described["screening"]),
        funnel_grid(described["funnel"]),
        sampling_grid(described["sampling"]),
        score_grid(described),
        *([seed_grid(described)] if "seeds" in described else []),
        timing_grid(described["timings"]),
    ]
    return [grid for grid in made if grid.rows]


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
    return Grid(
        "funnel", ["stage", "kind", "dropped, or judged", "rows in", "kept"], rows, left=3, notes=notes
    )


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


def opinions(judges: Mapping[str, str]) -> str:
    """A sentence on the domains that a model judges, {domain: kind of verifier}."""
    named = ", ".join(f"{domain} ({kind})" for domain, kind in sorted(judges.items()))
    return f"Verdicts of a learned model, which can be gamed: {named}."


def score_grid(described: Described) -> Grid:
    """Metrics by model, each value with its interval; the settings and gamma below."""
    scores = described["scores"]
    metrics = list(dict.fromkeys(metric for found in scores.values() for metric in found))
    rows = [
        [_words(metric), *(score_text(metric, found.get(metric)) for found in scores.values())]
        for metric in metrics
    ]
    problems = max((score["n"] for found in scores.values() for score in found.values()), default=0)
    screened = {each["stage"] for each in described["screening"]}
    notes = [
        f"{stage}: {settings_text(settings)}"
        for stage, settings in described["settings"].items()
        if stage not in screened
    ]
    notes += [gamma_text(each) for each in described["gamma"]]
    notes += [difference_text(each) for each in described["differences"]]
    return Grid(f"scores on {problems:,} problems", ["metric", *scores], rows, notes=notes)


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def score_text(metric: str, score: Score | None) -> str:
    """`0.139 [0.121, 0.158]`; lengths with one decimal."""
    if score is None or score["value"] is None:
        return ""
    form = ",.1f" if metric.endswith("tokens") else ".3f"
    value, low, high = (score[key] for key in ("value", "low", "high"))
    return f"{value:{form}}" if low is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def settings_text(settings: dict[str, Any]) -> str:
    """The settings of a score in words."""
    n = settings["n"]
    samples = ", ".join(f"{name} {each}" for name, each in n.items()) if isinstance(n, dict) else str(n)
    sampling = f"temperature {settings['temperature']:g}, top_p {settings['top_p']:g}"
    limits = f"at most {settings['max_tokens']:,} tokens, engine {settings['engine']['kind']}"
    learned = f"; {opinions(settings['judges'])}" if settings.get("learned") else ""
    return f"samples per problem: {samples}; {sampling}, {limits}; 95 % intervals over problems{learned}"


def gamma_text(gamma: dict[str, Any]) -> str:
    """Gamma as realised in words."""
    gap = f"the gap pass@{gamma['k']} - pass@1 of {gamma['base']} on {gamma['benchmark']}"
    if gamma["value"] is None:
        return f"gamma of {gamma['model']}: none, {gap} cannot be told from zero"
    return f"gamma of {gamma['model']}: {score_text('gamma', gamma)} of {gap} ({gamma['n']:,} problems)"


def screening_grid(screening: dict[str, Any]) -> Grid:
    """What a base could do before RL, what RL may make of it, and why it is worth it or not."""
    k, scores = screening["k"], screening["scores"]
    shown = {"pass@1": scores.get("pass@1"), f"pass@{k}": scores.get(f"pass@{k}"), "gap": scores.get("gap")}
    shown |= {f"predicted pass@1, gamma {each['gamma']:g}": each for each in screening["predicted"]}
    rows = [[name, score_text(name, score)] for name, score in shown.items()]
    rows += [[f"prompts {name}", f"{screening['bands'][name]:,}"] for name in BANDS]
    rows += [
        [f"groups of {size} with signal", f"{share:.3f}"]
        for size, share in sorted(screening["signal"].items(), key=lambda item: int(item[0]))
    ]
    title = f"{screening['stage']}: {'go' if screening['go'] else 'no-go'} for RL"
    notes = [*screening["reasons"], settings_text(screening["settings"])]
    return Grid(title, ["screening", screening["model"]], rows, notes=notes)


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
            mean = {"value": fmean(score["value"] for score in found if score), "low": None, "high": None}
            rows.append([model, _words(metric), *(score_text(metric, score) for score in [*found, mean])])
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
    return found


def markdown(described: Described, pick: Callable[[Grid], bool] = lambda _: True) -> str:
    """The tables of a run (those that `pick` takes) as GitHub Markdown."""
    return "\n".join(grid_markdown(grid) for grid in grids(described) if pick(grid))
