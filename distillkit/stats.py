"""What the numbers are: pass@k, cons@k, advantages, and screening before RL.

Every estimator that evaluate, screen, select and report print stands here once. Values are per problem first
and averaged over problems last, since problems, not samples, are what an interval resamples.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k samples is right, estimated without bias from c right ones of n.

    1 - C(n-c, k) / C(n, k), as a sum of logarithms over min(c, k) factors: full float precision for n up to
    10^6 and beyond. pass@1 is c / n exactly.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374, eq. 1.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {c} right in {n} samples: needs 0 <= c <= n and 1 <= k <= n")
    # The estimate is symmetric in c and k, so the smaller one can be the number of factors.
    few, many = sorted((c, k))
    if few + many > n:
        return 1.0
    if few == 1:
        return many / n
    return -math.expm1(math.fsum(math.log1p(-many / (n - i)) for i in range(few)))


def pass_at_k_each(counts: "ArrayLike", n: "ArrayLike", k: int) -> "Floats":
    """`pass_at_k` of many problems: `counts` right of `n` samples each (n: one number, or one per problem).

    Computes each distinct (n, c) once: a million problems of 64 samples take well under a second.
    """
    import numpy as np

    pairs = np.stack(np.broadcast_arrays(np.asarray(n, np.int64), np.asarray(counts, np.int64)))
    # One integer per pair: sorting scalars is some thirty times faster than sorting rows.
    width = int(pairs.max(initial=0)) + 1
    keys, where = np.unique(pairs[0] * width + pairs[1], return_inverse=True)
    table = np.array([pass_at_k(*divmod(int(key), width), k) for key in keys], np.float64)
    return table[where].reshape(pairs.shape[1:])


def pass_at_k_mean(counts: "ArrayLike", n: "ArrayLike", k: int) -> float:
    """Mean pass@k over problems.

    Raises:
        ValueError: for no problems at all, and as `pass_at_k` does.
    """
    each = pass_at_k_each(counts, n, k)
    if each.size == 0:
        raise ValueError(f"pass@{k}: no problems to average over")
    return float(each.mean())


def cluster(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> list[int | None]:
    """Cluster number of each answer (0, 1, ... in order of appearance); None stays None.

    An answer joins the first cluster whose first member it is the `same` as; called as same(first, answer).
    Each distinct string is compared once, so the cost is strings x clusters, not samples squared.
    """
    firsts: list[str] = []
    known: dict[str, int] = {}
    for answer in answers:
        if answer is not None and answer not in known:
            number = next((i for i, first in enumerate(firsts) if same(first, answer)), len(firsts))
            known[answer] = number
            if number == len(firsts):
                firsts.append(answer)
    return [None if answer is None else known[answer] for answer in answers]


EXACT_VOTE_SAMPLES = 128
"""Up to so many samples of one problem cons@k is exact; beyond, the mean over DRAWN_VOTES seeded draws."""
DRAWN_VOTES = 20_000


def cons_at_k(clusters: Sequence[int | None], correct: Collection[int], k: int, seed: int = 0) -> float:
    """Chance that the majority vote of k of these samples is right, over all k-subsets, in [0, 1].

    `clusters` is the cluster of each sample's answer (see `cluster`), None where it gave none: such a sample
    casts no vote, and a subset without votes is wrong. `correct` names the right clusters. Where several
    clusters tie for the most votes, the subset counts as the share of right ones among them. Exact for k = n
    and up to EXACT_VOTE_SAMPLES samples; otherwise a seeded estimate, standard error at most 0.0036.

    Raises:
        ValueError: unless 1 <= k <= the number of samples.
    """
    n = len(clusters)
    if not 1 <= k <= n:
        raise ValueError(f"cons@{k} of {n} samples: needs 1 <= k <= n")
    sizes = Counter(number for number in clusters if number is not None)
    right = sorted(size for number, size in sizes.items() if number in correct)
    wrong = sorted(size for number, size in sizes.items() if number not in correct)
    silent = n - sizes.total()
    if not right:
        return 0.0
    if n <= EXACT_VOTE_SAMPLES and k < n:
        return _exact_vote(tuple(right), tuple(wrong), silent, k)
    return _drawn_vote(right, wrong, silent, k, seed)


@lru_cache(maxsize=2**16)
def _exact_vote(right: tuple[int, ...], wrong: tuple[int, ...], silent: int, k: int) -> float:
    """Sums over the winner's votes `top`: how many subsets give no cluster more, by who ties at it."""
    total = Fraction(0)
    for top in range(1, min(k, right[-1]) + 1):
        # Clusters smaller than `top` can neither win nor tie: they are as good as silent.
        idle = silent + sum(size for size in right + wrong if size < top)
        ways = {(0, 0, 0): 1}  # (votes given, right clusters at the top, wrong ones) -> number of subsets
        for size, is_right in [*((s, 1) for s in right), *((s, 0) for s in wrong)]:
            if size >= top:
                ways = _add_cluster(ways, size, is_right, top, k)
        for (votes, wins, losses), count in ways.items():
            if wins:
                total += Fraction(count * math.comb(idle, k - votes) * wins, wins + losses)
    return float(total / math.comb(sum(right) + sum(wrong) + silent, k))


