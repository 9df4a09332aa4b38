"""`report.html`: one self-contained page of a run, readable from disk, on a phone and without a network.

Traces are hostile input: everything from the data goes through autoescaping or, inside the page's script,
through JSON that cannot close its element.
"""

import html
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit import __version__
from distillkit.artifact import Artifact, Store, write_text
from distillkit.reader import View
from distillkit.report import plots
from distillkit.run_folder import load_record
from distillkit.show import Described, describe, grids, load_artifacts, warnings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRACES_PER_REASON = 12
"""Traces shown of each reject reason, and as many kept ones as there are reasons."""
CHARACTERS = 4000
"""A longer text is cut in the page; the artifact has it whole."""
CURVES = (
    ("reward", "reward", ("reward", "reward_accuracy", "reward_format", "reward_language"), False),
    ("completion length", "tokens", ("length", "terminated_length"), False),
    ("language mixing during RL", "share of completions", ("mixed_language",), True),
    ("groups without a signal, cut completions", "share", ("zero_std", "clipped"), True),
    ("entropy of the next token", "nats", ("entropy",), False),
    ("reflection words", "per completion", ("reflections",), False),
)
"""(title, unit, names in curves.json, whether it is a share) of a GRPO run's figures."""


def write_report(run: Path, store: Store) -> Path:
    """Write `report.html` of a run from what is in the store; a run that died half-way has a page too."""
    path = run / "report.html"
    write_text(path, page(run, store))
    return path


