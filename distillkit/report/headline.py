"""The first screen of the page: warnings, one tile per model, and whether RL did what screening predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from distillkit.report import plots
from distillkit.report.material import Material
from distillkit.show import Score, score_text
from distillkit.show import warnings as run_warnings

ROLES = {"grpo": "after RL", "sft": "after distillation", "distill": "after on-policy distillation"}
"""Kind of the stage that trained a model -> what it is called."""
LINES = (
    ("mixed_language", "mix languages"),
    ("mean_tokens", "tokens long"),
)
"""(metric, words behind its value) below the number of a tile."""
TRUNCATED = 0.02
"""From this share of cut completions on, a score says more about the limit than about the model."""
FEW_PROBLEMS = 30


@dataclass(frozen=True)
class Tile:
    """The main number of one model: pass@1 of its first benchmark."""

    model: str
    role: str
    colour: str
    number: str
    what: str
    """Metric and interval."""
    lines: list[str]


@dataclass(frozen=True)
class Prediction:
    """What screening foresaw for a model after RL, and what was measured."""

    screening: str
    base: str
    model: str
    low: float
    """Lowest and highest prediction, over all gammas."""
    high: float
    entries: list[plots.Interval] = field(default_factory=list)
    measured: Score | None = None
    gamma: str = ""
    """Gamma as realised, in words."""

    @property
    def verdict(self) -> str:
        """Whether the measured interval meets the predicted range, in two words."""
        if self.measured is None:
            return "not measured"
        low, high = (
            self.measured[end] if self.measured[end] is not None else self.measured["value"]
            for end in ("low", "high")
        )
        if low > self.high:
            return "above prediction"
        return "below prediction" if high < self.low else "as predicted"


def metric_name(metric: str) -> str:
    """`pass@1` of `aime24/pass@1`."""
    return metric.rpartition("/")[2]


def benchmarks(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """What stands before the names of metrics: "" for a single benchmark, else `aime24/`, ..."""
    names = (metric for metrics in scores.values() for metric in metrics)
    return list(dict.fromkeys(name.removesuffix(metric_name(name)) for name in names))


def tiles(material: Material) -> list[Tile]:
    """One tile per model that was scored, in the order of the recipe."""
    kinds = {artifact.stage: artifact.manifest.kind for artifact in material.artifacts}
    scores = material.described["scores"]
    if material.seeds:
        kinds = {a.stage: a.manifest.kind for below in material.seeds.values() for a in below.artifacts}
        scores = over_seeds([below.described["scores"] for below in material.seeds.values()])
    words = f", range of {len(material.seeds)} seeds" if material.seeds else ""
    found = []
    for place, (model, metrics) in enumerate(scores.items()):
        role = ROLES.get(kinds.get(model, ""), kinds.get(model, "base model"))
        colour = plots.COLOURS[place % len(plots.COLOURS)]
        main = next((name for name in metrics if metric_name(name) == "pass@1"), None)
        if main is not None and metrics[main]["value"] is not None:
            found.append(_tile(model, role, colour, main, metrics, words))
    return found


def _tile(model: str, role: str, colour: str, main: str, metrics: Mapping[str, Score], words: str) -> Tile:
    number, _, interval = score_text(main, metrics[main]).partition(" ")
    head = main.removesuffix("pass@1")
    others = [name for name in metrics if metric_name(name) == "pass@1" and name != main]
    lines = [f"{metrics[name]['value']:.3f} {name}" for name in others if metrics[name]["value"] is not None]
    for name, meaning in LINES:
        score = metrics.get(head + name)
        if score is not None and score["value"] is not None:
            shown = f"{score['value']:.0f}" if name == "mean_tokens" else f"{100 * score['value']:.1f} %"
            lines.append(f"{shown} {meaning}")
    return Tile(model, role, colour, number, f"{main} {interval}{words}".strip(), lines)


def over_seeds(all_scores: list[dict[str, dict[str, Score]]]) -> dict[str, dict[str, Score]]:
    """model -> metric -> the mean over seeds, with their lowest and highest value as its interval."""
    pooled: dict[str, dict[str, Score]] = {}
    for model, metric in dict.fromkeys((m, n) for scores in all_scores for m in scores for n in scores[m]):
        found = [scores[model][metric] for scores in all_scores if metric in scores.get(model, {})]
        values = [score["value"] for score in found if score["value"] is not None]
        if values:
            score = {"value": fmean(values), "low": min(values), "high": max(values)}
            pooled.setdefault(model, {})[metric] = found[0] | score
    return pooled


def predictions(material: Material) -> list[Prediction]:
    """One per screening and model that RL made of the screened weights; a screening without RL stands alone."""
    found = []
    for screening in material.described["screening"]:
        artifact = next(a for a in material.artifacts if a.stage == screening["stage"])
        screened = artifact.manifest.inputs["model"][0]
        trained = [
            each.stage
            for each in material.of_kind("grpo")
            if each.manifest.inputs["model"][0]["content"] == screened["content"]
        ]
        found += [_prediction(material, screening, model) for model in trained or [""]]
    return found


def _prediction(material: Material, screening: dict[str, Any], model: str) -> Prediction:
    entries: list[plots.Interval] = [
        (f"predicted with gamma {each['gamma']:g}", each["value"], each["low"], each["high"])
        for each in screening.get("predicted") or []
        if each["value"] is not None
    ]
    ends = [end for _, *ends in entries for end in ends if end is not None]
    metrics = material.described["scores"].get(model, {})
    measured = next((score for name, score in metrics.items() if metric_name(name) == "pass@1"), None)
    if measured is not None and measured["value"] is not None:
        entries.append((f"measured: {model}", measured["value"], measured["low"], measured["high"]))
    gammas = [each for each in material.described["gamma"] if each["model"] == model]
    return Prediction(
        screening["stage"],
        screening["model"],
        model,
        min(ends, default=0.0),
        max(ends, default=1.0),
        entries,
        measured,
        score_text("gamma", gammas[0]) if gammas else "",
    )


def warnings(material: Material) -> list[str]:
    """What a reader must know before the numbers, worst first."""
    described = material.described
    found = [*_unfinished(material), *run_warnings(described)]
    for each in described["screening"]:
        if not each.get("go", True):
            found.append(f"{each['stage']}: no-go for RL: {'; '.join(each.get('reasons') or [])}")
    for model, metrics in described["scores"].items():
        for name, score in metrics.items():
            value = score["value"] or 0
            if metric_name(name) == "truncated" and value > TRUNCATED:
                where = name.removesuffix("truncated").rstrip("/")
                on = f" on {where}" if where else ""
                found.append(
                    f"{model}: {100 * value:.0f} % of its answers{on} were cut, so it scores too low"
                )
    main = [
        s.get("n", 0)
        for m in described["scores"].values()
        for n, s in m.items()
        if metric_name(n) == "pass@1"
    ]
    if main and min(main) < FEW_PROBLEMS:
        found.append(f"scores on {min(main)} problems: too few to tell models apart; read the intervals")
    return found


def _unfinished(material: Material) -> list[str]:
    """How the run ended, where it did not end well, and which stages of the recipe it did not make."""
    record = material.record
    below = [seed.record for seed in material.seeds.values()]
    reached = {stage["name"] for each in [record, *below] for stage in each.stages}
    left = [stage["name"] for stage in material.declared if stage["name"] not in reached]
    words = {
        "running": ["this run is not finished, or was killed: start it again and it goes on"],
        "failed": [] if record.error else ["this run failed"],
        "interrupted": ["this run was interrupted: start it again and it goes on"],
    }
    at_work = [] if record.status == "done" else [_came(*each) for each in material.unfinished.items()]
    missing = [f"not made in this run: {', '.join(left)}"] if left else []
    return words.get(record.status, []) + at_work + missing


def _came(stage: str, steps: Sequence[Mapping[str, Any]]) -> str:
    """How far a stage had come when the run ended."""
    if not steps:
        return f"{stage} was at work, and told nothing yet"
    last = steps[-1]
    return (
        f"{stage} was at work: {last['done']:,} of {last.get('total', 0):,} {last.get('unit', '')}".rstrip()
    )
