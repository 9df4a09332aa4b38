"""What a page is made from: a run's record, the tables that `show` prints, and its artifacts, each opened once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from distillkit.artifact import Artifact
from distillkit.events import Event, read_events
from distillkit.report import plots
from distillkit.run_folder import RunRecord, load_record
from distillkit.show import Described, describe, load_artifacts
from distillkit.show.number import finite
from distillkit.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Curves = dict[str, list[float | None]]
"""curves.json of a training: {"step": [...], name: [...]}."""


@dataclass(frozen=True)
class Figure:
    """A drawn figure and the words around it; legend: [(colour, name)], empty for one series."""

    title: str
    note: str
    svg: str
    legend: list[tuple[str, str]]


@dataclass(frozen=True)
class Material:
    """One run, ready to be written about."""

    run: Path
    store: Store
    record: RunRecord
    described: Described
    artifacts: list[Artifact]

    @classmethod
    def of(cls, run: Path, store: Store, described: Described | None = None) -> "Material":
        """Everything of a run that is still in the store.

        Raises:
            MissingError: no run there.
            StageError: a corrupt artifact.
        """
        record = load_record(run)
        artifacts, _ = load_artifacts(record, store)
        return cls(run, store, record, described or describe(run, store.root), artifacts)

    def of_kind(self, *kinds: str) -> list[Artifact]:
        """The artifacts that stages of these kinds made, in the recipe's order."""
        return [artifact for artifact in self.artifacts if artifact.manifest.kind in kinds]

    @cached_property
    def recipe(self) -> str:
        """The resolved recipe, empty where the run has none."""
        path = self.run / "recipe.yaml"
        return path.read_text("utf-8") if path.exists() else ""

    @cached_property
    def declared(self) -> list[dict[str, Any]]:
        """The stages as the recipe declares them, also those that the run did not reach."""
        try:
            loaded = yaml.load(self.recipe, Loader=yaml.BaseLoader)
        except yaml.YAMLError:  # torn by whatever ended the run
            loaded = None
        stages: list[dict[str, Any]] = (loaded or {}).get("stages", [])
        return stages

    @cached_property
    def events(self) -> list[Event]:
        """What happened, in order; empty where the run left none."""
        return read_events(self.run / "events.jsonl")[0]

    @cached_property
    def started(self) -> float | None:
        """Seconds since the epoch at which the run began; None where it left no events."""
        return float(self.events[0]["time"]) if self.events else None

    @cached_property
    def unfinished(self) -> dict[str, list[Event]]:
        """Stage that was begun and not finished -> how far it told to have come, step by step."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            if event.get("event") == "stage_started":
                found[event["stage"]] = []
            elif event.get("event") == "stage_finished":
                found.pop(event["stage"], None)
            elif event.get("event") == "progress" and "done" in event:
                found.setdefault(event["stage"], []).append(finite(event))
        return found

    @cached_property
    def traceback(self) -> str:
        """Where the code of a stage broke; empty where it did not."""
        path = self.run / "error.txt"
        return path.read_text("utf-8", "replace") if self.record.status == "failed" and path.exists() else ""

    @cached_property
    def seeds(self) -> dict[str, "Material"]:
        """The runs below this one, by seed."""
        return {
            seed: Material.of(self.run / "seeds" / seed, self.store, described)
            for seed, described in self.described.get("seeds", {}).items()
        }

    def figure(
        self,
        title: str,
        note: str,
        draw: Callable[..., "Drawing"],
        *data: Any,
        legend: list[str] | None = None,
    ) -> Figure:
        """`draw(*data)` with its words; legend: the names of its series, in order, "" for one that is not drawn.

        A single series needs no legend.
        """
        names = legend if legend and len(legend) > 1 else []
        colours = [plots.COLOURS[at % len(plots.COLOURS)] for at in range(len(names))]
        svg = plots.cached_svg(self.store.root / "figures", title, draw, *data)
        told = [(colour, name) for colour, name in zip(colours, names, strict=True) if name]
        return Figure(title, note, svg, told)


def curves_of(artifact: Artifact) -> Curves:
    """The curves of a training artifact; empty where it has none."""
    path = artifact.path / "curves.json"
    found: Curves = finite(json.loads(path.read_text("utf-8"))) if path.exists() else {}
    return found


def points(curves: Curves, name: str) -> list[tuple[float, float]]:
    """(step, value) of a curve, without the steps that logged none."""
    pairs = zip(curves.get("step", []), curves.get(name, []), strict=False)
    return [(x, y) for x, y in pairs if x is not None and y is not None]
