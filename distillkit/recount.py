"""The funnel of a filter at other thresholds, without building anything: `distillkit show --rules`.

Labels are in the store, so a rule is counted again in the time that it takes to read the columns that it names.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from distillkit.artifact import Artifact
from distillkit.document import Loader, Place, assign
from distillkit.errors import MissingError, RecipeError
from distillkit.executor import executor_for
from distillkit.grid import Grid, rich_table
from distillkit.reader import View
from distillkit.recipe import validated
from distillkit.rule import PRESETS, expanded, without_each
from distillkit.run_folder import load_record
from distillkit.show import load_artifacts
from distillkit.stages.filter import Filter, Rule, Tally, failures
from distillkit.stages.selection import require_fields
from distillkit.store import Store, merge_counts
from distillkit.values import values_of

if TYPE_CHECKING:
    from rich.console import RenderableType

FEW = 20_000
"""Rows below which one process is faster than several."""


def recount(
    run: Path, store: Path, name: str | None = None, sets: Sequence[str] = (), more: Sequence[str] = ()
) -> dict[str, Any]:
    """What a filter of a run would keep with other rules.

    sets: `kept.rules.1.min=0.5`, a rule by its place from 0 or by its reason, those of presets too; more: further rules
    as YAML. Without both, the rules as they are.

    Returns {stage, rows_in, rows_kept, rows_kept_before, rejected, rejected_before: {reason: n}, rules: [{rule, reason,
    failed: rows that fail it, rejected: rows that it is the first to drop, rows_kept: without it}]}.

    Raises:
        RecipeError: no such filter, or rules that are none.
        MissingError: no run there, or labels that were removed from the store.
    """
    opened = Store(store)
    artifact = _filter_of(run, opened, name or _named(sets))
    stage = _changed(artifact, sets, more)
    view = _view(opened, artifact)
    require_fields(view, stage.rule_fields(), stage.name)
    rules = tuple(stage.expanded())
    tasks = [_Task(rules, view, shard) for shard in range(view.shards)]
    workers = 1 if view.count < FEW else min(os.cpu_count() or 1, 8)
    parts = list(executor_for(workers).map(_count_shard, tasks))
    counts = merge_counts([each for each, _ in parts])
    failed = [sum(numbers) for numbers in zip(*(each for _, each in parts), strict=True)]
    rejected = counts.get("rejected", {})
    kept = view.count - sum(rejected.values())
    return {
        "stage": artifact.stage,
        "rows_in": view.count,
        "rows_kept": kept,
        "rows_kept_before": artifact.manifest.rows_kept,
        "rejected": rejected,
        "rejected_before": artifact.manifest.rejected,
        "rules": [
            {
                "rule": rule.text,
                "reason": rule.reason,
                "failed": n,
                "rejected": sum(counts.get(f"dropped: {number}. {rule.text}", {}).values()),
                "rows_kept": without["rows_kept"],
            }
            for number, (rule, n, without) in enumerate(
                zip(rules, failed, without_each(counts, kept), strict=True), 1
            )
        ],
    }


def render(counted: dict[str, Any]) -> "RenderableType":
    """The funnel before and after, and the rules, for a terminal."""
    from rich.console import Group
    from rich.text import Text

    before, after = counted["rejected_before"], counted["rejected"]
    reasons = sorted(before | after, key=lambda reason: -after.get(reason, 0))
    lines = [(reason, before.get(reason, 0), after.get(reason, 0)) for reason in reasons]
    lines.append(("kept", counted["rows_kept_before"], counted["rows_kept"]))
    moved = [
        [each, f"{was:,}", f"{now:,}", f"{now - was:+,}" if now != was else ""] for each, was, now in lines
    ]
    rules = [
        [each["rule"], each["reason"], *(f"{each[key]:,}" for key in ("failed", "rejected", "rows_kept"))]
        for each in counted["rules"]
    ]
    title = f"{counted['stage']}: {counted['rows_in']:,} rows"
    return Group(
        rich_table(Grid(title, ["", "in the run", "with these rules", "change"], moved)),
        rich_table(
            Grid("rules", ["rule", "reason", "fail it", "fail it first", "kept without it"], rules, left=2)
        ),
        Text("Nothing was built; write the rules into the recipe and run it to keep them."),
    )


def _named(sets: Sequence[str]) -> str | None:
    """The stage that a `--set` speaks of."""
    for each in sets:
        return each.removeprefix("stages.").partition(".")[0]
    return None


def _filter_of(run: Path, store: Store, name: str | None) -> Artifact:
    """The filter of that name; without one the only one of the run."""
    artifacts, _ = load_artifacts(load_record(run), store)
    found = {each.stage: each for each in artifacts if each.manifest.kind == "filter"}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is not None and name in found:
        return found[name]
    there = f"there are {', '.join(found)}" if found else "it has none"
    raise RecipeError(
        f"{run}: which filter? {there}; give --stage NAME"
        if name is None
        else f"{run}: no filter {name!r} in this run; {there}"
    )


def _changed(artifact: Artifact, sets: Sequence[str], more: Sequence[str]) -> Filter:
    """The filter as it was declared, with the changes."""
    declared = artifact.manifest.declared | {"name": artifact.stage}
    rules = declared["rules"] = [dict(rule) for rule in declared["rules"]]
    data = {"name": "recount", "stages": [declared]}
    sources: dict[Place, str] = {(): "--rules"}
    for each in sets:
        key, _, value = each.removeprefix("stages.").partition("=")
        parts = key.split(".")
        if parts[1:2] == ["rules"] and len(parts) > 2:
            parts[2] = str(_place(rules, parts[2]))
        sources[assign(data, f"{'.'.join(parts)}={value}", ("stages",))] = f"--set {each}"
    for each in more:
        sources["stages", 0, "rules", len(rules)] = f"--rule {each}"
        rules.append(_parsed(each))
    stage = validated(data, sources).stage(artifact.stage)
    assert isinstance(stage, Filter)
    return stage


def _place(rules: list[dict[str, Any]], key: str) -> int:
    """Place of the rule with a reason; a preset that holds it is written out, so that its rule has a place."""
    for number, rule in enumerate(rules):
        inside = [each["reason"] for each in PRESETS.get(rule.get("preset") or "", [])]
        if rule.get("reason") == key:
            return number
        if key in inside:
            rules[number : number + 1] = [dict(each) for each in PRESETS[rule["preset"]]]
            return number + inside.index(key)
    if key.isdigit() and int(key) < len(rules):
        return int(key)
    reasons = ", ".join(dict.fromkeys(each["reason"] for each in expanded(rules)))
    raise RecipeError(
        f"--set: no rule {key}; name one by its reason ({reasons}) or its place, 0 to {len(rules) - 1}"
    )


def _parsed(text: str) -> Any:
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError:
        raise RecipeError(
            f"--rule {text}: not YAML; write {{field: score, min: 0.5, reason: wrong}}"
        ) from None


def _view(store: Store, artifact: Artifact) -> View:
    """What the filter read; raises MissingError where it left the store."""
    inputs = artifact.manifest.inputs
    ends = [*inputs["input"], *inputs.get("labels", [])]
    gone = [end["name"] for end in ends if not (store.artifacts / end["artifact"]).exists()]
    if gone:
        raise MissingError(
            f"{artifact.stage}: no longer in the store: {', '.join(gone)}; run again to make them anew"
        )
    first, *labels = [store.open(end["artifact"], end["name"]) for end in ends]
    return View.of(store, first, labels)


@dataclass(frozen=True)
class _Task:
    """One shard to count: picklable."""

    rules: tuple[Rule, ...]
    view: View
    shard: int


def _count_shard(task: _Task) -> tuple[dict[str, dict[str, int]], list[int]]:
    """Counts of a shard, and how many rows fail each rule."""
    values = values_of(task.view, task.shard, [rule.field for rule in task.rules])
    tally, failed = Tally(task.rules), [0] * len(task.rules)
    for row in failures(task.rules, values):
        tally.add(row)
        for number, _ in row:
            failed[number] += 1
    return tally.counts(ablate=True), failed
