"""A query by what it returns: the same rows as the gold query on every instance of the database.

Two instances at least, because on one a query that prints the answer as a constant passes. Order counts only where
the gold orders its rows. The queries run in worker processes on locked databases (see `database`).
Source: execution accuracy of Spider (Yu et al. 2018) and its test suites (Zhong et al. 2020, arXiv:2010.02840).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.errors import MissingError
from distillkit.pool import Failure, Pool, close_shared, shared
from distillkit.spec import EXECUTION
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.fence import last_block
from distillkit.verifiers.sql.query import serve_queries

LABELS = ("sql", "sqlite", "duckdb", "postgres", "postgresql", "mysql")


class Sql(Verifier):
    """Correct when the rows are the gold's, as a multiset, on all database instances.

    A reference holds the gold query and a script for each instance, with what they share in `schema`:
    {"query": "SELECT name FROM city WHERE people > 9", "schema": "CREATE TABLE city (name TEXT, people INT);",
     "databases": ["INSERT INTO city VALUES ('Rom', 3), ('Ulm', 12);", "INSERT INTO city VALUES ('Bern', 10);"],
     "dialect": "sqlite"}
    """

    votes: ClassVar[bool] = False  # two queries may be one without looking alike

    kind: Literal["sql"] = "sql"
    dialect: Literal["sqlite", "duckdb"] = "sqlite"
    """Where a reference names none."""
    max_rows: Annotated[int, Field(ge=1)] = 10_000
    """Most rows that a gold may return."""
    cpu_s: Annotated[float, Field(gt=0)] = 5.0
    """CPU seconds that a query may take on all instances together."""
    memory_gib: Annotated[float, Field(ge=1)] = 4.0
    """Address space of a worker in GiB."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        """The last fenced block that is SQL or unlabelled, else the declared or boxed answer."""
        return last_block(trace.response, LABELS) or super().answer(trace)

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        pairs = [(trace.reference, query) for trace, query in answered]
        results = self._ask(pairs)
        # What no handler could interrupt killed the worker: the candidate's doing, unless the gold alone does it too.
        killed = [row for row, result in enumerate(results) if isinstance(result, Failure)]
        golds = self._ask([(pairs[row][0], None) for row in killed])
        for row, gold in zip(killed, golds, strict=True):
            if isinstance(gold, Failure):
                results[row] = ("unparseable_gold", {"error": gold.detail})
        return [_verdict(result, query) for result, (_, query) in zip(results, pairs, strict=True)]

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        results = self._ask([(reference, None) for reference in references])
        return [each.detail if isinstance(each, Failure) else each for each in results]

    def check(self) -> list[str]:
        if self.dialect == "duckdb":
            _check_duckdb()
        return []

    def close(self) -> None:
        close_shared(serve_queries)

    def _ask(self, pairs: Sequence[tuple[Any, str | None]]) -> list[Any]:
        """Of each reference and query: (reason, detail); without a query why the reference is none, or None."""
        complaints = [_complaint(reference) for reference, _ in pairs]
        sound = [row for row, complaint in enumerate(complaints) if complaint is None]
        asked = [[{"dialect": self.dialect} | pairs[row][0], pairs[row][1]] for row in sound]
        if any(reference["dialect"] == "duckdb" for reference, _ in asked):
            _check_duckdb()
        results: list[Any] = [
            complaint if query is None else ("unparseable_gold", {"error": complaint})
            for complaint, (_, query) in zip(complaints, pairs, strict=True)
        ]
        for row, result in zip(sound, self._pool().map(asked) if asked else [], strict=True):
            results[row] = result
        return results

    def _pool(self) -> Pool:
        """The queries' own limits decide; the pool's only meet what no handler can interrupt."""
        limits = (self.cpu_s, self.max_rows)
        cpu_s = 4 * self.cpu_s + 5
        return shared(serve_queries, limits, workers=self.workers, cpu_s=cpu_s, memory_gib=self.memory_gib)


def _check_duckdb() -> None:
    if find_spec("duckdb") is None:
        raise MissingError("duckdb is not installed; pip install 'distillkit[sql]'")


def _complaint(reference: Any) -> str | None:
    match reference:
        case {"query": str(query), "databases": [str(), str(), *rest]} if query.strip():
            if not all(isinstance(each, str) for each in [*rest, reference.get("schema", "")]):
                return "schema and databases must be SQL scripts"
            dialect = reference.get("dialect", "sqlite")
            return (
                None
                if dialect in ("sqlite", "duckdb")
                else f"unknown dialect {dialect!r}; use sqlite or duckdb"
            )
        case {"query": str(), "databases": [str()]}:
            return "only one database; a second one is needed, or a query that prints constants would pass"
    return "not a reference of sql: it must be an object with query and two or more databases"


def _verdict(result: Any, answer: str) -> Verdict:
    if isinstance(result, Failure):
        if result.cause == "wall":
            return Verdict.of("grader_timeout", answer, error=result.detail)
        return Verdict.of("out_of_time" if result.cause == "cpu" else "crashed", answer, error=result.detail)
    reason, detail = result
    return Verdict.of(reason, answer, **detail)
