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
from distillkit.pool import Failure, close_shared, shared
from distillkit.spec import EXECUTION
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.database import serve_queries
from distillkit.verifiers.fence import last_block

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
    memory_gib: Annotated[float, Field(ge=1)] = 2.0
    """Address space of a worker in GiB."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        """The last fenced block that is SQL or unlabelled, else the declared or boxed answer."""
        return last_block(trace.response, LABELS) or super().answer(trace)

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        complaints = self.check_references([trace.reference for trace, _ in answered])
        sound = [row for row, complaint in enumerate(complaints) if complaint is None]
        results = self._ask([[answered[row][0].reference, answered[row][1]] for row in sound])
        verdicts = [
            Verdict.of("unparseable_gold", answer, error=complaint)
            for (_, answer), complaint in zip(answered, complaints, strict=True)
        ]
        for row, result in zip(sound, results, strict=True):
            verdicts[row] = _verdict(result, answered[row][1])
        return verdicts

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        found = [_complaint(reference) for reference in references]
        well_formed = [row for row, complaint in enumerate(found) if complaint is None]
        results = self._ask([[references[row], None] for row in well_formed])
        for row, result in zip(well_formed, results, strict=True):
            found[row] = result.detail if isinstance(result, Failure) else result
        return found

    def check(self) -> None:
        if self.dialect == "duckdb":
            _check_duckdb()

    def close(self) -> None:
        close_shared(serve_queries)

    def _ask(self, questions: Sequence[Any]) -> list[Any]:
        if not questions:
            return []
        if any(self._dialect(reference) == "duckdb" for reference, _ in questions):
            _check_duckdb()
        limits = (self.cpu_s, self.max_rows)
        # The queries' own limits decide; the pool's only meet what no handler can interrupt.
        pool = shared(
            serve_queries, limits, workers=self.workers, cpu_s=4 * self.cpu_s + 5, memory_gib=self.memory_gib
        )
        return pool.map(
            [[{"dialect": self._dialect(reference)} | reference, query] for reference, query in questions]
        )

    def _dialect(self, reference: dict[str, Any]) -> str:
        return str(reference.get("dialect", self.dialect))


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
    """The gold ran before on these databases, so what fails now is the candidate's doing."""
    if isinstance(result, Failure):
        if result.cause == "wall":
            return Verdict.of("grader_timeout", answer, error=result.detail)
        return Verdict.of("out_of_time" if result.cause == "cpu" else "crashed", answer, error=result.detail)
    reason, detail = result
    return Verdict.of(reason, answer, **detail)
