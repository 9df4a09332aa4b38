"""Write recipes/data/toy_demonstrations.jsonl: worked chains as a hurried person would write them.

One solution for each of the problems that `{kind: problems, toy: chain, limit: 600}` makes. Every step is wrong with
a chance of 5 %, nothing is put right, and one in four mixes languages: what is learnt from them has a ceiling.

    python scripts/make_toy_demonstrations.py            # a second, the same bytes everywhere
"""

import json
import random
from pathlib import Path

from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import generate

OUT = Path(__file__).parent.parent / "recipes" / "data" / "toy_demonstrations.jsonl"
PEOPLE = Corpus(guesses=0.0, english=0.75, switching=0.25, slips=0.05, noticed=0.0)


def rows() -> list[str]:
    """The lines of the file."""
    rng = random.Random(20)
    problems = generate(600, seed=0, split="train")
    found = [
        {"problem": each.prompt, "solution": PEOPLE.complete(each.prompt, rng), "answer": each.reference}
        for each in problems
    ]
    return [json.dumps(row, ensure_ascii=False) for row in found]


if __name__ == "__main__":
    OUT.write_text("\n".join(rows()) + "\n", "utf-8")
