"""Teach a student on its own completions: a teacher says of every token what it would have said there.

Beside the method's own distillation (SFT on a teacher's traces), by TRL's DistillationTrainer: the generalized
Jensen-Shannon divergence between both models' next-token distributions, on text that the student itself wrote.

Source: on-policy distillation (GKD), arXiv:2306.13649, section 3 and equation 1.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import context_of, load_tokenizer
from distillkit.errors import RecipeError
from distillkit.spec import EXECUTION, seed_of
from distillkit.stages.base import PROBLEMS, WEIGHTS, Job, Wire
from distillkit.stages.trainer import WatchedStage
from distillkit.template import stop_of
from distillkit.training.callbacks import sampling_errors
from distillkit.training.chat import jinja_of
from distillkit.training.completions import write_completions
from distillkit.training.diagnosis import on_the_way, warnings_of
from distillkit.training.order import in_order
from distillkit.training.passthrough import ConfigName
from distillkit.training.preflight import check_end, fitting, require_prompts, require_template, settle_end
from distillkit.training.rehearsal import memory_errors, rehearse
from distillkit.training.room import warn_of_memory
from distillkit.training.run import Logs, built, load_trainer, save_weights, train, write_curves
from distillkit.training.serving import finisher, serving
from distillkit.training.stopping import stop_at
from distillkit.training.watch import write_evaluation

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import DistillationConfig

CURVES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "completions/mean_length": "length",
    "completions/max_length": "max_length",
    "completions/mean_terminated_length": "terminated_length",
    "completions/clipped_ratio": "clipped",
}
"""TRL's metric -> its name in curves.json; `loss` is the divergence."""

SHOWN = 3
"""Words of a vocabulary that an error names."""


