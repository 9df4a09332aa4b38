"""What can be refused is refused before anything is spent.

`check` reads the recipe only: offline, without a heavy import, in under a second. Its findings are plain
data, so that the terminal, `--json` and the tests see the same.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from distillkit.artifact import Artifact
from distillkit.errors import RecipeError
from distillkit.events import Events
from distillkit.lint import lints, require_one_judge
from distillkit.lock import Lock
from distillkit.recipe import Recipe
from distillkit.runner import Run, pin, placed, reach
from distillkit.sampling import Sampling
from distillkit.sampling.jury import judge_of
from distillkit.stages import AnyStage
from distillkit.stages.base import LABELS, PROBLEMS, SELECTION, TRACES
from distillkit.stages.grpo import Grpo
from distillkit.stages.measure import MeasureStage
from distillkit.stages.problems import Problems
from distillkit.stages.sample import Sample
from distillkit.stages.traces import Traces
from distillkit.store import Store
from distillkit.trace import Problem, problem_of
from distillkit.training.rewards import named
from distillkit.verifiers import AnyVerifier
from distillkit.verifiers.base import trial
from distillkit.wiring import Step, resolve


@dataclass
class Finding:
    """A recipe as it was understood: the stable keys of `check --json`."""

    recipe: str
    stages: list[dict[str, Any]] = field(default_factory=list)
    """[{name, kind, makes, wires: {slot: [names]}}]"""
    foreign: list[str] = field(default_factory=list)
    """What would run code of the recipe's author; `run` needs --trust for it."""
    machine: list[str] = field(default_factory=list)
    """What this machine offers to the verifiers: the level of a sandbox."""
    warnings: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    """What --deep could not look at, and why."""
    commits: dict[str, str] = field(default_factory=dict)
    """Hub name -> commit, with --online."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check(recipe: Recipe, folder: Path) -> Finding:
    """Resolve every wire and ask every stage.

    Raises:
        RecipeError, MissingError: the first thing that would fail later.
    """
    steps = resolve(recipe)
    for step in steps:
        with placed(step.name):
            step.stage.check(folder)
            _require_engine(step.stage)
            _require_verifiers(step, steps, recipe.verifiers)
            require_one_judge(step, [each.name for each in steps], recipe.verifiers)
    machine: list[str] = []
    for domain, verifier in recipe.verifiers.items():
        with placed(f"verifiers.{domain}"):
            machine += verifier.check()
    if recipe.execution.ray is not None:
        recipe.execution.ray.check()
    stages = [_stage(step) for step in steps]
    warnings = [*lints(recipe, steps), *(line for step in steps for line in _idle_rewards(step, steps))]
    return Finding(
        recipe.name, stages, foreign(recipe), machine=list(dict.fromkeys(machine)), warnings=warnings
    )


def _stage(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.stage.kind,
        "makes": step.stage.MAKES,
        "wires": {slot: names for slot, names in step.wires.items() if names},
    }


def _require_engine(stage: AnyStage) -> None:
    """Raises RecipeError for a stage that samples and has nothing to sample with."""
    if isinstance(stage, Sampling) and stage.engine is None:
        raise RecipeError("no engine; write engine: {kind: vllm} at the top of the recipe or on the stage")


def _require_verifiers(step: Step, steps: list[Step], verifiers: Mapping[str, AnyVerifier]) -> None:
    """Raises RecipeError where a stage judges problems of a domain without a verifier, as far as the recipe tells."""
    for domain in sorted(step.stage.judged(_domains(step, steps))) if step.stage.judges else []:
        if isinstance(step.stage, Sample):
            judge_of(domain, verifiers)
        elif domain not in verifiers:
            raise RecipeError(
                f"no verifier for domain {domain!r}; add it to `verifiers:` at the top of the recipe"
            )


def _idle_rewards(step: Step, steps: list[Step]) -> list[str]:
    """Rewards for domains of which no problem is, as far as the recipe tells: a slip of the pen pays nothing."""
    stage = step.stage
    if not isinstance(stage, Grpo):
        return []
    inputs = [each for each in steps if each.name in step.wires["input"]]
    known = [_domains(each, steps) for each in inputs]
    there = set().union(*known)
    return [
        f"stages.{stage.name}.rewards: {name} is for {', '.join(reward.domains)} only, and the problems are of "
        f"{', '.join(sorted(there))}: it pays nothing"
        for name, reward in named(stage.rewards).items()
        if all(known) and reward.domains is not None and not there & set(reward.domains)
    ]


ROWS = (PROBLEMS, TRACES, LABELS, SELECTION)
"""Types that a domain comes along with; what a model learned from is another matter."""


def _domains(step: Step, steps: list[Step]) -> set[str]:
    """Domains of the problems that reach a step; those that a source names row by row are not known here."""
    stage = step.stage
    if isinstance(stage, Problems):
        return set() if stage.columns.domain is not None else {stage.domain or stage.toy or "math"}
    if isinstance(stage, Traces):
        return stage.domains()
    below = [
        each
        for each in steps
        for names in step.wires.values()
        if each.name in names and each.stage.MAKES in ROWS
    ]
    return {domain for each in below for domain in _domains(each, steps)}


def foreign(recipe: Recipe) -> list[str]:
    """Everything in a recipe that runs code of its author."""
    found = [f"stages.{stage.name}: {phrase}" for stage in recipe.stages for phrase in _foreign(stage)]
    found += [
        f"verifiers.{domain}: {phrase}" for domain, v in recipe.verifiers.items() for phrase in v.foreign()
    ]
    return list(dict.fromkeys(found))


def _foreign(stage: AnyStage) -> list[str]:
    engine = stage.engine if isinstance(stage, Sampling) else None
    return stage.foreign() + (engine.foreign() if engine is not None else [])


def check_online(recipe: Recipe, path: Path, finding: Finding) -> None:
    """Resolve every Hub name to its commit, write the lock, and ask what may be read and where the recipe pushes.

    Raises MissingError for a repository that is not there, gated or out of reach, RecipeError for one that may not be
    pushed to as declared.
    """
    lock = Lock(path.with_suffix(".lock"), probe=True)
    steps = resolve(recipe)
    pin(steps, lock)
    for domain, verifier in recipe.verifiers.items():
        with placed(f"verifiers.{domain}"):
            verifier.pinned(lock.commit_of)
    reach(recipe, steps)
    finding.commits = dict(lock.commits)


def check_data(recipe: Recipe, path: Path, store: Path, finding: Finding, *, trust: bool = False) -> None:
    """Make the problems (they stay in the store) and try every gold on the verifier of its domain.

    With `trust` graders and measures of the recipe's author are tried on one row too.

    A gold that cannot be graded is a warning with its number; none that can is an error.
    """
    run = Run(recipe, Store(store), Events(Path("/dev/null")), Lock(path.with_suffix(".lock")))
    for step in resolve(recipe):
        if step.stage.MAKES != PROBLEMS:
            continue
        inputs = run.inputs(step)
        request = run.request(step, inputs)
        artifact = run.store.find(step.stage.kind, request) or run.build(step, inputs, request)
        run.done[step.name] = artifact
        if recipe.verifiers:
            _try_golds(step.name, artifact, recipe.verifiers, finding, trust=trust)
    for stage in recipe.stages if trust else []:
        if isinstance(stage, MeasureStage):
            with placed(stage.name):
                stage.probe(trial(_first_problem(run)))


def _first_problem(run: Run) -> Problem:
    """A problem of the recipe, or any where it makes none."""
    rows = (row for artifact in run.done.values() for row in artifact.rows())
    row = next(rows, None)
    return problem_of(row) if row else Problem([{"role": "user", "content": "What is 1 + 1?"}], "2")


def _try_golds(
    stage: str, artifact: Artifact, verifiers: dict[str, AnyVerifier], finding: Finding, *, trust: bool
) -> None:
    by_domain: dict[str, list[Problem]] = {}
    for row in artifact.rows():
        problem = problem_of(row)
        by_domain.setdefault(problem.domain, []).append(problem)
    for domain, problems in by_domain.items():
        if domain not in verifiers:
            raise RecipeError(
                f"stages.{stage}: no verifier for domain {domain!r}; add it to `verifiers:` at the top of the recipe"
            )
        with placed(f"verifiers.{domain}"), verifiers[domain] as verifier:
            reasons = verifier.check_references([problem.reference for problem in problems])
            if trust and verifier.foreign():
                verifier.probe(trial(problems[0]))
        bad = [
            (problem, reason) for problem, reason in zip(problems, reasons, strict=True) if reason is not None
        ]
        if len(bad) == len(problems):
            raise RecipeError(
                f"stages.{stage}: no gold of domain {domain} can be graded by {verifier.kind} ({bad[0][1]})"
            )
        if bad:
            common = ", ".join(
                f"{reason} {n:,}" for reason, n in Counter(reason for _, reason in bad).most_common(3)
            )
            example = repr(bad[0][0].reference)[:80]
            finding.warnings.append(
                f"stages.{stage}: {len(bad):,} of {len(problems):,} golds of domain {domain} cannot be graded "
                f"({common}); e.g. {example}"
            )


def render(finding: Finding) -> RenderableType:
    """Every wire as it was resolved, then warnings and foreign code."""
    table = Table("stage", "kind", "makes", "reads", box=None)
    for stage in finding.stages:
        reads = "; ".join(f"{slot}: {', '.join(names)}" for slot, names in stage["wires"].items())
        table.add_row(stage["name"], stage["kind"], stage["makes"], reads)
    lines = [*finding.machine, *(f"warning: {line}" for line in finding.warnings)]
    lines += [f"foreign code (needs run --trust): {phrase}" for phrase in finding.foreign]
    lines += [f"not looked at: {line}" for line in finding.unseen]
    lines += [f"pinned: {name} at {commit}" for name, commit in finding.commits.items()]
    return Group(table, *map(Text, lines), f"{finding.recipe}: fine")
