"""From judged completions to numbers: averaged per problem first, then over problems.

A number is always an `Estimate`: it carries its interval and what it stands on.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any, NamedTuple

from distillkit.interval import Interval, interval, ratio_interval
from distillkit.sampling import Sampling
from distillkit.scoring.judged import Group, Judged
from distillkit.stats import cluster, cons_at_k, pass_at_k_each
from distillkit.template import name_of
from distillkit.verifiers.base import Verifier, learned_by


class Estimate(NamedTuple):
    """A number, its 95 % interval over problems, and how many problems and samples it stands on.

    The three numbers are None where nothing could be counted (the length of wrong answers where all are
    right).
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Problems."""
    samples: int
    error: float | None = None
    """Standard error of the mean over problems; None for one problem, and for a ratio."""

    @classmethod
    def of(cls, found: Interval | None, n: int, samples: int, error: float | None = None) -> "Estimate":
        """An estimate from an interval; None stands for nothing to tell."""
        if found is None:
            return cls(None, None, None, n, samples)
        value, low, high = (round(each, 6) for each in (found.value, found.low, found.high))
        return cls(value, low, high, n, samples, None if error is None else round(error, 6))

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Estimate":
        """The estimate in a row of JSON, whatever else the row holds; what it lacks is None."""
        known: dict[str, Any] = {name: row.get(name) for name in cls._fields}
        return cls(**known)

    @property
    def interval(self) -> Interval | None:
        """Value and bounds; None where there is nothing to tell."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Interval(self.value, self.low, self.high)

    def negated(self) -> "Estimate":
        """The same of a difference the other way round."""
        if self.value is None or self.low is None or self.high is None:
            return self
        return self._replace(value=-self.value, low=-self.high, high=-self.low)

    def as_json(self) -> dict[str, float | int | None]:
        return self._asdict()


Bounds = tuple[float, float] | None
SHARE: Bounds = (0.0, 1.0)
LENGTH: Bounds = None

_PER_SAMPLE: dict[str, tuple[Bounds, Callable[[Judged], float | None]]] = {
    "pass@1": (SHARE, lambda each: None if each.score is None else float(each.correct)),
    "truncated": (SHARE, lambda each: each.finish_reason == "length"),
    "no_answer": (SHARE, lambda each: each.reason == "no_answer"),
    "mean_tokens": (LENGTH, lambda each: each.tokens),
    "mean_terminated_tokens": (LENGTH, lambda each: each.tokens if each.finish_reason == "stop" else None),
    "mean_right_tokens": (LENGTH, lambda each: each.tokens if each.correct else None),
    "mean_wrong_tokens": (LENGTH, lambda each: None if each.correct or each.score is None else each.tokens),
    "mixed_language": (SHARE, lambda each: each.mixed),
    "language_share": (SHARE, lambda each: each.language_share),
    "reflection": (SHARE, lambda each: each.reflections > 0),
}
"""Metric -> the range of its values, and what one completion adds to it; None adds nothing."""


def metrics(
    groups: Sequence[Group],
    ks: Sequence[int],
    verifiers: Mapping[str, Verifier],
    *,
    votes: bool = True,
    ballots: "Mapping[str, Ballot] | None" = None,
) -> dict[str, Estimate]:
    """Every metric of one model on one set of problems.

    | metric | meaning |
    |---|---|
    | pass@1, pass@k | chance that one sample, or the best of k, is right (stats.pass_at_k) |
    | cons@k | chance that the majority of k is right (stats.cons_at_k) |
    | truncated, no_answer | share cut by max_tokens, share finished without an answer; both are wrong |
    | mean_tokens | length of all |
    | mean_terminated_tokens | length of those that ended by themselves |
    | mean_right_tokens, mean_wrong_tokens | length of the right ones, and of the wrong ones |
    | mixed_language | share with words of two or more languages |
    | language_share | mean share of words in the target language |
    | reflection | share with at least one reflection phrase |
    | whatever the verifier adds | a ratio of sums (Verifier.shares): the accuracies of IFEval |

    A value is the mean over problems of the problem's mean. A problem with nothing to count does not stand in
    it, and a metric that no problem stands in is absent (length of wrong answers where all are right); so is
    cons@k without `votes`, or where a verifier cannot compare answers. Completions without a score count in
    no metric that needs one, and a problem needs k of them that have one for pass@k and cons@k. `ballots` by problem,
    where they are known, save comparing answers again.
    """
    found = {name: per_sample(groups, bounds, read) for name, (bounds, read) in _PER_SAMPLE.items()}
    found |= {f"pass@{k}": pass_at(groups, k) for k in ks if k > 1}
    found |= {name: share_of(groups, name) for name in _names_of_shares(groups)}
    if votes and all(verifiers[group[0].domain].votes for group in groups):
        cast = ballots if ballots is not None else ballots_of(groups, verifiers)
        told = [cast[group[0].problem_id] for group in groups]
        found |= {f"cons@{k}": cons_at(told, k) for k in ks if k > 1}
    return {name: estimate for name, estimate in found.items() if estimate.value is not None}


def per_sample(groups: Sequence[Group], bounds: Bounds, read: Callable[[Judged], float | None]) -> Estimate:
    """The mean over problems of what their completions add, `read` of each; None adds nothing."""
    given = [[each for each in group if each.reason != "failed"] for group in groups]
    columns = [[value for each in group if (value := read(each)) is not None] for group in given]
    told = [column for column in columns if column]
    return mean_over([fmean(column) for column in told], sum(map(len, told)), bounds)


def _names_of_shares(groups: Sequence[Group]) -> list[str]:
    return sorted({name for group in groups for each in group for name in each.shares})


