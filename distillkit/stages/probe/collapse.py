"""Has a model only one way left? Distinct strategies among the samples of one prompt, and over a training.

A strategy is the reasoning with its numbers masked; texts that share most of their word n-grams are one. The
chance that two samples differ does not depend on how many were drawn, so groups of any size compare.
The index is Simpson's (1949, "Measurement of diversity").
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from distillkit.scoring import LENGTH
from distillkit.spec import Strict
from distillkit.stages.probe.case import Case, Finding, over_problems, percent
from distillkit.stats import cluster
from distillkit.trace import Trace

COLLAPSED = 0.1
"""Of a model whose samples differ less often than this, surely, it is said."""
TOP = 5
SHOWN_CHARS = 200

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_TOKEN = re.compile(r"#|[^\W\d_]+|[^\w\s]")

Grams = frozenset[tuple[str, ...]]


class Collapse(Strict):
    """When two samples follow the same strategy."""

    ngram: int = Field(3, ge=1)
    """Words and signs of a run."""
    threshold: float = Field(0.8, gt=0, le=1)
    """From this share of common runs on (Jaccard), two texts are one strategy."""

    def probe(self, case: Case) -> Finding:
        """The groups of at least two samples; and how strategies went during the training, where one is known."""
        groups: dict[str, list[Trace]] = {}
        for trace in case.traces:
            if trace.finish_reason != "error":
                groups.setdefault(trace.problem_id, []).append(trace)
        several = {problem: group for problem, group in groups.items() if len(group) > 1}
        labels = {
            problem: self.strategies([each.text for each in group]) for problem, group in several.items()
        }
        diversity = over_problems((problem, chance_to_differ(found)) for problem, found in labels.items())
        kinds = over_problems(((problem, len(set(found))) for problem, found in labels.items()), LENGTH)
        answers = over_problems(
            (problem, chance_to_differ(_votes(case, group))) for problem, group in several.items()
        )
        summary = {
            "groups": len(several),
            "group_size": max(map(len, several.values()), default=0),
            "diversity": diversity.as_json(),
            "strategies": kinds.as_json(),
            "answers": answers.as_json(),
            "top": _top([trace for group in groups.values() for trace in group]),
            "training": _training(case.curves),
        }
        return Finding(summary, warnings=_warnings(case.model.name, diversity.high, diversity.value))

    def strategies(self, texts: Sequence[str]) -> list[int]:
        """Of each text the number of its strategy: that of the first leader that it is like, else a new one."""
        leaders: list[Grams] = []
        found = []
        for text in texts:
            grams = self._grams(text)
            number = next(
                (at for at, leader in enumerate(leaders) if self._alike(grams, leader)), len(leaders)
            )
            if number == len(leaders):
                leaders.append(grams)
            found.append(number)
        return found

    def _alike(self, grams: Grams, leader: Grams) -> bool:
        return len(grams & leader) >= self.threshold * len(grams | leader)

    def _grams(self, text: str) -> Grams:
        words = _TOKEN.findall(skeleton(text))
        last = max(1, len(words) - self.ngram + 1)
        return frozenset(tuple(words[at : at + self.ngram]) for at in range(last))


def skeleton(text: str) -> str:
    """The text with every number masked, in lower case and single spaces."""
    return " ".join(_NUMBER.sub("#", text).lower().split())


def chance_to_differ(labels: Sequence[int]) -> float:
    """Chance that two different members of a group (of two or more) have different labels; unbiased."""
    pairs = len(labels) * (len(labels) - 1)
    return 1 - sum(count * (count - 1) for count in Counter(labels).values()) / pairs


def _votes(case: Case, group: Sequence[Trace]) -> list[int]:
    """Of each sample the number of its answer; silence is one too."""
    verifier = case.verifier(group[0])
    answers = [case.judged[trace.id].answer for trace in group]
    if verifier.votes:
        return [-1 if number is None else number for number in cluster(answers, verifier.same)]
    known = {answer: number for number, answer in enumerate(dict.fromkeys(answers))}
    return [known[answer] for answer in answers]


def _top(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    firsts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for trace in traces:
        key = skeleton(trace.text)
        firsts.setdefault(key, trace.id)
        counts[key] += 1
    return [
        {"skeleton": key[:SHOWN_CHARS], "share": round(count / len(traces), 6), "trace": firsts[key]}
        for key, count in counts.most_common(TOP)
    ]


def _training(curves: dict[str, list[float | None]] | None) -> list[dict[str, Any]]:
    """Share of different completions, and of different strategies, in the groups of each step."""
    if curves is None or "strategies" not in curves:
        return []
    rows = zip(curves["step"], curves["strategies"], curves.get("distinct", []), strict=False)
    return [{"step": step, "strategies": ways, "distinct": distinct} for step, ways, distinct in rows]


def _warnings(model: str, high: float | None, value: float | None) -> list[dict[str, str]]:
    if high is None or value is None or high >= COLLAPSED:
        return []
    text = (
        f"{model}: two samples of a prompt take different ways in {percent(value)} of cases only; more samples "
        "(pass@k, cons@k, GRPO groups) bring little"
    )
    return [{"name": "collapse", "text": text}]
