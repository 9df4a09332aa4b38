"""What the trace browser of a page draws from: all traces of a run with their fates, and how to read some of them.

The last selection of the run decides; without one, verdicts do, and without those all traces are alike. A run that only
evaluates has the completions of its evaluation.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from distillkit.artifact import Artifact, Row, problem_in, shard_of
from distillkit.reader import View
from distillkit.report.material import Material
from distillkit.show.fate import fates
from distillkit.show.traces import rows_of
from distillkit.values import narrow, values_of

SAMPLED = "sampled"
RIGHT, WRONG, UNJUDGED = "right", "wrong", "unjudged"


@dataclass(frozen=True)
class Pool:
    """Everything by trace id; no text is read before `rows` is asked for it."""

    kept: str
    """What the one side is called, and its fate."""
    dropped: str
    fates: dict[str, str]
    shards: int
    rows: Callable[[Collection[str]], Iterator[Row]]
    """The rows of some ids with their labels."""
    others: dict[str, list[str]] = field(default_factory=dict)
    """Reasons against a trace besides the one that decided."""
    models: dict[str, str | None] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    """right, wrong or unjudged; empty where nothing was verified."""


def pool_of(material: Material) -> Pool | None:
    """The traces of a run; None where it has none."""
    selections = [artifact for artifact in material.artifacts if artifact.type == "selection"]
    texts = [artifact for artifact in material.artifacts if artifact.type == "traces"]
    evaluations = [each for each in material.of_kind("evaluate") if each.shards("completions")]
    if selections and View.of(material.store, selections[-1]).texts[0].type == "traces":
        return _selected(material, selections[-1])
    if texts:
        return _judged(View([texts[-1]], _labels(material, texts[-1])))
    return _evaluated(evaluations[0]) if evaluations else None


def _selected(material: Material, selection: Artifact) -> Pool:
    view = View.of(material.store, selection)
    found = fates(material.store, selection)
    verdicts, models = _columns(view)
    return Pool(
        "kept",
        "dropped",
        {id: f"{fate.reason} (stage {fate.stage})" if fate else "kept" for id, fate in found.items()},
        view.shards,
        lambda ids: rows_of(view, ids),
        {id: [each for each in fate.reasons if each != fate.reason] for id, fate in found.items() if fate},
        models,
        verdicts,
    )


def _judged(view: View) -> Pool:
    """Where no stage has selected yet."""
    told = "reason" in view.fields
    fates = {
        id: reason or SAMPLED
        for shard in range(view.shards)
        for values in [values_of(view, shard, ["reason"] if told else [])]
        for id, reason in zip(values["id"], values.get("reason", [None] * len(values["id"])), strict=True)
    }
    verdicts, models = _columns(view)
    names = ("correct", "not correct") if told else (SAMPLED, "others")
    return Pool(*names, fates, view.shards, lambda ids: rows_of(view, ids), {}, models, verdicts)


def _labels(material: Material, text: Artifact) -> list[Artifact]:
    return [
        artifact
        for artifact in material.artifacts
        if artifact.type == "labels"
        and [end["artifact"] for end in artifact.manifest.inputs["input"]] == [text.path.name]
    ]


def _columns(view: View) -> tuple[dict[str, str], dict[str, str | None]]:
    """Verdict and model of every trace of the texts, dropped ones too."""
    everything = View(view.texts, view.labels)
    fields = ["model", *(["score"] if "score" in view.fields else [])]
    verdicts: dict[str, str] = {}
    models: dict[str, str | None] = {}
    for shard in range(view.shards):
        values = values_of(everything, shard, fields)
        models |= zip(values["id"], values["model"], strict=True)
        if "score" in values:
            verdicts |= zip(values["id"], map(_verdict, values["score"]), strict=True)
    return verdicts, models


def _verdict(score: float | None) -> str:
    if score is None:
        return UNJUDGED
    return RIGHT if score == 1.0 else WRONG


def _evaluated(artifact: Artifact) -> Pool:
    fates: dict[str, str] = {}
    models: dict[str, str | None] = {}
    verdicts: dict[str, str] = {}
    shards = artifact.shards("completions")
    for shard in range(shards):
        table = narrow(artifact, shard, ["id", "model", "reason", "score"], "verdicts")
        ids = table["id"].to_pylist()
        fates |= zip(ids, table["reason"].to_pylist(), strict=True)
        models |= zip(ids, table["model"].to_pylist(), strict=True)
        verdicts |= zip(ids, map(_verdict, table["score"].to_pylist()), strict=True)

    def rows(ids: Collection[str]) -> Iterator[Row]:
        by_shard: dict[int, set[str]] = defaultdict(set)
        for id in ids:
            by_shard[shard_of(id, shards)].add(id)
        for shard, wanted in sorted(by_shard.items()):
            judged = {row["id"]: row for row in artifact.stream(shard, "verdicts") if row["id"] in wanted}
            for row in artifact.stream(shard, "completions"):
                if row["id"] in wanted:
                    yield row | judged[row["id"]]

    return Pool("correct", "not correct", fates, shards, rows, {}, models, verdicts)


def rows_by_id(artifact: Artifact, shard: int, table: str, problems: int) -> Iterator[tuple[str, Row]]:
    """(id, row) of the first so many problems of a shard of a table whose ids begin with the problem's."""
    seen: set[str] = set()
    for row in artifact.stream(shard, table):
        seen.add(problem_in(row["id"]))
        if len(seen) > problems:
            return
        yield row["id"], row
