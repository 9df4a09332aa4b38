"""What a base could do before RL, what RL may make of it, and whether it did."""

from collections.abc import Iterator, Mapping
from typing import Any

from distillkit.report import plots
from distillkit.report.chapter.score import pass_figure
from distillkit.report.headline import Prediction, predictions
from distillkit.report.material import Figure, Material
from distillkit.report.section import Section, interval_figure, present
from distillkit.show import matrix_grid, rl_cost_text, screening_grid
from distillkit.stats import BANDS

PREDICTED = 5
"""Place in COLOURS of what was not measured."""


def sections(material: Material) -> Iterator[Section]:
    """One chapter per screening."""
    foreseen = predictions(material)
    for found in material.described["screening"]:
        mine = [each for each in foreseen if each.screening == found["stage"]]
        cost = found.get("rl_cost")
        yield Section(
            f"screening-{found['stage']}",
            f"Screening: {'go' if found.get('go') else 'no-go'} for RL",
            f"RL mostly turns what a base reaches in {found.get('k')} samples into what it does in one; gamma is the "
            "share of that gap it realises. Predictions are for the training prompts, measured is on held-out ones."
            + (f" Cost of {rl_cost_text(cost)}." if cost else ""),
            present(
                _reach(material, found),
                _bands(material, found),
                *(_predicted(material, each) for each in mine),
                _matrix(material, found),
            ),
            screening_grid(found),
            folded=True,
            more=[matrix_grid(found)],
        )


def _reach(material: Material, found: Mapping[str, Any]) -> Figure | None:
    note = f"what {found['model']} reaches in k samples of a training prompt"
    scores = {found["model"]: found.get("scores") or {}}
    return pass_figure(material, scores, "", "pass@k before RL", note)


def _bands(material: Material, found: Mapping[str, Any]) -> Figure | None:
    bands = found.get("bands") or {}
    counts = {name: bands[name] for name in BANDS if name in bands}
    note = "never 0, rare below 0.05, hard below 0.5, even below 0.95, sure above"
    return material.figure("Prompts by pass rate", note, plots.bars, counts) if counts else None


def _predicted(material: Material, prediction: Prediction) -> Figure | None:
    """Predictions in one colour, the measured model in its own."""
    models = list(material.described["scores"])
    own = models.index(prediction.model) if prediction.model in models else 1
    colours = [PREDICTED if name.startswith("predicted") else own for name, *_ in prediction.entries]
    note = (
        f"gamma as realised: {prediction.gamma}"
        if prediction.gamma
        else "gamma is the share of the gap realised"
    )
    if not prediction.entries:
        return None
    title = "pass@1 after RL: predicted, measured"
    return material.figure(title, note, plots.intervals, prediction.entries, colours)


def _matrix(material: Material, found: Mapping[str, Any]) -> Figure | None:
    rows = found.get("matrix") or []
    models = list(dict.fromkeys(row["model"] for row in rows))
    named = [(f"{row.get('template')}: {row['model']}", row.get("pass@1")) for row in rows]
    note = "pass@1 on the same prompts: a template can break a base"
    return interval_figure(material, "Templates", note, named, [models.index(row["model"]) for row in rows])
