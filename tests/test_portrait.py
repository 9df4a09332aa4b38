"""Statistics of rows: counted as they come, added up over shards, and nothing claimed that was not measured."""

import json
from typing import Any

from distillkit.portrait import Portrait


def row(tokens: int | None, **measured: Any) -> dict[str, Any]:
    measures = {"measures": {"language": measured}} if measured else {}
    return {
        "problem_id": str(tokens),
        "completion_tokens": tokens,
        "completion": "x" * 7,
        "domain": "math",
        "language": None,
        "model": "org/teacher",
        **measures,
    }


def test_a_portrait_counts_what_was_measured_only() -> None:
    portrait = Portrait()
    for tokens in range(1, 101):
        portrait.add(row(tokens, target="en" if tokens % 2 else "de", mixed=tokens <= 10))
    assert portrait.facts() == {
        "rows": 100,
        "problems": 100,
        "tokens": 5050,
        "domains": {"math": 100},
        "languages": {"de": 50, "en": 50},
        "mixed_language": 10,
        "models": {"org/teacher": 100},
        "length_unit": "tokens",
        "lengths": {"median": 50, "p95": 95, "longest": 100},
    }


def test_portraits_of_shards_add_up_also_through_json() -> None:
    whole, parts = Portrait(), [Portrait(), Portrait(), Portrait()]
    for number in range(60):
        each = row(number // 2, target="en", mixed=number % 7 == 0) | {"problem_id": f"{number // 2:03d}"}
        whole.add(each)
        parts[number // 20].add(each)
    parts[1].example, parts[2].example = {"id": "b"}, {"id": "a"}
    read_back = [Portrait(**json.loads(json.dumps(part.as_json()))) for part in parts]
    total = read_back[0] + read_back[1] + read_back[2]
    assert total.facts() == whole.facts()
    assert total.facts()["problems"] == 30
    assert total.example == {"id": "a"}


def test_a_portrait_of_bare_rows_claims_nothing() -> None:
    portrait = Portrait()
    portrait.add(row(None))
    facts = portrait.facts()
    assert (facts["languages"], facts["mixed_language"], facts["tokens"]) == ({}, None, 0)
    assert facts["length_unit"] == "characters" and facts["lengths"]["longest"] == 7


def test_tokens_that_a_measure_counted_count() -> None:
    portrait = Portrait()
    portrait.add(row(None) | {"measures": {"length": {"tokens": 12}}})
    assert portrait.facts()["tokens"] == 12 and portrait.length_unit == "tokens"
