"""The chapters of the page, in the order of reading; a run that has nothing for one leaves it out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distillkit.artifact import Artifact
from distillkit.grid import Grid
from distillkit.report import plots
from distillkit.report.headline import Prediction, benchmarks, metric_name, predictions
from distillkit.report.material import Curves, Figure, Material, curves_of, points
from distillkit.report.traces import answers, lengths
from distillkit.show import (
    Score,
    ablation_grid,
    funnel_grid,
    sampling_grid,
    score_grid,
    screening_grid,
    seed_grid,
)
from distillkit.show.piece import visible
from distillkit.stats import BANDS

CURVES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Reward", "mean over the completions of a step", {"reward": "in all", "reward_*": "*"}),
    ("Length", "tokens of a completion", {"length": "all", "terminated_length": "ended by themselves"}),
    ("Language mixing", "share of completions with words of two or more languages", {"mixed_language": ""}),
    (
        "Lost signal",
        "shares of groups whose completions all got one reward, and of completions cut at the limit",
        {"zero_std": "groups without a signal", "clipped": "cut completions"},
    ),
    ("Entropy", "of the next token, in nats: how undecided the model still is", {"entropy": ""}),
    ("Reflection", "phrases such as 'wait' or 'check' per completion", {"reflections": ""}),
)
"""(title, note, {name in a GRPO run's curves.json: its name in the legend}); `*` is any rest of a name."""
BY_SEED = ("reward", "length", "mixed_language")
"""The curves that the runs of several seeds are compared by."""
NOT_REWARDS = ("reward_std",)
PREDICTED = 5
"""Place in COLOURS of what was not measured."""


@dataclass(frozen=True)
class Section:
    """One chapter: words, figures, a table; `items` are what only this kind of chapter has."""

    name: str
    """Anchor in the page, and which template part draws its items."""
    title: str
    intro: str = ""
    figures: list[Figure] = field(default_factory=list)
    grid: Grid | None = None
    folded: bool = False
    """Whether the table is shown on demand only: its figures say most of it."""
    items: list[Any] = field(default_factory=list)


def sections(material: Material) -> list[Section]:
    """All chapters that have something to show."""
    found = [
        *_scores(material),
        *_seeds(material),
        *_screening(material),
        *_reinforcement(material),
        *_funnel(material),
        *_training(material),
    ]
    return [
        section
        for section in found
        if section.figures or section.items or (section.grid and section.grid.rows)
    ]


def _scores(material: Material) -> Iterator[Section]:
    scores = material.described["scores"]
    figures: list[Figure | None] = []
    for head in benchmarks(scores):
        on = f" on {head.rstrip('/')}" if head else ""
        mixing = "share of answers with words of two or more languages"
        figures += [
            _intervals(material, scores, head + "pass@1", f"pass@1{on}", "chance that one sample is right"),
            _intervals(material, scores, head + "mixed_language", f"Language mixing{on}", mixing),
            _pass_curves(material, scores, head, on),
        ]
    figures.append(_length_figure(material))
    shown = [figure for figure in figures if figure is not None]
    if scores:
        intro = "On held-out problems, which no stage has trained on; intervals are 95 % over problems."
        yield Section("scores", "Scores", intro, shown, score_grid(material.described))
    else:
        yield Section("lengths", "Lengths of what was sampled", figures=shown)
    yield Section(
        "answers",
        "The same problems, model by model",
        "The first sample of each model on the first problems by id (a hash): nothing is picked by hand.",
        items=[each for artifact in material.of_kind("evaluate")[:1] for each in answers(artifact)],
    )


def _length_figure(material: Material) -> Figure | None:
    """Lengths of the models' answers; of the sampled traces, where nothing was evaluated."""
    groups: dict[str, list[int]] = {}
    for artifact in material.of_kind("evaluate") or material.of_kind("sample"):
        for name, tokens in lengths(artifact).items():
            groups.setdefault(name, []).extend(tokens)
    if not any(groups.values()):
        return None
    note = "share of completions by tokens"
    return material.figure("Length", note, plots.length_histogram, groups, legend=list(groups))


def _intervals(
    material: Material, scores: Mapping[str, Mapping[str, Score]], metric: str, title: str, note: str
) -> Figure | None:
    entries, colours = [], []
    for place, (model, metrics) in enumerate(scores.items()):
        score = metrics.get(metric)
        if score is not None and score["value"] is not None:
            entries.append((model, score["value"], score["low"], score["high"]))
            colours.append(place)
    return material.figure(title, note, plots.intervals, entries, colours) if entries else None


def _pass_curves(
    material: Material, scores: Mapping[str, Mapping[str, Score]], head: str, on: str
) -> Figure | None:
    curves = {model: _pass_curve(metrics, head) for model, metrics in scores.items()}
    if all(len(curve) < 2 for curve in curves.values()):
        return None
    note = "chance that at least one of k samples is right"
    return material.figure(f"pass@k{on}", note, plots.bands, curves, legend=list(curves))


def _pass_curve(metrics: Mapping[str, Score], head: str = "") -> list[tuple[float, float, float, float]]:
    found = []
    for metric, score in metrics.items():
        name, at, k = metric_name(metric).partition("@")
        if (
            metric.startswith(head)
            and (name, at) == ("pass", "@")
            and k.isdigit()
            and score["value"] is not None
        ):
            value, low, high = (score[key] for key in ("value", "low", "high"))
            found.append((float(k), value, value if low is None else low, value if high is None else high))
    return sorted(found)


def _seeds(material: Material) -> Iterator[Section]:
    if not material.seeds:
        return
    figures = []
    for title, note, (name, *_) in CURVES:
        series = {
            f"{artifact.stage}, seed {seed}": points(curves_of(artifact), name)
            for seed, below in material.seeds.items()
            for artifact in below.of_kind("grpo")
            if name in BY_SEED
        }
        if any(series.values()):
            figures.append(material.figure(title, note, plots.lines, series, legend=list(series)))
    yield Section(
        "seeds",
        "Seeds side by side",
        "The whole recipe once per seed; each seed has a page of its own.",
        figures,
        seed_grid(material.described),
        items=[(seed, f"seeds/{seed}/report.html") for seed in material.seeds],
    )


def _screening(material: Material) -> Iterator[Section]:
    foreseen = predictions(material)
    for screening in material.described["screening"]:
        k = screening["k"]
        figures = [
            material.figure(
                "pass@k before RL",
                f"what {screening['model']} reaches in k samples of a training prompt",
                plots.bands,
                {screening["model"]: _pass_curve(screening["scores"])},
            ),
            material.figure(
                "Prompts by pass rate",
                "never 0, rare below 0.05, hard below 0.5, even below 0.95, sure above",
                plots.bars,
                {name: screening["bands"][name] for name in BANDS},
            ),
        ]
        mine = [each for each in foreseen if each.screening == screening["stage"]]
        figures += [_predicted(material, each) for each in mine]
        yield Section(
            f"screening-{screening['stage']}",
            f"Screening: {'go' if screening['go'] else 'no-go'} for RL",
            f"RL mostly turns what a base reaches in {k} samples into what it does in one; gamma is the share "
            f"of that gap it realises. Predictions are for the training prompts, measured is on held-out ones.",
            figures,
            screening_grid(screening),
            folded=True,
        )


def _predicted(material: Material, prediction: Prediction) -> Figure:
    """Predictions in one colour, the measured model in its own."""
    models = list(material.described["scores"])
    own = models.index(prediction.model) if prediction.model in models else 1
    colours = [PREDICTED if name.startswith("predicted") else own for name, *_ in prediction.entries]
    note = (
        f"gamma as realised: {prediction.gamma}"
        if prediction.gamma
        else "gamma is the share of the gap realised"
    )
    title = "pass@1 after RL: predicted, measured"
    return material.figure(title, note, plots.intervals, prediction.entries, colours)


def _reinforcement(material: Material) -> Iterator[Section]:
    for artifact in material.of_kind("grpo"):
        curves = curves_of(artifact)
        figures = [
            figure
            for title, note, names in CURVES
            if (figure := _curve(material, curves, title, note, names))
        ]
        if figures:
            facts = artifact.manifest.summary
            yield Section(
                f"rl-{artifact.stage}",
                f"Reinforcement learning: {artifact.stage}",
                f"{facts['steps']:,} steps; mean reward {facts['reward_first']:.3f} in the first tenth of them, "
                f"{facts['reward_last']:.3f} in the last.",
                figures,
                items=_rollouts(artifact),
            )


def _curve(
    material: Material, curves: Curves, title: str, note: str, names: Mapping[str, str]
) -> Figure | None:
    """One figure; a series that equals an earlier one is left out, it would cover it."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name, legend in names.items():
        for found in _matching(curves, name):
            drawn = points(curves, found)
            if drawn and drawn not in series.values():
                rest = found.removeprefix(name.rstrip("*"))
                series[legend.replace("*", rest)] = drawn
    if not series:
        return None
    return material.figure(title, note, plots.lines, series, legend=list(series))


def _matching(curves: Curves, name: str) -> Sequence[str]:
    if not name.endswith("*"):
        return [name] if name in curves else []
    return [each for each in curves if each.startswith(name[:-1]) and each not in NOT_REWARDS]


def _rollouts(artifact: Artifact) -> list[dict[str, Any]]:
    """Completions written during RL by step: [{step, completions: [{prompt, completion, rewards, advantage}]}]."""
    path = artifact.path / "completions.jsonl"
    steps: dict[int, list[dict[str, Any]]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        texts = {name: visible(row[name])[:1500] for name in ("prompt", "completion")}
        steps.setdefault(row["step"], []).append(row | texts)
    return [{"step": step, "completions": rows} for step, rows in sorted(steps.items())]


def _funnel(material: Material) -> Iterator[Section]:
    steps = material.described["funnel"]
    rows = [
        step
        for step in steps
        if step["kind"] != "problems" and (step["rejected"] or step["kind"] == "sample")
    ]
    figures = []
    if rows:
        figures.append(material.figure("Traces", "what came in (grey) and stayed (blue)", plots.funnel, rows))
    intro = "No text is thrown away: a dropped row keeps the reason of the first rule that it failed."
    yield Section("funnel", "Funnel: what was dropped, and why", intro, figures, funnel_grid(steps))
    for step in steps:
        if "ablation" in step:
            intro = "The same funnel with one rule left out: a rule that frees no row could go."
            name = f"ablation-{step['stage']}"
            yield Section(
                name, f"Ablation: {step['stage']} without each rule", intro, grid=ablation_grid(step)
            )
    asked = sampling_grid(material.described["sampling"])
    if asked.rows:
        intro = (
            "Asking ends where a problem has enough right samples or shows itself hopeless, after n at most."
        )
        yield Section("sampling", "Sampling: what was asked, and what it cost", intro, grid=asked)


def _training(material: Material) -> Iterator[Section]:
    for artifact in material.of_kind("sft"):
        curves, facts = curves_of(artifact), artifact.manifest.summary
        figures = [
            material.figure(title, note, plots.lines, {artifact.stage: points(curves, name)})
            for title, note, name in (
                ("Loss", "nats per token of the completions", "loss"),
                ("Token accuracy", "share of the next tokens that were foreseen", "token_accuracy"),
            )
            if name in curves
        ]
        yield Section(
            f"sft-{artifact.stage}",
            f"Distillation: {artifact.stage}",
            f"{facts['rows']:,} traces, {facts['trained_tokens']:,} tokens of completions, {facts['steps']:,} steps.",
            figures,
        )