def share_of(groups: Sequence[Group], name: str) -> Estimate:
    """One of the verifier's shares: what was done over what was asked, problems with more asked weighing more."""
    columns = [[each.shares[name] for each in group if name in each.shares] for group in groups]
    told = [column for column in columns if column]
    done, asked = ([fmean(share[part] for share in column) for column in told] for part in (0, 1))
    samples = sum(map(len, told))
    if set(asked) == {1.0}:
        return mean_over(done, samples)
    return Estimate.of(ratio_interval(done, asked), len(told), samples)


def mean_over(values: Sequence[float], samples: int, bounds: Bounds = SHARE) -> Estimate:
    """The mean of one value per problem, with its interval and its standard error."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate.of(interval(values, bounds=bounds) if values else None, len(values), samples, error)


def over_sets(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of what several sets of problems say, each of equal weight; that of a single set is itself.

    error: the sets are independent, so their variances add, over the square of their number. Interval: the distances
    from value to bound add in squares likewise, since each set's own interval is the best that is known of it. n and
    samples are sums. No value where a set has none. Measured coverage stands in docs/evaluation.md.

    Source: MOVER, Zou, Huang and Zhang 2009, "A note on confidence interval estimation for a linear function of
    binomial proportions", Computational Statistics and Data Analysis 53.
    """
    if len(estimates) == 1:
        return estimates[0]
    n, samples = sum(each.n for each in estimates), sum(each.samples for each in estimates)
    found = [each.interval for each in estimates if each.interval is not None]
    if not found or len(found) < len(estimates):
        return Estimate(None, None, None, n, samples)
    value = fmean(each.value for each in found)
    low = value - math.hypot(*(each.value - each.low for each in found)) / len(found)
    high = value + math.hypot(*(each.high - each.value for each in found)) / len(found)
    errors = [each.error for each in estimates if each.error is not None]
    error = math.hypot(*errors) / len(found) if len(errors) == len(found) else None
    return Estimate.of(Interval(value, low, high), n, samples, error)


def counts_of(groups: Sequence[Group], at_least: int = 1) -> tuple[list[int], list[int]]:
    """Judged samples and right ones of each problem that has at least so many judged."""
    judged = [[each.correct for each in group if each.score is not None] for group in groups]
    enough = [column for column in judged if len(column) >= at_least]
    return [len(column) for column in enough], [sum(column) for column in enough]


def pass_at(groups: Sequence[Group], k: int) -> Estimate:
    """pass@k over the problems with at least k judged samples."""
    n, correct = counts_of(groups, k)
    return mean_over(pass_at_k_each(correct, n, k).tolist(), sum(n))


class Ballot(NamedTuple):
    """How the judged samples of one problem vote."""

    clusters: list[int | None]
    """Of each sample: which answer it votes for, None where it gave none."""
    right: set[int]
    """The clusters that hold a right sample."""


def ballot(group: Group, verifier: Verifier) -> Ballot:
    """The votes of one problem; answers that the verifier calls the same are one."""
    judged = [each for each in group if each.score is not None]
    clusters = cluster([each.answer for each in judged], verifier.same)
    pairs = zip(clusters, judged, strict=True)
    return Ballot(clusters, {number for number, each in pairs if number is not None and each.correct})


def ballots_of(groups: Sequence[Group], verifiers: Mapping[str, Verifier]) -> dict[str, Ballot]:
    """Problem -> its votes, for the problems whose verifier can compare answers."""
    judges = [(group, verifiers[group[0].domain]) for group in groups]
    return {group[0].problem_id: ballot(group, judge) for group, judge in judges if judge.votes}


def cons_at(ballots: Sequence[Ballot], k: int) -> Estimate:
    """cons@k over the problems with at least k judged samples."""
    enough = [each for each in ballots if len(each.clusters) >= k]
    values = [cons_at_k(each.clusters, each.right, k) for each in enough]
    return mean_over(values, sum(len(each.clusters) for each in enough))


def realised_gamma(base: Sequence[Group], trained: Sequence[Group], k: int) -> Estimate:
    """The share of the base's elicitation gap that training realised.

    (trained pass@1 - base pass@1) / (base pass@k - base pass@1), over the problems that both models have, the
    base with at least k judged samples. Without a value where the base's gap cannot be told from zero.
    """
    trained_groups = {group[0].problem_id: group for group in trained}
    pairs = [
        (counts_of([group], k), counts_of([trained_groups[group[0].problem_id]]))
        for group in base
        if group[0].problem_id in trained_groups
    ]
    rows = [(n[0], c[0], m[0], d[0]) for (n, c), (m, d) in pairs if n and m]
    if not rows:
        return Estimate(None, None, None, 0, 0)
    n, correct, of, right = zip(*rows, strict=True)
    before = pass_at_k_each(correct, n, 1)
    ratio = ratio_interval(pass_at_k_each(right, of, 1) - before, pass_at_k_each(correct, n, k) - before)
    return Estimate.of(ratio, len(rows), sum(n) + sum(of))


def largest_k(n: int) -> int | None:
    """The largest power of two up to n/2, None below 2: with k nearer to n a problem's pass@k is a coin."""
    return 1 << ((n // 2).bit_length() - 1) if n >= 4 else None


def settings(
    sampling: Sampling, verifiers: Mapping[str, Verifier] | None = None, domains: Iterable[str] = ()
) -> dict[str, Any]:
    """What a score depends on besides the model: no number is shown without it.

    Where a model's opinion decides some of the domains it has `learned: true`, and the `judges` by domain.
    """
    assert sampling.engine is not None  # drawing has refused it
    return {
        **asdict(sampling.parameters),
        "stop": list(sampling.parameters.stop),
        "template": name_of(sampling.template),
        "engine": sampling.engine.key(),
        **learned_by(verifiers or {}, domains),
    }
