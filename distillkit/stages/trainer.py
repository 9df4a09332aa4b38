"""What the stages that train share, each around one of TRL's trainers: weights come in, better ones go out."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, ClassVar

from distillkit.spec import EXECUTION
from distillkit.stages.base import PROBLEMS, WEIGHTS, Job, Stage, Wire
from distillkit.training.checkpoints import checkpoint_key, own_checkpoints
from distillkit.training.config import Training
from distillkit.training.watch import Evaluation, Watch, watch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer


class TrainerStage(Stage, Training):
    """A model and something to learn from in; weights out."""

    MAKES: ClassVar[str] = WEIGHTS
    DRAWS: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    model: Annotated[str, Wire((WEIGHTS,), external=True), EXECUTION]
    """Weights to start from: a stage, org/name[@rev] on the Hub, ./folder, or packaged weights such as toy:base."""

    def foreign(self) -> list[str]:
        return self.foreign_trainer()

    def claim_checkpoints(self, job: Job) -> None:
        """Take the work directory's checkpoints for this training's, and put those of another aside."""
        own_checkpoints(job.out.scratch, checkpoint_key(self, job.seed, job.contents), job.warn)


class WatchedStage(TrainerStage):
    """A training of what writes text, which may be measured on its way."""

    evaluate: Annotated[Watch | None, Wire((PROBLEMS,), default="none", heldout=True, named=True)] = None
    """Evaluation on the way: {problems: heldout, every: 50, n: 4, limit: 64}."""

    @property
    def judges(self) -> bool:
        return self.evaluate is not None

    def judged(self, domains: Collection[str]) -> set[str]:
        """None: what is measured on the way decides no weight, and a domain without verifier has no score."""
        return set()

    def watched(
        self, job: Job, trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase", max_tokens: int
    ) -> Evaluation | None:
        """The evaluations on the way, ready to run; None where nothing is asked for.

        max_tokens: of a completion, where the recipe does not say.
        """
        return watch(
            self.evaluate,
            trainer,
            tokenizer,
            job.problem_lists("evaluate"),
            job.verifiers,
            template=self.template,
            max_tokens=max_tokens,
            seed=job.seed,
            folder=job.out.scratch,
        )
