"""Preference pairs as other people keep them, and as two models' traces make them.

No stage itself, but where one reads its pairs from. The layouts in use differ: text or conversations, the prompt apart
or inside both answers, two answers and the number of the better one; what fits none of them is a row with its reason.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pydantic import Field, model_validator

from distillkit.artifact import Row, problem_in
from distillkit.errors import RecipeError
from distillkit.reader import View, look_up
from distillkit.spec import Strict, canonical
from distillkit.stages.columns import messages_of, plain
from distillkit.stages.intake import Intake
from distillkit.trace import Message, Pair, trace_of

DIALOGUE = re.compile(r"\s*(?:^|\n\n)(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
"""How Anthropic's hh-rlhf writes a conversation as one text."""


class PairColumns(Strict):
    """Where each part of a pair stands in a row; a dotted path leads into nested columns."""

    prompt: str | None = None
    """Text of the question, or messages up to the last one of the user. Left out: a column `prompt` where there is one,
    else what stands in front of the last answer in both conversations."""
    chosen: str = "chosen"
    """The answer that is liked better: text, or a conversation that ends with it."""
    rejected: str = "rejected"
    answers: list[str] | None = Field(None, min_length=2, max_length=2)
    """Two answers in place of chosen and rejected; `better` says which one is chosen."""
    better: str | None = None
    """Path of the number (0 or 1) of the better of `answers`."""
    margin: str | list[str] | None = None
    """How much better the chosen answer is: a path, or two whose difference it is. Left out: not said."""
    domain: str | None = None
    """Left out: every row is of the stage's `domain`."""
    extra: dict[str, str] = Field(default_factory=dict)
    """Name -> path of further values to carry along."""

    @model_validator(mode="after")
    def _both(self) -> "PairColumns":
        if (self.answers is None) != (self.better is None):
            raise ValueError(
                "answers and better go together: two paths, and that of the number of the better one"
            )
        if isinstance(self.margin, list) and len(self.margin) != 2:
            raise ValueError("margin: give one path, or two whose difference it is")
        return self

    def paths(self) -> list[str]:
        """Every path that has to be there."""
        answers = [self.chosen, self.rejected] if self.answers is None else [*self.answers, self.better]
        margin = self.margin if isinstance(self.margin, list) else [self.margin]
        named = [self.prompt, *answers, *margin, self.domain, *self.extra.values()]
        return [path for path in named if path is not None]

    def among(self, names: Iterable[str], where: str) -> list[str]:
        """Those of the `names` that are read; raises RecipeError where a path starts in none of them."""
        there = list(names)
        for path in self.paths():
            if not any(_leads(name, path) for name in there):
                raise RecipeError(
                    f"{where}: no column {path!r}; there are {', '.join(there)}; map them with columns:"
                )
        wanted = [*self.paths(), *(["prompt"] if self.prompt is None else [])]
        return [name for name in there if any(_leads(name, path) for path in wanted)]

    def read(self, row: Row | None, domain: str, source: str, max_characters: int) -> Pair | str:
        """The pair in a row, or the reason why there is none."""
        if row is None:
            return "unreadable"
        try:
            found = self._pair(row, domain, source)
            if isinstance(found, Pair):
                canonical([found.messages, found.chosen, found.rejected, found.extra]).decode()
        except (ValueError, TypeError):
            return "unreadable"
        return found if isinstance(found, str) else _fault(found, max_characters) or found

    def _pair(self, row: Row, domain: str, source: str) -> Pair | str:
        first, second = self._answers(row)
        if first is None or second is None:
            return "no_answer"
        prompt = look_up(row, self.prompt or "prompt")
        messages = messages_of(prompt) if prompt is not None else first[0]
        if not messages:
            return "no_prompt"
        if prompt is None and first[0] != second[0]:
            return "prompts_differ"
        own = look_up(row, self.domain) if self.domain is not None else None
        return Pair(
            messages,
            first[1],
            second[1],
            domain=str(own or domain),
            source=source,
            margin=self._margin(row),
            extra={name: plain(look_up(row, path)) for name, path in self.extra.items()},
        )

    def _answers(self, row: Row) -> "list[_Said | None]":
        """What the chosen and the rejected answer say, each with its own prompt."""
        if self.answers is None or self.better is None:
            return [said(look_up(row, path)) for path in (self.chosen, self.rejected)]
        better = look_up(row, self.better)
        if isinstance(better, bool) or better not in (0, 1):
            raise ValueError("neither 0 nor 1")
        both = [said(look_up(row, path)) for path in self.answers]
        return both if better == 0 else both[::-1]

    def _margin(self, row: Row) -> float | None:
        if self.margin is None:
            return None
        paths = [self.margin] if isinstance(self.margin, str) else self.margin
        values = [look_up(row, path) for path in paths]
        if any(value is None for value in values):
            return None
        return float(values[0]) - (float(values[1]) if len(values) > 1 else 0.0)


