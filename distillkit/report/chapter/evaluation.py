"""What an evaluation found besides scores: reach before and after, bands, complexity, sweeps, votes, cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillkit.report.material import Material
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
        spent = spending_grid(found.get("cost") or [])
        yield Section(f"spent-{found['stage']}", f"Cost of the evaluation{of}", grid=spent)


def _series(rows: Rows, x: str, metric: str) -> dict[str, list[Point]]:
    """A curve per model of a metric that stands in each row, or in its `scores`."""
    models = list(dict.fromkeys(who(row, rows) for row in rows))
    return {
        model: points_of(
            [(row.get(x), (row.get("scores") or row).get(metric)) for row in rows if who(row, rows) == model]
        )
        for model in models
    }


def _reach(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    rows: Rows = found.get("reach") or []
    curves: Rows = found.get("curves") or []
    series = {
        who(each, curves): points_of(list(zip(each["k"], each["pass"], strict=False))) for each in curves
    }
    figure = curve_figure(
        material,
        f"pass@k before and after{of}",
        "where the curves meet, training only made likelier what the base could do",
        series,
        "k",
        doubling=True,
    )
    title = f"Before and after: what can the models do at all{of}"
    yield Section(f"reach-{found['stage']}", title, "", present(figure) if rows else [], reach_grid(rows))


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
    rows: Rows = told.get("rows") or []
    x = str(told.get("field", "complexity")).rpartition(".")[2]
    trained = told.get("trained")
    note = "shaded: the range that was trained on" if trained else "chance that one sample is right"
    yield Section(
        f"complexity-{found['stage']}",
        f"By complexity{of}",
        "How a model does beyond what it was trained on.",
        present(
            curve_figure(
                material, f"pass@1 by complexity{of}", note, _series(rows, "at", "pass@1"), x, shaded=trained
            ),
            curve_figure(
                material,
                f"Length by complexity{of}",
                "mean tokens",
                _series(rows, "at", "tokens"),
                x,
                shaded=trained,
                share=False,
            ),
        ),
        complexity_grid(told),
        folded=True,
    )


def _sweeps(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    sweeps = found.get("sweeps") or {}
    warm: Rows = sweeps.get("temperature") or []
    metrics = dict.fromkeys(metric for row in warm for metric in row.get("scores") or {})
    votes = [metric for metric in metrics if metric.startswith("cons@")][-1:]
    yield Section(
        f"temperature-{found['stage']}",
        f"Against temperature{of}",
        "Votes gain from samples that differ, single answers from those that do not.",
        present(
            *(
                curve_figure(
                    material,
                    f"{metric} by temperature{of}",
                    "",
                    _series(warm, "temperature", metric),
                    "temperature",
                )
                for metric in ("pass@1", *votes)
            )
        ),
        sweep_grid("temperature", warm),
        folded=True,
    )
    caps: Rows = sweeps.get("max_tokens") or []
    yield Section(
        f"cap-{found['stage']}",
        f"Against the token cap{of}",
        "How much too low a score is when answers are cut.",
        present(
            *(
                curve_figure(
                    material,
                    f"{title}{of}",
                    note,
                    _series(caps, "max_tokens", metric),
                    "tokens",
                    doubling=True,
                )
                for title, note, metric in (
                    ("pass@1 by cap", "chance that one sample is right", "pass@1"),
                    ("Cut answers by cap", "share of the answers", "truncated"),
                )
            )
        ),
        sweep_grid("max_tokens", caps),
    )


def _votes(material: Material, found: Mapping[str, Any], of: str) -> Iterator[Section]:
    curves: Rows = [each for each in found.get("curves") or [] if each.get("cons")]
    series = {
        who(each, curves): points_of(list(zip(each["k"], each["cons"], strict=False))) for each in curves
    }
    note = "chance that the majority of k answers is right"
    yield Section(
        f"votes-{found['stage']}",
        f"Voting{of}",
        "Voting helps where the right answer is likelier than each wrong one: with A answers, already from 1/A on.",
        present(curve_figure(material, f"cons@k{of}", note, series, "k", doubling=True)),
        vote_grid(found.get("votes") or []),
    )
