"""The runs of several seeds side by side."""

from collections.abc import Iterator

from distillkit.report import plots
from distillkit.report.chapter.training import CURVES
from distillkit.report.headline import metric_name
from distillkit.report.material import Figure, Material, curves_of, points
from distillkit.report.section import Section, interval_figure, present
from distillkit.show import seed_grid

BY_SEED = ("reward", "length", "mixed_language")
"""The curves that the runs of several seeds are compared by."""


def sections(material: Material) -> Iterator[Section]:
    """One chapter, for a run of several seeds."""
    if not material.seeds:
        return
    figures = [_differences(material), _scores(material)]
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
        present(*figures),
        seed_grid(material.described),
        items=[(seed, f"seeds/{seed}/report.html") for seed in material.seeds],
        part="seeds",
    )


def _differences(material: Material) -> Figure | None:
    """pass@1 against the base, paired by problem, over all seeds."""
    found = material.described["differences"]
    several = len({each["benchmark"] for each in found}) > 1
    entries = [(each["model"] + (f" on {each['benchmark']}" if several else ""), each) for each in found]
    note = "pass@1 minus that of the base, paired by problem, a problem's seeds averaged first"
    return interval_figure(material, "Differences over all seeds", note, entries)


def _scores(material: Material) -> Figure | None:
    """pass@1 of every model under every seed."""
    entries, colours = [], []
    models: dict[str, int] = {}
    for seed, below in material.seeds.items():
        for model, metrics in below.described["scores"].items():
            main = next((name for name in metrics if metric_name(name) == "pass@1"), None)
            entries.append((f"{model}, seed {seed}", metrics[main] if main else None))
            colours.append(models.setdefault(model, len(models)))
    order = sorted(range(len(entries)), key=lambda at: colours[at])
    return interval_figure(
        material,
        "pass@1 by seed",
        "chance that one sample is right",
        [entries[at] for at in order],
        [colours[at] for at in order],
    )
