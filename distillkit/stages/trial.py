"""The same prompts under several templates and bases: a template can break a base before RL has begun.

No stage itself, but what screen tries with a few samples each.

Source: Dr. GRPO, Liu et al. 2025, arXiv:2503.20783, section 2: Qwen2.5-Math answers best with no template, and RL that
starts under the R1 template first repairs what the template broke.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from distillkit.artifact import Model, Row
from distillkit.errors import RecipeError
from distillkit.sampling import Sampling, draw
from distillkit.scoring import SHARE, Group, Scoring, Spending, by_problem, metrics, per_sample
from distillkit.stages.base import Job, write_shards
from distillkit.template import AnyTemplate, name_of
from distillkit.trace import Problem, Trace, to_row, trace_schema

TOLD = ("pass@1", "reflection", "mixed_language", "truncated", "mean_tokens")
"""Metrics that a cell tells besides answers and form."""


@dataclass(frozen=True)
class Trial:
    """A few samples of each prompt, under one template and base after the other."""

    sampling: Sampling
    scoring: Scoring
    n: int
    problems: Sequence[Problem]
    spending: Spending = field(default_factory=Spending)
    """Where what it takes is counted."""

    def cells(self, models: Sequence[Model], templates: Sequence[AnyTemplate | None], job: Job) -> list[Row]:
        """One row per base and template; the table `trials` gets the first completion of each prompt.

        [{model, template, prompts, samples, answered, formatted, pass@1, reflection, mixed_language, truncated,
        mean_tokens}], estimates; or {model, template, refused} for a base that the template does not fit.
        """
        rows: list[Row] = []
        kept: dict[str, Row] = {}
        for model, template in ((model, template) for model in models for template in templates):
            cell: Row = {"model": model.name, "template": name_of(template)}
            try:
                traces = self._draw(model, template, job)
            except RecipeError as error:
                rows.append(cell | {"refused": str(error)})
                continue
            self.spending.add(traces)
            kept |= {trace.id: to_row(trace) for trace in traces if trace.index == 0}
            rows.append(cell | told(by_problem(self.scoring.judge(traces, job.verifiers))))
        write_shards(job, list(kept.values()), trace_schema(), "trials")
        return rows

    def _draw(self, model: Model, template: AnyTemplate | None, job: Job) -> list[Trace]:
        asked = self.sampling.model_copy(update={"template": template})
        drawn = draw(
            asked, model, self.problems, self.n, job.seed, job.store, job.progress, job.warn, job.replicas
        )
        return sorted(drawn, key=lambda trace: trace.id)


def told(groups: Sequence[Group]) -> Row:
    """What a template makes of a base.

    answered: share of completions that finish and state an answer; formatted: that are reasoning, then one answer, and
    nothing else.
    """
    found = metrics(groups, [], {}, votes=False)
    shares = {
        "answered": per_sample(groups, SHARE, lambda each: each.reason not in ("no_answer", "truncated")),
        "formatted": per_sample(groups, SHARE, lambda each: each.formatted),
        **{name: found[name] for name in TOLD if name in found},
    }
    return {"prompts": len(groups), "samples": sum(map(len, groups))} | {
        name: estimate.as_json() for name, estimate in shares.items()
    }
