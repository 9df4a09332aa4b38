"""The text that the toy base is pre-trained on, and the words it is made of.

It holds worked solutions in two languages and a mixture of both, some slips, some of them noticed. Its second
part is mostly bare guesses, so that the skill is there but latent, as in a large base model.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from distillkit.toy.problems import answer, draw_chain, split_of, step

Style = Literal["english", "chinese", "switching"]

CONNECTIVES = {"english": ("so", "then", "next"), "chinese": ("所以", "然后", "接着")}
WAIT = {"english": "wait", "chinese": "等等"}
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = (*TAGS, *"0123456789+-=", *CONNECTIVES["english"], *CONNECTIVES["chinese"], *WAIT.values())
"""Every word that a prompt or a completion is made of; words are separated by single spaces."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The shares of what is in the text, each from 0 to 1.

    The styles' shares are of worked solutions; what English and switching leave is Chinese, which has its own
    house style: the answer stands bare behind the reasoning, without answer tags.
    """

    guesses: float
    """Completions that give the answer at once, without reasoning."""
    english: float = 0.3
    switching: float = 0.4
    """Solutions that draw the language of each connective anew."""
    slips: float = 0.04
    """Steps with a wrong result ..."""
    noticed: float = 0.5
    """... and of those the share put right at once (`wait`); the rest is carried on to a wrong answer."""
    terms: tuple[int, int] = (3, 8)

    def pairs(self, rng: random.Random) -> Iterator[tuple[str, str]]:
        """Endless (prompt, completion) pairs over chains of the train split only."""
        while True:
            chain = draw_chain(rng.randint(*self.terms), rng)
            if split_of(chain) == "train":
                yield chain, self.complete(chain, rng)

    def complete(self, chain: str, rng: random.Random) -> str:
        """One completion of a chain, without the end-of-text token."""
        if rng.random() < self.guesses:
            return f"<answer> {answer(chain)} </answer>"
        draw = rng.random()
        style: Style = (
            "english"
            if draw < self.english
            else "switching"
            if draw < self.english + self.switching
            else "chinese"
        )
        reasoning, result = self._reason(chain, style, rng)
        tail = str(result) if style == "chinese" else f"<answer> {result} </answer>"
        return f"<think> {reasoning} </think> {tail}"

    def _reason(self, chain: str, style: Style, rng: random.Random) -> tuple[str, int]:
        first, *rest = chain.split()
        total = int(first)
        words: list[str] = []
        for sign, digit in zip(rest[::2], rest[1::2], strict=True):
            language = rng.choice(("english", "chinese")) if style == "switching" else style
            if words:
                words.append(rng.choice(CONNECTIVES[language]))
            right = result = step(total, sign, int(digit))
            if rng.random() < self.slips:
                result = (right + rng.randrange(1, 10)) % 10
            words.append(f"{total} {sign} {digit} = {result}")
            if result != right and rng.random() < self.noticed:
                result = right
                words.append(f"{WAIT[language]} {total} {sign} {digit} = {result}")
            total = result
        return " ".join(words), total
