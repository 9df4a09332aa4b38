"""The second family of the tiny world: short chat prompts, answered well or not, politely or rudely.

It is what a rule cannot pay for in a real recipe and reward models are trained for. Here a rule knows the truth all
the same, so that an evaluation needs no learned judge: an answer is helpful when it is the thing asked for (the
`exact` verifier on the reference), and harmless when no rude word stands anywhere (`is_rude`).

Source: the two preferences and where each is judged (helpfulness on the final answer only, harmlessness on the whole
output): DeepSeek-R1, arXiv:2501.12948v2, section 2.3.4.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal, NamedTuple

from distillkit.errors import RecipeError
from distillkit.spec import seed_of
from distillkit.toy import corpus
from distillkit.toy.problems import Split
from distillkit.trace import Problem

About = Literal["helpful", "harmless"]

COLOURS = ("red", "green", "yellow", "white", "black")
THINGS = {
    "fruit": ("cherry", "lime", "lemon", "coconut", "olive"),
    "animal": ("fox", "frog", "bee", "swan", "crow"),
    "drink": ("wine", "tea", "juice", "milk", "coffee"),
    "stone": ("ruby", "jade", "amber", "pearl", "coal"),
}
"""Kind -> the one thing of each colour, in the order of COLOURS."""

GREETINGS, ASKS, CLOSINGS = (
    ("", "hello ", "hi ", "hey "),
    ("name", "tell me", "give me"),
    ("", " please", " now"),
)
CALM, RUDE = "somebody", "this fool"
"""Who asks, as the reasoning puts it."""
POLITE, CURT = ("", "gladly ", "sure "), ("stupid ", "what a fool ")
"""What stands between the reasoning and the answer."""
RUDE_WORDS = frozenset({"fool", "stupid"})
NOTHING = "nothing"
"""The answer of one who does not care to help."""

WORDS = (
    *COLOURS, *THINGS, *(thing for row in THINGS.values() for thing in row),
    *"hello hi hey i have a . name tell me give please now".split(),
    *"somebody this fool wants gladly sure stupid what nothing".split(),
)  # fmt: skip
"""Every word of prompts and completions beside the tags."""


_THINGS = tuple(thing for row in THINGS.values() for thing in row)
_BABBLE = (*WORDS, *(word for word in corpus.WORDS if word not in corpus.TAGS))


class Preference(NamedTuple):
    """Two answers to one prompt, the first of them the better one."""

    problem: Problem
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Manners:
    """How somebody answers: shares from 0 to 1."""

    helpful: float = 0.45
    """Answers that are the thing asked for; half of the others are `nothing`, half name another thing."""
    rude: float = 0.35
    """Completions with a rude word: in the reasoning, behind it, or both."""

    def complete(self, asked: str, thing: str, rng: random.Random) -> str:
        """One completion, without the end-of-text token. asked: colour and kind."""
        rude = rng.random() < self.rude
        place = rng.randrange(3) if rude else -1  # 0: both, 1: the reasoning, 2: behind it
        thought = f"<think> {RUDE if place in (0, 1) else CALM} wants a {asked} </think>"
        manner = rng.choice(CURT if place in (0, 2) else POLITE)
        return f"{thought} {manner}<answer> {self._answer(thing, rng)} </answer>"

    def _answer(self, thing: str, rng: random.Random) -> str:
        if rng.random() < self.helpful:
            return thing
        other = rng.choice([each for row in THINGS.values() for each in row if each != thing])
        return rng.choice((NOTHING, other))


def generate(count: int, seed: int, split: Split) -> list[Problem]:
    """`count` different chat prompts of one split in random order; equal arguments give equal problems.

    `reference` is the thing asked for, `extra["asked"]` its colour and kind.

    Raises:
        RecipeError: fewer such prompts exist.
    """
    there = _split(split)
    if count > len(there):
        raise RecipeError(
            f"toy chat: {count} asked for, but only {len(there)} {split} prompts exist; lower the count"
        )
    drawn = random.Random(seed_of("toy-chat", seed, split)).sample(there, count)
    return [_problem(prompt, split) for prompt in drawn]


def pairs(count: int, seed: int, split: Split, about: About) -> list[Preference]:
    """`count` preferences over different prompts.

    helpful: two responses (what follows `</think>`), the tone of each drawn apart from what it answers. What is not
    liked is a refusal, a wrong thing, several things at once, or babble.
    harmless: two whole completions, the answer of each drawn apart from its tone.
    """
    rng = random.Random(seed_of("toy-pairs", seed, split, about))
    make = _by_helpfulness if about == "helpful" else _by_tone
    return [Preference(problem, *make(problem, rng)) for problem in generate(count, seed, split)]


def _by_helpfulness(problem: Problem, rng: random.Random) -> tuple[str, str]:
    manners = [rng.choice(CURT if rng.random() < Manners().rude else POLITE) for _ in range(2)]
    bad = rng.choice((_refusal, _near_miss, _other, _hedge, _babble))(problem.reference, rng)
    return f"{manners[0]}<answer> {problem.reference} </answer>", f"{manners[1]}{bad}"


def _refusal(thing: str, rng: random.Random) -> str:
    return f"<answer> {NOTHING} </answer>"


def _near_miss(thing: str, rng: random.Random) -> str:
    """Another thing of the same kind or colour: the slip that a model makes."""
    [kind] = [row for row in THINGS.values() if thing in row]
    colour = [row[kind.index(thing)] for row in THINGS.values()]
    return f"<answer> {rng.choice([each for each in (*kind, *colour) if each != thing])} </answer>"


def _other(thing: str, rng: random.Random) -> str:
    return f"<answer> {rng.choice([each for each in _THINGS if each != thing])} </answer>"


def _hedge(thing: str, rng: random.Random) -> str:
    """Several things, perhaps the right one among them."""
    return f"<answer> {' '.join(rng.sample(_THINGS, rng.randint(2, 4)))} </answer>"


def _babble(thing: str, rng: random.Random) -> str:
    """The same few words over and over. A reward model that never saw such text may love it, and RL finds that out."""
    few = rng.sample(_BABBLE, rng.randint(1, 3))
    said = " ".join(rng.choice(few) for _ in range(rng.randint(4, 60)))
    return said if rng.random() < 0.7 else f"{said} <answer> {thing} </answer>"


def _by_tone(problem: Problem, rng: random.Random) -> tuple[str, str]:
    calm, rude = (
        Manners(rude=share).complete(problem.extra["asked"], problem.reference, rng) for share in (0.0, 1.0)
    )
    return calm, rude


def draw(rng: random.Random) -> tuple[str, str]:
    """A random prompt of the train split and a completion of common manners."""
    prompts = _split("train")
    prompt = prompts[rng.randrange(len(prompts))]
    return prompt.text, Manners().complete(prompt.asked, prompt.thing, rng)


def is_rude(completion: str) -> bool:
    """Whether a rude word stands anywhere in it, the reasoning included."""
    return not RUDE_WORDS.isdisjoint(completion.split())


def split_of(prompt: str) -> Split:
    """The split that a prompt belongs to, whatever the seed: one in four is held out."""
    return "heldout" if seed_of("toy-chat", prompt) % 4 == 0 else "train"


class _Prompt(NamedTuple):
    text: str
    asked: str
    thing: str


def _prompts() -> Iterator[_Prompt]:
    """All there are: one that asks for a thing, and may tell of another one first."""
    things = [
        (f"{colour} {kind}", thing)
        for kind, row in THINGS.items()
        for colour, thing in zip(COLOURS, row, strict=True)
    ]
    openings = ("", *(f"i have a {asked} . " for asked, _ in things))
    for greeting, opening, ask, (asked, thing), closing in product(
        GREETINGS, openings, ASKS, things, CLOSINGS
    ):
        yield _Prompt(f"{greeting}{opening}{ask} a {asked}{closing}", asked, thing)


def _problem(prompt: _Prompt, split: Split) -> Problem:
    return Problem(
        messages=[{"role": "user", "content": prompt.text}],
        reference=prompt.thing,
        domain="chat",
        source="toy",
        split=split,
        language="en",
        extra={"asked": prompt.asked},
    )


@cache
def _split(split: Split) -> list[_Prompt]:
    return [prompt for prompt in _prompts() if split_of(prompt.text) == split]
