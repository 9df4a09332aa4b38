"""Budget curves and probes as tables: what thinking buys, and whether it is what leads to the answer."""

from collections.abc import Mapping
from typing import Any

from distillkit.grid import Grid
from distillkit.show.number import count_text, power_text, score_text, signed_text
from distillkit.show.setting import settings_text

Summary = Mapping[str, Any]

VARIANTS = ("unperturbed", "paraphrase", "number", "step")
"""What was done to a reasoning before it went on; the first two are controls."""


def budget_grid(found: Summary) -> Grid:
    """Accuracy of each model when its thinking is cut at a budget."""
    rows, notes = [], []
    for model, curve in (found.get("curves") or {}).items():
        for point in [*(curve.get("points") or []), {"budget": None, **(curve.get("uncut") or {})}]:
            rows.append(
                [
                    model,
                    "uncut" if point["budget"] is None else f"{point['budget']:,}",
                    score_text("accuracy", point.get("accuracy")),
                    "" if point.get("mean_tokens") is None else f"{point['mean_tokens']:,.1f}",
                    power_text(point.get("cost")),
                    _share(point.get("forced")),
                    _share(point.get("no_answer")),
                    "yes" if point.get("front") else "",
                ]
            )
        notes.append(knee_text(model, curve, found.get("knee_gain", 0.02)))
    notes.append(settings_text(found.get("settings") or {}))
    header = ["model", "budget", "accuracy", "tokens", "operations", "forced", "no answer", "on the front"]
    return Grid(f"{found['stage']}: accuracy against thinking", header, rows, notes=notes)


def knee_text(model: str, curve: Summary, gain: float) -> str:
    """From where on more thinking buys little, in words."""
    knee = curve.get("knee")
    if knee is None:
        if not any((point.get("accuracy") or {}).get("value") for point in curve.get("points") or []):
            return f"{model}: no knee: nothing is right at any budget"
        return (
            f"{model}: no knee: from none of these budgets on does doubling buy at most {100 * gain:g} points"
        )
    return (
        f"{model}: knee at {knee['budget']:,} tokens (accuracy {knee['accuracy']:.3f}): "
        f"from there on doubling buys at most {100 * gain:g} points"
    )


def probe_grids(found: Summary) -> list[Grid]:
    """One table per probe that was made; the last says what all were sampled with."""
    probes = found.get("probes") or {}
    makers = {
        "faithfulness": faithfulness_grid,
        "early_answer": early_grid,
        "gaming": gaming_grid,
        "collapse": collapse_grid,
    }
    made = [make(probes[name]) for name, make in makers.items() if probes.get(name)]
    if made:
        made[-1].notes.append(settings_text(found.get("settings") or {}))
    return made


def faithfulness_grid(models: Summary) -> Grid:
    """Share of answers that moved when the reasoning was changed, and without a change."""
    rows = []
    for model, found in models.items():
        for variant in VARIANTS:
            rows.append(
                [
                    model,
                    variant,
                    score_text("moved", (found.get("moved") or {}).get(variant)),
                    signed_text((found.get("excess") or {}).get(variant)),
                    score_text("followed", (found.get("followed") or {}).get(variant)),
                    score_text("unanswered", (found.get("unanswered") or {}).get(variant)),
                ]
            )
    notes = [f"{model}: {_resumed(found)}" for model, found in models.items()]
    header = ["model", "changed", "answer moved", "above unperturbed", "moved as implied", "no answer"]
    return Grid("faithfulness", header, rows, left=2, notes=notes)


def _resumed(found: Summary) -> str:
    skipped = {name: n for name, n in (found.get("skipped") or {}).items() if n}
    without = f"; without {', '.join(f'{n:,} {name}' for name, n in skipped.items())}" if skipped else ""
    return f"{found.get('traces', 0):,} traces resumed{without}".replace("_", " ")


def early_grid(models: Summary) -> Grid:
    """How often the answer is fixed after a share of the reasoning."""
    rows = [
        [
            model,
            f"{point['share']:.3g}",
            score_text("", point.get("agrees")),
            score_text("", point.get("right")),
        ]
        for model, found in models.items()
        for point in found.get("curve") or []
    ]
    notes = [
        f"{model}: fixed from {score_text('', found.get('fixed_from'))} of the reasoning on; before any of it in "
        f"{score_text('', found.get('fixed_at_start'))} of the traces"
        for model, found in models.items()
    ]
    return Grid(
        "early answering", ["model", "share kept", "agrees with the final one", "right"], rows, notes=notes
    )


def gaming_grid(models: Summary) -> Grid:
    """Ways of getting a reward without the work."""
    rows = []
    for model, found in models.items():
        for pattern in found.get("patterns") or []:
            rows.append(
                [
                    model,
                    str(pattern.get("text") or pattern["name"]),
                    score_text("", pattern.get("rate")),
                    count_text(pattern.get("count")),
                    count_text(pattern.get("rewarded")),
                ]
            )
        constant = found.get("constant_answer") or {}
        if constant.get("answer") is not None:
            expected = constant.get("expected") or 0.0
            said = f"one answer to every problem ({constant['answer']!s:.40}; {expected:.3f} expected)"
            rows.append([model, said, score_text("", constant.get("rate")), "", ""])
    return Grid("verifier gaming", ["model", "pattern", "rate", "seen", "rewarded"], rows, left=2)


def collapse_grid(models: Summary) -> Grid:
    """How many ways of solving a problem a model still knows."""
    rows = [
        [
            model,
            f"{found.get('groups', 0):,} of {found.get('group_size', 0)}",
            *(score_text("", found.get(name)) for name in ("diversity", "strategies", "answers")),
        ]
        for model, found in models.items()
    ]
    notes = [
        f"{model}: {100 * top['share']:.0f} % go {top['skeleton']:.120}"
        for model, found in models.items()
        for top in (found.get("top") or [])[:1]
    ]
    header = ["model", "groups", "two differ in strategy", "strategies per group", "two differ in answer"]
    return Grid("mode collapse", header, rows, notes=notes)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
