"""Single traces of a run: those that were rejected for a reason, or one by its id, with all that is known of them."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from distillkit.artifact import Artifact, Row, shard_of
from distillkit.errors import RecipeError
from distillkit.reader import View, label_columns, look_up
from distillkit.rule import expanded, rule_text, verdicts
from distillkit.run_folder import load_record
from distillkit.show.fate import Fate, decisions, fate_of
from distillkit.show.piece import marks_of
from distillkit.show.run import load_artifacts
from distillkit.store import Store
from distillkit.values import values_of

EVERY = "all"
"""Stands for any reason."""
Told = dict[str, Any]
"""{id, problem, prompt, reference, part, text, response, marks: [[start, end, mark]], labels: {field: value}, fates:
[{stage, kept, reason, reasons, rules: [{rule, value}]}], leak, cluster, kept_of_cluster}.

part: what `text` is, the reasoning or the completion; the marks' offsets are in it. leak: the label; cluster: that of
the stage that dropped the trace as a duplicate; kept_of_cluster: the trace that stayed in its place."""


def find_rejected(
    run: Path, store: Path, reason: str, stage: str | None = None, limit: int = 5
) -> dict[str, Any]:
    """Traces that have a reason against them: {reason, counts: {stage: rows dropped for it first}, traces: [Told]}.

    Those for which it is the first reason come first, then those that it also speaks against; by id, which is a hash.
    reason `all`: any. stage: only what that one rejected.

    Raises:
        RecipeError: no selection in this run, or none that gave this reason; the message names those given.
        MissingError: no run there.
    """
    opened = Store(store)
    artifacts, _ = load_artifacts(load_record(run), opened)
    selections = [a for a in artifacts if a.type == "selection" and stage in (None, a.stage)]
    if not selections:
        raise RecipeError(f"{run}: no selection {stage or ''} in this run; filter, select and mix make one")
    found: list[Told] = []
    for each in selections:
        fates = _picked(each, reason, limit - len(found))
        view = View.of(opened, each)
        rows = sorted(rows_of(view, fates), key=lambda row: list(fates).index(row["id"]))
        found += [_told(opened, view, row, [(each, fates[row["id"]])]) for row in rows]
    if not found:
        given = {name for a in selections for name in a.manifest.counts.get("failed", a.manifest.rejected)}
        there = ", ".join(sorted(given)) or "none"
        raise RecipeError(f"{run}: nothing was rejected as {reason!r}; reasons are {there}")
    counts = {a.stage: _first(a, reason) for a in selections if _first(a, reason)}
    return {"reason": reason, "counts": counts, "traces": found}


def find_trace(run: Path, store: Path, id: str) -> Told:
    """One trace by its id, with its fate in every selection of the run that was asked about it.

    Raises:
        RecipeError: no trace of that id in this run.
        MissingError: no run there.
    """
    opened = Store(store)
    artifacts, _ = load_artifacts(load_record(run), opened)
    selections = [each for each in artifacts if each.type == "selection"]
    for text in (each for each in artifacts if each.type == "traces"):
        view = View([text], _labels_over(opened, artifacts, text))
        for row in rows_of(view, [id]):
            fates = [
                (each, fate_of(each, decided))
                for each in selections
                for decided in decisions(each, shard_of(id, each.shards()))
                if decided["id"] == id
            ]
            return _told(opened, view, row, fates)
    raise RecipeError(f"{run}: no trace {id!r} in this run; `distillkit show RUN --rejected all` shows ids")


def _first(selection: Artifact, reason: str) -> int:
    counts = selection.manifest.rejected
    return sum(counts.values()) if reason == EVERY else counts.get(reason, 0)


def _picked(selection: Artifact, reason: str, limit: int) -> dict[str, Fate]:
    """At most so many fates that have the reason, those that have it first before the others."""
    first: dict[str, Fate] = {}
    also: dict[str, Fate] = {}
    for row in decisions(selection):
        fate = fate_of(selection, row)
        if fate is not None and (reason in fate.reasons or reason == EVERY):
            (first if reason in (EVERY, fate.reason) else also)[row["id"]] = fate
        if len(first) >= limit:
            break
    return dict(list((first | also).items())[: max(0, limit)])


def rows_of(view: View, ids: Collection[str]) -> Iterator[Row]:
    """Whole rows by their ids, whatever the view's selection says of them; a shard is read as far as is needed."""
    everything = View(view.texts, view.labels)
    by_shard: dict[int, set[str]] = defaultdict(set)
    for id in ids:
        by_shard[shard_of(id, view.shards)].add(id)
    for shard, wanted in sorted(by_shard.items()):
        last = max(wanted)
        for row in everything.stream(shard):
            if row["id"] in wanted:
                yield row
            if row["id"] >= last:
                break


