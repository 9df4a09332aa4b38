"""What earlier runs of a recipe found out that reading it cannot: how much its caps cut.

`check` tells it, so that a smoke run (`run --limit 5`) pays off before the whole one.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from distillkit.errors import DistillkitError
from distillkit.recipe import Recipe
from distillkit.run_folder import find_artifact, numbered
from distillkit.stages.evaluate import CUT_SHARE, Evaluate
from distillkit.store import Store

Summary = dict[str, Any]


def hindsight(recipe: Recipe, store: Path) -> list[str]:
    """One line for each cap that cut more than CUT_SHARE of a model's completions when the stage ran last.

    A stage that has changed its cap for a larger one since is let alone, and so are a model and a set
    of problems that it no longer names.
    """
    runs = numbered(store / "runs" / recipe.name)
    found = []
    for stage in recipe.stages:
        if isinstance(stage, Evaluate):
            number, summary = _last(stage.name, runs, store)
            found += [f"stages.{stage.name}: in run {number} {line}" for line in _cut(stage, summary)]
    return found


def _last(stage: str, runs: list[tuple[int, Path]], store: Path) -> tuple[int, Summary]:
    """The latest run whose artifact of a stage is there to be read, and that artifact's summary; empty without one."""
    for number, path in reversed(runs):
        with suppress(DistillkitError):  # killed before it wrote anything, collected, or of another version
            return number, find_artifact(Store(store), f"{path}/{stage}").manifest.summary
    return 0, {}


def _cut(stage: Evaluate, summary: Summary) -> Iterator[str]:
    sets = summary.get("settings", {}).get("benchmarks", {})
    named = stage.set_names()
    for name, measured in sets.items():
        cap = measured["max_tokens"]
        if (name not in named and named != [""]) or stage.caps(name)[-1] > cap:
            continue
        metric = f"{name}/truncated" if len(sets) > 1 else "truncated"
        for model in stage.models:
            cut = summary["scores"].get(model, {}).get(metric, {})
            if (cut.get("value") or 0) > CUT_SHARE:
                yield (
                    f"max_tokens {cap:,} cut {cut['value']:.1%} of the {cut['samples']:,} completions of {model} on "
                    f"{name}, so it scores too low; raise it"
                )
