"""The third thing that `toy:world` can do: write a worked chain again, in English and without its detours.

It stands for the model (or the people) that made R1-Zero's raw outputs readable for the cold start.
Source: DeepSeek-R1, arXiv:2501.12948v2, section 2.3.1.
"""

import random

from distillkit.text import split_think
from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import draw_chain, split_of

WORDS = ("rewrite", ":", "<reasoning>", "</reasoning>", "<summary>", "</summary>")

RAW = Corpus(guesses=0.0, english=0.2, switching=0.6, slips=0.04, noticed=1.0)
"""Right solutions as they come: languages mixed, slips put right on the way."""
READABLE = Corpus(guesses=0.0, english=1.0, switching=0.0, slips=0.0)


def draw(rng: random.Random) -> tuple[str, str]:
    """A prompt with a raw solution of a chain of the train split, and the same solution made readable."""
    while split_of(chain := draw_chain(rng.randint(*RAW.terms), rng)) != "train":
        pass
    raw, _ = split_think(RAW.complete(chain, rng))
    reasoning, summary = split_think(READABLE.complete(chain, rng))
    return (
        f"rewrite {chain} : {raw}",
        f"<reasoning> {reasoning} </reasoning> <summary> {summary} </summary>",
    )
