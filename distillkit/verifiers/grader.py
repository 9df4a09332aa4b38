"""What graders of the user's own share, whether function or program: the row they get, the score they give back."""

import numbers
from dataclasses import asdict
from typing import Any

from distillkit.trace import BLAMELESS, REASONS, Trace
from distillkit.verifiers.base import reason_of

CAUSES = {
    "raised": "grader_crashed",
    "died": "grader_crashed",
    "cpu": "grader_timeout",
    "wall": "grader_timeout",
}
"""Reason of each way in which a worker fails (pool.Failure)."""


def row_of(trace: Trace, answer: str) -> dict[str, Any]:
    """What a grader sees: the columns of a trace, `prompt` and `answer`; telemetry differs from run to run."""
    row = asdict(trace) | {"prompt": trace.prompt, "answer": answer}
    del row["telemetry"]
    return row


def scored(returned: Any) -> tuple[float | None, str]:
    """Score and reason of what a grader gave back.

    None means that it could not judge; 1 is correct, 0 wrong, and what is in between partial.

    Raises:
        TypeError: for any other type, with what is allowed.
        ValueError: for a score outside of [0, 1], or a reason that is unknown or means another score.
    """
    reason = None
    if isinstance(returned, dict):
        if not {"score"} <= returned.keys() <= {"score", "reason"}:
            raise ValueError(f"returned a dict with {sorted(returned)}; give score and, if you like, reason")
        returned, reason = returned["score"], returned.get("reason")
    if returned is not None and not isinstance(returned, numbers.Real):
        name = type(returned).__name__
        raise TypeError(f"returned {name}; return a number, a bool, None or {{'score': ..., 'reason': ...}}")
    score = None if returned is None else float(returned)
    if score is not None and not 0 <= score <= 1:
        raise ValueError(f"returned the score {score}; it must lie in [0, 1]")
    return score, _checked_reason(score, reason)


def _checked_reason(score: float | None, reason: str | None) -> str:
    if reason is None:
        return reason_of(score)
    allowed = [word for word in REASONS if word not in BLAMELESS and _fits(score, word)]
    if reason not in allowed:
        raise ValueError(f"returned the reason {reason!r} with the score {score}; use {', '.join(allowed)}")
    return reason


def _fits(score: float | None, reason: str) -> bool:
    if reason == "partial":
        return score is not None and 0 < score < 1
    return REASONS[reason] == score
