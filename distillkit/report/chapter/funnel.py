"""What became of the rows: the funnel with its reasons, each filter without each of its rules, and the asking."""

from collections.abc import Iterator

from distillkit.report import plots
from distillkit.report.material import Material
from distillkit.report.section import Section
from distillkit.show import ablation_grid, funnel_grid, sampling_grid


def sections(material: Material) -> Iterator[Section]:
    """Funnel, ablations and sampling."""
    steps = material.described["funnel"]
    rows = [
        step
        for step in steps
        if step["kind"] != "problems" and (step["rejected"] or step["kind"] == "sample")
    ]
    figures = []
    if rows:
        figures.append(material.figure("Traces", "what came in (grey) and stayed (blue)", plots.funnel, rows))
    intro = "No text is thrown away: a dropped row keeps the reason of the first rule that it failed."
    yield Section("funnel", "Funnel: what was dropped, and why", intro, figures, funnel_grid(steps))
    for step in steps:
        if "ablation" in step:
            intro = "The same funnel with one rule left out: a rule that frees no row could go."
            name = f"ablation-{step['stage']}"
            yield Section(
                name, f"Ablation: {step['stage']} without each rule", intro, grid=ablation_grid(step)
            )
    intro = "Asking ends where a problem has enough right samples or shows itself hopeless, after n at most."
    asked = sampling_grid(material.described["sampling"])
    yield Section("sampling", "Sampling: what was asked, and what it cost", intro, grid=asked)
