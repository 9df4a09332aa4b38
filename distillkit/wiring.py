"""Which stage reads which: wires resolved by name, type and file order, before anything runs.

File order is the schedule. A wire that was left out means the nearest earlier stage that makes the needed
type; `check` prints every wire as it was resolved.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from distillkit import benchmarks
from distillkit.errors import MissingError, RecipeError, nearest
from distillkit.recipe import Recipe
from distillkit.stages import AnyStage
from distillkit.stages.base import LABELS, PROBLEMS, TRACES, WEIGHTS, Stage, Wire, names_in
from distillkit.toy import PACKAGED

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Step:
    """A stage with its wires resolved: slot -> names, each an earlier stage or something external."""

    stage: AnyStage
    wires: dict[str, list[str]]

    @property
    def name(self) -> str:
        return self.stage.name


def resolve(recipe: Recipe) -> list[Step]:
    """All steps in file order.

    Raises:
        RecipeError: a wire names no stage, a later one, or one of another type; nothing earlier fits; a rule
            reads a field that no stage makes.
        MissingError: a model folder that is not there.
    """
    steps: list[Step] = []
    for index, stage in enumerate(recipe.stages):
        wires = {
            slot: _ends(recipe, index, stage, slot, wire, steps) for slot, wire in type(stage).wires().items()
        }
        step = Step(stage, wires)
        _check_fields(recipe, step, steps)
        stage.fit(
            {slot: [each.stage for each in steps if each.name in names] for slot, names in wires.items()}
        )
        steps.append(step)
    return steps


def _ends(recipe: Recipe, index: int, stage: AnyStage, slot: str, wire: Wire, steps: list[Step]) -> list[str]:
    given = getattr(stage, slot)
    if given is None or given == [] or given == {}:
        return _default(recipe, index, stage, slot, wire, steps)
    names = names_in(given)
    for name in names:
        _check_end(recipe, index, stage, slot, wire, name)
    return names


def _check_end(recipe: Recipe, index: int, stage: AnyStage, slot: str, wire: Wire, name: str) -> None:
    where = f"stages.{stage.name}.{slot}"
    positions = {each.name: position for position, each in enumerate(recipe.stages)}
    if name not in positions:
        if wire.external:
            check = check_benchmark if wire.takes == (PROBLEMS,) else check_external
            check(name, where)
            return
        recipe_error = recipe_names_error(name, where, [s.name for s in recipe.stages[:index]])
        raise recipe_error
    if positions[name] >= index:
        raise RecipeError(
            f"{where}: {name} stands later in the file; a stage reads earlier ones only, so move it up"
        )
    source = recipe.stages[positions[name]]
    if source.MAKES not in wire.takes:
        raise RecipeError(f"{where}: {name} makes {source.MAKES}, needed is {' or '.join(wire.takes)}")
    if wire.kinds and source.kind not in wire.kinds:
        raise RecipeError(f"{where}: {name} is a {source.kind} stage, needed is {' or '.join(wire.kinds)}")
    if source.RATES and not wire.rates:
        raise RecipeError(
            f"{where}: {name} is a reward model: it rates text and writes none; grpo pays by it: "
            f"rewards: [{{kind: reward_model, model: {name}}}]"
        )
    if wire.rates and not source.RATES:
        raise RecipeError(
            f"{where}: {name} is a {source.kind} stage, whose weights write text; what pays is a reward_model stage"
        )
    if heldout(source) and not wire.heldout:
        raise RecipeError(
            f"{where}: {name} is held out (split: heldout); training and sampling never read it"
        )


def recipe_names_error(name: str, where: str, earlier: list[str]) -> RecipeError:
    """The error for a name that no stage has."""
    others = f"earlier stages: {', '.join(earlier) or 'none'}"
    return RecipeError(f"{where}: no stage {name!r}{nearest(name, earlier, others)}")


def check_external(name: str, where: str) -> None:
    """Refuse a model name that can be nothing: not packaged, no folder, not org/name."""
    if name in PACKAGED:
        return
    if name.startswith((".", "/", "~")):
        if not (Path(name).expanduser() / "config.json").exists():
            raise MissingError(
                f"{where}: {name}: no model there (no config.json); give the folder of a saved model"
            )
        return
    if not HUB_NAME.fullmatch(name):
        raise RecipeError(
            f"{where}: {name!r} is neither an earlier stage, nor org/name on the Hub, nor ./path, "
            f"nor {', '.join(PACKAGED)}"
        )


def check_benchmark(name: str, where: str) -> None:
    """Refuse a name that no built-in benchmark has."""
    known = benchmarks.names()
    if name in known:
        return
    if name.startswith((".", "/", "~")) or Path(name).suffix:
        raise RecipeError(f"{where}: {name}: write a file as {{file: {name}, columns: {{prompt: ...}}}}")
    near = nearest(name, known)
    raise RecipeError(
        f"{where}: {name!r} is neither an earlier problems stage nor a built-in benchmark"
        f"{near or '; there are ' + ', '.join(known)}"
    )


def heldout(stage: Stage) -> bool:
    """Whether a stage makes problems that only evaluation may read."""
    return stage.MAKES == PROBLEMS and stage.model_dump().get("split") == "heldout"


def _default(
    recipe: Recipe, index: int, stage: AnyStage, slot: str, wire: Wire, steps: list[Step]
) -> list[str]:
    if wire.default == "none" or (wire.instead is not None and dict(stage)[wire.instead]):
        return []
    earlier = steps[:index]
    if wire.default == "labels":
        texts = _texts(steps, _ends(recipe, index, stage, "input", type(stage).wires()["input"], steps))
        return [
            s.name for s in earlier if s.stage.MAKES == LABELS and _texts(steps, s.wires["input"]) & texts
        ]
    for step in reversed(earlier):
        if step.stage.MAKES in wire.takes and heldout(step.stage) == wire.heldout:
            return [step.name]
    kinds = " or ".join(wire.takes)
    split = " with split: heldout" if wire.heldout else ""
    raise RecipeError(
        f"stages.{stage.name}.{slot}: no earlier stage makes {kinds}{split}; add one or name it"
    )


def _texts(steps: list[Step], names: list[str]) -> frozenset[str]:
    """Names of the stages that wrote the text under these stages."""
    by_name = {step.name: step for step in steps}
    found: set[str] = set()
    for name in names:
        step = by_name.get(name)
        if step is not None:
            found |= (
                {name}
                if step.stage.MAKES in (TRACES, PROBLEMS)
                else _texts(steps, [*step.wires.get("input", []), *step.wires.get("inputs", [])])
            )
    return frozenset(found)


TEXT_FIELDS = frozenset(
    [
        "id",
        "problem_id",
        "domain",
        "source",
        "language",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "index",
        "origin",
        "model",
        "template",
        "completion",
        "reasoning",
        "response",
        "extra.*",
    ]
)


def _check_fields(recipe: Recipe, step: Step, steps: list[Step]) -> None:
    wanted = step.stage.rule_fields()
    if not wanted:
        return
    makers = [s.stage for s in steps if s.name in step.wires.get("labels", [])]
    bare: dict[str, list[str]] = {}
    for maker in makers:
        for each in maker.fields():
            bare.setdefault(each, []).append(maker.name)
    known = {f"{name}.{each}" for each, names in bare.items() for name in names} | set(bare) | TEXT_FIELDS
    for wanted_field in wanted:
        where = f"stages.{step.name}: field {wanted_field}"
        if len(bare.get(wanted_field, [])) > 1:
            choice = " or ".join(f"{name}.{wanted_field}" for name in bare[wanted_field])
            raise RecipeError(f"{where}: several stages make it; write {choice}")
        if wanted_field not in known and not _covered(wanted_field, known):
            raise _field_error(wanted_field, where, known, [maker.name for maker in makers])


def _field_error(wanted: str, where: str, known: set[str], makers: list[str]) -> RecipeError:
    """The error for a field that nothing makes: the one that was meant, else bare names, measures as one."""
    import difflib

    stage, dot, _ = wanted.partition(".")
    roots = {each.partition(".")[0] for each in known}
    if dot and stage not in roots and not difflib.get_close_matches(stage, roots, n=1):
        return RecipeError(
            f"{where}: no earlier stage {stage!r} makes labels; those that do: {', '.join(makers)}"
        )
    bare = {"measures.*" if each.startswith("measures.") else each for each in known}
    names = sorted(each for each in bare if each.partition(".")[0] not in makers)
    hint = nearest(wanted, sorted(known), f"there are: {', '.join(names)}")
    return RecipeError(f"{where}: no earlier stage makes {wanted!r}{hint}")


def _covered(wanted: str, known: set[str]) -> bool:
    """Whether some known `x.*` stands for the field, or the field is the parent of known ones."""
    return any((k.endswith(".*") and wanted.startswith(k[:-1])) or k.startswith(wanted + ".") for k in known)


def weights_names(step: Step) -> list[str]:
    """External models that a step reads."""
    slots = [slot for slot, wire in type(step.stage).wires().items() if wire.takes == (WEIGHTS,)]
    return [name for slot in slots for name in step.wires[slot]]


def benchmark_names(step: Step, stages: Collection[str]) -> list[str]:
    """Built-in benchmarks that a step reads."""
    slots = [slot for slot, wire in type(step.stage).wires().items() if wire.takes == (PROBLEMS,)]
    return [name for slot in slots for name in step.wires[slot] if name not in stages]
