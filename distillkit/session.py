"""One `distillkit run`: admission, a folder per run, the live view, the report at the end."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distillkit.artifact import Artifact
from distillkit.check import check, foreign
from distillkit.errors import DistillkitError, RecipeError
from distillkit.events import Events
from distillkit.live import Watcher, console
from distillkit.lock import Lock
from distillkit.plan import over_budget as exceeds
from distillkit.recipe import Recipe
from distillkit.report.page import write_report
from distillkit.run_folder import RunFolder, RunRecord, open_run
from distillkit.runner import Run, boundary, placed
from distillkit.sampling import Sampling
from distillkit.show import describe, render
from distillkit.stages.publish import Publish
from distillkit.store import Store
from distillkit.training.serving import serve_commands
from distillkit.wiring import Step


class Session:
    """A recipe about to run in a store."""

    def __init__(self, recipe: Recipe, path: Path, store: Path, *, update: bool = False) -> None:
        self.recipe = recipe
        self.path = path
        self.store = Store(store)
        self.lock = Lock(path.with_suffix(".lock"), update=update)
        self.console = console()
        self.pushed: list[str] = []
        """Addresses on the Hub of the versions of this run."""

    def admit(self, *, trust: bool, over_budget: bool) -> None:
        """Refuse what `check` refuses, foreign code without trust, and a plan above the budget.

        Raises RecipeError or MissingError; nothing has been spent by then.
        """
        check(self.recipe, self.path.parent)
        for stage in self.recipe.stages:
            if isinstance(stage, Sampling) and stage.engine is not None:
                with placed(stage.name):
                    stage.engine.check()
        phrases = foreign(self.recipe)
        if phrases and not trust:
            raise RecipeError(
                f"{self.path}: runs code of its author: {'; '.join(phrases)}; read it, then add --trust"
            )
        excess = exceeds(self.recipe, self.path, self.store.root)
        if excess and not over_budget:
            raise RecipeError(f"{self.path}: {excess}; raise the budget or add --yes")

    def run(self, seeds: list[int], *, until: str | None = None, only: str | None = None) -> None:
        """Run once, or once per seed in one folder, and print what came out.

        Raises RecipeError for several seeds of a recipe that pushes: they would be several versions of one name.
        """
        if len(seeds) > 1:
            _require_no_push(self.recipe)
        runs = self.store.root / "runs"
        with open_run(runs, self.recipe.name, self.recipe.dump()) as folder:
            folder.record.seeds = seeds
            folder.save()
            with self._left_with_a_page(folder), _recorded(folder):
                for seed in seeds:
                    self.console.print(f"seed {seed}")
                    path = folder.path / "seeds" / str(seed)
                    path.mkdir(parents=True, exist_ok=True)
                    below = RunFolder(path, RunRecord(self.recipe.name, folder.record.number))
                    self._run_one(below, self.recipe.model_copy(update={"seed": seed}), until, only)
                if not seeds:
                    self._run_one(folder, self.recipe, until, only)
            with boundary("report", folder.path):
                self._conclude(folder)

    def _run_one(self, folder: RunFolder, recipe: Recipe, until: str | None, only: str | None) -> None:
        def record(step: Step, artifact: Artifact, cached: bool, seconds: float) -> None:
            folder.add(step.name, step.stage.kind, artifact, cached=cached, seconds=seconds)
            if pushed := artifact.manifest.telemetry.get("pushed"):
                self.pushed.append(pushed["url"])

        with Watcher(self.console) as watcher:
            events = Events(folder.path / "events.jsonl", watcher)
            events.tell("run_started", recipe=recipe.name, seed=recipe.seed)
            try:
                with _recorded(folder):
                    Run(recipe, self.store, events, self.lock).execute(until, only, record)
            finally:
                events.tell("run_finished", status=folder.record.status)

    @contextmanager
    def _left_with_a_page(self, folder: RunFolder) -> Iterator[None]:
        """Writes the page of a run that fails or is interrupted; what goes wrong with that hides no earlier error."""
        ended = False
        try:
            yield
            ended = True
        finally:
            if not ended:
                with suppress(DistillkitError), boundary("report", folder.path):
                    page = write_report(folder.path, self.store)
                    self.console.print(f"report of what there is: {page}", soft_wrap=True)

    def _conclude(self, folder: RunFolder) -> None:
        self.console.print()
        self.console.print(render(describe(folder.path, self.store.root)))
        for name, command in serve_commands(folder.path):
            self.console.print(f"serve {name}: {command}", soft_wrap=True)
        for url in self.pushed:
            self.console.print(f"pushed: {url}", soft_wrap=True)
        self.console.print(f"report: {write_report(folder.path, self.store)}", soft_wrap=True)


def _require_no_push(recipe: Recipe) -> None:
    for stage in recipe.stages:
        if isinstance(stage, Publish) and stage.hub is not None:
            raise RecipeError(
                f"stages.{stage.name}.hub: every seed would make another {stage.hub} {stage.version}; for --seeds say "
                "repository: instead of hub:, which lays it out only"
            )


@contextmanager
def _recorded(folder: RunFolder) -> Iterator[None]:
    """Keeps how a run ended in its run.json: done, failed and why, or interrupted."""
    status = "failed"
    try:
        yield
        status = "done"
    except DistillkitError as error:
        folder.record.error = str(error)
        raise
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        folder.record.status = status
        folder.save()
