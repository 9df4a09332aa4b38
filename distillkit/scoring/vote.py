"""What more samples and more tokens buy: pass@k and cons@k against k, who leads the vote, what a lower cap scores.

Voting helps where the right answer is likelier than each wrong one (of A answers it then has more than 1/A), and hurts
everywhere else, however many samples vote.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from distillkit.scoring.judged import Group
from distillkit.scoring.metric import Ballot, cons_at, largest_k, pass_at


def cut(group: Group, max_tokens: int) -> Group:
    """The completions of a problem as a lower cap would have left them: right only if they finished within it.

    Exact, not an estimate: a cap changes no token before it. What has no length (it failed) stays as it is.
    """
    return [
        each
        if each.tokens is None or each.tokens <= max_tokens
        else replace(
            each, score=0.0, reason="truncated", answer=None, finish_reason="length", tokens=max_tokens
        )
        for each in group
    ]


def cut_votes(group: Group, votes: Ballot, max_tokens: int) -> Ballot:
    """The votes of the problem under a lower cap, see `cut`: what it cuts gives none."""
    cast = iter(votes.clusters)
    left: list[int | None] = []
    for each in group:
        own = next(cast) if each.score is not None else None
        late = each.tokens is not None and each.tokens > max_tokens
        if late or each.score is not None:
            left.append(None if late else own)
    return Ballot(left, votes.right)


def curve(groups: Sequence[Group], n: int, ballots: Mapping[str, Ballot]) -> dict[str, Any] | None:
    """pass@k and cons@k for k = 1, 2, 4, ... up to n/2: {k: [...], pass: [...], cons: [...] or None}.

    Only the problems that have n/2 judged samples stand in it, so that a curve compares k and not problems. cons is
    None where a problem has no ballot. None where n allows no k above 1.
    """
    most = largest_k(n)
    told = [group for group in groups if sum(each.score is not None for each in group) >= (most or n + 1)]
    if most is None or not told:
        return None
    ks = [1 << power for power in range(most.bit_length())]
    votes = all(group[0].problem_id in ballots for group in told)
    cast = [ballots[group[0].problem_id] for group in told] if votes else []
    return {
        "k": ks,
        "pass": [pass_at(told, k).as_json() for k in ks],
        "cons": [cons_at(cast, k).as_json() for k in ks] if votes else None,
    }


class Leading(NamedTuple):
    """Who leads the vote on one problem."""

    right: float
    """Share of the judged samples that give the likeliest right answer."""
    wrong: float
    """Share that gives the likeliest wrong one."""
    answers: int
    """Different answers."""


def leading(votes: Ballot) -> Leading | None:
    """The two answers that a vote is between; None where nothing was judged."""
    if not votes.clusters:
        return None
    sizes = Counter(number for number in votes.clusters if number is not None)
    right = max((size for number, size in sizes.items() if number in votes.right), default=0)
    wrong = max((size for number, size in sizes.items() if number not in votes.right), default=0)
    return Leading(right / len(votes.clusters), wrong / len(votes.clusters), len(sizes))


def tally(found: Sequence[Leading]) -> dict[str, Any]:
    """In how many problems voting can only help, and in how many only hurt.

    {problems, right, wrong, tied: which answer leads; silent: no sample gave any; answers: different ones, mean}.
    """
    spoken = [each for each in found if each.answers]
    return {
        "problems": len(found),
        "right": sum(each.right > each.wrong for each in spoken),
        "wrong": sum(each.right < each.wrong for each in spoken),
        "tied": sum(each.right == each.wrong for each in spoken),
        "silent": len(found) - len(spoken),
        "answers": round(fmean(each.answers for each in spoken), 6) if spoken else None,
    }
