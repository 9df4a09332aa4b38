"""Can RL work on this base? Sample it, and see how much it can do now and then but does not do each time.

RL of the R1-Zero kind mostly turns what a base reaches in K tries into what it does in one, so the
elicitation gap pass@K - pass@1 is what to hope for, and far cheaper to measure than an RL run. Which share
of it RL realises (gamma) and which gap is worth a run (min_gap) are our choice, not published ones.

Source: pass@K as the reach of a base: Yue et al. 2025, arXiv:2504.13837; groups without a signal: DAPO,
arXiv:2503.14476, section 3.2.
"""

from collections import Counter
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Manifest, Model, Row
from distillkit.sampling import Sampling, draw
from distillkit.scoring import (
    Estimate,
    Group,
    Scoring,
    Spending,
    by_problem,
    count_judged,
    mean_over,
    metrics,
    outcome,
    settings,
    verdict_row,
    verdict_schema,
    warn_failed,
)
from distillkit.spec import EXECUTION
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Job, Stage, Wire, require_rows, write_shards
from distillkit.stages.outlook import RlRun, cost_of, machine_of, run_of, size_of
from distillkit.stages.trial import Trial
from distillkit.stats import BANDS, band, expected_pass_at_k, pass_at_k, predicted, signal_share
from distillkit.template import AnyTemplate, name_of
from distillkit.trace import Problem, to_row, trace_schema
from distillkit.verifiers.base import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_SIZES = (8, 16)
"""Samples per prompt in a GRPO step, for which the share of groups with a signal is told."""

KEPT_PER_PROMPT = 16
"""Completions of each prompt that the artifact holds; the store keeps all, and all verdicts are here."""

BAND_REASONS = {
    "sure": "are solved nearly always: nothing to gain there",
    "never": "were never solved: nothing to reward there",
}
SHARE_REASONS = {
    "no_answer": "give no answer: try another template",
    "truncated": "are cut by max_tokens: raise it",
}
WITHIN_REACH = ("rare", "hard", "even")
"""Bands whose prompts RL can learn from: `grpo` picks them by `screened` and `band: [0.001, 0.95]`."""
TELLING = 0.1
"""From this share of completions on, a reason speaks of it."""

Share = Annotated[float, Field(ge=0, le=1)]


