"""What was trained: curves, evaluations on the way, what the run warned of, and what it wrote meanwhile."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillkit.artifact import Artifact
from distillkit.report import plots
from distillkit.report.material import Curves, Figure, Material, curves_of, points
from distillkit.report.section import Section, present
from distillkit.show import evaluation_grid, opinions
from distillkit.show.piece import visible

Names = Mapping[str, str]
CURVES: tuple[tuple[str, str, Names], ...] = (
    ("Reward", "mean over the completions of a step", {"reward": "in all", "reward_*": "*"}),
    ("Length", "tokens of a completion", {"length": "all", "terminated_length": "ended by themselves"}),
    (
        "Length by correctness",
        "tokens of a completion: do wrong answers grow longer?",
        {"right_length": "right", "wrong_length": "wrong"},
    ),
    ("Length of right answers by band", "bands are pass rates of the base", {"right_length_*": "*"}),
    ("Length of wrong answers by band", "bands are pass rates of the base", {"wrong_length_*": "*"}),
    ("Language mixing", "share of completions with words of two or more languages", {"mixed_language": ""}),
    (
        "Lost signal",
        "shares of groups whose completions all got one reward, and of completions cut at the limit",
        {"zero_std": "groups without a signal", "clipped": "cut completions"},
    ),
    ("Entropy", "of the next token, in nats: how undecided the model still is", {"entropy": ""}),
    ("Clipping", "share of tokens", {"clip_low": "at the lower bound", "clip_high": "at the upper bound"}),
    ("Distance from the start", "KL divergence in nats per token", {"kl": ""}),
    ("Reflection", "phrases such as 'wait' or 'check' per completion", {"reflections": ""}),
    (
        "Variety",
        "share of a group's completions that differ",
        {"distinct": "in any way", "strategies": "in more than numbers"},
    ),
    (
        "Shortcuts",
        "shares of the completions",
        {"format_only": "format right, answer wrong", "answer_in_reasoning": "answer in the reasoning only"},
    ),
)
"""(title, note, {name in a GRPO run's curves.json: its name in the legend}); `*` is any rest of a name."""
LEARNT: tuple[tuple[str, str, Names], ...] = (
    ("Loss", "nats per token of the completions", {"loss": ""}),
    ("Token accuracy", "share of the next tokens that were foreseen", {"token_accuracy": ""}),
    ("Pair accuracy", "share of pairs whose chosen answer got more reward", {"accuracy": ""}),
    ("Margin", "reward of the chosen minus that of the rejected answer", {"margin": ""}),
    ("Entropy", "of the next token, in nats", {"entropy": ""}),
    ("Length", "tokens of a completion", {"length": "all", "terminated_length": "ended by themselves"}),
)
"""The same of every other trainer."""
TITLES = {
    "grpo": "Reinforcement learning",
    "sft": "Distillation",
    "distill": "On-policy distillation",
    "reward_model": "Reward model",
}
ON_THE_WAY = (
    ("Held-out score on the way", "share of problems", ("pass@1", "cons@*")),
    (
        "Held-out habits on the way",
        "shares of the answers",
        ("mixed_language", "reflection", "truncated", "no_answer"),
    ),
    ("Held-out length on the way", "mean tokens", ("mean_tokens", "mean_right_tokens", "mean_wrong_tokens")),
    (
        "Forgetting on the way",
        "on problems that were not trained on",
        ("forgetting/loss", "forgetting/pass@1"),
    ),
)
"""(title, note, metrics in eval.jsonl)."""
NOT_REWARDS = ("reward_std",)


def sections(material: Material) -> Iterator[Section]:
    """One chapter per training, finished or not."""
    for artifact in material.artifacts:
        if artifact.type == "weights":
            yield _training(material, artifact)
    for stage, steps in material.unfinished.items():
        figures = [
            material.figure(title, "as far as it came", plots.lines, {stage: drawn})
            for title, name in (("Reward", "reward"), ("Loss", "loss"))
            if (drawn := [(step["done"], step[name]) for step in steps if step.get(name) is not None])
        ]
        yield Section(f"unfinished-{stage}", f"Not finished: {stage}", figures=figures)


def _training(material: Material, artifact: Artifact) -> Section:
    kind, curves = artifact.manifest.kind, curves_of(artifact)
    told = next(each for each in material.described["trainings"] if each["stage"] == artifact.stage)
    figures, zero = [], []
    for title, note, names in CURVES if kind == "grpo" else LEARNT:
        series = _series(curves, names)
        if any(y for drawn in series.values() for _, y in drawn):
            figures.append(material.figure(title, note, plots.lines, series, legend=list(series)))
        elif series:
            zero.append(title.lower())
    on_the_way = [_on_the_way(material, told["evaluations"], *each) for each in ON_THE_WAY]
    nothing = f" Zero throughout: {', '.join(zero)}." if zero else ""
    judges = told["summary"].get("judges") if told["summary"].get("learned") else None
    learned = f" {opinions(judges)}" if judges else ""
    return Section(
        f"training-{artifact.stage}",
        f"{TITLES.get(kind, kind)}: {artifact.stage}",
        _facts(told["summary"]) + nothing + learned,
        present(*on_the_way, *figures),
        evaluation_grid(told),
        folded=True,
        items=_rollouts(artifact),
        part="rollouts",
    )


FACTS = (
    ("steps", "{:,} steps"),
    ("rows", "{:,} traces"),
    ("pairs", "{:,} pairs"),
    ("trained_tokens", "{:,} tokens of completions"),
    ("reward_first", "mean reward {:.3f} in the first tenth of them"),
    ("reward_last", "{:.3f} in the last"),
    ("loss", "loss {:.3g}"),
)


def _facts(summary: Mapping[str, Any]) -> str:
    """What a summary says in words; one of an older version says less."""
    parts = [form.format(summary[name]) for name, form in FACTS if summary.get(name) is not None]
    heldout = (summary.get("heldout") or {}).get("accuracy") or {}
    if heldout.get("value") is not None:
        parts.append(f"right on {heldout['value']:.3f} of {heldout.get('n', 0):,} held-out pairs")
    serve = (summary.get("serve") or {}).get("command")
    text = f"{', '.join(parts)}." if parts else ""
    return f"{text} Serve it: {serve}." if serve else text


def _series(curves: Curves, names: Names) -> dict[str, list[tuple[float, float]]]:
    """What one figure draws; a series that equals an earlier one is left out, it would cover it."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name, legend in names.items():
        for found in _matching(curves, name):
            drawn = points(curves, found)
            if drawn and drawn not in series.values():
                rest = found.removeprefix(name.rstrip("*"))
                series[legend.replace("*", rest)] = drawn
    return series


def _matching(names: Sequence[str] | Mapping[str, Any], name: str) -> Sequence[str]:
    if not name.endswith("*"):
        return [name] if name in names else []
    return [each for each in names if each.startswith(name[:-1]) and each not in NOT_REWARDS]


def _on_the_way(
    material: Material, lines: Sequence[Mapping[str, Any]], title: str, note: str, metrics: Sequence[str]
) -> Figure | None:
    there = dict.fromkeys(name for line in lines for name in line)
    series = {
        name.replace("_", " "): [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        for metric in metrics
        for name in _matching(there, metric)
    }
    if not any(series.values()):
        return None
    return material.figure(title, note, plots.lines, series, legend=list(series))


def _rollouts(artifact: Artifact) -> list[dict[str, Any]]:
    """Completions written during RL by step: [{step, completions: [{prompt, completion, rewards, advantage}]}]."""
    path = artifact.path / "completions.jsonl"
    steps: dict[int, list[dict[str, Any]]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        texts = {name: visible(row[name])[:1500] for name in ("prompt", "completion")}
        told = {"rewards": row.get("rewards") or {}, "advantage": row.get("advantage")}
        steps.setdefault(row["step"], []).append(texts | told)
    return [{"step": step, "completions": rows} for step, rows in sorted(steps.items())]
