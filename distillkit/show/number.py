"""How an estimate and its settings read in a table: a value never stands without its interval where it has one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Estimate = Mapping[str, Any]
"""{value, low, high, n, samples}; value, low and high may be None."""


def finite(value: Any) -> Any:
    """The same JSON with None for every number that is none: an artifact may hold NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list) else value


def score_text(metric: str, score: Estimate | None) -> str:
    """`0.139 [0.121, 0.158]`; lengths with one decimal."""
    if score is None or score.get("value") is None:
        return ""
    form = ",.1f" if metric.endswith("tokens") else ".3f"
    value, low, high = (score.get(key) for key in ("value", "low", "high"))
    return f"{value:{form}}" if low is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def signed_text(score: Estimate | None) -> str:
    """`+0.139 [+0.121, +0.158]`."""
    if score is None or score.get("value") is None:
        return ""
    value, low, high = (score.get(key) for key in ("value", "low", "high"))
    return f"{value:+.3f}" if low is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def count_text(number: float | None) -> str:
    """`12,345`, empty for None."""
    return "" if number is None else f"{number:,.0f}"


def power_text(number: float | None) -> str:
    """`2.1e+07`, empty for None."""
    return "" if number is None else f"{number:.2g}"


def who(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The model of a row, and its benchmark where the rows are of several."""
    benchmarks = {each.get("benchmark") for each in rows}
    return f"{row['model']} on {row['benchmark']}" if len(benchmarks) > 1 else str(row["model"])


def metric_words(metric: str) -> str:
    """A metric as it is written for people."""
    return metric.replace("_", " ")