def page(run: Path, store: Store) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    record = load_record(run)
    artifacts, _ = load_artifacts(record, store)
    described = describe(run, store.root)
    environment = Environment(
        loader=PackageLoader("distillkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    recipe = run / "recipe.yaml"
    return environment.get_template("page.html.j2").render(
        described=described,
        warnings=[*warnings(described), *_screening_warnings(described)],
        tiles=_tiles(described),
        sections=_sections(described, artifacts),
        traces=_script_json(_traces(artifacts, store)),
        recipe=recipe.read_text("utf-8") if recipe.exists() else "",
        versions=_versions(artifacts),
        written=time.strftime("%Y-%m-%d %H:%M"),
        distillkit=__version__,
    )


def _script_json(value: Any) -> str:
    """JSON for a `<script type="application/json">`: no `<`, `>` or `&` can leave it."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _screening_warnings(described: Described) -> list[str]:
    return [
        f"{each['stage']}: no-go for RL: {'; '.join(each['reasons'])}"
        for each in described["screening"]
        if not each["go"]
    ]


def _versions(artifacts: Sequence[Artifact]) -> dict[str, str]:
    found: dict[str, str] = {}
    for artifact in artifacts:
        found |= artifact.manifest.telemetry.get("versions", {})
    return found


def _tiles(described: Described) -> list[tuple[str, str, str]]:
    """(number, what, which) at the top of the page: pass@1 of every model."""
    tiles = []
    for model, metrics in described["scores"].items():
        for metric, score in metrics.items():
            if metric.rpartition("/")[2] == "pass@1" and score["value"] is not None:
                interval = "" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
                tiles.append((f"{score['value']:.3f}", f"{metric}{interval}", model))
    return tiles


def _sections(described: Described, artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{title, figures: [svg], grid}] in the order of reading; the ones without content are left out."""
    by_title = {grid.title.split(" ")[0].rstrip(":"): grid for grid in grids(described)}
    sections = [_score_section(described), *_screening_sections(described), *_rl_sections(artifacts)]
    sections.append(
        {
            "title": "Funnel: what was dropped, and why",
            "figures": [plots.funnel(described["funnel"])],
            "grid": by_title.get("funnel"),
        }
    )
    sections[0]["grid"] = by_title.get("scores")
    for section, screening in zip(sections[1:], described["screening"], strict=False):
        section["grid"] = by_title.get(screening["stage"])
    sections += [*_training_sections(artifacts), *_length_sections(artifacts)]
    if "seeds" in by_title:
        sections.append({"title": "Seeds side by side", "figures": [], "grid": by_title["seeds"]})
    sections.append({"title": "Time", "figures": [], "grid": by_title.get("seconds")})
    drawn = [{"grid": None} | each | {"figures": [_svg(figure) for figure in each["figures"]]} for each in sections]
    return [section for section in drawn if section["figures"] or section["grid"]]


def _svg(figure: "Figure") -> str:
    axes = figure.axes[0]
    label = html.escape(axes.get_title(loc="left"), quote=True)
    return plots.to_svg(figure).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _score_section(described: Described) -> dict[str, Any]:
    figures = []
    for metric in ("pass@1", "mixed_language"):
        entries = [
            (model, score["value"], score["low"], score["high"])
            for model, metrics in described["scores"].items()
            if (score := metrics.get(metric)) and score["value"] is not None
        ]
        if entries:
            figures.append(plots.intervals(metric.replace("_", " "), entries))
    curves = {model: _pass_curve(metrics) for model, metrics in described["scores"].items()}
    if any(len(points) > 1 for points in curves.values()):
        figures.append(plots.bands("pass@k on held-out problems", "share of problems", curves))
    return {"title": "Scores", "figures": figures}


def _pass_curve(metrics: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    found = []
    for metric, score in metrics.items():
        name, at, k = metric.partition("@")
        if name == "pass" and at and k.isdigit() and score["value"] is not None:
            low = score["value"] if score["low"] is None else score["low"]
            high = score["value"] if score["high"] is None else score["high"]
            found.append((float(k), score["value"], low, high))
    return sorted(found)


def _screening_sections(described: Described) -> list[dict[str, Any]]:
    sections = []
    for screening in described["screening"]:
        figures = [
            plots.bands(
                f"pass@k of {screening['model']} before RL",
                "share of prompts",
                {screening["model"]: _pass_curve(screening["scores"])},
            )
        ]
        entries = [
            (f"predicted, gamma {each['gamma']:g}", each["value"], each["low"], each["high"])
            for each in screening["predicted"]
        ]
        for gamma in described["gamma"]:
            score = described["scores"].get(gamma["model"], {}).get("pass@1")
            if gamma["base"] == screening["model"] and score:
                entries.append((f"measured: {gamma['model']}", score["value"], score["low"], score["high"]))
        figures.append(plots.intervals("pass@1 after RL: predicted and measured", entries))
        sections.append(
            {"title": f"Screening: {'go' if screening['go'] else 'no-go'} for RL", "figures": figures}
        )
    return sections


def _rl_sections(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    sections = []
    for artifact in artifacts:
        curves = _curves(artifact) if artifact.manifest.kind == "grpo" else {}
        if not curves:
            continue
        figures = []
        for title, unit, names, share in CURVES:
            series = {name.replace("_", " "): _points(curves, name) for name in names if name in curves}
            if series:
                figures.append(plots.lines(title, "step", unit, series, share=share))
        sections.append({"title": f"Reinforcement learning: {artifact.stage}", "figures": figures})
    return sections


def _training_sections(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    figures = []
    for artifact in artifacts:
        curves = _curves(artifact) if artifact.manifest.kind == "sft" else {}
        if "loss" in curves:
            figures.append(
                plots.lines(
                    f"loss of {artifact.stage}", "step", "nats per token", {"loss": _points(curves, "loss")}
                )
            )
    return [{"title": "Supervised training", "figures": figures}] if figures else []


def _curves(artifact: Artifact) -> dict[str, list[float | None]]:
    path = artifact.path / "curves.json"
    found: dict[str, list[float | None]] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _points(curves: dict[str, list[float | None]], name: str) -> list[tuple[float, float]]:
    pairs = zip(curves["step"], curves[name], strict=True)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _length_sections(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Completion lengths of every text, and per model of every evaluation."""
    groups: dict[str, list[int]] = {}
    for artifact in artifacts:
        if artifact.type == "traces":
            groups[artifact.stage] = _tokens(artifact, "rows")
        elif artifact.manifest.kind == "evaluate":
            models = {row["id"]: row["model"] for row in artifact.rows("verdicts", ["id", "model"])}
            for row in artifact.rows("completions", ["id", "completion_tokens"]):
                groups.setdefault(models[row["id"]], []).append(row["completion_tokens"] or 0)
    groups = {name: tokens for name, tokens in groups.items() if tokens}
    return [{"title": "Completion lengths", "figures": [plots.length_histogram(groups)]}] if groups else []


def _tokens(artifact: Artifact, table: str) -> list[int]:
    return [row["completion_tokens"] or 0 for row in artifact.rows(table, ["completion_tokens"])]


def _traces(artifacts: Sequence[Artifact], store: Store) -> list[dict[str, Any]]:
    """Kept and dropped traces, some of each reason: [{id, fate, prompt, reasoning, response, ...}]."""
    selections = [artifact for artifact in artifacts if artifact.type == "selection"]
    if not selections:
        return []
    labels = [artifact for artifact in artifacts if artifact.type == "labels"]
    fates = _fates(selections)
    view = View.of(store, selections[-1], labels)
    everything = View(view.texts, view.labels)
    found: dict[str, list[dict[str, Any]]] = {}
    quota = dict.fromkeys(set(fates.values()), TRACES_PER_REASON) | {
        "kept": TRACES_PER_REASON * max(2, len(set(fates.values())) - 1)
    }
    for row in everything.rows():
        fate = fates.get(row["id"], "kept")
        if len(found.setdefault(fate, [])) < quota.get(fate, TRACES_PER_REASON):
            found[fate].append(_trace(row, fate))
    return [trace for fate in sorted(found, key=lambda each: (each != "kept", each)) for trace in found[fate]]


def _fates(selections: Sequence[Artifact]) -> dict[str, str]:
    """Trace id -> "kept", or `stage: reason` of the first selection that dropped it."""
    fates: dict[str, str] = {}
    for selection in selections:
        for row in selection.rows():
            if fates.get(row["id"], "kept") == "kept":
                fates[row["id"]] = "kept" if row["kept"] else f"{selection.stage}: {row['reason']}"
    return fates


def _trace(row: dict[str, Any], fate: str) -> dict[str, Any]:
    measures = row.get("measures") or {}
    return {
        "id": row["id"],
        "fate": fate,
        "prompt": _cut(row["messages"][-1]["content"]),
        "reasoning": _cut(row["reasoning"]),
        "response": _cut(row["response"]),
        "reference": row["reference"],
        "score": row.get("score"),
        "tokens": row["completion_tokens"],
        "share": (measures.get("language") or {}).get("share"),
    }


def _cut(text: str) -> str:
    return (
        text
        if len(text) <= CHARACTERS
        else f"{text[:CHARACTERS]} ... ({len(text) - CHARACTERS:,} more characters)"
    )
