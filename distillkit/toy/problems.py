"""The problems of the tiny world: chains such as `8 + 2 - 2 + 8 - 5`, worked modulo 10 from left to right.

Small enough for a model of 0.3 M parameters, deep enough that a guess is rarely right and a chain worked step
by step nearly always is. The digest of a chain decides its split, so train and heldout can never meet.
"""

import random
from typing import Literal

from distillkit.errors import RecipeError
from distillkit.spec import seed_of
from distillkit.trace import Problem

Split = Literal["train", "heldout"]

LONGEST = 12
"""Most terms of a chain; the shipped base has seen 3 to 8."""


def generate(count: int, seed: int, split: Split, terms: tuple[int, int] = (3, 8)) -> list[Problem]:
    """`count` different chains of one split in random order, spread over the lengths as evenly as they exist.

    Equal arguments give equal problems. `reference` is the answer, a digit as text; `extra["terms"]` the
    length.

    Raises:
        RecipeError: `terms` is not a range within 2 to 12, or fewer than `count` such chains exist.
    """
    check_terms(terms)
    shortest, longest = terms
    chains: list[str] = []
    for length in range(shortest, longest + 1):  # what the few short chains cannot fill, longer ones do
        share = (count - len(chains)) // (longest + 1 - length)
        chains += _draw(share, length, split, random.Random(seed_of("toy", seed, split, length)))
    if len(chains) < count:
        exist = f"only {len(chains)} {split} chains of {shortest} to {longest} terms exist"
        raise RecipeError(f"toy problems: {count} asked for, but {exist}; lower count or widen terms")
    random.Random(seed_of("toy", seed, split)).shuffle(chains)
    return [_problem(chain, split) for chain in chains]


def check_terms(terms: tuple[int, int]) -> None:
    """Raises RecipeError for what is no range within 2 to 12."""
    shortest, longest = terms
    if not 2 <= shortest <= longest <= LONGEST:
        raise RecipeError(f"toy problems: terms {shortest} to {longest}: give a range within 2 to {LONGEST}")


def draw_chain(length: int, rng: random.Random) -> str:
    """A random chain of `length` digits joined by `+` and `-`, of either split."""
    return _chain(rng.randrange(_number(length)), length)


def split_of(chain: str) -> Split:
    """The split that a chain belongs to, whatever the seed: one in four is held out."""
    return "heldout" if seed_of("toy", chain) % 4 == 0 else "train"


def step(total: int, sign: str, digit: int) -> int:
    """One step of a chain: the running total plus or minus a digit, modulo 10."""
    return (total + digit if sign == "+" else total - digit) % 10


def answer(chain: str) -> int:
    """The value of a chain modulo 10, 0 to 9."""
    first, *rest = chain.split()
    total = int(first)
    for sign, digit in zip(rest[::2], rest[1::2], strict=True):
        total = step(total, sign, int(digit))
    return total


def _problem(chain: str, split: Split) -> Problem:
    return Problem(
        messages=[{"role": "user", "content": chain}],
        reference=str(answer(chain)),
        domain="chain",
        source="toy",
        split=split,
        language="en",
        extra={"terms": (len(chain.split()) + 1) // 2},
    )


def _draw(count: int, length: int, split: Split, rng: random.Random) -> list[str]:
    """Up to `count` different chains of one length and split: fewer only where no more exist."""
    if count * 16 > _number(length):  # too near to all of them for drawing until enough are found
        pool = [c for c in (_chain(i, length) for i in range(_number(length))) if split_of(c) == split]
        rng.shuffle(pool)
        return pool[:count]
    found: dict[str, None] = {}
    while len(found) < count:
        chain = draw_chain(length, rng)
        if split_of(chain) == split:
            found[chain] = None
    return list(found)


def _number(length: int) -> int:
    """How many chains of this length there are."""
    return int(10 * 20 ** (length - 1))


def _chain(index: int, length: int) -> str:
    """The chain with this number: a digit, then one of 20 signed digits for each further term."""
    index, first = divmod(index, 10)
    words = [str(first)]
    for _ in range(length - 1):
        index, signed = divmod(index, 20)
        words += ["+" if signed < 10 else "-", str(signed % 10)]
    return " ".join(words)
