"""Reinforcement learning with verifiable rewards, by TRL's GRPOTrainer: the R1-Zero step of the method.

Sources: GRPO, arXiv:2402.03300; DeepSeek-R1, arXiv:2501.12948v2, section 2.2; Dr. GRPO, arXiv:2503.20783.
"""

import math
import random
from collections import Counter
from itertools import chain, count, islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import context_of, load_tokenizer
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.spec import EXECUTION, seed_of
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Job, Stage, Wire
from distillkit.template import is_prefilled
from distillkit.training.chat import jinja_of
from distillkit.training.completions import write_completions
from distillkit.training.config import ConfigName, Training
from distillkit.training.examples import render
from distillkit.training.preflight import check_tags, fitting, require_prompts, require_template
from distillkit.training.rewards import METRICS, RewardName, Rollouts, dataset_row, rewards_of
from distillkit.training.run import Logs, built, load_trainer, save_weights, train, write_curves
from distillkit.verifiers.base import learned_by

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import GRPOConfig

CURVES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "zero_std",
    "completions/mean_length": "length",
    "completions/max_length": "max_length",
    "completions/mean_terminated_length": "terminated_length",
    "completions/clipped_ratio": "clipped",
    "clip_ratio/region_mean": "clip_ratio",
    "entropy": "entropy",
    "kl": "kl",
    **{name: name for name in METRICS},
}
"""TRL's metric -> its name in curves.json; each reward adds `reward_<name>`, its mean."""


class Grpo(Stage, Training):
    """Train a model on its own completions, paid by the recipe's verifiers."""

    MAKES: ClassVar[str] = WEIGHTS
    DRAWS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True
    CONFIG: ClassVar[ConfigName] = "GRPOConfig"
    RENAMED: ClassVar[dict[str, str]] = {"max_steps": "steps", "num_train_epochs": "steps"}

    kind: Literal["grpo"] = "grpo"
    input: Annotated[str | None, Wire((PROBLEMS,)), EXECUTION] = None
    """Problems to train on; left out, the nearest earlier ones. Held-out problems are refused."""
    model: Annotated[str, Wire((WEIGHTS,), external=True), EXECUTION]
    """Weights to start from: a stage, org/name[@rev] on the Hub, ./folder, or toy:base."""
    screened: Annotated[str | None, Wire((SCORES,), default="none"), EXECUTION] = None
    """A screen stage over these problems, for `band` and `require_go`."""
    band: tuple[float, float] | None = None
    """Keep problems whose pass rate in the screening lies in [low, high]; one without a pass rate is kept."""
    require_go: bool = False
    """Stop where the screening advises against the training."""

    steps: int = Field(ge=1)
    """Optimizer steps."""
    prompts_per_step: int = Field(16, ge=1)
    num_generations: int = Field(8, ge=2)
    """Completions per prompt: the group whose rewards are compared."""
    max_completion_length: int = Field(ge=2)
    """Tokens; a completion that is not finished by then is cut, and its answer does not count."""
    temperature: float = Field(1.0, gt=0)
    rewards: dict[RewardName, float] = Field({"accuracy": 1.0}, min_length=1)
    """Name -> weight in the sum: accuracy (the verifiers, 0 to 1), format (0 or 1), language (share of the
    reasoning's words in the problem's language), overlong (-1 to 0 near the limit)."""

    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What the advantages are divided by: the standard deviation of the group, of the batch, or nothing."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL divergence from the reference model; 0 loads none."""
    epsilon: float = Field(0.2, gt=0)
    epsilon_high: float | None = Field(None, gt=0)
    """Upper clipping where it differs from the lower (DAPO: 0.28)."""
    num_iterations: int = Field(1, ge=1)
    """Optimizer passes over each batch of completions."""

    def check(self, recipe_folder: Path) -> None:
        self.check_training(self.name)
        self.rows_per_pass(self.prompts_per_step * self.num_generations, self.max_completion_length)
        if self.screened is None and (self.band is not None or self.require_go):
            field = "require_go" if self.require_go else "band"
            raise RecipeError(f"stages.{self.name}.{field}: needs screened: and the name of a screen stage")
        if self.band is not None and not 0 <= self.band[0] <= self.band[1] <= 1:
            raise RecipeError(f"stages.{self.name}.band: {list(self.band)}: give [low, high] within 0 to 1")

    def foreign(self) -> list[str]:
        return self.foreign_trainer()

    def limited(self, rows: int) -> Self:
        update = {
            "steps": min(self.steps, 4),
            "prompts_per_step": min(self.prompts_per_step, rows),
            "per_device_train_batch_size": None,
        }
        return self.model_copy(update=update)

    def run(self, job: Job) -> None:
        from trl import GRPOTrainer

        [model] = job.models()
        self.require_device()
        tokenizer = load_tokenizer(model)
        tokenizer.chat_template = jinja_of(self.template, tokenizer)
        require_template(tokenizer, model.name)
        check_tags(tokenizer, self.name)
        rows = self.rows(job, model, tokenizer)
        config = self.config(model, job)
        rollouts = Rollouts(
            prefilled=is_prefilled(render(tokenizer, rows[0]["prompt"], add_generation_prompt=True)),
            max_completion_length=self.max_completion_length,
            end_ids=end_ids(model, tokenizer),
        )
        trainer = load_trainer(
            GRPOTrainer,
            config,
            model,
            self.name,
            reward_funcs=rewards_of(list(self.rewards), rollouts, job.verifiers),
            train_dataset=dataset_of(rows, config),
            processing_class=tokenizer,
        )
        logs = train(trainer, self.name, job.progress, window_of(config))
        save_weights(trainer, job.out)
        named = {f"rewards/{name}/mean": f"reward_{name}" for name in self.rewards}
        write_curves(logs, CURVES | named, job.out)
        write_completions(job.out.scratch / "completions", list(self.rewards), job.out)
        judged = {row["domain"] for row in rows} if "accuracy" in self.rewards else set()
        job.out.summary = summary(logs) | learned_by(job.verifiers, judged)

    def require_device(self) -> None:
        """Raises MissingError for vLLM without a GPU: TRL cannot hand it new weights there."""
        import torch

        if self.trainer.get("use_vllm") and not torch.cuda.is_available():
            raise MissingError(
                f"{self.name}: trainer.use_vllm needs a GPU; leave it out to sample without vLLM"
            )

    def rows(self, job: Job, model: Model, tokenizer: "PreTrainedTokenizerBase") -> list[dict[str, Any]]:
        """The problems to train on as dataset rows, sorted by id; what was dropped is counted."""
        from transformers import AutoConfig

        problems = job.problems()
        rates = self.pass_rates(job)
        rejected = Counter(reason for each in problems if (reason := self.outside(rates.get(each.id))))
        inside = [dataset_row(each) for each in problems if self.outside(rates.get(each.id)) is None]
        context = context_of(AutoConfig.from_pretrained(model.path, revision=model.revision))
        rows = fitting(inside, tokenizer, context, self.max_completion_length)
        rejected["too_long"] = len(inside) - len(rows)
        job.out.rows_in, job.out.rows_kept = len(problems), len(rows)
        job.out.counts = {"rejected": dict(+rejected)} if +rejected else {}
        require_prompts(len(rows), rejected["too_long"], self.prompts_per_step, self.name)
        return rows

    def pass_rates(self, job: Job) -> dict[str, float | None]:
        """Problem id -> pass rate in the screening; empty without one.

        Raises StageError for a screening that advises against the training, if it was asked to.
        """
        screenings = job.artifacts("screened")
        for screening in screenings:
            if not screening.manifest.summary["go"]:
                advice = f"screening {screening.stage} advises against this training: " + "; ".join(
                    screening.manifest.summary["reasons"]
                )
                if self.require_go:
                    raise StageError(f"{self.name}: {advice}")
                job.warn(advice)
        return {row["id"]: row["pass_rate"] for screening in screenings for row in screening.rows("problems")}

    def outside(self, rate: float | None) -> str | None:
        """Why a problem with this pass rate is left out, None where it is not."""
        if self.band is None or rate is None or self.band[0] <= rate <= self.band[1]:
            return None
        return "below_band" if rate < self.band[0] else "above_band"

    def config(self, model: Model, job: Job) -> "GRPOConfig":
        """TRL's config; saves are aligned with the generations, else a resumed run would differ."""
        from trl import GRPOConfig

        batch = self.prompts_per_step * self.num_generations
        rows = self.rows_per_pass(batch, self.max_completion_length)
        ours = {
            "max_steps": self.steps,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": self.share(batch) // rows,
            "num_generations": self.num_generations,
            "max_completion_length": self.max_completion_length,
            "temperature": self.temperature,
            "loss_type": self.loss_type,
            "scale_rewards": self.scale_rewards,
            "beta": self.beta,
            "epsilon": self.epsilon,
            "epsilon_high": self.epsilon_high,
            "num_iterations": self.num_iterations,
            "reward_weights": list(self.rewards.values()),
            "log_completions": True,
            "num_completions_to_print": 0,
            "shuffle_dataset": False,  # the dataset is in its order already
        }
        arguments = self.arguments(model, job.out.scratch, seed_of(job.seed, self.kind), ours)
        config = built(GRPOConfig, self.name, **arguments)
        window = window_of(config)
        config.save_steps = math.ceil(self.save_steps / window) * window
        return config


