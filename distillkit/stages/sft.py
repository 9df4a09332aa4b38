"""Supervised fine-tuning of a student on traces, by TRL's SFTTrainer: the distillation step of the method.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 2.4 (distillation: SFT only, 2 to 3 epochs).
"""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import context_of, load_tokenizer
from distillkit.errors import RecipeError
from distillkit.spec import EXECUTION, seed_of
from distillkit.stages.base import SELECTION, TRACES, Job, Wire
from distillkit.stages.trainer import WatchedStage
from distillkit.trace import Trace, trace_of
from distillkit.training.chat import jinja_of
from distillkit.training.diagnosis import on_the_way, warnings_of
from distillkit.training.examples import Examples
from distillkit.training.labels import check_labels, check_reasoning
from distillkit.training.passthrough import ConfigName
from distillkit.training.preflight import (
    check_end,
    check_positions,
    keep_reasoning,
    require_examples,
    require_template,
    require_token,
    settle_pad,
    warn_of_length,
)
from distillkit.training.rehearsal import memory_errors, rehearse
from distillkit.training.room import warn_of_memory
from distillkit.training.run import Logs, built, load_trainer, save_weights, train, write_curves
from distillkit.training.serving import finisher, serving
from distillkit.training.watch import Evaluation, write_evaluation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import SFTConfig, SFTTrainer

CURVES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
}
"""TRL's metric -> its name in curves.json."""


