"""Database instances that a query cannot get out of, nor write to, nor hold up. For worker processes.

sqlite3 refuses by an authorizer whatever is no SELECT and stops by a progress handler; duckdb is shut off from files
and network, its settings are locked, and a thread interrupts it. CPU time decides, not the wall clock.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

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
