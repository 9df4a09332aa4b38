"""Train a reward model on preference pairs, by TRL's RewardTrainer: what pays where no rule can judge.

A learned reward can be gamed, so that the method lets it pay in the last stage only, and late. What it is worth is
measured on pairs that it never saw, beside the plainest thing that it could have learnt instead: the length.

Sources: Bradley-Terry loss as in InstructGPT, arXiv:2203.02155, eq. 1; DeepSeek-R1, arXiv:2501.12948v2, section 2.3.4.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import context_of, load_tokenizer
from distillkit.errors import StageError
from distillkit.interval import interval
from distillkit.spec import EXECUTION, seed_of
from distillkit.stages.base import PAIRS, WEIGHTS, Job, Wire
from distillkit.stages.trainer import TrainerStage
from distillkit.trace import Pair, pair_of
from distillkit.training.adapter import settle
from distillkit.training.chat import jinja_of
from distillkit.training.comparison import Compared, Comparisons, On, dataset_of, keep_text, leads_of
from distillkit.training.passthrough import ConfigName
from distillkit.training.preflight import check_positions, require_template
from distillkit.training.rehearsal import memory_errors
from distillkit.training.room import warn_of_memory
from distillkit.training.run import Logs, built, load_trainer, save_weights, train, write_curves

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import RewardConfig, RewardTrainer

CURVES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "accuracy": "accuracy",
    "margin": "margin",
    "mean_reward": "mean_reward",
}
"""TRL's metric -> its name in curves.json."""


class RewardModelStage(TrainerStage):
    """Pairs and a model in; weights with one output out, which rates a whole conversation.

    Summary: `on`, and `heldout`: the share of held-out pairs that it orders right, and that the longer answer would.
    """

    RATES: ClassVar[bool] = True
    CONFIG: ClassVar[ConfigName] = "RewardConfig"
    RENAMED: ClassVar[dict[str, str]] = {"num_train_epochs": "epochs"}

    kind: Literal["reward_model"] = "reward_model"
    input: Annotated[str | None, Wire((PAIRS,)), EXECUTION] = None
    """Preference pairs; left out, the nearest earlier ones."""
    model: Annotated[str, Wire((WEIGHTS,), external=True), EXECUTION]
    """Weights to start from; their head is replaced by one with a single output."""
    on: On = "completion"
    """What of an answer is rated: what follows `</think>` (helpfulness), or all of it (harmlessness). A grpo stage has
    to pay for the same."""
    max_length: int = Field(ge=8)
    """Tokens of a conversation; a pair with a longer one is dropped and counted."""
    epochs: float = Field(1.0, gt=0)
    batch: int = Field(64, ge=1)
    """Pairs of one optimizer step."""
    heldout: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts that are not trained on, but tested; 0 tests nothing."""
    center_rewards_coefficient: float | None = Field(None, ge=0)
    """Keeps the rewards around zero, which one stage after the other can then add up; 0.01 is usual."""
    margin: bool = False
    """Ask that the chosen answer be rated higher by at least the pair's own margin."""

    def check(self, recipe_folder: Path) -> None:
        self.check_training(self.name)
        self.rows_per_pass(self.batch, 2 * self.max_length)

    def limited(self, rows: int) -> Self:
        smaller = {"batch": self.fewer(self.batch, rows), "epochs": min(self.epochs, 1.0)}
        return self.model_copy(update={**smaller, "per_device_train_batch_size": None})

    def run(self, job: Job) -> None:
        [model] = job.models()
        self.require_machine(self.name)
        tokenizer = load_tokenizer(model)
        tokenizer.padding_side = "right"
        tokenizer.chat_template = jinja_of(self.template, tokenizer)
        require_template(tokenizer, model.name)
        comparisons = self.comparisons(job, tokenizer)
        learnt, heldout = comparisons.parted(self.heldout, job.seed)
        self.claim_checkpoints(job)
        trainer = self.trainer_of(model, tokenizer, learnt, job)
        longest = max(len(ids) for each in learnt for ids in (each.chosen, each.rejected))
        check_positions(longest, context_of(trainer.model.config), self.name)
        with memory_errors(self.name, f"pairs of up to {longest:,} tokens each"):
            logs = train(trainer, self.name, job.progress, keep_steps=self.keep_steps)
        leads = leads_of(trainer.model, tokenizer, heldout)
        save_weights(trainer, job.out, partial(settle, trainer=trainer, lora=self.lora))
        write_curves(logs, CURVES, job.out)
        job.out.summary = summary(self, logs, learnt) | examined(heldout, leads)
        for warning in job.out.summary["warnings"]:
            job.warn(warning["text"])

    def comparisons(self, job: Job, tokenizer: "PreTrainedTokenizerBase") -> Comparisons:
        """The pairs as tokens; what was dropped is counted. Raises StageError where none is left."""
        keep_text(tokenizer, pairs_of(job), self.on)
        found = Comparisons.of(pairs_of(job), tokenizer, self.on, self.max_length, margin=self.margin)
        total = len(found.kept) + found.dropped.total()
        job.out.rows_in, job.out.rows_kept = total, len(found.kept)
        job.out.counts = {"rejected": dict(found.dropped)} if found.dropped else {}
        if not found.kept:
            why = ", ".join(f"{n:,} {reason}" for reason, n in found.dropped.most_common())
            raise StageError(
                f"{self.name}: none of {total:,} pairs can be used ({why or 'there are none'}); raise max_length where "
                "they are too long, set another template: where it deletes text, or give other pairs"
            )
        return found

    def config(self, model: Model, job: Job) -> "RewardConfig":
        """TRL's config."""
        from trl import RewardConfig

        rows = self.rows_per_pass(self.batch, 2 * self.max_length)
        ours = {
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": self.share(self.batch) // rows,
            "max_length": None,  # rows that fit are not looked at again
            "center_rewards_coefficient": self.center_rewards_coefficient,
            "save_steps": self.save_steps,
        }
        arguments = self.arguments(model, job.out.scratch, seed_of(job.seed, self.kind), ours)
        arguments["model_init_kwargs"] |= {"num_labels": 1}
        config: RewardConfig = built(RewardConfig, self.name, **arguments)
        return config

    def trainer_of(
        self, model: Model, tokenizer: "PreTrainedTokenizerBase", pairs: Sequence[Compared], job: Job
    ) -> "RewardTrainer":
        """TRL's trainer, ready to train."""
        from trl import RewardTrainer

        warn_of_memory(model, self.load(self.batch, 2 * self.max_length), self.name, job.warn)
        return load_trainer(
            RewardTrainer,
            self.config(model, job),
            model,
            self.name,
            train_dataset=dataset_of(pairs, margin=self.margin),
            processing_class=tokenizer,
            **self.adaptation("SEQ_CLS"),
        )


