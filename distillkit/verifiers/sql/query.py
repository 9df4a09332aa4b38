"""What a worker does with a query: runs it on every instance of a database and compares its rows with the gold's."""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any

from distillkit.spec import canonical
from distillkit.verifiers.sql.database import Broken, Database, Duckdb, OutOfTime, Refused, Rows, Sqlite


def serve_queries(cpu_s: float, max_rows: int) -> Callable[[Sequence[Any]], Any]:
    """What a worker runs: [reference, query] -> [reason, detail], or without a query why the gold cannot be used."""

    @lru_cache(maxsize=2)  # an instance of duckdb takes 100 MiB of address space
    def prepared(reference: bytes) -> Prepared:
        return Prepared(json.loads(reference), cpu_s, max_rows)

    def ask(question: Sequence[Any]) -> Any:
        reference, query = question
        ready = prepared(canonical(reference))
        if query is None:
            return ready.complaint
        return ("unparseable_gold", {"error": ready.complaint}) if ready.complaint else ready.judge(query)

    return ask


class Prepared:
    """A reference with its instances built and its gold's rows known; `complaint` says why it cannot be used."""

    def __init__(self, reference: dict[str, Any], cpu_s: float, max_rows: int) -> None:
        self._cpu_s = cpu_s
        self._ordered = orders_rows(reference["query"])
        self._instances: list[tuple[Database, int, Rows]] = []
        try:
            self._build(reference, max_rows)
            self.complaint = self._weakness(reference["query"])
        except (Refused, OutOfTime, Broken) as error:
            self.complaint = f"database {len(self._instances) + 1}: {error}"

    def _build(self, reference: dict[str, Any], max_rows: int) -> None:
        make: Callable[[str, float], Database] = Duckdb if reference["dialect"] == "duckdb" else Sqlite
        until = time.process_time() + 2 * self._cpu_s
        for script in reference["databases"]:
            database = make(f"{reference.get('schema', '')}\n{script}", until)
            width, rows = database.rows(reference["query"], max_rows + 1, until)
            if len(rows) > max_rows:
                raise Broken(f"the gold returns more than {max_rows:,} rows")
            self._instances.append((database, width, rows))

    def _weakness(self, gold: str) -> str | None:
        """Why the gold's rows tell a right query from a wrong one badly."""
        found = [self._normal(rows) for _, _, rows in self._instances]
        if not any(found):
            return "the gold returns no row on any database"
        if all(each == found[0] for each in found):
            return "the gold returns the same rows on all databases, so a query that prints them would pass"
        if not self._ordered and "limit" in outer_words(gold):
            return "the gold has LIMIT without ORDER BY: which rows it returns is up to the database"
        return None

    def judge(self, query: str) -> tuple[str, dict[str, Any]]:
        """Reason and detail of a candidate; the first database that shows a difference ends it."""
        until = time.process_time() + self._cpu_s
        for number, (database, width, gold) in enumerate(self._instances, 1):
            try:
                columns, rows = database.rows(query, len(gold) + 1, until)
            except (Refused, OutOfTime, Broken) as error:
                return _REASONS[type(error)], {"database": number, "error": str(error)}
            if columns != width:
                return "wrong", {"database": number, "error": f"{columns} columns, not {width}"}
            if self._normal(rows) != self._normal(gold):
                return "wrong", {"database": number, "error": "other rows"}
        return "correct", {}

    def _normal(self, rows: Rows) -> list[Any] | Counter[Any]:
        """The rows in a form in which equal results are equal."""
        plain = [tuple(_value(each) for each in row) for row in rows]
        return plain if self._ordered else Counter(plain)


_REASONS: dict[type[Exception], str] = {
    Refused: "sandbox_denied",
    OutOfTime: "out_of_time",
    Broken: "crashed",
}


def _value(value: Any) -> Any:
    """A value as what it says: 1, 1.0, true and 1.00 are one, and so are floats alike in nine digits."""
    if isinstance(value, bool | int | float | Decimal):
        number = float(value) if isinstance(value, float | Decimal) else int(value)
        if isinstance(number, int):
            return number
        if not math.isfinite(number):
            return str(number)
        return int(number) if number.is_integer() and abs(number) < 2**53 else float(f"{number:.9g}")
    if isinstance(value, bytes | bytearray | memoryview):
        return ("bytes", bytes(value))
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | clock_time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ("list", tuple(_value(each) for each in value))
    if isinstance(value, dict):
        return ("struct", tuple((str(key), _value(each)) for key, each in value.items()))
    return value if value is None or isinstance(value, str | timedelta) else str(value)


_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|(?P<word>[A-Za-z_]\w*)|[()]",
    re.DOTALL,
)


def outer_words(query: str) -> list[str]:
    """The words of a query outside of brackets, strings and comments, in lower case."""
    depth, words = 0, list[str]()
    for token in _TOKEN.finditer(query):
        if token[0] in "()":
            depth += 1 if token[0] == "(" else -1
        elif token["word"] and depth == 0:
            words.append(token[0].lower())
    return words


def orders_rows(query: str) -> bool:
    """Whether the query as a whole says in what order its rows come."""
    words = outer_words(query)
    return ("order", "by") in pairwise(words)
