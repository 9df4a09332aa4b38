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
    """Traces that have a reason against them: {reason, counts: {stage: rows dropped for it first}, traces: [...]}.

    Those for which it is the first reason come first, then those that it also speaks against; by id, which is a hash.
    reason `all`: any. A stage of another name is left out.

    Raises:
        RecipeError: no selection in this run, or none that gave this reason; the message names those given.
        MissingError: no run there.
    """
    opened = Store(store)
    artifacts, _ = load_artifacts(load_record(run), opened)
    selections = [a for a in artifacts if a.type == "selection" and stage in (None, a.stage)]
    if not selections:
        raise RecipeError(f"{run}: no selection {stage or ''} in this run; filter, select and mix make one")
    counts = {a.stage: _first(a, reason) for a in selections if _first(a, reason)}
    found: list[Told] = []
    for each in selections:
        fates = _picked(each, reason, limit - len(found))
        view = View.of(opened, each)
        told = [_told(row, {each.stage: fates[row["id"]]}, [each]) for row in _rows(view, fates)]
        found += sorted(told, key=lambda one: (reason not in (EVERY, fates[one["id"]].reason), one["id"]))
    if not found:
        given = sorted(
            {name for a in selections for name in (a.manifest.counts.get("failed") or a.manifest.rejected)}
        )
        raise RecipeError(
            f"{run}: nothing was rejected as {reason!r}; reasons are {', '.join(given) or 'none'}"
        )
    for one in found:
        _add_twin(one, opened, {a.stage: a for a in selections})
    return {"reason": reason, "counts": counts, "traces": found}


def find_trace(run: Path, store: Path, id: str) -> Told:
    """One trace by its id, with its fate in every selection of the run.

    Raises:
        RecipeError: no trace of that id in this run.
    """
    opened = Store(store)
    artifacts, _ = load_artifacts(load_record(run), opened)
    selections = [each for each in artifacts if each.type == "selection"]
    for text in (each for each in artifacts if each.type == "traces"):
        for row in _rows(View([text], _labels_over(opened, artifacts, text)), [id]):
            asked = {
                each.stage: row
                for each in selections
                for row in decisions(each, shard_of(id, each.shards()))
                if row["id"] == id
            }
            told = _told(
                row,
                {each.stage: fate_of(each, asked[each.stage]) for each in selections if each.stage in asked},
                selections,
            )
            _add_twin(told, opened, {each.stage: each for each in selections})
            return told
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


def _rows(view: View, ids: Collection[str]) -> Iterator[Row]:
    """Rows by their ids, whatever the view's selection says of them."""
    everything = View(view.texts, view.labels)
    by_shard: dict[int, set[str]] = defaultdict(set)
    for id in ids:
        by_shard[shard_of(id, view.shards)].add(id)
    for shard, wanted in sorted(by_shard.items()):
        for row in everything.stream(shard):
            if row["id"] in wanted:
                yield row | {"_labels": _labels(everything, row)}
                wanted.remove(row["id"])
            if not wanted:
                break


def _labels(view: View, row: Row) -> dict[str, Any]:
    """`<stage>.<label>` -> value; what differs from run to run is left out."""
    names = [
        f"{each.stage}.{column}"
        for each in view.labels
        for column in label_columns(each)
        if column != "telemetry"
    ]
    return {name: row[name] for name in names}


def _labels_over(store: Store, artifacts: Sequence[Artifact], text: Artifact) -> list[Artifact]:
    """The labels of a run that speak of a text."""
    found = []
    for each in artifacts:
        ends = each.manifest.inputs.get("input", []) if each.type == "labels" else []
        views = [View.of(store, store.open(end["artifact"], end["name"])) for end in ends]
        if any(text.path.name == below.path.name for view in views for below in view.texts):
            found.append(each)
    return found


def _told(row: Row, fates: dict[str, Fate | None], selections: Sequence[Artifact]) -> Told:
    text = row["reasoning"] or row["completion"]
    by_name = {each.stage: each for each in selections}
    prompt = next((m["content"] for m in reversed(row["messages"]) if m["role"] == "user"), "")
    leak = next((row[name] for name in row["_labels"] if name.endswith(".leak") and row[name]), None)
    return {
        "id": row["id"],
        "problem": row["problem_id"],
        "prompt": prompt,
        "reference": json.loads(row["reference"]) if row["reference"] else None,
        "part": "reasoning" if row["reasoning"] else "completion",
        "text": text,
        "response": row["response"],
        "completion": row["completion"],
        "tokens": row["completion_tokens"],
        "marks": [list(mark) for mark in marks_of(text, row)],
        "labels": row["_labels"],
        "leak": leak,
        "fates": [_fate(fate, by_name[stage], row) for stage, fate in fates.items()],
    }


def _fate(fate: Fate | None, selection: Artifact, row: Row) -> dict[str, Any]:
    """What a selection says of a trace; of a filter also the rules that have one of the reasons, and the values."""
    reasons = list(fate.reasons) if fate else []
    rules = []
    for rule in expanded(selection.manifest.declared.get("rules", [])):
        value = look_up(row, rule["field"])
        if verdicts(rule, [value]) != [None]:
            rules.append({"rule": rule_text(rule), "value": value})
    return {
        "stage": selection.stage,
        "kept": fate is None,
        "reason": fate.reason if fate else None,
        "reasons": reasons,
        "rules": rules,
    }


def _add_twin(told: Told, store: Store, selections: dict[str, Artifact]) -> None:
    """Find the trace that stayed in place of a duplicate."""
    told["cluster"] = told["kept_of_cluster"] = None
    for fate in told["fates"]:
        if fate["reason"] != "duplicate":
            continue
        selection = selections[fate["stage"]]
        unique = selection.manifest.declared.get("unique")
        view = View.of(store, selection)
        field = f"{unique}.cluster" if isinstance(unique, str) else "cluster"
        owner = view.fields.get(field)
        told["cluster"] = told["labels"].get(f"{owner}.cluster")
        for shard in range(view.shards):
            values = values_of(view, shard, [field])
            kept = [
                id
                for id, cluster in zip(values["id"], values[field], strict=True)
                if cluster == told["cluster"]
            ]
            if kept and told["cluster"] is not None:
                told["kept_of_cluster"] = kept[0]
                return