class Distill(WatchedStage):
    """Problems, a student and a teacher in; the student's weights out, after learning on its own completions."""

    CONFIG: ClassVar[ConfigName] = "DistillationConfig"
    RENAMED: ClassVar[dict[str, str]] = {"max_steps": "steps", "num_train_epochs": "steps"}

    kind: Literal["distill"] = "distill"
    input: Annotated[str | None, Wire((PROBLEMS,)), EXECUTION] = None
    """Problems whose prompts are answered; left out, the nearest earlier ones. Their golds are not read."""
    model: Annotated[str, Wire((WEIGHTS,), external=True), EXECUTION]
    """The student: a stage, org/name[@rev] on the Hub, ./folder, or packaged weights."""
    teacher: Annotated[str, Wire((WEIGHTS,), external=True), EXECUTION]
    """Who says what each next token should be. It needs the student's vocabulary, token for token."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    batch: int = Field(32, ge=1)
    """Prompts of one step, each answered once."""
    max_completion_length: int = Field(ge=2)
    """Tokens; a completion that is not finished by then is cut, and learnt from as far as it goes."""
    temperature: float = Field(1.0, gt=0)
    """Of the student's sampling, and of both distributions that are compared."""
    beta: float = Field(1.0, ge=0, le=1)
    """Which divergence: 0 the forward KL (cover all that the teacher would say), 1 the reverse KL (say only what the
    teacher would), between them the generalized Jensen-Shannon divergence."""

    def check(self, recipe_folder: Path) -> None:
        self.check_training(self.name)
        self.rows_per_pass(self.batch, self.max_completion_length)
        if self.teacher == self.model:
            raise RecipeError(f"stages.{self.name}.teacher: is the student itself; name a better model")

    def foreign(self) -> list[str]:
        found = super().foreign()
        if (self.trainer.get("teacher_model_init_kwargs") or {}).get("trust_remote_code"):
            found.append("trainer.teacher_model_init_kwargs runs code from the teacher's repository")
        return found

    def limited(self, rows: int) -> Self:
        smaller = {"steps": min(self.steps, 4), "batch": self.fewer(self.batch, rows)}
        return self.model_copy(update={**smaller, "per_device_train_batch_size": None})

    def run(self, job: Job) -> None:
        from trl import DistillationTrainer

        [student], [teacher] = job.models(), job.models("teacher")
        self.require_machine(self.name)
        tokenizer = load_tokenizer(student)
        self.require_vocabulary(student, tokenizer, teacher, job)
        tokenizer.chat_template = jinja_of(self.template, tokenizer)
        require_template(tokenizer, student.name)
        template = tokenizer.chat_template
        settle_end(tokenizer)
        check_end(tokenizer, self.name)
        rows = self.rows(job, student, tokenizer)
        config = self.config(student, teacher, job)
        self.claim_checkpoints(job)
        load = self.load(self.batch, self.max_completion_length)
        warn_of_memory(
            student, load, self.name, job.warn, self.trainer, self.share(self.batch), teacher=teacher
        )
        trainer = load_trainer(
            DistillationTrainer,
            config,
            student,
            self.name,
            teacher_model=teacher.path,
            train_dataset=dataset_of(rows, self.steps * self.batch, config.seed, self.batch),
            processing_class=tokenizer,
            **self.adaptation(),
        )
        if stop_of(self.template) and not config.use_vllm:
            stop_at(trainer, tokenizer, stop_of(self.template))
        evaluation = self.watched(job, trainer, tokenizer, self.max_completion_length)
        rehearse(trainer, self.name)
        longest = f"completions of up to {self.max_completion_length:,} tokens"
        with memory_errors(self.name, longest), sampling_errors(self.name, trainer):
            logs = train(trainer, self.name, job.progress, keep_steps=self.keep_steps)
        save_weights(trainer, job.out, finisher(trainer, tokenizer, template, self.lora))
        write_curves(logs, CURVES, job.out)
        write_completions(job.out.scratch / "completions", [], job.out)
        warnings = [] if evaluation is None else warnings_of(on_the_way(evaluation.read()))
        for each in warnings:
            job.warn(each["text"])
        job.out.summary = summary(logs) | {"warnings": warnings} | write_evaluation(evaluation, job.out)
        job.out.summary["serve"] = serving(job.out.path / "model", student.name)

    def require_vocabulary(
        self, student: Model, tokenizer: "PreTrainedTokenizerBase", teacher: Model, job: Job
    ) -> None:
        """Raises RecipeError for a teacher whose token ids mean something else; asked before weights are loaded."""
        other = load_tokenizer(teacher)
        objection = differing(tokenizer.get_vocab(), other.get_vocab()) or sizes(student, teacher)
        if objection:
            raise RecipeError(
                f"stages.{self.name}.teacher: {teacher.name} has not the vocabulary of {student.name} ({objection}), "
                "so their next tokens cannot be compared; take a teacher of the same family, or train on its traces: "
                "sample from it, then kind: sft"
            )
        if self.template is None and other.chat_template != tokenizer.chat_template:
            job.warn(
                "student and teacher have different chat templates; the teacher reads the student's, which it may "
                "never have seen: train one of them on the other's first"
            )

    def rows(self, job: Job, student: Model, tokenizer: "PreTrainedTokenizerBase") -> list[dict[str, Any]]:
        """The prompts as dataset rows, sorted by the ids of their problems; what was dropped is counted."""
        from transformers import AutoConfig

        found = [{"prompt": problem.messages} for problem in job.problems()]
        context = context_of(AutoConfig.from_pretrained(student.path, revision=student.revision))
        rows = fitting(found, tokenizer, context, self.max_completion_length)
        dropped = len(found) - len(rows)
        job.out.rows_in, job.out.rows_kept = len(found), len(rows)
        job.out.counts = {"rejected": {"too_long": dropped}} if dropped else {}
        require_prompts(len(rows), dropped, 1, self.name)
        return rows

    def config(self, student: Model, teacher: Model, job: Job) -> "DistillationConfig":
        """TRL's config."""
        from trl import DistillationConfig

        rows = self.rows_per_pass(self.batch, self.max_completion_length)
        ours = {
            "max_steps": self.steps,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": self.share(self.batch) // rows,
            "max_completion_length": self.max_completion_length,
            "temperature": self.temperature,
            "beta": self.beta,
            "log_completions": True,
            "num_completions_to_print": 0,
            "shuffle_dataset": False,  # the dataset is in its order already
            "save_steps": self.save_steps,
        }
        arguments = self.arguments(student, job.out.scratch, seed_of(job.seed, self.kind), ours)
        revision = {"revision": teacher.revision} if teacher.revision else {}
        arguments["teacher_model_init_kwargs"] = {
            "use_safetensors": True,
            "dtype": arguments["model_init_kwargs"]["dtype"],
            **(self.trainer.get("teacher_model_init_kwargs") or {}),
            **revision,
        }
        config: DistillationConfig = built(DistillationConfig, self.name, **arguments)
        return config


def differing(student: dict[str, int], teacher: dict[str, int]) -> str | None:
    """Which tokens two vocabularies do not share, None where they are one and the same."""
    if student == teacher:
        return None
    odd = sorted(
        token for token in student.keys() | teacher.keys() if student.get(token) != teacher.get(token)
    )
    return f"{len(odd):,} tokens differ, as {', '.join(map(repr, odd[:SHOWN]))}"


def sizes(student: Model, teacher: Model) -> str | None:
    """In how many outputs two models differ, None where they have as many: some pad their vocabulary."""
    from transformers import AutoConfig

    own, other = (
        AutoConfig.from_pretrained(each.path, revision=each.revision).get_text_config().vocab_size
        for each in (student, teacher)
    )
    return None if own == other else f"{other:,} outputs against {own:,}"


def dataset_of(rows: Sequence[dict[str, Any]], needed: int, seed: int, batch: int) -> "Dataset":
    """The prompts of the whole training in the order of their use."""
    from datasets import Dataset

    return Dataset.from_list(list(rows)).select(in_order(len(rows), needed, seed, batch))


def summary(logs: Logs) -> dict[str, Any]:
    """What the artifact says of itself: the last step, and the divergence of the first and last tenth."""
    losses = [row["loss"] for row in logs]
    tenth = max(1, len(losses) // 10)
    return {
        "steps": logs[-1]["step"],
        "loss": losses[-1],
        "loss_first": fmean(losses[:tenth]),
        "loss_last": fmean(losses[-tenth:]),
        "length_last": logs[-1].get("completions/mean_length"),
    }