class Screen(Stage, Sampling, Scoring):
    """A base and training problems in; what RL can hope for out.

    Tables: `problems` (one row per prompt, see `problem_schema`; GRPO picks its band there), `verdicts` (by
    trace id), `completions` (traces, the first of each prompt) and `trials` (one of each prompt, template and base that
    is tried). Summary: see `summarise`, and `matrix`.
    """

    VERSION: ClassVar[int] = 2
    MAKES: ClassVar[str] = SCORES
    DRAWS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True

    kind: Literal["screen"] = "screen"
    model: Annotated[str, Wire((WEIGHTS,), external=True)]
    """The base that RL would start from."""
    input: Annotated[str | None, Wire((PROBLEMS,))] = None
    """The problems that RL would train on; left out: the nearest earlier ones."""
    limit: Annotated[int | None, Field(ge=1)] = 200
    """At most so many prompts, the first by id (an id is a hash, so this is a fixed random draw)."""
    n: int = Field(128, ge=1)
    """Samples per prompt, at least 2 k: at n = k a prompt's pass@k is 0 or 1, a coin rather than a chance."""
    k: int = Field(64, ge=2)
    """How many tries count as within reach."""
    allow_small_n: bool = False
    """Take n below 2 k all the same (never below k)."""
    gammas: list[Share] = [0.6, 0.7, 0.9]
    """Shares of the gap that RL may realise; pass@1 after RL is predicted for each."""
    min_gap: Share = 0.10
    """The gap from which on RL is worth a run."""
    rl: Annotated[RlRun | None, EXECUTION] = None
    """The RL run whose cost is told. Left out: the grpo stage of the recipe that reads this screening."""
    templates: list[AnyTemplate] = []
    """Further templates to try on the same prompts: a template can break a base before RL has begun."""
    models: Annotated[list[str], Wire((WEIGHTS,), default="none", external=True, named=True)] = []
    """Further bases to try under each of the templates."""
    trial_n: int = Field(8, ge=1)
    """Samples per prompt of each template and base that is tried."""
    trial_limit: int = Field(50, ge=1)
    """Prompts of each trial, the first ones of the screening."""

    @model_validator(mode="after")
    def _check_n(self) -> Self:
        least = self.k if self.allow_small_n else 2 * self.k
        if self.n < least:
            way_out = "" if self.allow_small_n else ", or allow_small_n: true"
            raise ValueError(
                f"n: {self.n} is too few for pass@{self.k}: raise it to {least}, or lower k{way_out}"
            )
        return self

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"limit": min(self.limit or rows, rows)})

    def accept(self, manifest: Manifest) -> None:
        self.check_unjudged(self.name, manifest)

    def run(self, job: Job) -> None:
        problems = job.problems()[: self.limit]
        require_rows(len(problems), f"{self.name}: input", "give problems to screen on")
        [model] = job.models()
        drawn = draw(self, model, problems, self.n, job.seed, job.store, job.progress, job.warn, job.replicas)
        traces = sorted(drawn, key=lambda trace: trace.id)
        warn_failed(traces, job.warn)
        spending = Spending()
        spending.add(traces)
        judged = self.judge(traces, job.verifiers)
        groups = by_problem(judged)
        rows = [self.row(group) for group in groups]
        kept = [to_row(trace) for trace in traces if trace.index < KEPT_PER_PROMPT]
        write_shards(job, kept, trace_schema(), "completions")
        write_shards(job, [verdict_row(each) for each in judged], verdict_schema(), "verdicts")
        write_shards(job, rows, problem_schema(), "problems")
        count_judged(job.out, judged)
        job.out.summary = self.summarise(groups, rows, job.verifiers) | {
            "matrix": self.matrix(job, problems, spending)
        }
        job.out.telemetry |= spending.as_telemetry() | self.outlook(job, model)
        if not job.out.summary["go"]:
            job.warn("no-go for RL: " + "; ".join(job.out.summary["reasons"]))

    def row(self, group: Group) -> Row:
        """The problems row of one prompt; what needs more judged samples than it has is None."""
        found = {"id": group[0].problem_id, **outcome(group)}
        n, correct, rate = found["n"], found["correct"], found["pass_rate"]
        if n < self.k:
            return found
        reach = pass_at_k(n, correct, self.k)
        return found | {
            "band": band(rate),
            "pass_at_k": reach,
            "fate": [rate + gamma * (reach - rate) for gamma in self.gammas],
            "signal": [signal_share(rate, size) for size in GROUP_SIZES],
        }

    def summarise(
        self, groups: list[Group], rows: list[Row], verifiers: Mapping[str, Verifier]
    ) -> dict[str, Any]:
        """The artifact's summary.

        scores: metric -> estimate: those of evaluate with pass@2, 4, ... up to k, and `gap`; predicted: one
        estimate of pass@1 after RL per gamma; plug_in: see there; bands: name -> prompts; within_reach: prompts that
        are solved now and then; signal: group size -> share of groups with both right and wrong samples; go and its
        reasons in words; settings.
        """
        told = [row for row in rows if "band" in row]
        samples = sum(row["n"] for row in told)
        require_rows(
            len(told),
            f"{self.name}: prompts with {self.k} judged samples",
            "mend the references or the verifier",
        )
        gap = mean_over([row["pass_at_k"] - row["pass_rate"] for row in told], samples)
        curve = [1 << power for power in range(1, self.k.bit_length()) if 1 << power < self.k]
        bands = Counter(row["band"] for row in told)
        scores = metrics(groups, [*curve, self.k], verifiers, votes=False) | {"gap": gap}
        return {
            "k": self.k,
            "scores": {name: estimate.as_json() for name, estimate in scores.items()},
            "predicted": [
                {"gamma": gamma} | mean_over([row["fate"][at] for row in told], samples).as_json()
                for at, gamma in enumerate(self.gammas)
            ],
            "plug_in": self.plug_in(told),
            "bands": {name: bands[name] for name in BANDS},
            "within_reach": sum(bands[name] for name in WITHIN_REACH),
            "signal": {
                str(size): fmean(row["signal"][at] for row in told) for at, size in enumerate(GROUP_SIZES)
            },
            "min_gap": self.min_gap,
            "go": self._go(gap),
            "reasons": self._reasons(scores, bands, len(told)),
            "settings": settings(self, verifiers, {each.domain for group in groups for each in group})
            | {"n": self.n},
        }

    def plug_in(self, told: list[Row]) -> dict[str, Any]:
        """The same figures from pass rates taken for chances, 1 - (1 - p)^k: what a pen and paper give, biased low."""
        rates = [row["pass_rate"] for row in told]
        reach = fmean(expected_pass_at_k(rate, self.k) for rate in rates)
        gap = reach - fmean(rates)
        return {
            "pass_at_k": round(reach, 6),
            "gap": round(gap, 6),
            "predicted": [
                {"gamma": gamma, "value": round(predicted(fmean(rates), gap, gamma), 6)}
                for gamma in self.gammas
            ],
            "why": f"a prompt with c of n right has pass@{self.k} 1 - C(n-c, {self.k}) / C(n, {self.k}) without bias; "
            f"1 - (1 - c/n)^{self.k} draws the same sample again and again, and is too low where c is small",
        }

    def matrix(self, job: Job, problems: list[Problem], spending: Spending) -> list[Row]:
        """Templates x bases on the same prompts, see `trial.cells`; [] where there is one of each."""
        models = [*job.models(), *(job.models("models") if self.models else [])]
        templates = list({name_of(each): each for each in [self.template, *self.templates]}.values())
        if len(models) * len(templates) == 1:
            return []
        trial = Trial(self, self, self.trial_n, problems[: self.trial_limit], spending)
        return trial.cells(models, templates, job)

    def outlook(self, job: Job, model: Model) -> dict[str, Any]:
        """{rl_cost: what the RL run would take}; empty where none is declared, or the base's size is not known."""
        found = ("rl", self.rl) if self.rl else run_of(job.recipe, self.name)
        size, mean = size_of(model), job.out.summary["scores"].get("mean_tokens")
        if found is None or size is None or mean is None:
            return {}
        return {"rl_cost": cost_of(*found, size, machine_of(job.recipe), mean["value"])}

    def _reasons(self, scores: dict[str, Estimate], bands: "Counter[str]", prompts: int) -> list[str]:
        """Why RL looks worth it or not, in words; the first one decides."""
        gap = scores["gap"]
        side = "at least" if self._go(gap) else "less than"
        found = [f"the gap pass@{self.k} - pass@1 is {_shown(gap)}, {side} min_gap {self.min_gap:g}"]
        if gap.low is not None and gap.high is not None and gap.low < self.min_gap <= gap.high:
            found.append("the interval of the gap holds min_gap: more prompts (limit) would decide")
        if self.n < 2 * self.k:
            found.append(f"n {self.n} is below 2 x k: pass@{self.k} of a prompt is little more than a coin")
        for name, words in BAND_REASONS.items():
            if bands[name]:
                found.append(f"{bands[name]} of {prompts} prompts {words}")
        for name, words in SHARE_REASONS.items():
            if (scores[name].value or 0) > TELLING:
                found.append(f"{scores[name].value:.0%} of the completions {words}")
        return found

    def _go(self, gap: Estimate) -> bool:
        return gap.value is not None and gap.value >= self.min_gap


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def problem_schema() -> "pa.Schema":
    """Arrow schema of the problems table; its id is the problem's.

    band: stats.BANDS; fate: predicted pass@1 after RL for each of `gammas`; signal: chance that a group has
    both right and wrong samples, for each of GROUP_SIZES. Null where fewer than k samples were judged.
    """
    import pyarrow as pa

    number, numbers = pa.float64(), pa.list_(pa.float64())
    return pa.schema(
        [
            ("id", pa.string()),
            ("n", pa.int32()),
            ("correct", pa.int32()),
            ("pass_rate", number),
            ("band", pa.string()),
            ("pass_at_k", number),
            ("fate", numbers),
            ("signal", numbers),
        ]
    )
