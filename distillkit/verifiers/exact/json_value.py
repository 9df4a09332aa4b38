"""JSON answers: read with caps on size and depth, compared by value, checked against a schema in a worker.

A schema is somebody's code: `pattern` may take a regular expression that never ends, `$ref` may name a web page.
So validation runs in a pool with a CPU limit, and references lead nowhere but into the schema itself.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

MAX_CHARS = 200_000
MAX_DEPTH = 64

_FENCED = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", re.DOTALL)


class Unreadable(ValueError):
    """It is no JSON, too long or too deep."""


def parsed(written: str) -> Any:
    """The JSON value that a text is, white space and a code fence around it aside.

    Raises:
        Unreadable: for NaN and infinities too, which JSON has no name for.
    """
    if len(written) > MAX_CHARS:
        raise Unreadable(f"longer than {MAX_CHARS} characters")
    try:
        value = json.loads(unfenced(written) or written, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    if _depth(value) > MAX_DEPTH:
        raise Unreadable(f"nested deeper than {MAX_DEPTH}")
    return value


def unfenced(written: str) -> str | None:
    """The content of the last code block of a text; None where there is none."""
    blocks = _FENCED.findall(written)
    return blocks[-1].strip() if blocks else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def equal(gold: Any, answer: Any, same: Callable[[str, str], bool]) -> bool:
    """Deep equality of two JSON values: keys must agree, arrays are ordered, leaves go by `same` on their text.

    Types count: "7" is not 7, true is not 1; 7 and 7.0 are one number where `same` says so.
    """
    if isinstance(gold, Mapping) and isinstance(answer, Mapping):
        return gold.keys() == answer.keys() and all(equal(gold[key], answer[key], same) for key in gold)
    if isinstance(gold, list) and isinstance(answer, list):
        return len(gold) == len(answer) and all(map(lambda a, b: equal(a, b, same), gold, answer))
    if isinstance(gold, bool) or isinstance(answer, bool) or gold is None or answer is None:
        return gold is answer
    if isinstance(gold, str) and isinstance(answer, str):
        return same(gold, answer)
    if isinstance(gold, int | float) and isinstance(answer, int | float):
        return gold == answer or same(repr(gold), repr(answer))
    return False


def _leads_away(schema: Any) -> str | None:
    """The first reference in a schema that leads out of it; None where all stay inside."""
    if isinstance(schema, dict):
        own = schema.get("$ref")
        if isinstance(own, str) and not own.startswith("#"):
            return own
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return next((away for child in children if (away := _leads_away(child))), None)


def validator() -> Callable[[Sequence[Any]], str]:
    """What a worker serves: "" where a value fits a schema, else why not; "schema: ..." for a bad schema.

    An item is (schema, value); with one element it asks whether the schema is one.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, ValidationError, best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    @lru_cache(maxsize=256)
    def made(canonical: str) -> Draft202012Validator:
        schema = json.loads(canonical)
        if away := _leads_away(schema):
            raise Unresolvable(ref=away)
        Draft202012Validator.check_schema(schema)
        return Draft202012Validator(schema, registry=Registry())

    def check(item: Sequence[Any]) -> str:
        schema, *values = item
        try:
            rules = made(json.dumps(schema, sort_keys=True))
            found: ValidationError | None = best_match(rules.iter_errors(values[0])) if values else None
        except Unresolvable as error:
            return f"schema: {error.ref}: a reference must stay inside of the schema (#/...)"
        except (SchemaError, re.error) as error:
            return f"schema: {str(error).splitlines()[0]}"
        return "" if found is None else f"{found.json_path}: {found.message[:200]}"

    check([{"type": "object"}, {}])
    return check
