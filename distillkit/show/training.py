"""What a run spent, and what its trainings warn of and measured on the way."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.artifact import Artifact
from distillkit.budget import money_text
from distillkit.grid import Grid
from distillkit.show.number import finite, metric_words

Lines = list[dict[str, Any]]


def trainings_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{stage, kind, summary, warnings: [{name, text}], evaluations: [{step, metric: value}]}] of what trained."""
    return [
        {
            "stage": artifact.stage,
            "kind": artifact.manifest.kind,
            "summary": {k: v for k, v in artifact.manifest.summary.items() if k != "warnings"},
            "warnings": artifact.manifest.summary.get("warnings") or [],
            "evaluations": evaluations_of(artifact),
        }
        for artifact in artifacts
        if artifact.type == "weights"
    ]


def evaluations_of(artifact: Artifact) -> Lines:
    """Lines of a training's eval.jsonl, by step; a line that cannot be read is left out."""
    path = artifact.path / "eval.jsonl"
    found: Lines = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            found.append(finite(row))
    return sorted(found, key=lambda row: row["step"])


def evaluation_grid(training: Mapping[str, Any]) -> Grid:
    """The evaluations on the way of one training, a row per step."""
    lines: Lines = training["evaluations"]
    names = [n for n in dict.fromkeys(name for line in lines for name in line) if n not in ("step", *COUNTS)]
    rows = [[f"{line['step']:,}", *(_number(line.get(name)) for name in names)] for line in lines]
    counts = [f"{lines[0][name]:,} {name}" for name in COUNTS if lines and lines[0].get(name) is not None]
    return Grid(
        f"{training['stage']} on the way",
        ["step", *map(metric_words, names)],
        rows,
        notes=[f"each on {', '.join(counts)}"] if counts else [],
    )


COUNTS = ("problems", "samples")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}"


def cost_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{stage, kind, tokens, seconds, gpu_hours, money}] of the stages that made something; None where unknown.

    seconds: of the run that made the artifact, whichever that was.
    """
    return [
        {
            "stage": artifact.stage,
            "kind": artifact.manifest.kind,
            "tokens": _tokens(artifact),
            "seconds": artifact.manifest.telemetry.get("seconds"),
            "gpu_hours": _gpu_hours(artifact.manifest.telemetry),
            "money": artifact.manifest.telemetry.get("cost"),
        }
        for artifact in artifacts
    ]


def _gpu_hours(telemetry: Mapping[str, Any]) -> float | None:
    """Hours times GPUs, where the stage told how many it had."""
    gpus, seconds = telemetry.get("gpus"), telemetry.get("seconds")
    return gpus * seconds / 3600 if gpus and seconds else None


def _tokens(artifact: Artifact) -> int | None:
    """Tokens that a stage wrote or trained on."""
    summary = artifact.manifest.summary
    for name in ("completion_tokens", "trained_tokens", "tokens"):
        if isinstance(summary.get(name), int):
            return int(summary[name])
    told = artifact.manifest.telemetry.get("tokens")
    if isinstance(told, int):
        return told
    rows = [row.get("tokens") for row in summary.get("cost") or [] if isinstance(row, dict)]
    counted = [int(tokens) for tokens in rows if tokens is not None]
    return sum(counted) if counted else None


def cost_grid(stages: Sequence[Mapping[str, Any]]) -> Grid:
    """Tokens, GPU-hours and money of the stages that have some, and of all."""
    shown = [each for each in stages if any(each.get(k) for k in ("tokens", "gpu_hours", "money"))]
    total: Counter[str] = Counter()
    for each in shown:
        total.update({k: each[k] for k in ("tokens", "gpu_hours", "money") if each.get(k)})
    rows = [[each["stage"], each["kind"], *_spent(each)] for each in shown]
    if len(rows) > 1:
        rows.append(["all", "", *_spent(total)])
    return Grid("cost", ["stage", "kind", "tokens", "GPU-hours", "money"], rows, left=2)


def _spent(cost: Mapping[str, Any]) -> list[str]:
    tokens, hours, money = (cost.get(name) for name in ("tokens", "gpu_hours", "money"))
    return [
        "" if not tokens else f"{tokens:,}",
        "" if not hours else f"{hours:.3g}",
        "" if not money else money_text(money),
    ]