class Sft(WatchedStage):
    """Train a model on traces: the loss is on completions only, and a longer row is dropped, never cut."""

    CONFIG: ClassVar[ConfigName] = "SFTConfig"
    RENAMED: ClassVar[dict[str, str]] = {"num_train_epochs": "epochs"}

    kind: Literal["sft"] = "sft"
    input: Annotated[str | None, Wire((SELECTION, TRACES)), EXECUTION] = None
    """Traces or a selection of them; left out, the nearest earlier one."""
    max_length: int = Field(ge=8)
    """Tokens of prompt and completion together; longer rows are dropped and counted."""
    epochs: float = Field(2.0, gt=0)
    batch: int = Field(64, ge=1)
    """Rows of one optimizer step."""
    packing: bool = False
    """Fill rows of max_length with several examples, which do not see each other."""
    heldout: Annotated[str | None, Wire((SELECTION, TRACES), default="none"), EXECUTION] = None
    """Traces that are not trained on, whose loss is measured with `evaluate`."""

    def check(self, recipe_folder: Path) -> None:
        self.check_training(self.name)
        self.rows_per_pass(self.batch, self.max_length)
        if self.heldout is not None and self.evaluate is None:
            raise RecipeError(
                f"stages.{self.name}.heldout: is measured by evaluate:, which is not there; add it"
            )

    def limited(self, rows: int) -> Self:
        smaller = {"batch": self.fewer(self.batch, rows), "epochs": min(self.epochs, 1.0)}
        return self.model_copy(update={**smaller, "per_device_train_batch_size": None})

    def run(self, job: Job) -> None:
        self.require_machine(self.name)
        [model] = job.models()
        tokenizer = load_tokenizer(model)
        template = tokenizer.chat_template = jinja_of(self.template, tokenizer)
        examples = self.examples(job, model, tokenizer)
        self.claim_checkpoints(job)
        trainer = self.trainer_of(model, tokenizer, examples, job)
        check_positions(examples.longest, context_of(trainer.model.config), self.name)
        check_labels(trainer, tokenizer, examples, self.name)
        rehearse(trainer, self.name)
        evaluation = self.watched_loss(trainer, tokenizer, job)
        with memory_errors(self.name, f"rows of up to {examples.longest:,} tokens"):
            logs = train(trainer, self.name, job.progress, keep_steps=self.keep_steps)
        save_weights(trainer, job.out, finisher(trainer, tokenizer, template, self.lora))
        write_curves(logs, CURVES, job.out)
        warnings = warn_of_length(examples, self.max_length)
        if evaluation is not None:
            warnings += warnings_of(on_the_way(evaluation.read()))
        for each in warnings:
            job.warn(each["text"])
        job.out.summary = {
            **summary(logs, examples, trainer.state.global_step),
            **write_evaluation(evaluation, job.out),
            "warnings": warnings,
            "serve": serving(job.out.path / "model", model.name),
        }

    def examples(self, job: Job, model: Model, tokenizer: "PreTrainedTokenizerBase") -> Examples:
        """The tokens to train on, sorted by trace id; what was dropped is counted."""
        require_template(tokenizer, model.name)
        for token in ("eos_token", "pad_token"):
            if token in self.trainer:
                require_token(tokenizer, self.trainer[token], f"stages.{self.name}.trainer.{token}")
                setattr(tokenizer, token, self.trainer[token])
        keep_reasoning(tokenizer, traces_of(job))
        check_end(tokenizer, self.name)
        settle_pad(tokenizer, self.name)
        found = Examples.of(traces_of(job), tokenizer, self.max_length)
        require_examples(found, self.name, self.max_length)
        check_reasoning(found, traces_of(job), tokenizer, self.name)
        job.out.rows_in = len(found.kept) + found.dropped.total()
        job.out.rows_kept = len(found.kept)
        job.out.counts = {"rejected": dict(found.dropped)} if found.dropped else {}
        return found

    def config(self, model: Model, job: Job) -> "SFTConfig":
        """TRL's config."""
        from trl import SFTConfig

        rows = self.rows_per_pass(self.batch, self.max_length)
        ours = {
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": self.share(self.batch) // rows,
            "packing": self.packing,
            "max_length": self.max_length if self.packing else None,  # rows that fit are not looked at again
            "save_steps": self.save_steps,
        }
        arguments = self.arguments(model, job.out.scratch, seed_of(job.seed, self.kind), ours)
        config: SFTConfig = built(SFTConfig, self.name, **arguments)
        return config

    def trainer_of(
        self, model: Model, tokenizer: "PreTrainedTokenizerBase", examples: Examples, job: Job
    ) -> "SFTTrainer":
        """TRL's trainer, ready to train."""
        from trl import SFTTrainer

        warn_of_memory(model, self.load(self.batch, self.max_length), self.name, job.warn)
        return load_trainer(
            SFTTrainer,
            self.config(model, job),
            model,
            self.name,
            train_dataset=examples.dataset(),
            processing_class=tokenizer,
            **self.adaptation(),
        )

    def watched_loss(
        self, trainer: "SFTTrainer", tokenizer: "PreTrainedTokenizerBase", job: Job
    ) -> Evaluation | None:
        """What measures on the way, the loss of held-out traces too; None where nothing is asked for."""
        found = self.watched(job, trainer, tokenizer, self.max_length)
        if found is not None and self.heldout is not None:
            kept = Examples.of(traces_of(job, "heldout"), tokenizer, self.max_length).kept
            rows = [each.ids.tolist() for each in kept[: found.watch.limit]]
            found.worked = [
                (row[: each.prompt], row[each.prompt :]) for row, each in zip(rows, kept, strict=False)
            ]
        return found


def traces_of(job: Job, slot: str = "input") -> Iterator[Trace]:
    """The traces that come in, each as often as its selection says."""
    for row in job.view(slot).rows(labels=False):
        yield from repeat(trace_of(row), row.get("copies", 1))


def summary(logs: Logs, examples: Examples, steps: int) -> dict[str, Any]:
    """What the artifact says of itself; `tokens` are those of one epoch, `loss` is of the last step."""
    return {
        "steps": steps,
        "loss": logs[-1]["loss"],
        "rows": len(examples.kept),
        "tokens": examples.tokens,
        "trained_tokens": examples.trained,
        "dropped_tokens": examples.over_length,
        "longest": examples.longest,
    }
