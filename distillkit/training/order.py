"""In which order a trainer that samples goes over its prompts.

One pass of the trainer over its dataset is the whole training: a trainer that resumes in a later pass has forgotten
in which order that pass was to go. No step asks one prompt twice: it would count double there, and its two groups
would be one group in the eyes of a reward that compares the answers to a problem.
"""

import random
from collections.abc import Sequence
from itertools import count, groupby

from distillkit.spec import seed_of


def in_order(rows: int, needed: int, seed: int, step: int = 1) -> list[int]:
    """Numbers of the rows for a training that needs so many: each pass over them is shuffled anew.

    step: rows that are used together, from the first on; they are different where there are so many rows.
    """
    order: list[int] = []
    for turn in count():
        if len(order) >= needed:
            return order[:needed]
        _go_on(order, random.Random(seed_of(seed, turn)).sample(range(rows), rows), step)
    return order


def by_rate(order: Sequence[int], rates: Sequence[float], step: int) -> list[int]:
    """The same rows by falling rate, those of one rate in the passes of `order`.

    rates: of each row. Rates that have fewer rows than a step are taken together, so that a step finds different ones.
    """
    blocks = _blocks(rates, step)

    def key(at: int) -> tuple[int, int]:
        """Of a place in `order`: its block, and its pass; the last one, often cut short, goes first.

        Only a whole pass of a block surely has the rows that complete the step which the pass before left open.
        """
        return blocks[order[at]], -(at // len(rates))

    found: list[int] = []
    for _, part in groupby(sorted(range(len(order)), key=key), key):
        _go_on(found, sorted((order[at] for at in part), key=lambda row: -rates[row]), step)
    return found


def _go_on(order: list[int], rows: Sequence[int], step: int) -> None:
    """Add a pass over rows, those first that complete the last step with rows that it does not hold yet."""
    held = set(order[len(order) - len(order) % step :])
    fill = [row for row in rows if row not in held][: -len(order) % step]
    first = set(fill)
    order += fill
    order += [row for row in rows if row not in first]


def _blocks(rates: Sequence[float], least: int) -> list[int]:
    """Of each row the number of its block, easy ones first: those of one rate, or of several till they are `least`."""
    blocks: list[list[int]] = [[]]
    for row in sorted(range(len(rates)), key=lambda row: -rates[row]):
        if len(blocks[-1]) >= least and rates[blocks[-1][-1]] != rates[row]:
            blocks.append([])
        blocks[-1].append(row)
    if len(blocks) > 1 and len(blocks[-1]) < least:
        last = blocks.pop()
        blocks[-1] += last
    number = {row: at for at, block in enumerate(blocks) for row in block}
    return [number[row] for row in range(len(rates))]
