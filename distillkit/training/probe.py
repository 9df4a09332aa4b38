"""Before the first step: a few completions and their rewards, for what would make all the steps worthless.

A reward that is the same for whatever the model says has no gradient; a format reward that is 0 everywhere is
usually a template that opens `<think>` itself, and not a model that cannot.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.engines.base import Parameters
from distillkit.errors import StageError
from distillkit.spec import seed_of
from distillkit.text import END_THINK, THINK
from distillkit.training.completions import spread
from distillkit.training.examples import render
from distillkit.training.rewards.batch import Batch, Scores
from distillkit.training.rewards.function import Function
from distillkit.training.sampler import Sampler

PROMPTS, SAMPLES = 8, 4
"""Completions that are looked at: 32."""

Warned = dict[str, str]
"""{name, text}"""


def probe(
    sampler: Sampler,
    functions: Sequence[Function],
    rows: Sequence[Mapping[str, Any]],
    parameters: Parameters,
    seed: int,
    stage: str,
) -> list[Warned]:
    """What looks wrong with the rewards of a few completions; no random number of the trainer's is spent.

    rows: of the dataset.
    Raises StageError where no reward has an opinion on any of them.
    """
    asked = [row for row in spread(list(rows), PROMPTS) for _ in range(SAMPLES)]
    prompts = [render(sampler.tokenizer, row["prompt"], add_generation_prompt=True) for row in asked]
    seeds = [seed_of(seed, "probe", at) for at in range(len(asked))]
    drawn = sampler.sample(prompts, seeds, parameters)
    columns = {name: [row[name] for row in asked] for name in asked[0] if name != "prompt"}
    batch = functions[0].rollouts.read(
        prompts=[row["prompt"] for row in asked],
        completions=[[{"role": "assistant", "content": each.text}] for each in drawn],
        completion_ids=[each.ids for each in drawn],
        log_metric=lambda name, value: None,
        **columns,
    )
    scores = {each.__name__: each.scores(batch) for each in functions}
    weights = {each.__name__: each.reward.weight for each in functions}
    return [*_constant(scores, weights, batch, stage), *_formless(scores, batch)]


def _constant(
    scores: Mapping[str, Scores], weights: Mapping[str, float], batch: Batch, stage: str
) -> list[Warned]:
    sums = [
        sum(weights[name] * score for name, score in zip(scores, row, strict=True) if score is not None)
        for row in zip(*scores.values(), strict=True)
        if any(score is not None for score in row)
    ]
    if not sums:
        raise StageError(
            f"{stage}: no reward has an opinion on any of {len(batch.traces)} completions; are there verifiers for "
            "their domains, and golds that can be graded?"
        )
    if max(sums) - min(sums) > 1e-9:
        return []
    text = (
        f"all {len(sums)} completions of a probe got the reward {sums[0]:g}: without a difference nothing is learned; "
        f"{_state(batch)}; easier prompts (screen, band:), another template: or more max_completion_length may help"
    )
    return [{"name": "constant_reward", "text": text}]


def _formless(scores: Mapping[str, Scores], batch: Batch) -> list[Warned]:
    judged = [score for score in scores.get("format", []) if score is not None]
    if not judged or any(judged):
        return []
    text = f"the format reward is 0 for all {len(judged)} completions of a probe; {_state(batch)}; {_cause(batch)}"
    return [{"name": "format_zero", "text": text}]


def _state(batch: Batch) -> str:
    traces = batch.traces
    cut = sum(trace.finish_reason == "length" for trace in traces)
    closed = sum(END_THINK in trace.completion for trace in traces)
    return f"{cut} of {len(traces)} are cut off, {closed} close their reasoning"


def _cause(batch: Batch) -> str:
    """The likeliest reason why no completion has the form."""
    causes: Counter[str] = Counter()
    prefilled = batch.circumstance.prefilled
    for trace in batch.traces:
        if trace.finish_reason == "length":
            causes["raise max_completion_length"] += 1
        elif prefilled and THINK in trace.completion:
            causes["the template opens <think> and the model opens it again: take another template:"] += 1
        elif THINK not in trace.completion and not prefilled:
            causes["the model never opens <think>: take template: r1, or a cold start (sft) before"] += 1
        elif END_THINK not in trace.completion:
            causes["the model does not close its reasoning: a cold start (sft) before may help"] += 1
        else:
            causes["the answer does not stand alone behind the reasoning, in <answer> tags or a box"] += 1
    return causes.most_common(1)[0][0]