_Said = tuple[list[Message], str]
"""A prompt, empty where there is none, and the answer to it."""


def said(value: Any) -> _Said | None:
    """The prompt and the answer in a text or in the messages of a conversation; None where there is no answer."""
    turns = value if isinstance(value, list) else _turns(value) if isinstance(value, str) else []
    match turns:
        case [*before, {"role": "assistant", "content": str(answer)}] if answer.strip():
            return messages_of(before), answer
    return None


def _turns(text: str) -> list[Message]:
    """The messages of a text: of a dialogue its turns, else one answer."""
    if not text.lstrip().startswith("Human:"):
        return [{"role": "assistant", "content": text}]
    _, *parts = DIALOGUE.split(text)
    return [
        {"role": ROLES[who], "content": what.strip()}
        for who, what in zip(parts[::2], parts[1::2], strict=True)
    ]


def _fault(pair: Pair, max_characters: int) -> str | None:
    """Why a pair is of no use, None where it is."""
    if pair.chosen.strip() == pair.rejected.strip():
        return "same_text"
    long = sum(len(each["content"]) for each in pair.messages) + max(len(pair.chosen), len(pair.rejected))
    if long > max_characters:
        return "too_long"
    return None if pair.margin is None or pair.margin > 0 else "tie" if pair.margin == 0 else "wrong_margin"


def _leads(name: str, path: str) -> bool:
    return path == name or path.startswith(f"{name}.")


FIRST = "first"
"""What `prefer` says where the order of the inputs decides."""


@dataclass(frozen=True)
class Comparison:
    """How the answers to one problem become pairs: the best against the worst, the second best against the second
    worst, and so on, as long as they differ."""

    prefer: str
    """A field whose higher value is better, or FIRST."""
    min_margin: float
    per_prompt: int

    def pairs(self, views: Sequence[View]) -> Iterator[tuple[str, Pair | str]]:
        """By problem: each with a pair, or with the reason why it has none."""
        for shard in range(views[0].shards):
            rows = sorted(
                ((row["id"], at, row) for at, view in enumerate(views) for row in view.stream(shard)),
                key=lambda each: each[:2],
            )
            for problem, group in groupby(rows, key=lambda each: problem_in(each[0])):
                for found in self._of([(at, row) for _, at, row in group]):
                    yield problem, found

    def _of(self, rows: list[tuple[int, Row]]) -> list[Pair] | list[str]:
        answers = {row["completion"].strip(): (at, row) for at, row in reversed(rows)}
        there = [(at, row) for text, (at, row) in answers.items() if text and row["finish_reason"] != "error"]
        if len(there) < 2:
            return ["one_answer"]
        judged = [(value, row) for at, row in there if (value := self._value(at, row)) is not None]
        if len(judged) < 2:
            return ["unjudged"]
        judged.sort(key=lambda each: (-each[0], each[1]["id"]))
        ends = zip(judged, reversed(judged), range(min(self.per_prompt, len(judged) // 2)), strict=False)
        least = max(self.min_margin, 1e-9)
        made = [
            _compared(good, bad, None if self.prefer == FIRST else high - low)
            for (high, good), (low, bad), _ in ends
            if high - low >= least
        ]
        return made or ["tie"]

    def _value(self, at: int, row: Row) -> float | None:
        """How good an answer is."""
        if self.prefer == FIRST:
            return -float(at)
        value = look_up(row, self.prefer)
        return float(value) if isinstance(value, int | float) else None


def _compared(good: Row, bad: Row, margin: float | None) -> Pair:
    best, worst = trace_of(good), trace_of(bad)
    return Pair(
        best.messages,
        best.said,
        worst.said,
        domain=best.domain,
        source=best.source,
        margin=margin,
        extra={"chosen": best.id, "rejected": worst.id},
        problem_id=best.problem_id,
    )


@dataclass
class Gathered(Intake[Pair]):
    """Pairs as they come in: at most so many of one prompt."""

    salt: str = "pairs"
    per_prompt: int = 1
    _prompts: Counter[str] = field(default_factory=Counter)

    def objection(self, found: Pair) -> str | None:
        reason = super().objection(found)
        if reason is None and self._prompts[found.problem_id] >= self.per_prompt:
            reason = "same_prompt"
        self._prompts[found.problem_id] += reason is None
        return reason