def window_of(config: "GRPOConfig") -> int:
    """Optimizer steps that one generation of completions serves."""
    accumulated = int(config.gradient_accumulation_steps)
    return math.lcm(int(config.steps_per_generation * config.num_iterations), accumulated) // accumulated


def end_ids(model: Model, tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """The tokens that end a completion: the tokenizer's and those of the model's generation defaults."""
    from transformers import GenerationConfig

    try:
        declared = GenerationConfig.from_pretrained(model.path, revision=model.revision).eos_token_id
    except OSError:  # a model without generation defaults
        declared = None
    more = declared if isinstance(declared, list) else [declared]
    return frozenset(each for each in [tokenizer.eos_token_id, *more] if each is not None)


def dataset_of(rows: list[dict[str, Any]], config: "GRPOConfig") -> "Dataset":
    """The prompts of the whole training in the order of their use: each pass over the rows is shuffled anew.

    One pass of the trainer over it is the training: a trainer that resumes in a later pass has forgotten in
    which order that pass was to go.
    """
    from datasets import Dataset

    generations = math.ceil(config.max_steps / window_of(config))
    needed = generations * config.generation_batch_size // config.num_generations
    passes = (
        random.Random(seed_of(config.seed, turn)).sample(range(len(rows)), len(rows)) for turn in count()
    )
    return Dataset.from_list(rows).select(list(islice(chain.from_iterable(passes), needed)))


def summary(logs: Logs) -> dict[str, Any]:
    """What the artifact says of itself: the last step, and the reward of the first and last tenth."""
    rewards = [row["reward"] for row in logs if row.get("reward") is not None]
    tenth = max(1, len(rewards) // 10)
    return {
        "steps": logs[-1]["step"],
        "loss": logs[-1]["loss"],
        "reward_first": fmean(rewards[:tenth]),
        "reward_last": fmean(rewards[-tenth:]),
        "length_last": logs[-1].get("completions/mean_length"),
    }
