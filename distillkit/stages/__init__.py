"""Every kind of stage. Adding one: its file, one name here, its test."""

from typing import Annotated

from pydantic import Field

from distillkit.stages.base import Stage
from distillkit.stages.budget_curve import BudgetCurve
from distillkit.stages.checkpoint import Checkpoint
from distillkit.stages.decontaminate import Decontaminate
from distillkit.stages.dedup import Dedup
from distillkit.stages.distill import Distill
from distillkit.stages.evaluate import Evaluate
from distillkit.stages.filter import Filter
from distillkit.stages.grpo import Grpo
from distillkit.stages.measure import MeasureStage
from distillkit.stages.mix import Mix
from distillkit.stages.preferences import Preferences
from distillkit.stages.probe import Probe
from distillkit.stages.problems import Problems
from distillkit.stages.publish import Publish
from distillkit.stages.refine import Refine
from distillkit.stages.reward_model import RewardModelStage
from distillkit.stages.sample import Sample
from distillkit.stages.screen import Screen
from distillkit.stages.select import Select
from distillkit.stages.sft import Sft
from distillkit.stages.traces import Traces
from distillkit.stages.verify import Verify

AnyStage = Annotated[
    Problems
    | Sample
    | Refine
    | Traces
    | Verify
    | MeasureStage
    | Dedup
    | Decontaminate
    | Filter
    | Select
    | Mix
    | Sft
    | Grpo
    | Checkpoint
    | Preferences
    | RewardModelStage
    | Distill
    | Evaluate
    | Screen
    | BudgetCurve
    | Probe
    | Publish,
    Field(discriminator="kind"),
]

__all__ = ["AnyStage", "Stage"]
