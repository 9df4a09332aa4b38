"""Queries against a gold on several instances: what is equal, what is refused, and what a weak gold is told."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Sql
from distillkit.verifiers.fence import last_block
from distillkit.verifiers.sql.query import orders_rows, outer_words

SCHEMA = "CREATE TABLE city (name TEXT, people INT, area REAL); CREATE TABLE land (city TEXT, land TEXT);"
FIRST = """INSERT INTO city VALUES ('Rom', 3, 1.5), ('Ulm', 12, 0.1), ('Bern', 12, NULL);
INSERT INTO land VALUES ('Rom', 'I'), ('Ulm', 'D'), ('Bern', 'CH');"""
SECOND = "INSERT INTO city VALUES ('Oslo', 40, 0.3), ('Ulm', 11, 0.2); INSERT INTO land VALUES ('Ulm', 'D');"
GOLD = "SELECT name FROM city WHERE people > 9"
DIALECTS = ["sqlite", "duckdb"]


def reference(query: str = GOLD, dialect: str = "sqlite", **more: Any) -> dict[str, Any]:
    return {"query": query, "schema": SCHEMA, "databases": [FIRST, SECOND], "dialect": dialect} | more


@pytest.fixture(scope="module")
def verifier() -> Iterator[Sql]:
    with Sql(workers=1, cpu_s=0.5) as sql:
        yield sql


def trace(query: str, gold: dict[str, Any]) -> Trace:
    response = f"So:\n```sql\n{query}\n```\nThat is it."
    return Trace("p", [], response, "", response, reference=gold, finish_reason="stop")


def grade(verifier: Sql, query: str, gold: dict[str, Any] | None = None) -> Verdict:
    return verifier.grade(trace(query, gold or reference()))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("gold", "query", "reason"),
    [
        (GOLD, "select name from city where people >= 10 order by name desc", "correct"),
        (GOLD, "SELECT c.name AS x FROM city c WHERE NOT (c.people <= 9);", "correct"),
        (GOLD, "WITH big AS (SELECT * FROM city WHERE people > 9) SELECT name FROM big", "correct"),
        (GOLD, "SELECT DISTINCT name FROM city WHERE people > 9", "correct"),
        (GOLD, "VALUES ('Ulm'), ('Bern')", "wrong"),  # right on the first instance alone
        (GOLD, "SELECT name FROM city WHERE people > 11", "wrong"),
        (GOLD, "SELECT name, people FROM city WHERE people > 9", "wrong"),
        (GOLD, "SELECT name FROM city", "wrong"),
        (GOLD, "SELECT name FROM city WHERE people > 9 UNION ALL SELECT name FROM city WHERE people > 9", "wrong"),
        (GOLD, "SELECT nme FROM city", "crashed"),
        (GOLD, "SELEC name FROM city", "crashed"),
        ("SELECT people FROM city", "SELECT DISTINCT people FROM city", "wrong"),  # a multiset, not a set
        ("SELECT name FROM city ORDER BY people, name", "SELECT name FROM city ORDER BY 1", "wrong"),
        ("SELECT name FROM city ORDER BY people, name", "SELECT name FROM city ORDER BY people ASC, name", "correct"),
        ("SELECT COUNT(*) FROM city", "SELECT COUNT(*) * 1.0 FROM city", "correct"),
        ("SELECT SUM(area) FROM city", "SELECT SUM(area) + 1e-13 FROM city", "correct"),
        ("SELECT SUM(area) FROM city", "SELECT SUM(area) + 1e-3 FROM city", "wrong"),
        ("SELECT area FROM city", "SELECT COALESCE(area, 0) FROM city", "wrong"),  # null is not 0
        ("SELECT CAST(people AS TEXT) FROM city", "SELECT people FROM city", "wrong"),  # '12' is not 12
        ("SELECT people > 11 FROM city", "SELECT CASE WHEN people > 11 THEN 1 ELSE 0 END FROM city", "correct"),
        ("SELECT name FROM city WHERE people = 3", "SELECT name FROM city WHERE people < 5", "correct"),
        ("SELECT name FROM city WHERE people = 3", "SELECT name, 1 FROM city WHERE 0 = 1", "wrong"),
    ],
)  # fmt: skip
def test_verdicts(verifier: Sql, dialect: str, gold: str, query: str, reason: str) -> None:
    assert grade(verifier, query, reference(gold, dialect)).reason == reason


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n"
MANY = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000) SELECT {} FROM n a, n b, n c"


@pytest.mark.parametrize(
    ("dialect", "query", "reasons"),
    [
        ("sqlite", "ATTACH DATABASE '/tmp/stolen.db' AS x", "sandbox_denied"),
        ("sqlite", "PRAGMA writable_schema = 1", "sandbox_denied"),
        ("sqlite", "PRAGMA table_info(city)", "sandbox_denied"),
        ("sqlite", "SELECT * FROM pragma_database_list", "sandbox_denied"),
        ("sqlite", "SELECT load_extension('/tmp/x.so')", "sandbox_denied crashed"),
        ("sqlite", "SELECT writefile('/tmp/x', 'y')", "crashed"),
        ("sqlite", "SELECT readfile('/etc/passwd')", "crashed"),
        ("sqlite", "SELECT name FROM city WHERE random() > 0", "sandbox_denied"),
        ("sqlite", "DROP TABLE city", "sandbox_denied"),
        ("sqlite", "DELETE FROM city", "sandbox_denied"),
        ("sqlite", "INSERT INTO city VALUES ('x', 99, 0) RETURNING name", "sandbox_denied"),
        ("sqlite", "CREATE TEMP TABLE t AS SELECT 1", "sandbox_denied"),
        ("sqlite", "VACUUM INTO '/tmp/stolen.db'", "sandbox_denied"),
        ("sqlite", "BEGIN", "sandbox_denied"),
        ("sqlite", f"{GOLD}; DROP TABLE city", "crashed"),
        ("sqlite", ENDLESS, "out_of_time"),
        ("sqlite", MANY.format("COUNT(*)"), "out_of_time"),
        ("sqlite", "SELECT hex(zeroblob(900000000))", "crashed"),
        ("sqlite", MANY.format("a.x, b.x, c.x"), "wrong"),  # no more rows are taken than the gold has
        ("sqlite", "SELECT " + "(" * 5000 + "1" + ")" * 5000, "crashed"),
        ("sqlite", "SELECT '" + "x" * 200_000 + "'", "crashed"),
        ("sqlite", "SELECT 'a\0b'", "crashed"),
        ("sqlite", "-- nothing", "crashed"),
        ("duckdb", "ATTACH '/tmp/stolen.db'", "sandbox_denied"),
        ("duckdb", "PRAGMA version", "sandbox_denied"),
        ("duckdb", "SET threads = 8", "sandbox_denied"),
        ("duckdb", "SET lock_configuration = false", "sandbox_denied"),
        ("duckdb", "INSTALL httpfs", "sandbox_denied"),
        ("duckdb", "LOAD httpfs", "sandbox_denied"),
        ("duckdb", "COPY city TO '/tmp/stolen.csv'", "sandbox_denied"),
        ("duckdb", "EXPORT DATABASE '/tmp/stolen'", "sandbox_denied"),
        ("duckdb", "SELECT * FROM read_csv('/etc/passwd')", "sandbox_denied"),
        ("duckdb", "SELECT * FROM read_text('/etc/passwd')", "sandbox_denied"),
        ("duckdb", "SELECT * FROM glob('/etc/*')", "sandbox_denied"),
        ("duckdb", "SELECT * FROM '/etc/passwd'", "crashed sandbox_denied"),
        ("duckdb", "SELECT * FROM query('DROP TABLE city')", "crashed"),
        ("duckdb", "SELECT * FROM rows", "crashed"),  # a variable of the worker
        ("duckdb", "DROP TABLE city", "sandbox_denied"),
        ("duckdb", "UPDATE city SET people = 99", "sandbox_denied"),
        ("duckdb", "CREATE TABLE t AS SELECT 1", "sandbox_denied"),
        ("duckdb", f"{GOLD}; DROP TABLE city", "sandbox_denied"),
        ("duckdb", ENDLESS, "out_of_time"),
        ("duckdb", MANY.format("COUNT(a.x + b.x * c.x)"), "out_of_time"),
        ("duckdb", "SELECT list(x) FROM range(4000000000) t(x)", "crashed out_of_time"),
        ("duckdb", "SELECT repeat('x', 4000000000)", "crashed"),
        ("duckdb", "-- nothing", "sandbox_denied"),
    ],
)  # fmt: skip
def test_attacks_fail_and_the_next_query_is_judged(
    verifier: Sql, dialect: str, query: str, reasons: str
) -> None:
    gold = reference(dialect=dialect)
    attack, honest = verifier.grade_all([trace(query, gold), trace(GOLD, gold)])
    assert attack.reason in reasons.split() and attack.score == 0.0
    assert honest == Verdict(1.0, "correct", GOLD)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_random_query_gets_the_same_verdict_each_time(verifier: Sql, dialect: str) -> None:
    query = "SELECT name FROM city WHERE random() > 0.5"
    assert len({grade(verifier, query, reference(dialect=dialect)).reason for _ in range(6)}) == 1


def test_the_detail_says_where_and_why(verifier: Sql) -> None:
    assert grade(verifier, "SELECT nme FROM city").detail == {"database": 1, "error": "no such column: nme"}
    assert grade(verifier, "VALUES ('Bern'), ('Ulm')").detail == {"database": 2, "error": "other rows"}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("SELECT 1", "must be an object with query and two or more databases"),
        ({"query": GOLD, "databases": [FIRST]}, "only one database"),
        ({"query": " ", "databases": ["", ""]}, "must be an object"),
        ({"query": GOLD, "databases": [FIRST, 7]}, "must be an object"),
        (reference(schema=7), "must be SQL scripts"),
        (reference(dialect="oracle"), "unknown dialect 'oracle'"),
        (reference("SELECT nme FROM city"), "database 1: no such column: nme"),
        (reference("DROP TABLE city"), "database 1: not allowed"),
        (reference("SELECT name FROM city WHERE people > 99"), "no row on any database"),
        (reference("SELECT land FROM land WHERE city = 'Ulm'"), "same rows on all databases"),
        (reference("SELECT name FROM city LIMIT 1"), "LIMIT without ORDER BY"),
        (reference(databases=[FIRST, "INSERT INTO twon VALUES (1)"]), "database 2: no such table: twon"),
        (reference(databases=[FIRST, "ATTACH '/tmp/x.db' AS y"]), "database 2: not allowed"),
        (reference(MANY.format("COUNT(*)")), "database 1: out of CPU time"),
        (reference(MANY.format("a.x")), "more than 10,000 rows"),
    ],
)
def test_weak_and_broken_golds_are_told(verifier: Sql, bad: Any, words: str) -> None:
    [complaint] = verifier.check_references([bad])
    assert complaint is not None and words in complaint
    verdict = verifier.grade(trace(GOLD, bad))
    assert (verdict.score, verdict.reason) == (None, "unparseable_gold")


def test_good_golds_are_not_complained_about(verifier: Sql) -> None:
    golds = [reference(dialect=dialect) for dialect in DIALECTS]
    golds.append(reference("SELECT name FROM city ORDER BY people DESC LIMIT 1"))
    assert verifier.check_references(golds) == [None, None, None]


def test_the_dialect_of_the_declaration_holds_where_a_reference_names_none() -> None:
    gold = {"query": "SELECT list(x ORDER BY x) FROM t", "schema": "CREATE TABLE t (x INT);"}
    gold |= {"databases": ["INSERT INTO t VALUES (2), (1);", "INSERT INTO t VALUES (7);"]}
    with Sql(workers=1, dialect="duckdb") as verifier:
        assert grade(verifier, "SELECT array_agg(x ORDER BY x) FROM t", gold).reason == "correct"
        assert grade(verifier, "SELECT array_agg(x ORDER BY -x) FROM t", gold).reason == "wrong"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("```sql\nSELECT 1\n```\nor\n```\nSELECT 2\n```", "SELECT 2"),
        ("```sql\nSELECT 1\n```\nprints\n```python\nx\n```", "SELECT 1"),
        ("```sql\nSELECT 1\n```\n```sql\nSELECT 2", "SELECT 1"),  # never closed
        (r"\boxed{SELECT 3}", "SELECT 3"),
        ("<answer>SELECT 4</answer>", "SELECT 4"),
        ("```sql\n\n```\n<answer>SELECT 5</answer>", "SELECT 5"),
        ("SELECT 6", None),
    ],
)
def test_where_the_query_stands(response: str, answer: str | None) -> None:
    assert Sql().answer(Trace("p", [], response, "", response)) == answer


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("select a from t order\n-- by\nby a", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("SELECT 'ORDER BY' FROM t -- order by", False),
        ('SELECT "order by" FROM t /* order by a */', False),
        ("SELECT a, RANK() OVER (ORDER BY a) FROM t", False),
        ("(SELECT a FROM t) UNION SELECT b FROM u ORDER BY 1", True),
    ],
)
def test_only_an_outer_order_by_orders(query: str, ordered: bool) -> None:
    assert orders_rows(query) is ordered


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    outer_words(text)
    block = last_block(text, ["sql"])
    assert block is None or block.strip()
    assert (
        last_block(f"{text}\n```\n```\n```sql\nSELECT 1\n```", ["sql"]) in ("SELECT 1", block)
        or "```" in text
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_many_references_do_not_fill_a_worker(verifier: Sql, dialect: str) -> None:
    golds = [reference(f"SELECT name FROM city WHERE people > {n % 5} -- {n}", dialect) for n in range(30)]
    rows = [
        trace("SELECT name FROM city WHERE people >= 1 + " + str(n % 5), gold) for n, gold in enumerate(golds)
    ]
    assert {verdict.reason for verdict in verifier.grade_all(rows)} == {"correct"}


def test_a_failure_that_no_handler_stops_is_the_candidate_s_unless_the_gold_fails_alike(
    verifier: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distillkit.pool import Failure

    asked: list[Any] = []

    def ask(self: Sql, pairs: list[Any]) -> list[Any]:
        asked.append(pairs)
        return [
            Failure("cpu", "out of CPU time") if query or gold == "bad" else None for gold, query in pairs
        ]

    monkeypatch.setattr(Sql, "_ask", ask)
    rows = [trace(GOLD, "good"), trace(GOLD, "bad")]  # type: ignore[arg-type]
    assert [each.reason for each in verifier.judge([(row, GOLD) for row in rows])] == [
        "out_of_time",
        "unparseable_gold",
    ]
