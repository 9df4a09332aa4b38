"""What an evaluation found besides scores: reach before and after, bands, complexity, sweeps, votes, cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillkit.report.material import Figure, Material
from distillkit.report.section import Point, Section, curve_figure, interval_figure, points_of, present
from distillkit.show import (
    band_grid,
    complexity_grid,
    reach_grid,
    spending_grid,
    sweep_grid,
    vote_grid,
    who,
)
from distillkit.stats import BANDS

Rows = Sequence[Mapping[str, Any]]


def sections(material: Material) -> Iterator[Section]:
    """One set of chapters per evaluate stage."""
    evaluations = material.described["evaluations"]
    for found in evaluations:
        of = f": {found['stage']}" if len(evaluations) > 1 else ""
        yield from _reach(material, found, of)
        yield from _bands(material, found, of)
        yield from _complexity(material, found, of)
        yield from _sweeps(material, found, of)
        yield from _votes(material, found, of)
        spent = spending_grid(found)
        yield Section(f"spent-{found['stage']}", f"Cost of the evaluation{of}", grid=spent)


def _by_benchmark(rows: Rows) -> list[tuple[str, Rows]]:
    """Rows apart by their benchmark, and the words that name it where there are several."""
    names = list(dict.fromkeys(str(row.get("benchmark", "")) for row in rows))
    parts = [(name, [row for row in rows if str(row.get("benchmark", "")) == name]) for name in names]
    return [(f" on {name}" if len(names) > 1 else "", part) for name, part in parts]


def _series(rows: Rows, x: str, metric: str) -> dict[str, list[Point]]:
    """A curve per model of a metric that stands in each row, or in its `scores`."""
    found: dict[str, list[tuple[float | None, Any]]] = {}
    for row in rows:
        found.setdefault(str(row["model"]), []).append((row.get(x), (row.get("scores") or row).get(metric)))
    return {model: points_of(pairs) for model, pairs in found.items()}


def _curves(rows: Rows, name: str) -> dict[str, list[Point]]:
    """A curve against k per model."""
    return {row["model"]: points_of(list(zip(row["k"], row[name], strict=False))) for row in rows}


def _reach(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    rows: Rows = found.get("reach") or []
    note = "where the curves meet, training only made likelier what the base could do"
    figures = [
        curve_figure(
            material, f"pass@k before and after{of}{on}", note, _curves(part, "pass"), "k", doubling=True
        )
        for on, part in _by_benchmark(found.get("curves") or [])
        if rows
    ]
    title = f"Before and after: what can the models do at all{of}"
    yield Section(f"reach-{found['stage']}", title, "", present(*figures), reach_grid(rows))


def _bands(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    rows: Rows = [row for row in found.get("bands") or [] if row.get("problems")]
    if len({row["model"] for row in rows}) < 2:  # the base's own bands say nothing
        return
    order = {name: at for at, name in enumerate(BANDS)}
    models = list(dict.fromkeys(who(row, rows) for row in rows))
    ordered = sorted(rows, key=lambda row: (order.get(row.get("band", ""), 0), models.index(who(row, rows))))
    entries = [(f"{row.get('band')}: {who(row, rows)}", row) for row in ordered]
    colours = [models.index(who(row, rows)) for row in ordered]
    lengths = [
        (f"{name}, {word}", row.get(key))
        for name, row in entries
        for word, key in (("right", "right_tokens"), ("wrong", "wrong_tokens"))
    ]
    yield Section(
        f"bands-{found['stage']}",
        f"By how hard a problem is for the base{of}",
        "Bands are pass rates of the base: never 0, rare below 0.05, hard below 0.5, even below 0.95, sure above.",
        present(
            interval_figure(
                material,
                f"pass@1 by band{of}",
                "",
                [(n, row.get("pass@1")) for n, row in entries],
                colours,
            ),
            interval_figure(
                material,
                f"Length by correctness and band{of}",
                "mean tokens",
                lengths,
                [colour for colour in colours for _ in range(2)],
                share=False,
            ),
        ),
        band_grid(rows),
        folded=True,
    )


def _complexity(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    told = found.get("complexity") or {}
    x = str(told.get("field", "complexity")).rpartition(".")[2]
    trained = told.get("trained")
    note = "shaded: the range that was trained on" if trained else "chance that one sample is right"
    figures: list[Figure | None] = []
    for on, rows in _by_benchmark(told.get("rows") or []):
        right, tokens = (_series(rows, "at", metric) for metric in ("pass@1", "tokens"))
        title = f"pass@1 by complexity{of}{on}"
        figures.append(curve_figure(material, title, note, right, x, shaded=trained))
        title = f"Length by complexity{of}{on}"
        figures.append(curve_figure(material, title, "mean tokens", tokens, x, shaded=trained, share=False))
    yield Section(
        f"complexity-{found['stage']}",
        f"By complexity{of}",
        "How a model does beyond what it was trained on.",
        present(*figures),
        complexity_grid(told),
        folded=True,
    )


def _sweeps(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    sweeps = found.get("sweeps") or {}
    warm: Rows = sweeps.get("temperature") or []
    metrics = dict.fromkeys(metric for row in warm for metric in row.get("scores") or {})
    votes = [metric for metric in metrics if metric.startswith("cons@")][-1:]
    figures = [
        curve_figure(material, f"{metric} by temperature{of}{on}", "", series, "temperature")
        for on, rows in _by_benchmark(warm)
        for metric in ("pass@1", *votes)
        for series in [_series(rows, "temperature", metric)]
    ]
    yield Section(
        f"temperature-{found['stage']}",
        f"Against temperature{of}",
        "Votes gain from samples that differ, single answers from those that do not.",
        present(*figures),
        sweep_grid("temperature", warm),
        folded=True,
    )
    caps: Rows = sweeps.get("max_tokens") or []
    drawn = (("pass@1 by cap", "pass@1"), ("Cut answers by cap", "truncated"))
    figures = [
        curve_figure(material, f"{title}{of}{on}", "share of the answers", series, "tokens", doubling=True)
        for on, rows in _by_benchmark(caps)
        for title, metric in drawn
        for series in [_series(rows, "max_tokens", metric)]
    ]
    yield Section(
        f"cap-{found['stage']}",
        f"Against the token cap{of}",
        "How much too low a score is when answers are cut.",
        present(*figures),
        sweep_grid("max_tokens", caps),
    )


def _votes(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    curves: Rows = [each for each in found.get("curves") or [] if each.get("cons")]
    note = "chance that the majority of k answers is right"
    figures = [
        curve_figure(material, f"cons@k{of}{on}", note, _curves(rows, "cons"), "k", doubling=True)
        for on, rows in _by_benchmark(curves)
    ]
    yield Section(
        f"votes-{found['stage']}",
        f"Voting{of}",
        "Voting helps where the right answer is likelier than each wrong one: with A answers, already from 1/A on.",
        present(*figures),
        vote_grid(found.get("votes") or []),
    )
