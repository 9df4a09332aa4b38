"""What a GRPO training says of itself: its curves, samples, diagnosis and the numbers of its summary."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distillkit.stats import BANDS
from distillkit.store import Writer
from distillkit.training.completions import write_completions
from distillkit.training.diagnosis import diagnose, doctor, write_diagnosis
from distillkit.training.rewards.description import METRICS, VERDICT_METRICS
from distillkit.training.run import Logs, curves_of, write_curves
from distillkit.training.watch import Evaluation, write_evaluation

if TYPE_CHECKING:
    from transformers import TrainerCallback

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
    "clip_ratio/low_mean": "clip_low",
    "clip_ratio/high_mean": "clip_high",
    "entropy": "entropy",
    "kl": "kl",
    **{name: name for name in (*METRICS, *VERDICT_METRICS)},
    **{f"{name}_{band}": f"{name}_{band}" for name in ("right_length", "wrong_length") for band in BANDS},
}
"""TRL's metric -> its name in curves.json; each reward adds `reward_<name>`, its mean."""


@dataclass
class Account:
    """Listens to a training with these rewards, and writes down what became of it."""

    rewards: list[str]
    """Their names, in order."""
    warn: Callable[[str], None]
    warnings: list[dict[str, str]]
    """{name, text} of what was told before the first step."""
    evaluation: Evaluation | None = None
    _told: set[str] = field(default_factory=set)

    @property
    def curves(self) -> dict[str, str]:
        """The trainer's metric -> its name in curves.json."""
        return CURVES | {f"rewards/{name}/mean": f"reward_{name}" for name in self.rewards}

    def listener(self) -> "TrainerCallback":
        """Tells what goes wrong while it goes wrong."""
        return doctor(self.curves, self.warn, self._told)

    def write(self, logs: Logs, out: Writer) -> dict[str, Any]:
        """Write curves.json, completions.jsonl, eval.jsonl and diagnosis.json; returns the summary."""
        write_curves(logs, self.curves, out)
        write_completions(out.scratch / "completions", self.rewards, out)
        evaluated = write_evaluation(self.evaluation, out)
        curves = curves_of(logs, self.curves)
        findings = diagnose(curves, [] if self.evaluation is None else self.evaluation.read())
        for finding in findings:
            if finding.name not in self._told:
                self.warn(finding.text)
        found = write_diagnosis(findings, curves, out)
        return summary(logs) | {"warnings": [*self.warnings, *found]} | evaluated


def summary(logs: Logs) -> dict[str, Any]:
    """The last step, the reward of the first and last tenth, and the share of groups without a signal in all."""
    rewards = [row["reward"] for row in logs if row.get("reward") is not None]
    tenth = max(1, len(rewards) // 10)
    return {
        "steps": logs[-1]["step"],
        "loss": logs[-1]["loss"],
        "reward_first": fmean(rewards[:tenth]),
        "reward_last": fmean(rewards[-tenth:]),
        "length_last": logs[-1].get("completions/mean_length"),
        "zero_std": fmean(row.get("frac_reward_zero_std") or 0.0 for row in logs),
    }
