"""What earlier runs of a recipe found out that reading it cannot: how much its caps cut.

`check` tells it, so that a smoke run (`run --limit 5`) pays off before the whole one.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from distillkit.artifact import MANIFEST, Artifact
from distillkit.errors import MissingError
from distillkit.recipe import Recipe
from distillkit.run_folder import RunRecord, load_record, numbered
from distillkit.stages.evaluate import CUT_SHARE, Evaluate
from distillkit.store import Store


def hindsight(recipe: Recipe, store: Path) -> list[str]:
    """One line for each cap that cut more than CUT_SHARE of a model's completions when the stage ran last.

    A stage that has changed its cap for a larger one since is let alone, and so is a model it no longer names.
    """
    records, found = [], []
    for _, path in numbered(store / "runs" / recipe.name):
        with suppress(MissingError):  # one that was killed before it wrote anything
            records.append(load_record(path))
    for stage in recipe.stages:
        last = _last(stage.name, records, Store(store)) if isinstance(stage, Evaluate) else None
        if isinstance(stage, Evaluate) and last is not None:
            number, artifact = last
            found += [f"stages.{stage.name}: in run {number} {line}" for line in _cut(stage, artifact)]
    return found


def _last(stage: str, records: list[RunRecord], store: Store) -> tuple[int, Artifact] | None:
    """What a stage made in the latest run that has it still, and that run's number."""
    for record in reversed(records):
        for made in record.stages:
            if made["name"] == stage and (store.artifacts / made["artifact"] / MANIFEST).exists():
                return record.number, store.open(made["artifact"], stage)
    return None


def _cut(stage: Evaluate, artifact: Artifact) -> Iterator[str]:
    summary: dict[str, Any] = artifact.manifest.summary
    sets = summary["settings"].get("benchmarks", {})
    for name, measured in sets.items():
        cap = measured["max_tokens"]
        if stage.caps(name)[-1] > cap:
            continue
        metric = f"{name}/truncated" if len(sets) > 1 else "truncated"
        for model in stage.models:
            cut = summary["scores"].get(model, {}).get(metric, {})
            if (cut.get("value") or 0) > CUT_SHARE:
                yield (
                    f"max_tokens {cap:,} cut {cut['value']:.1%} of the {cut['samples']:,} completions of {model} on "
                    f"{name}, so it scores too low; raise it"
                )