_Ways = dict[tuple[int, int, int], int]


def _add_cluster(ways: _Ways, size: int, is_right: int, top: int, k: int) -> _Ways:
    """The ways after one more cluster has given 0 to `top` of its `size` votes."""
    chosen = [math.comb(size, votes) for votes in range(top + 1)]
    after: _Ways = Counter()
    for (votes, wins, losses), count in ways.items():
        for more in range(min(top, k - votes) + 1):
            at_top = more == top
            key = (votes + more, wins + (at_top and is_right), losses + (at_top and not is_right))
            after[key] += count * chosen[more]
    return after


def _drawn_vote(right: list[int], wrong: list[int], silent: int, k: int, seed: int) -> float:
    """Mean over seeded k-subsets; the only subset where k is everything."""
    import numpy as np

    sizes = [*right, *wrong, silent]
    draws = 1 if k == sum(sizes) else DRAWN_VOTES
    votes = np.random.default_rng(seed).multivariate_hypergeometric(sizes, k, size=draws)[:, :-1]
    top = votes.max(axis=1, keepdims=True)
    tied = (votes == top) & (top > 0)
    return float((tied[:, : len(right)].sum(1) / np.maximum(tied.sum(1), 1)).mean())


class Length(NamedTuple):
    """Lengths of completions in tokens; None where nothing was counted."""

    mean: float | None
    """Over all completions with a known number of tokens."""
    terminated: float | None
    """Over those that ended by themselves: truncation does not shorten it."""
    truncation_rate: float | None
    """Share of "length" among those with a known finish reason."""


def length(tokens: Sequence[int | None], finish_reasons: Sequence[str]) -> Length:
    """Mean length, mean terminated length and truncation rate of completions, one entry each."""
    known = [
        (count, reason) for count, reason in zip(tokens, finish_reasons, strict=True) if count is not None
    ]
    ended = [reason for reason in finish_reasons if reason in ("stop", "length")]
    return Length(
        _mean([count for count, _ in known]),
        _mean([count for count, reason in known if reason == "stop"]),
        _mean([reason == "length" for reason in ended]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def advantages(rewards: Sequence[float], scale: bool = True) -> list[float]:
    """Advantage of each sample of one group: reward minus the mean, over the sample standard deviation.

    `scale=False` leaves out the division (Dr. GRPO, arXiv:2503.20783). A group of equal rewards gives zeros.

    Source: DeepSeekMath, arXiv:2402.03300, section 4.1.2 (outcome supervision); n - 1 as torch.std has it.
    """
    if not rewards or max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if not scale:
        return centred
    deviation = math.sqrt(math.fsum(value * value for value in centred) / (len(rewards) - 1))
    return [value / deviation for value in centred]


def expected_pass_at_k(pass_rate: float, k: int) -> float:
    """Chance that one of k samples is right where each is with `pass_rate`.

    With an estimated rate this plug-in is biased low, up to several points at k = n/2; use `pass_at_k` there.
    """
    return 1 - (1 - pass_rate) ** k


def elicitation_gap(counts: "ArrayLike", n: "ArrayLike", k: int) -> float:
    """pass@k - pass@1, means over problems: what the model can do now and then but does not do each time."""
    return pass_at_k_mean(counts, n, k) - pass_at_k_mean(counts, n, 1)


def predicted(pass_at_1: float, gap: float, gamma: float) -> float:
    """pass@1 to expect after RL that realises the share `gamma` of the elicitation gap."""
    return pass_at_1 + gamma * gap


BANDS = {"never": 0.0, "rare": 0.0, "hard": 0.05, "even": 0.5, "sure": 0.95}
"""Where each band of pass rates begins, in order: {0}, (0, 0.05), [0.05, 0.5), [0.5, 0.95), [0.95, 1]."""


def band(pass_rate: float) -> str:
    """Name of the band that a pass rate in [0, 1] falls in; together the bands cover all of it."""
    if not 0 <= pass_rate <= 1:
        raise ValueError(f"pass rate {pass_rate} is not in [0, 1]")
    if pass_rate == 0:
        return "never"
    return [name for name, start in BANDS.items() if start <= pass_rate][-1]


def signal_share(pass_rate: float, n: int) -> float:
    """Share of groups of n samples with both right and wrong ones: the others have no GRPO gradient.

    1 - p^n - (1-p)^n; 0 for n = 1 and for p in {0, 1}.
    """
    return 1 - pass_rate**n - (1 - pass_rate) ** n
