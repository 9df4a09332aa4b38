"""Weights of an earlier step of a training as a model of their own: to be evaluated, published, or trained on.

The last step is not always the best one: a reward may be gamed, a student overfit.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import CHECKPOINTS
from distillkit.durable import link_or_copy
from distillkit.errors import RecipeError, StageError
from distillkit.spec import EXECUTION
from distillkit.stages.base import WEIGHTS, Job, Stage, Wire
from distillkit.training.config import Training


class Checkpoint(Stage):
    """A training in, the weights that it had after a step out; no byte is copied where the file system has links."""

    MAKES: ClassVar[str] = WEIGHTS

    kind: Literal["checkpoint"] = "checkpoint"
    model: Annotated[str, Wire((WEIGHTS,), kinds=("sft", "grpo", "distill")), EXECUTION]
    """A training with `keep_steps`."""
    step: int | None = Field(ge=1)
    """Optimizer step, a multiple of the training's `keep_steps`; null is its last one."""

    def fit(self, inputs: Mapping[str, Sequence[Stage]]) -> None:
        for each in inputs["model"]:
            kept = each.keep_steps if isinstance(each, Training) else None
            if kept is None:
                raise RecipeError(
                    f"stages.{self.name}.model: {each.name} keeps its last weights only; add keep_steps: to it"
                )
            last = dict(each).get("steps")
            if self.step is not None and last is not None and self.step >= last:
                raise RecipeError(
                    f"stages.{self.name}.step: {each.name} ends at step {last:,}; name {each.name} itself"
                )
            if self.step is not None and self.step % kept:
                raise RecipeError(
                    f"stages.{self.name}.step: {each.name} keeps every {kept:,} steps, and {self.step:,} is no "
                    "multiple of that"
                )

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"step": None})  # a smoke run ends before

    def run(self, job: Job) -> None:
        [training] = job.artifacts("model")
        folder = training.path / (f"{CHECKPOINTS}/{self.step}" if self.step is not None else "model")
        if not folder.exists():
            kept = sorted(int(each.name) for each in (training.path / CHECKPOINTS).glob("*"))
            there = ", ".join(f"{each:,}" for each in kept) or "none"
            raise StageError(
                f"{self.name}: {training.stage} has no weights of step {self.step:,} beside its last ones, which are "
                f"its own name's; those that it kept: {there}"
            )
        for file in sorted(folder.iterdir()):
            link_or_copy(file, job.out.path / "model" / file.name)
        told = training.manifest.summary
        job.out.rows_in = job.out.rows_kept = training.manifest.rows_kept
        job.out.summary = {"steps": self.step or told.get("steps"), "serve": told.get("serve", {})}
