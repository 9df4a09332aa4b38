"""What a worker does with queries: builds locked database instances, runs one query on them, compares the rows.

sqlite3 refuses by an authorizer whatever is no SELECT and stops by a progress handler; duckdb is shut off from files
and network, its settings are locked, and a thread interrupts it. CPU time decides, not the wall clock.
"""

import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

from distillkit.spec import canonical

Rows = list[tuple[Any, ...]]

MAX_SQL_CHARS = 100_000
MAX_VALUE_BYTES = 10_000_000
_STEPS = 2000
"""Instructions of sqlite's machine between two looks at the clock."""


class Refused(Exception):
    """The query wants what a query for rows has no need of."""


class OutOfTime(Exception):
    """The query used up its CPU time."""


class Broken(Exception):
    """The query fails on this database; the text is the database's own."""


class Database(Protocol):
    """One instance, ready and locked."""

    def rows(self, query: str, most: int, until: float) -> tuple[int, Rows]:
        """How many columns, and at most `most` rows; `until` is a time of this process's CPU clock.

        Raises Refused, OutOfTime or Broken.
        """


def serve_queries(cpu_s: float, max_rows: int) -> Callable[[Sequence[Any]], Any]:
    """What a worker runs: [reference, query] -> [reason, detail], or without a query why the gold cannot be used."""

    @lru_cache(maxsize=16)
    def prepared(reference: bytes) -> Prepared:
        return Prepared(json.loads(reference), cpu_s, max_rows)

    def ask(question: Sequence[Any]) -> Any:
        reference, query = question
        ready = prepared(canonical(reference))
        return ready.complaint if query is None else ready.judge(query)

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


_DENIED_FUNCTIONS = {
    "load_extension",
    "readfile",
    "writefile",
    "edit",
    "fts3_tokenizer",
    "random",
    "randomblob",
}
"""What reaches out of the database, or answers otherwise the next time."""


class Sqlite:
    """A database in memory; after its script nothing but reading is authorised."""

    def __init__(self, script: str, until: float) -> None:
        import sqlite3

        self._denied = ""
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        self._database.set_authorizer(self._may_build)
        with self._limits(until):
            self._database.executescript(script)
        self._database.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_CHARS)
        self._database.set_authorizer(self._may_read)

    def rows(self, query: str, most: int, until: float) -> tuple[int, Rows]:
        with self._limits(until):
            cursor = self._database.execute(query)
            width = len(cursor.description or ())
            found = cursor.fetchmany(most)
            cursor.close()
        if not width:
            raise Broken("it returns no rows")
        return width, found

    def _may_build(self, action: int, first: str | None, second: str | None, *_: Any) -> int:
        import sqlite3

        denied = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA)
        allowed = first == "foreign_keys" if action in denied else second not in _DENIED_FUNCTIONS
        return self._decide(allowed, action, second or first)

    def _may_read(self, action: int, first: str | None, second: str | None, *_: Any) -> int:
        import sqlite3

        reading = (
            sqlite3.SQLITE_SELECT,
            sqlite3.SQLITE_READ,
            sqlite3.SQLITE_FUNCTION,
            sqlite3.SQLITE_RECURSIVE,
        )
        function = (second or "").lower() if action == sqlite3.SQLITE_FUNCTION else ""
        return self._decide(action in reading and function not in _DENIED_FUNCTIONS, action, second or first)

    def _decide(self, allowed: bool, action: int, name: str | None) -> int:
        if not allowed:
            self._denied = f"not allowed: {name or f'action {action} of sqlite'}"
        return 0 if allowed else 1  # SQLITE_OK, SQLITE_DENY

    @contextmanager
    def _limits(self, until: float) -> Iterator[None]:
        import sqlite3

        self._denied = ""
        self._database.set_progress_handler(lambda: int(time.process_time() > until), _STEPS)
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            if self._denied:
                raise Refused(self._denied) from None
            raise (
                OutOfTime("out of CPU time") if "interrupted" in str(error) else Broken(_line(error))
            ) from None
        finally:
            self._database.set_progress_handler(None, _STEPS)


_SHUT = {
    "enable_external_access": False,
    "python_enable_replacements": False,  # else a query could read the variables of this very file
    "lock_configuration": True,
}


class Duckdb:
    """A database in memory without files, network, extensions or a look at Python; its settings are locked."""

    def __init__(self, script: str, until: float) -> None:
        import duckdb

        settings = {
            "memory_limit": "512MB",
            "threads": 1,
            "max_temp_directory_size": "0KB",
            "temp_directory": "",
        }
        loading = ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions")
        self._database = duckdb.connect(":memory:", config=settings | dict.fromkeys(loading, False))
        for name, value in _SHUT.items():
            self._database.execute(f"SET {name} = {value}")
        with self._limits(until):
            self._database.execute(script)

    def rows(self, query: str, most: int, until: float) -> tuple[int, Rows]:
        import duckdb

        if len(query) > MAX_SQL_CHARS:
            raise Broken("the query is too long")
        with self._limits(until):
            statements = self._database.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise Refused("not allowed: anything but one SELECT")
            self._database.execute(
                "SELECT setseed(0.5)"
            )  # random() may be asked, and answers alike each time
            self._database.execute(statements[0])
            return len(self._database.description or ()), self._database.fetchmany(most)

    @contextmanager
    def _limits(self, until: float) -> Iterator[None]:
        import duckdb

        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(until, done), daemon=True)
        watch.start()
        try:
            yield
        except duckdb.InterruptException:
            raise OutOfTime("out of CPU time") from None
        except duckdb.PermissionException as error:
            raise Refused(_line(error)) from None
        except (duckdb.Error, ValueError, RuntimeError) as error:
            raise Broken(_line(error)) from None
        finally:
            done.set()
            watch.join()

    def _watch(self, until: float, done: threading.Event) -> None:
        """Interrupt again and again until it takes effect: between two statements there is nothing to stop."""
        while not done.wait(0.02):
            if time.process_time() > until:
                self._database.interrupt()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
