"""What thinking buys, and whether it is what leads to the answer: budget curves and probes."""

from collections.abc import Iterator, Mapping
from typing import Any

from distillkit.report import plots
from distillkit.report.material import Figure, Material
from distillkit.report.section import Section, curve_figure, interval_figure, points_of, present
from distillkit.show import budget_grid, knee_text, probe_grids

Found = Mapping[str, Any]
EXAMPLES = 2
"""Changed traces of each model that are shown."""
VARIANTS = {
    "unperturbed": "nothing changed",
    "paraphrase": "paraphrased",
    "number": "a number changed",
    "step": "a step changed",
}


def sections(material: Material) -> Iterator[Section]:
    """One chapter per budget curve and per probe stage."""
    for found in material.described["budget_curves"]:
        yield _budget(material, found)
    for found in material.described["probes"]:
        probes = found.get("probes") or {}
        figures = [
            *_faithfulness(material, probes.get("faithfulness") or {}),
            *_early(material, probes.get("early_answer") or {}),
            *_gaming(material, probes.get("gaming") or {}),
            *_collapse(material, probes.get("collapse") or {}),
        ]
        examples = [
            {"model": model, **each}
            for model, told in (probes.get("faithfulness") or {}).items()
            for each in (told.get("examples") or [])[:EXAMPLES]
        ]
        yield Section(
            f"probe-{found['stage']}",
            f"Probes: {found['stage']}",
            "Does the answer follow from the reasoning, when is it fixed, is the verifier gamed, how many ways remain?",
            present(*figures),
            folded=True,
            more=probe_grids(found),
            items=examples,
            part="examples",
        )


def _budget(material: Material, found: Found) -> Section:
    curves: dict[str, Found] = found.get("curves") or {}
    gain = found.get("knee_gain", 0.02)
    return Section(
        f"budget-{found['stage']}",
        f"Budget curve: {found['stage']}",
        "The reasoning is cut at a budget and the answer forced. "
        + "; ".join(knee_text(model, curve, gain) for model, curve in curves.items())
        + ".",
        present(
            _paid(material, found, "mean_tokens", "Accuracy against tokens", "tokens"),
            _paid(material, found, "cost", "Accuracy against cost", "2 x active parameters x tokens"),
        ),
        budget_grid(found),
        folded=True,
    )


def _paid(material: Material, found: Found, x: str, title: str, axis: str) -> Figure | None:
    """Accuracy against what is paid for it; of the cost with the front of all models."""
    series, knees = {}, {}
    for model, curve in (found.get("curves") or {}).items():
        points = [*(curve.get("points") or []), *([curve["uncut"]] if curve.get("uncut") else [])]
        drawn = [
            (float(point[x]), float(point["accuracy"]["value"]))
            for point in points
            if point.get(x) and (point.get("accuracy") or {}).get("value") is not None
        ]
        if drawn:
            series[model] = sorted(drawn)
        at = (curve.get("knee") or {}).get("budget")
        for point in points:
            if at is not None and point.get("budget") == at and point.get(x):
                knees[model] = (float(point[x]), float(point["accuracy"]["value"]))
    if not series:
        return None
    front = [(p["cost"], p["accuracy"]) for p in found.get("front") or []] if x == "cost" else []
    note = "ring: from there on doubling buys little" + ("; broken: nothing beats these" if front else "")
    return material.figure(title, note, plots.tradeoff, series, axis, front, knees, legend=list(series))


def _faithfulness(material: Material, models: Found) -> Iterator[Figure | None]:
    for title, note, key in (
        ("Faithfulness", "share of answers that moved; the first two are controls", "moved"),
        ("Moved as the change implies", "share of the answers, where it can be computed", "followed"),
    ):
        entries = [
            (f"{model}: {words}", (found.get(key) or {}).get(name))
            for model, found in models.items()
            for name, words in VARIANTS.items()
        ]
        colours = [at // len(VARIANTS) for at in range(len(entries))]
        yield interval_figure(material, title, note, entries, colours)


def _early(material: Material, models: Found) -> Iterator[Figure | None]:
    series = {
        model: points_of([(point.get("share"), point.get("agrees")) for point in found.get("curve") or []])
        for model, found in models.items()
    }
    note = "share of forced answers that are the final one"
    yield curve_figure(material, "Early answering", note, series, "share of the reasoning kept")


def _gaming(material: Material, models: Found) -> Iterator[Figure | None]:
    entries, colours = [], []
    for at, (model, found) in enumerate(models.items()):
        for pattern in found.get("patterns") or []:
            entries.append((f"{model}: {str(pattern.get('name')).replace('_', ' ')}", pattern.get("rate")))
            colours.append(at)
        constant = found.get("constant_answer") or {}
        entries.append((f"{model}: one answer to all", constant.get("rate")))
        colours.append(at)
    yield interval_figure(material, "Verifier gaming", "share of completions", entries, colours)


def _collapse(material: Material, models: Found) -> Iterator[Figure | None]:
    entries = [(model, found.get("diversity")) for model, found in models.items()]
    note = "chance that two samples of a prompt go different ways; 0 is collapse"
    yield interval_figure(material, "Diversity of strategies", note, entries)
    series = {
        model: points_of(
            [(each.get("step"), {"value": each.get("strategies")}) for each in found.get("training") or []]
        )
        for model, found in models.items()
    }
    kept = {model: curve for model, curve in series.items() if curve}
    note = "share of a group's completions that differ in more than numbers"
    yield curve_figure(material, "Strategies over training", note, kept, "step")
