"""Scores of the models on held-out problems, their lengths, and their answers side by side."""

from collections.abc import Iterator, Mapping

from distillkit.report import plots
from distillkit.report.headline import benchmarks, metric_name
from distillkit.report.material import Figure, Material
from distillkit.report.section import Point, Section, curve_figure, interval_figure, point_of, present
from distillkit.report.traces import answers, lengths
from distillkit.show import Score, score_grid

Scores = Mapping[str, Mapping[str, Score]]


def sections(material: Material) -> Iterator[Section]:
    """Scores, or lengths where nothing was scored; then the same problems, model by model."""
    scores: Scores = material.described["scores"]
    figures: list[Figure | None] = []
    compared = any(each.get("reach") for each in material.described["evaluations"])
    for head in benchmarks(scores):
        on = f" on {head.rstrip('/')}" if head else ""
        mixing = "share of answers with words of two or more languages"
        figures += [
            _metric(material, head + "pass@1", f"pass@1{on}", "chance that one sample is right"),
            _metric(material, head + "mixed_language", f"Language mixing{on}", mixing),
            None if compared else pass_figure(material, scores, head, f"pass@k{on}"),
            _by_correctness(material, head, on),
        ]
    shown = present(*figures, _length_figure(material))
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
        part="answers",
    )


def _metric(material: Material, metric: str, title: str, note: str) -> Figure | None:
    scores: Scores = material.described["scores"]
    entries = [(model, metrics.get(metric)) for model, metrics in scores.items()]
    return interval_figure(material, title, note, entries)


def _by_correctness(material: Material, head: str, on: str) -> Figure | None:
    """Mean length of right and of wrong answers of each model."""
    scores: Scores = material.described["scores"]
    names = (("right", "mean_right_tokens"), ("wrong", "mean_wrong_tokens"))
    entries = [
        (f"{model}, {word}", metrics.get(head + metric))
        for model, metrics in scores.items()
        for word, metric in names
    ]
    colours = [at // len(names) for at in range(len(entries))]
    title, note = f"Length by correctness{on}", "mean tokens of right and of wrong answers"
    return interval_figure(material, title, note, entries, colours, share=False)


def pass_figure(material: Material, scores: Scores, head: str, title: str, note: str = "") -> Figure | None:
    """pass@k against k, a curve per model."""
    curves = {model: _pass_curve(metrics, head) for model, metrics in scores.items()}
    said = note or "chance that at least one of k samples is right"
    return curve_figure(material, title, said, curves, "k", doubling=True)


def _pass_curve(metrics: Mapping[str, Score], head: str) -> list[Point]:
    found = []
    for metric, score in metrics.items():
        name, at, k = metric_name(metric).partition("@")
        point = point_of(float(k), score) if (name, at) == ("pass", "@") and k.isdigit() else None
        if metric.startswith(head) and point is not None:
            found.append(point)
    return sorted(found)


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
