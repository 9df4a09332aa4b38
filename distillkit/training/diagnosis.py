"""Is the run going wrong? The curves of a GRPO training read for the ways in which such runs are known to fail.

Every threshold is ours, with its reason beside it; each warning names the remedy that TRL has. Nothing is changed:
whoever trains decides.

Sources: entropy collapse and clip-higher, DAPO, arXiv:2503.14476, section 3.1; groups without a signal, section 3.2;
length bias of wrong answers, Dr. GRPO, arXiv:2503.20783, section 3.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distillkit.store import Writer
from distillkit.training.run import curves_of

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerState

Curves = Mapping[str, Sequence[float | None]]
"""As in curves.json, without `step`."""

Lines = Sequence[Mapping[str, float]]
"""As in eval.jsonl."""

FIFTH = 5
"""A run is judged by the means of its first and its last fifth: a single step is noise."""
LEAST_STEPS = 10
"""Below it there is no trend to speak of."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, in words with the remedy; `value` crossed `threshold`."""

    name: str
    text: str
    value: float
    threshold: float


@dataclass(frozen=True)
class Trend:
    """A curve at the beginning and at the end; None where it has no values."""

    first: float | None
    last: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Trend":
        width = max(1, len(values) // FIFTH)
        return cls(_mean(values[:width]), _mean(values[-width:]))

    def growth(self) -> float | None:
        """last / first; None where one of them is missing or the first is not positive."""
        if self.first is None or self.last is None or self.first <= 0:
            return None
        return self.last / self.first

    def rise(self) -> float | None:
        """last - first; None where one of them is missing."""
        return None if self.first is None or self.last is None else self.last - self.first


Trends = Mapping[str, Trend]

REWARD_RISE = 0.2
"""A smaller rise is the form alone, at its usual weight of 0.1."""
EARNED = 0.2
"""Share of a reward's rise that right answers should at least account for: of runs on the tiny world honest ones lie at
three quarters and more, gamed ones at a twentieth and less."""
ZERO_STD = 0.6
"""Groups without a signal: with more than that, over half of what was sampled teaches nothing."""
ENTROPY_LEFT = 0.2
"""Of the entropy at the start: DAPO's collapsed runs fall to a few per cent of it within some hundred steps."""
ENTROPY_GROWN = 2.0
"""A policy twice as undecided as at the start is coming apart, not exploring."""
TRUNCATED = 0.25
"""One completion in four without an end: most of the batch's tokens are in them."""
LENGTH_BIAS = 1.3
"""How much more than right answers wrong ones may grow, and be long; Dr. GRPO shows the bias far above it."""
FORMAT_ONLY = 0.5
"""Form with a wrong answer: from here on form is what is being learned."""
ANSWER_INSIDE = 0.1
"""Answers that nobody reads, since they stand in the reasoning: more than slips."""
KL = 1.0
"""Nats per token from the reference: text that the reference finds e times less likely at every token."""
CLIPPED = 0.2
"""Share of clipped tokens: the steps are longer than the trust region; PPO runs lie at a few per cent."""
DISTINCT = 0.25
"""Different completions of a group: below it one answer is sampled over and over."""
MIXING_RISE = 0.1
"""R1-Zero's fault; one completion in ten more than at the start."""
UNJUDGED = 0.05
"""Completions without a verdict; as max_unjudged elsewhere."""
LOSS_RISE = 0.2
"""Nats per token on what the model itself said before."""
SCORE_FALL = 0.05
"""pass@1 on the way, against the start or the best; and it has to be beyond what so few samples vary by themselves."""


def trends_of(curves: Curves) -> dict[str, Trend]:
    """First and last fifth of every curve."""
    return {name: Trend.of(values) for name, values in curves.items()}


def diagnose(curves: Curves, lines: Lines = ()) -> list[Finding]:
    """What is wrong with a training so far; nothing within its first steps."""
    if max(map(len, curves.values()), default=0) < LEAST_STEPS:
        return []
    trends = trends_of(curves)
    found = [check(trends) for check in CHECKS]
    return [each for each in found if each is not None] + on_the_way(lines)


def write_diagnosis(findings: Sequence[Finding], curves: Curves, out: Writer) -> list[dict[str, str]]:
    """Write `diagnosis.json`: {findings, numbers: {curve: {first, last}}}; the warnings for the summary."""
    numbers = {name: asdict(trend) for name, trend in trends_of(curves).items()}
    found: dict[str, Any] = {"findings": [asdict(each) for each in findings], "numbers": numbers}
    out.add_text("diagnosis.json", json.dumps(found, indent=1))
    return warnings_of(findings)


def warnings_of(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """{name, text} of each, for the summary of an artifact."""
    return [{"name": each.name, "text": each.text} for each in findings]


def doctor(names: Mapping[str, str], warn: Callable[[str], None], told: set[str]) -> "TrainerCallback":
    """Tells what goes wrong while a training runs, ten times at most and each finding once.

    names: as for `write_curves`; told: names of findings that were told, which it adds to.
    """
    from transformers import TrainerCallback

    class Doctor(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: "TrainerState", control: Any, **_: Any) -> None:
            every = max(LEAST_STEPS, state.max_steps // 10)
            if state.global_step % every == 0 and state.is_world_process_zero:
                logs = [row for row in state.log_history if "loss" in row]
                for finding in diagnose(curves_of(logs, names)):
                    if finding.name not in told:
                        told.add(finding.name)
                        warn(f"step {state.global_step}: {finding.text}")

    return Doctor()


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def _last(trends: Trends, name: str) -> float | None:
    return trends[name].last if name in trends else None


def _growth(trends: Trends, name: str) -> float | None:
    return trends[name].growth() if name in trends else None


def unearned(trends: Trends) -> Finding | None:
    """A reward that rises where right answers do not: something else is paid for."""
    paid = trends["reward"].rise() if "reward" in trends else None
    right = trends["reward_accuracy"].rise() if "reward_accuracy" in trends else None
    if paid is None or right is None or paid <= REWARD_RISE or right >= EARNED * paid:
        return None
    text = (
        f"the reward rose by {paid:.2g}, the share of right answers by {right:.2g}: something else is paid for, and "
        "the model has found it; read completions, and lower the weight of what rose or gate it (probe: gaming looks "
        "for patterns)"
    )
    return Finding("unearned_reward", text, right, EARNED * paid)


def zero_variance(trends: Trends) -> Finding | None:
    share, accuracy = _last(trends, "zero_std"), _last(trends, "reward_accuracy")
    if share is None or share <= ZERO_STD:
        return None
    remedy = "more num_generations, hotter rollouts (temperature)"
    if accuracy is not None:
        harder = accuracy > 0.5
        remedy = f"{'harder' if harder else 'easier'} prompts (screen them and set band:), {remedy}"
    text = f"{share:.0%} of the groups got one and the same reward and teach nothing: take {remedy}"
    return Finding("zero_variance", text, share, ZERO_STD)


def entropy_collapse(trends: Trends) -> Finding | None:
    left = _growth(trends, "entropy")
    if left is None or left >= ENTROPY_LEFT:
        return None
    text = (
        f"the entropy fell to {left:.0%} of what it was, so that rollouts hardly differ any more: set trainer: "
        "{entropy_coef: 0.001} or use_adaptive_entropy, epsilon_high: 0.28, or hotter rollouts (temperature)"
    )
    return Finding("entropy_collapse", text, left, ENTROPY_LEFT)


def entropy_explosion(trends: Trends) -> Finding | None:
    grown = _growth(trends, "entropy")
    if grown is None or grown <= ENTROPY_GROWN:
        return None
    text = f"the entropy is {grown:.1f} times what it was: lower learning_rate or trainer.entropy_coef, or set beta"
    return Finding("entropy_explosion", text, grown, ENTROPY_GROWN)


def length_bias(trends: Trends) -> Finding | None:
    """Wrong answers that grow beyond right ones; those that only catch up have learned to reason."""
    wrong, right = _growth(trends, "wrong_length"), _growth(trends, "right_length")
    at_end = (_last(trends, "wrong_length"), _last(trends, "right_length"))
    if not wrong or not right or not at_end[0] or not at_end[1]:
        return None
    ratio = at_end[0] / at_end[1]
    excess = min(wrong / right, ratio)
    if wrong <= LENGTH_BIAS or excess <= LENGTH_BIAS:
        return None
    text = (
        f"wrong answers grew to {wrong:.1f} times their length and are {ratio:.1f} times as long as right "
        "ones: loss_type: grpo has that bias, dr_grpo with scale_rewards: none has it not; or add the reward overlong"
    )
    return Finding("length_bias", text, excess, LENGTH_BIAS)


def format_only(trends: Trends) -> Finding | None:
    share = _last(trends, "format_only")
    if share is None or share <= FORMAT_ONLY or _last(trends, "reward_format") is None:
        return None
    text = (
        f"{share:.0%} of the completions have the form and a wrong answer: form is what pays; lower the weight of "
        "format, or set gate: true on it, and see whether the problems can be solved at all (screen)"
    )
    return Finding("format_only", text, share, FORMAT_ONLY)


def mode_collapse(trends: Trends) -> Finding | None:
    share = _last(trends, "distinct")
    if share is None or share >= DISTINCT:
        return None
    text = (
        f"only {share:.0%} of a group's completions differ: hotter rollouts (temperature), trainer: {{entropy_coef: "
        "0.001}, harder prompts (band:), or an earlier checkpoint"
    )
    return Finding("mode_collapse", text, share, DISTINCT)


def language_mixing(trends: Trends) -> Finding | None:
    rise = trends["mixed_language"].rise() if "mixed_language" in trends else None
    if rise is None or rise <= MIXING_RISE:
        return None
    text = (
        f"{rise:.0%} more of the completions mix languages than at the start: add the reward language_consistency, "
        "or give it more weight"
    )
    return Finding("language_mixing", text, rise, MIXING_RISE)


def above(name: str, metric: str, limit: float, words: str) -> Callable[[Trends], Finding | None]:
    """A check of a metric that is too high at the end; `words` has a place for its value."""

    def check(trends: Trends) -> Finding | None:
        value = _last(trends, metric)
        if value is None or value <= limit:
            return None
        return Finding(name, words.format(value), value, limit)

    return check


CHECKS: tuple[Callable[[Trends], Finding | None], ...] = (
    unearned,
    zero_variance,
    entropy_collapse,
    entropy_explosion,
    above(
        "truncation",
        "truncated",
        TRUNCATED,
        "{:.0%} of the completions are cut at max_completion_length: raise it, add the reward overlong, or set "
        "mask_truncated_completions: true",
    ),
    length_bias,
    format_only,
    above(
        "answer_in_reasoning",
        "answer_in_reasoning",
        ANSWER_INSIDE,
        "{:.0%} of the completions state their answer inside the reasoning only, where no verifier reads it: "
        "add the reward format, or look at the template",
    ),
    above(
        "kl",
        "kl",
        KL,
        "the KL divergence is {:.2g} nats per token: raise beta, lower learning_rate, or sync_ref_model",
    ),
    above(
        "clipping",
        "clip_ratio",
        CLIPPED,
        "{:.0%} of the tokens are clipped: lower learning_rate or num_iterations, or raise epsilon_high",
    ),
    mode_collapse,
    language_mixing,
    above(
        "unjudged",
        "unjudged",
        UNJUDGED,
        "{:.0%} of the completions have no verdict and teach nothing: mend the references or the verifier",
    ),
)


def on_the_way(lines: Lines) -> list[Finding]:
    """What evaluations on the way say, of any training: forgetting, and held-out scores that fall."""
    return list(_fallen(lines)) if len(lines) > 1 else []


def _noise(line: Mapping[str, float], prefix: str = "") -> float:
    """Standard error of the difference of two pass@1 like this one."""
    rate, samples = line.get(f"{prefix}pass@1", 0.0), line.get(f"{prefix}samples")
    return math.sqrt(2 * rate * (1 - rate) / samples) if samples else 0.0


def _fallen(lines: Lines) -> Iterator[Finding]:
    first, last = lines[0], lines[-1]
    rise = last.get("forgetting/loss", 0.0) - first.get("forgetting/loss", 0.0)
    if rise > LOSS_RISE:
        text = (
            f"what the model said to other prompts before, it finds {rise:.2f} nats per token less likely now: mix "
            "such prompts in, set beta, or lower learning_rate"
        )
        yield Finding("forgetting", text, rise, LOSS_RISE)
    lost = first.get("forgetting/pass@1", 0.0) - last.get("forgetting/pass@1", 0.0)
    if lost > max(SCORE_FALL, 2 * _noise(first, "forgetting/")):
        text = (
            f"pass@1 on problems of another kind fell by {lost:.2f}: mix them in, set beta, or stop earlier"
        )
        yield Finding("forgetting_score", text, lost, SCORE_FALL)
    best = max(lines, key=lambda line: line.get("pass@1", 0.0))
    fall = best.get("pass@1", 0.0) - last.get("pass@1", 1.0)
    if fall > max(SCORE_FALL, 3 * _noise(best)):  # 3: the best of many is too good by chance already
        text = (
            f"pass@1 on held-out problems fell by {fall:.2f} from its best: the reward is being gamed, or what is "
            "trained on is learned by heart; train fewer steps, or give more problems"
        )
        yield Finding("heldout_falls", text, fall, SCORE_FALL)
