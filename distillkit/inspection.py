"""`check --deep`: what a training would meet in its first minute, looked at without its weights.

The real configurations of TRL are built, and the tokenizers of all models that are on this machine (packaged ones,
folders, the Hub's cache) are asked what has silently ruined trainings before. What cannot be looked at is said.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distillkit.artifact import Model
from distillkit.check import Finding
from distillkit.engines.base import context_of, load_tokenizer
from distillkit.errors import MissingError, RecipeError
from distillkit.lock import Lock
from distillkit.recipe import Recipe
from distillkit.runner import external_model, placed
from distillkit.stages import AnyStage
from distillkit.stages.base import Job
from distillkit.stages.distill import Distill
from distillkit.stages.grpo import Grpo
from distillkit.stages.reward_model import RewardModelStage
from distillkit.stages.sft import Sft
from distillkit.store import Store, Writer
from distillkit.template import is_prefilled
from distillkit.text import END_THINK, THINK
from distillkit.toy import PACKAGED
from distillkit.trace import Problem, Trace
from distillkit.training.chat import jinja_of
from distillkit.training.examples import example, render
from distillkit.training.preflight import (
    SPOILED,
    check_end,
    check_extraction,
    check_tags,
    keep_reasoning,
    require_template,
    settle_end,
    settle_pad,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Trained = Sft | Grpo | Distill | RewardModelStage

QUESTION = [{"role": "user", "content": "What is 1 + 1?"}]
SAMPLE = Trace(
    problem_id="sample",
    messages=QUESTION,
    completion=f"{THINK}\n1 + 1 = 2\n{END_THINK}\n\n2",
    reasoning="1 + 1 = 2",
    response="2",
)
"""A trace as most teachers write it."""


@dataclass
class Base:
    """What a training starts from, as far as it is on this machine."""

    name: str
    tokenizer: "PreTrainedTokenizerBase"
    context: int
    """Most tokens of prompt and completion together."""


def inspect(recipe: Recipe, path: Path, finding: Finding) -> None:
    """Look at every training stage; what is doubtful becomes a warning, what was not seen a line of its own.

    Raises RecipeError, MissingError or StageError for what the training would refuse.
    """
    lock = Lock(path.with_suffix(".lock"))
    stages = {stage.name: stage for stage in recipe.stages}
    for stage in recipe.stages:
        if isinstance(stage, Trained):
            with placed(stage.name):
                _configure(stage, recipe.seed)
                _require_machine(stage, finding)
                base = base_of(stage, stages, lock, finding)
                if base is not None:
                    _look_at(stage, base, recipe, finding)


def _configure(stage: Trained, seed: int) -> None:
    """Build what TRL would get; raises RecipeError with TRL's own words."""
    with tempfile.TemporaryDirectory(prefix="distillkit-") as folder:
        store = Store(Path(folder))
        job = Job(store, Writer(store.work / stage.name), {}, seed=seed)
        if isinstance(stage, Distill):
            stage.config(Model(stage.model, "", ""), Model(stage.teacher, "", ""), job)
        else:
            stage.config(Model(stage.model, "", ""), job)


def _require_machine(stage: Trained, finding: Finding) -> None:
    """Warn of a GPU or package that this machine lacks: the recipe may be meant for another."""
    try:
        stage.require_machine(stage.name)
    except MissingError as error:
        finding.warnings.append(f"stages.{error}")


def base_of(stage: Trained, stages: dict[str, AnyStage], lock: Lock, finding: Finding) -> Base | None:
    """The base of a training; of one that starts from another stage's weights what that stage will leave.

    None, and a line in the finding, where it is not on this machine.
    """
    earlier = stages.get(stage.model)
    if not isinstance(earlier, Trained):
        return _external(stage, lock, finding)
    found = base_of(earlier, stages, lock, finding)
    if found is not None:
        found.tokenizer.chat_template = jinja_of(earlier.template, found.tokenizer)
        _set_tokens(earlier, found.tokenizer)
        found.context = _context(earlier, found.context)
    return found


def _external(stage: Trained, lock: Lock, finding: Finding) -> Base | None:
    from transformers import AutoConfig

    model = here(stage.model, lock)
    if model is None:
        finding.unseen.append(
            f"stages.{stage.name}: {stage.model} is not on this machine, so that its template, end token and positions "
            f"were not looked at; get it with: hf download {stage.model.partition('@')[0]}"
        )
        return None
    tokenizer = load_tokenizer(model)
    config = AutoConfig.from_pretrained(model.path, revision=model.revision)
    return Base(stage.model, tokenizer, context_of(config))


def here(name: str, lock: Lock) -> Model | None:
    """A model that needs no network: packaged, in a folder, or in the Hub's cache at its locked commit (else main)."""
    if name in PACKAGED or name.startswith((".", "/", "~")):
        found = external_model(name, lock)
        return Model(name, found.path, found.content)
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    wanted = lock.known("model", name) or revision or "main"
    cached = [
        try_to_load_from_cache(repository, file, revision=wanted)
        for file in ("config.json", "tokenizer_config.json")
    ]
    folders = {Path(each).parent for each in cached if isinstance(each, str)}
    return Model(name, str(folders.pop()), "") if len(folders) == 1 and all(cached) else None


def _look_at(stage: Trained, base: Base, recipe: Recipe, finding: Finding) -> None:
    """Ask the tokenizer what would go wrong."""
    tokenizer = base.tokenizer
    tokenizer.chat_template = jinja_of(stage.template, tokenizer)
    require_template(tokenizer, base.name)
    _set_tokens(stage, tokenizer)
    context = _context(stage, base.context)
    if isinstance(stage, Sft):
        keep_reasoning(tokenizer, [SAMPLE])
        _require_reasoning(stage, tokenizer)
        check_end(tokenizer, stage.name)
        settle_pad(tokenizer, stage.name)
        if stage.max_length > context:
            finding.warnings.append(
                f"stages.{stage.name}.max_length: {stage.max_length:,}, but {base.name} has {context:,} positions, and "
                "a longer row stops the training; lower it, or give rope: {max_position_embeddings: ...}"
            )
    elif isinstance(stage, Distill):
        settle_end(tokenizer)
        check_end(tokenizer, stage.name)
    elif isinstance(stage, Grpo):
        check_tags(tokenizer, stage.name)
        prefilled = is_prefilled(render(tokenizer, QUESTION, add_generation_prompt=True))
        problems = [Problem(QUESTION, "2", domain=domain) for domain in recipe.verifiers]
        check_extraction(tokenizer, problems, recipe.verifiers, prefilled=prefilled, stage=stage.name)
        if stage.max_completion_length >= context:
            raise RecipeError(
                f"stages.{stage.name}.max_completion_length: {stage.max_completion_length:,}, but {base.name} has "
                f"{context:,} positions for prompt and completion together; lower it, or give rope:"
            )


def _require_reasoning(stage: Trained, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises RecipeError where the template spoils a trace as most teachers write it."""
    made = example(SAMPLE, tokenizer)
    if isinstance(made, str):
        what = SPOILED[made].format(n="all", total="all")
        raise RecipeError(f"stages.{stage.name}.template: the chat template {what}; set one that does not")


def _set_tokens(stage: Trained, tokenizer: "PreTrainedTokenizerBase") -> None:
    for token in ("eos_token", "pad_token"):
        if token in stage.trainer:
            setattr(tokenizer, token, stage.trainer[token])


def _context(stage: Trained, context: int) -> int:
    """Positions as the stage's rope leaves them."""
    if stage.rope is None:
        return context
    return stage.rope.max_position_embeddings or round(context * (stage.rope.factor or 1))
