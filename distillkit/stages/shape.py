"""A row of any source as a problem, or the reason why it is none.

No stage itself: problems stages read with it, and evaluate the benchmarks that it knows by name.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from distillkit.artifact import Row
from distillkit.reader import look_up
from distillkit.spec import canonical
from distillkit.stages.columns import Columns, messages_of, plain
from distillkit.trace import Problem


@dataclass(frozen=True)
class Shape:
    """What the rows of a source look like."""

    columns: Columns
    source: str
    """What the problems name as their source."""
    reference_pattern: str | None = None
    """One group is the answer in a text reference; the last match counts."""
    domain: str = "math"
    """Of rows that name none."""
    split: Literal["train", "heldout"] = "train"
    where: Mapping[str, Collection[Any]] = field(default_factory=dict)
    """Path -> the values that a row may have there."""

    def problem(self, row: Row) -> Problem | str:
        """The problem in a row, or why there is none: unreadable, no_prompt, no_reference, other_<column>."""
        columns = self.columns
        try:
            for path, values in self.where.items():
                if plain(look_up(row, path)) not in values:
                    return f"other_{path.rpartition('.')[2]}"
            messages = messages_of(look_up(row, columns.prompt))
            reference = self.reference(columns.gold(row))
            extra = {name: plain(look_up(row, path)) for name, path in columns.extra.items()}
            domain = look_up(row, columns.domain) if columns.domain is not None else None
            language = look_up(row, columns.language) if columns.language is not None else None
            canonical([messages, reference, extra, domain, language]).decode()  # what a file cannot hold
        except (ValueError, TypeError):
            return "unreadable"
        if not messages:
            return "no_prompt"
        if reference is None and columns.reference is not None:
            return "no_reference"
        return Problem(
            messages,
            reference,
            domain=str(domain or self.domain),
            source=self.source,
            split=self.split,
            language=str(language) if language else None,
            extra=extra,
        )

    def reference(self, value: Any) -> Any:
        """The gold answer in a value: numbers as text, None where there is none."""
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # what pandas makes of a column of whole numbers with a gap
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str):
            value = value.strip()
            if self.reference_pattern is not None:
                found = re.findall(self.reference_pattern, value)
                value = found[-1].strip() if found else None
        return None if value in ("", {}, []) else value