def _labels(view: View, row: Row) -> dict[str, Any]:
    """`<stage>.<label>` -> value; what differs from run to run is left out."""
    columns = [(each.stage, column) for each in view.labels for column in label_columns(each)]
    return {
        f"{stage}.{column}": row[f"{stage}.{column}"] for stage, column in columns if column != "telemetry"
    }


def _labels_over(store: Store, artifacts: Sequence[Artifact], text: Artifact) -> list[Artifact]:
    """The labels of a run that speak of a text."""
    found = []
    for each in artifacts:
        ends = each.manifest.inputs.get("input", []) if each.type == "labels" else []
        views = [View.of(store, store.open(end["artifact"], end["name"])) for end in ends]
        if any(text.path.name == below.path.name for view in views for below in view.texts):
            found.append(each)
    return found


def _told(store: Store, view: View, row: Row, fates: Sequence[tuple[Artifact, Fate | None]]) -> Told:
    text = row["reasoning"] or row["completion"]
    labels = _labels(view, row)
    twins = [
        (look_up(row, _cluster(each)), _kept_twin(store, each, row))
        for each, fate in fates
        if fate is not None and fate.reason == "duplicate"
    ]
    return {
        "id": row["id"],
        "problem": row["problem_id"],
        "prompt": next((m["content"] for m in reversed(row["messages"]) if m["role"] == "user"), ""),
        "reference": json.loads(row["reference"]) if row["reference"] else None,
        "part": "reasoning" if row["reasoning"] else "completion",
        "text": text,
        "response": row["response"],
        "completion": row["completion"],
        "tokens": row["completion_tokens"],
        "marks": [list(mark) for mark in marks_of(text, row)],
        "labels": labels,
        "leak": next((labels[name] for name in labels if name.endswith(".leak") and labels[name]), None),
        "cluster": twins[0][0] if twins else None,
        "kept_of_cluster": twins[0][1] if twins else None,
        "fates": [_fate(each, fate, row) for each, fate in fates],
    }


def _fate(selection: Artifact, fate: Fate | None, row: Row) -> dict[str, Any]:
    """What a selection says of a trace; of a filter also the rules that it fails, and the values."""
    rules = []
    for rule in expanded(selection.manifest.declared.get("rules", [])):
        value = look_up(row, rule["field"])
        if verdicts(rule, [value]) != [None]:
            rules.append({"rule": rule_text(rule), "value": value})
    return {
        "stage": selection.stage,
        "kept": fate is None,
        "reason": fate.reason if fate else None,
        "reasons": list(fate.reasons) if fate else [],
        "rules": rules,
    }


def _cluster(selection: Artifact) -> str:
    """The field by whose clusters a select stage picked."""
    unique = selection.manifest.declared.get("unique")
    return f"{unique}.cluster" if isinstance(unique, str) else "cluster"


def _kept_twin(store: Store, selection: Artifact, row: Row) -> str | None:
    """Id of the trace that stayed in place of a duplicate."""
    view, field = View.of(store, selection), _cluster(selection)
    for shard in range(view.shards):
        values = values_of(view, shard, [field])
        for id, cluster in zip(values["id"], values[field], strict=True):
            if cluster is not None and cluster == look_up(row, field):
                return str(id)
    return None
