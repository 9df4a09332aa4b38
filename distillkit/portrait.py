"""What the rows of a dataset are like: statistics that are gathered while rows are written, shard by shard."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from distillkit.artifact import Row
from distillkit.publication import public
from distillkit.reader import look_up


@dataclass
class Portrait:
    """Running statistics of rows, gathered while they are written: shard by shard, then added up."""

    rows: int = 0
    problems: int = 0
    tokens: list[int] = field(default_factory=list)
    """Of each completion whose tokens were counted."""
    characters: list[int] = field(default_factory=list)
    """Of the completions that nobody counted in tokens."""
    domains: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    """Language that the reasoning is meant to be in -> rows."""
    models: Counter[str] = field(default_factory=Counter)
    """Who sampled -> rows, as the rows say."""
    mixed: int = 0
    """Rows with words of two or more languages."""
    measured: int = 0
    """Rows whose languages were measured."""
    example: dict[str, str] = field(default_factory=dict)
    """{id, prompt, completion} of the row with the smallest id."""
    _last: str = ""

    def add(self, row: Row) -> None:
        """Count one row of the view, labels joined; rows ascend by id, so that a problem's are together."""
        self.rows += 1
        self.problems += row["problem_id"] != self._last
        self._last = row["problem_id"]
        tokens = row["completion_tokens"]
        if tokens is None:
            tokens = look_up(row, "measures.length.tokens")
        if tokens is None:
            self.characters.append(len(row["completion"]))
        else:
            self.tokens.append(tokens)
        self.domains[row["domain"]] += 1
        if row["model"]:
            self.models[public(row["model"])] += 1
        language = look_up(row, "measures.language") or {}
        self.measured += bool(language)
        self.mixed += bool(language.get("mixed"))
        target = language.get("target") or row["language"]
        if target and target != "und":
            self.languages[target] += 1

    def as_json(self) -> dict[str, Any]:
        """Everything of it; `Portrait(**...)` reads it back."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __add__(self, other: "Portrait") -> "Portrait":
        """That of both: of rows that share no problem."""
        return Portrait(
            self.rows + other.rows,
            self.problems + other.problems,
            self.tokens + other.tokens,
            self.characters + other.characters,
            Counter(self.domains) + Counter(other.domains),
            Counter(self.languages) + Counter(other.languages),
            Counter(self.models) + Counter(other.models),
            self.mixed + other.mixed,
            self.measured + other.measured,
            min((each for each in (self.example, other.example) if each), key=_id_of, default={}),
        )

    def facts(self) -> dict[str, Any]:
        """The statistics as JSON, equal for equal rows in any sharding."""
        return {
            "rows": self.rows,
            "problems": self.problems,
            "tokens": sum(self.tokens),
            "domains": dict(sorted(self.domains.items())),
            "languages": dict(sorted(self.languages.items())),
            "models": dict(sorted(self.models.items())),
            "mixed_language": self.mixed if self.measured else None,
            "length_unit": self.length_unit,
            "lengths": self._lengths(),
        }

    @property
    def length_unit(self) -> str:
        """What lengths are told in: tokens, unless none was counted."""
        return "tokens" if self.tokens else "characters"

    @property
    def length(self) -> list[int]:
        """Lengths of the completions, in `length_unit`."""
        return self.tokens or self.characters

    def _lengths(self) -> dict[str, int] | None:
        """What half and 95 % of the completions do not exceed; None where there is none."""
        ordered = sorted(self.length)
        if not ordered:
            return None
        at = {"median": 0.5, "p95": 0.95, "longest": 1.0}
        return {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in at.items()}


def _id_of(example: dict[str, str]) -> str:
    return example["id"]
