"""What a recipe may do but would hardly mean, one line each: numbers that it pays for and cannot trust.

Facts behind each line: docs/evaluation.md. `check` prints them; what two judges would make incomparable it refuses.
"""

from collections.abc import Iterator, Mapping, Sequence

from distillkit import benchmarks
from distillkit.errors import RecipeError
from distillkit.recipe import Recipe
from distillkit.stages.distill import Distill
from distillkit.stages.evaluate import Evaluate
from distillkit.stages.grpo import Grpo
from distillkit.stages.probe import Probe
from distillkit.stages.reward_model import RewardModelStage
from distillkit.stages.scored import Scored
from distillkit.stages.screen import Screen
from distillkit.training.rewards import RewardModel
from distillkit.verifiers.base import Verifier
from distillkit.verifiers.composite import Composite
from distillkit.wiring import Step, benchmark_names

EVALUATIONS = 10
"""Fewer points than this make no curve: a collapse, or the step to keep, lies between two of them."""
LONG = 100
"""A shorter RL run can do without; its reward curve is short as well."""
LEAST_GPU_HOURS = 1.0
"""Below it nobody counts."""
COST_SHARE = 0.10
"""An evaluation that takes more of a run's cost is larger than what it decides."""


def lints(recipe: Recipe, steps: Sequence[Step]) -> list[str]:
    """Every line that a recipe earns, in its order."""
    found = []
    for step in steps:
        if isinstance(step.stage, Evaluate):
            found += [*_greedy_votes(step.stage), *_low_caps(step.stage, recipe)]
        if isinstance(step.stage, Screen | Probe):
            found += _greedy_samples(step.stage)
        if isinstance(step.stage, Grpo):
            found += [*_few_evaluations(step.stage), *_other_views(step.stage, recipe)]
        if isinstance(step.stage, Grpo | Distill):
            found += _trained_on(step)
    return found


def _greedy_votes(stage: Evaluate) -> Iterator[str]:
    for name in stage.set_names():
        n = stage.samples(name)
        if stage.temperatures(name)[0] == 0 and n > 1:
            on = f" on {name}" if name else ""
            yield (
                f"stages.{stage.name}: temperature 0 gives {n} equal samples{on}, so pass@k and cons@k tell nothing; "
                "write n: 1, or a temperature above 0 (R1: 0.6)"
            )


def _greedy_samples(stage: Screen | Probe) -> Iterator[str]:
    n = stage.n if isinstance(stage, Screen) else stage.samples(stage.set_names()[0])
    if stage.parameters.temperature == 0 and n > 1:
        told = "the gap is 0" if isinstance(stage, Screen) else "no two of them differ"
        yield (
            f"stages.{stage.name}: temperature 0 gives {n} equal samples, so {told} whatever the model can do; "
            "write a temperature above 0 (1.0 as in RL)"
        )


def _low_caps(stage: Evaluate, recipe: Recipe) -> Iterator[str]:
    trained = {each.name: each for each in recipe.stages if isinstance(each, Grpo)}
    cap = stage.parameters.max_tokens
    for name in stage.models:
        if name in trained and cap < trained[name].max_completion_length:
            yield (
                f"stages.{stage.name}: max_tokens {cap:,} is below the {trained[name].max_completion_length:,} that "
                f"{name} was trained with, so its longer answers count as wrong; raise it"
            )


def _other_views(stage: Grpo, recipe: Recipe) -> Iterator[str]:
    made = {each.name: each for each in recipe.stages if isinstance(each, RewardModelStage)}
    for reward in stage.rewards:
        if isinstance(reward, RewardModel) and reward.model in made and reward.on != made[reward.model].on:
            learnt = made[reward.model].on
            yield (
                f"stages.{stage.name}.rewards: {reward.model} learnt to rate a {learnt} and is shown a {reward.on}: "
                f"what it says of that means nothing; write on: {learnt}"
            )


def _trained_on(step: Step) -> Iterator[str]:
    stage = step.stage
    if (
        isinstance(stage, Grpo | Distill)
        and stage.evaluate
        and stage.evaluate.problems in step.wires["input"]
    ):
        yield (
            f"stages.{step.name}.evaluate: {stage.evaluate.problems} is what is trained on, so its scores rise "
            "whatever is learned; name problems with split: heldout"
        )


def _few_evaluations(stage: Grpo) -> Iterator[str]:
    if stage.evaluate is None:
        if stage.steps >= LONG:
            yield (
                f"stages.{stage.name}: {stage.steps:,} steps without evaluate: nobody sees where its held-out "
                f"scores turn; write evaluate: {{problems: ..., every: {stage.steps // EVALUATIONS}}}"
            )
        return
    points = stage.steps // stage.evaluate.every + 1 + (stage.steps % stage.evaluate.every > 0)
    if points < EVALUATIONS and stage.evaluate.every > 1:
        every = max(1, stage.steps // EVALUATIONS)
        yield (
            f"stages.{stage.name}.evaluate: every {stage.evaluate.every} of {stage.steps} steps makes {points} points, "
            f"fewer than {EVALUATIONS}: a collapse lies between two of them; write every: {every}"
        )


def cost_lint(gpu_hours: Mapping[str, tuple[str, float]]) -> list[str]:
    """Evaluation above its share of a recipe's cost; stage -> (kind, GPU-hours) of those that hold a model."""
    whole = sum(hours for _, hours in gpu_hours.values())
    trains = any(kind in ("sft", "grpo", "distill", "reward_model") for kind, _ in gpu_hours.values())
    spent = {name: hours for name, (kind, hours) in gpu_hours.items() if kind == "evaluate"}
    if not trains or whole < LEAST_GPU_HOURS or sum(spent.values()) <= COST_SHARE * whole:
        return []
    share = sum(spent.values()) / whole
    return [
        f"evaluation ({', '.join(spent)}) takes {share:.0%} of the GPU-hours, more than {COST_SHARE:.0%}; "
        "fewer samples (n) or problems (limit) would do"
    ]


def require_one_judge(step: Step, stages: Sequence[str], verifiers: Mapping[str, Verifier]) -> None:
    """Raises RecipeError where a built-in benchmark is judged in another way than the recipe judges its domain."""
    stage = step.stage
    if not isinstance(stage, Scored):
        return
    for name in stage.benchmarks:
        if name in stages and name in benchmarks.names():
            raise RecipeError(
                f"benchmarks.{name}: is the name of a stage here and of a built-in benchmark; name the stage in "
                "problems:, or call it otherwise"
            )
    for name in benchmark_names(step, stages):
        declared, domain = benchmarks.named(name), benchmarks.named(name).domain
        if stage.use(name).verifier is not None or domain not in verifiers:
            continue
        kinds = _kinds(verifiers[domain])
        if declared.verifier.kind not in kinds:
            raise RecipeError(
                f"benchmarks.{name}: is judged by {declared.verifier.kind}, but verifiers.{domain} of the recipe is "
                f"{verifiers[domain].kind}: gate, reward and metric would drift apart; write "
                f"{name}: {{verifier: ...}}, or give the recipe's problems another domain"
            )


def _kinds(verifier: Verifier) -> set[str]:
    """Kinds of a verifier and of all that it is made of."""
    found = {verifier.kind}
    for part in verifier.parts if isinstance(verifier, Composite) else []:
        found |= _kinds(part)
    return found
