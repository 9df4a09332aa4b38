"""What every batch of completions is like, beside its rewards: numbers for curves, warnings and the report.

None of them is paid for. Each is a mean over the batch, so that TRL can average it over steps and processes.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from distillkit.measures.reflection import Reflection
from distillkit.stats import band
from distillkit.text import final_answer
from distillkit.trace import Trace
from distillkit.training.rewards.batch import Batch, Scores

METRICS = (
    "mixed_language",
    "reflections",
    "reasoned",
    "truncated",
    "answer_in_reasoning",
    "distinct",
    "strategies",
)
"""Names of what `of_texts` gives."""

VERDICT_METRICS = ("unjudged", "format_only", "right_length", "wrong_length")
"""Names of what `of_verdicts` gives; the lengths also by band: `right_length_hard`."""

MEASURED = 64
"""Completions of a batch whose words are looked at for its description, evenly apart: a step must not wait for it."""

_NUMBER = re.compile(r"\d+")
_APART = "\n.\n"
"""Between two texts: no phrase goes over a full stop."""


def of_texts(batch: Batch) -> dict[str, float]:
    """What the texts alone say.

    mixed_language: share with words of two or more languages; reflections: phrases per trace (both of at most MEASURED
    completions); reasoned, truncated: shares; answer_in_reasoning: share that states an answer in the reasoning and
    none outside; distinct: different completions of a problem / its completions; strategies: the same with all numbers
    taken for one.
    """
    traces = batch.traces
    measured = range(0, len(traces), math.ceil(len(traces) / MEASURED))
    groups: dict[str, list[str]] = defaultdict(list)
    for trace in traces:
        groups[trace.problem_id].append(trace.completion)
    texts = [(set(group), len(group)) for group in groups.values()]
    return {
        "mixed_language": fmean(batch.language(row)["mixed"] for row in measured),
        "reflections": reflections([traces[row] for row in measured]) / len(measured),
        "reasoned": fmean(bool(trace.reasoning) for trace in traces),
        "truncated": fmean(trace.finish_reason == "length" for trace in traces),
        "answer_in_reasoning": fmean(batch.of_each(answers_inside)),
        "distinct": fmean(len(said) / count for said, count in texts),
        "strategies": fmean(len({_NUMBER.sub("0", text) for text in said}) / count for said, count in texts),
    }


def reflections(traces: Sequence[Trace]) -> int:
    """Phrases that turn back, in all of them: counted in one text, for the measure is fast on long ones only."""
    text = _APART.join(trace.text for trace in traces)
    joined = replace(traces[0], completion=text, reasoning="")
    return int(Reflection().measure(joined)["count"])


def answers_inside(trace: Trace) -> bool:
    """Whether a finished completion states its answer within the reasoning, where nobody reads it, and only there."""
    return (
        trace.finish_reason == "stop"
        and final_answer(trace.response) is None
        and final_answer(trace.reasoning) is not None
    )


def of_verdicts(batch: Batch, rows: Sequence[int], verdicts: Scores) -> dict[str, float]:
    """What verdicts add: lengths of right and wrong completions apart, also by the base's pass-rate band.

    unjudged: share without a verdict; format_only: share of the form of R1 with a wrong answer. What no completion
    stands in is absent.
    """
    judged = [(row, score) for row, score in zip(rows, verdicts, strict=True) if score is not None]
    found = {"unjudged": 1 - len(judged) / len(rows)} if rows else {}
    if not judged:
        return found
    found["format_only"] = fmean(batch.formatted[row] and score == 0.0 for row, score in judged)
    lengths: dict[str, list[int]] = defaultdict(list)
    for row, score in judged:
        name = "right_length" if score == 1.0 else "wrong_length"
        tokens = len(batch.token_ids[row])
        lengths[name].append(tokens)
        rate = batch.rates[row]
        if rate is not None:
            lengths[f"{name}_{band(rate)}"].append(tokens)
    return found | {name: fmean(values) for name, values in lengths.items()}
