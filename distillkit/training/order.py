"""In which order a trainer that samples goes over its prompts.

One pass of the trainer over its dataset is the whole training: a trainer that resumes in a later pass has forgotten
in which order that pass was to go.
"""

import random
from itertools import chain, count, islice

from distillkit.spec import seed_of


def in_order(rows: int, needed: int, seed: int) -> list[int]:
    """Numbers of the rows for a training that needs so many: each pass over them is shuffled anew."""
    passes = (random.Random(seed_of(seed, turn)).sample(range(rows), rows) for turn in count())
    return list(islice(chain.from_iterable(passes), needed))
