"""Where the parts of a problem stand in a row of any source, and what they look like as JSON.

No stage itself, but what a problems stage maps a user's columns with.
"""

import math
from collections.abc import Iterable
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from distillkit.artifact import Row
from distillkit.errors import RecipeError
from distillkit.reader import look_up
from distillkit.spec import Strict
from distillkit.trace import Message


class Columns(Strict):
    """Where each part of a problem stands in a row; a dotted path leads into nested columns."""

    prompt: str = "prompt"
    """Text of the question, or a list of messages that is cut behind the last one of the user."""
    reference: Annotated[str | dict[str, str], Field(min_length=1)] | None = "reference"
    """The gold answer: text, a number, or an object such as {"tests": ...}. A mapping of names to paths makes such
    an object of several columns: {test: test, entry_point: entry_point}; a null column is left out of it.
    null: the problems have no gold; a majority or a judge may still judge them."""
    domain: str | None = None
    """Left out: every row is of the stage's `domain`."""
    language: str | None = None
    extra: dict[str, str] = Field(default_factory=dict)
    """Name -> path of further values to carry along."""

    def paths(self) -> list[str]:
        """Every path that is read."""
        given = self.reference
        reference = given.values() if isinstance(given, dict) else [given]
        named = (self.prompt, *reference, self.domain, self.language, *self.extra.values())
        return [path for path in named if path is not None]

    def gold(self, row: Row) -> Any:
        """The reference in a row as JSON has it; None where every column of it is null."""
        if self.reference is None:
            return None
        if isinstance(self.reference, str):
            return plain(look_up(row, self.reference))
        found = {name: plain(look_up(row, path)) for name, path in self.reference.items()}
        return {name: value for name, value in found.items() if value is not None} or None

    def among(self, names: Iterable[str], where: str, more: Iterable[str] = ()) -> list[str]:
        """Those of the `names` that are read, for `more` paths too.

        Raises:
            RecipeError: a path starts in none of them.
        """
        there, paths = list(names), [*self.paths(), *more]
        for path in paths:
            if not any(_leads(name, path) for name in there):
                raise RecipeError(
                    f"{where}: no column {path!r}; there are {', '.join(there)}; map them with columns:"
                )
        return [name for name in there if any(_leads(name, path) for path in paths)]


def _leads(name: str, path: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def messages_of(value: Any) -> list[Message]:
    """The messages up to the last one of a user; none where the value is no prompt."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value.strip() else []
    if not isinstance(value, list):
        return []
    messages: list[Message] = []
    for each in value:
        match each:
            case {"role": str(role), "content": str(content)}:
                messages.append({"role": role, "content": content})
            case _:
                return []
    while messages and messages[-1]["role"] != "user":
        messages.pop()
    return messages if messages and messages[-1]["content"].strip() else []


def plain(value: Any) -> Any:
    """The value as JSON has it: dates and decimals as text, NaN as null."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, date | time | Decimal) else value