def pairs_of(job: Job) -> Iterator[Pair]:
    """The pairs that come in."""
    return (pair_of(row) for artifact in job.artifacts("input") for row in artifact.rows())


def summary(stage: RewardModelStage, logs: Logs, learnt: Sequence[Compared]) -> dict[str, Any]:
    """What the artifact says of the training; `loss` is of the last step."""
    return {"on": stage.on, "steps": logs[-1]["step"], "loss": logs[-1]["loss"], "pairs": len(learnt)}


def examined(pairs: Sequence[Compared], leads: Sequence[float]) -> dict[str, Any]:
    """What the held-out pairs say, with a warning where that is bad; each prompt counts once."""
    if not pairs:
        return {"heldout": None, "warnings": []}
    right = _by_prompt(pairs, leads)
    longer = _by_prompt(pairs, [len(each.chosen) - len(each.rejected) for each in pairs])
    found = {
        "accuracy": right,
        "longer": longer,
        "lead": sum(leads) / len(leads),
        "pairs": len(pairs),
    }
    text = None
    if right["low"] <= 0.5:
        text = (
            f"on {right['n']} held-out prompts it orders {right['value']:.0%} of the pairs right (95 % interval from "
            f"{right['low']:.0%}): that may be chance; give more pairs, or train longer, before you pay by it"
        )
    elif max(longer["value"], 1 - longer["value"]) >= right["value"]:
        which = "longer" if longer["value"] > 0.5 else "shorter"
        text = (
            f"the {which} answer alone is the chosen one as often as the reward model says so ({right['value']:.0%} of "
            "the held-out pairs): what it pays for may be length; balance the pairs"
        )
    return {"heldout": found, "warnings": [{"name": "reward_model", "text": text}] if text else []}


def _by_prompt(pairs: Sequence[Compared], leads: Sequence[float]) -> dict[str, float]:
    """The share of pairs with a positive lead, a tie as half, with its interval over prompts."""
    values: dict[str, list[float]] = {}
    for pair, lead in zip(pairs, leads, strict=True):
        values.setdefault(pair.problem_id, []).append(0.5 if lead == 0 else float(lead > 0))
    found = interval([sum(each) / len(each) for each in values.values()])
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(values)}
