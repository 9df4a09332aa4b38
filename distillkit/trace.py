"""Problem, Trace, Pair, Verdict: the rows everything else is about, and their Arrow schemas.

A trace is one completion of one problem, messages-shaped so that tool turns fit later. Text is written once;
verdicts, measures and clusters are labels, kept beside it and keyed by `id`.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from distillkit.spec import canonical, digest
from distillkit.text import THINK, split_think

if TYPE_CHECKING:
    import pyarrow as pa

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""

FINISH_REASONS = ("stop", "length", "error", "unknown")

REASONS: dict[str, float | None] = {
    "correct": 1.0,
    "partial": None,  # in between, given by the verifier
    "wrong": 0.0,
    "no_answer": 0.0,
    "truncated": 0.0,
    "ambiguous": 0.0,
    "crashed": 0.0,
    "out_of_time": 0.0,
    "sandbox_denied": 0.0,
    "bad_format": 0.0,
    "unparseable_gold": None,
    "grader_crashed": None,
    "grader_timeout": None,
    "judge_unavailable": None,
    "no_majority": None,
    "failed": None,
}
"""Score of each reason: wrong output is 0, "could not judge" is None. The closed vocabulary of verdicts.

`failed`: the engine gave no completion, which says nothing about the model; `no_majority`: a problem without a gold,
whose traces do not agree on an answer either.
"""

IMPORTED = "imported/"
"""What the names of verdicts that somebody else gave begin with."""

BLAMELESS = frozenset({"failed", "no_majority"})
"""Reasons without a score that neither the references nor the verifier are to blame for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one trace: a score in [0, 1], or None where it could not judge, and the reason.

    `answer` is the final answer that was read, None where there was none. `detail` is what else is worth keeping,
    as JSON (tests run and passed, votes). `parts` are the verdicts of the verifiers that it was made from, by name.
    `telemetry` is what may differ from run to run (sandbox level, cost).
    """

    score: float | None
    reason: str
    answer: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    parts: "dict[str, Verdict]" = field(default_factory=dict)
    telemetry: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, reason: str, answer: str | None = None, **detail: Any) -> "Verdict":
        """The verdict of a reason that fixes its own score (every one but "partial")."""
        return cls(REASONS[reason], reason, answer, detail)


@dataclass(frozen=True, slots=True)
class Problem:
    """One question. `reference` is any JSON value the domain's verifier understands (an answer, tests, ...)."""

    messages: list[Message]
    reference: Any = None
    domain: str = "math"
    source: str = ""
    split: Literal["train", "heldout"] = "train"
    language: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", problem_id(self.messages, self.reference))

    @property
    def prompt(self) -> str:
        """Text of the last user message."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")


@dataclass(frozen=True, slots=True)
class Trace:
    """One completion of one problem.

    `completion` is the raw text as generated; `reasoning` and `response` are its two halves (text.split_think).
    `origin` names who sampled it and how: digest of weights and sampling parameters without n, or of a source
    and its commit. `sampling` holds those parameters; `telemetry` what may differ from run to run.
    """

    problem_id: str
    messages: list[Message]
    completion: str
    reasoning: str
    response: str
    reference: Any = None
    domain: str = "math"
    source: str = ""
    language: str | None = None
    finish_reason: str = "unknown"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seed: int | None = None
    index: int = 0
    origin: str = ""
    model: str = ""
    template: str = "chat"
    sampling: dict[str, Any] = field(default_factory=dict)
    parent_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    telemetry: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", f"{self.problem_id}/{self.origin[:12]}/{self.index}")

    @classmethod
    def of(cls, problem: Problem, completion: str, *, prefilled: bool, **facts: Any) -> "Trace":
        """A completion of a problem, split into its halves; `facts` are further fields, or the problem's replaced."""
        reasoning, response = split_think(completion, prefilled)
        asked = {
            name: getattr(problem, name) for name in ("messages", "reference", "domain", "source", "language")
        }
        given = {
            "problem_id": problem.id,
            "completion": completion,
            "reasoning": reasoning,
            "response": response,
        }
        return cls(**(asked | given | facts))

    @property
    def prompt(self) -> str:
        """Text of the last user message."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def text(self) -> str:
        """What measures read: the reasoning, or the whole completion where `<think>` was never opened."""
        return self.reasoning or self.completion

    @property
    def said(self) -> str:
        """The assistant's message: the raw completion, with the `<think>` that its sampler's template opened."""
        opened = not self.reasoning or THINK in self.completion
        return self.completion if opened else f"{THINK}\n{self.completion}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, of which one is liked better: what a reward model learns from.

    Both are raw completions, `<think>` inside where there is reasoning. `margin` says how much better the chosen one
    is, in the unit of its source; None where that does not say.
    """

    messages: list[Message]
    chosen: str
    rejected: str
    domain: str = "chat"
    source: str = ""
    margin: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    problem_id: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if not self.problem_id:
            object.__setattr__(self, "problem_id", problem_id(self.messages, None))
        if not self.id:
            answers = digest([self.chosen, self.rejected])[:12]
            object.__setattr__(self, "id", f"{self.problem_id}/{answers}")


def problem_id(messages: list[Message], reference: Any) -> str:
    """16 hex digits over the prompt (white space folded) and its reference."""
    folded = [{"role": m["role"], "content": " ".join(m["content"].split())} for m in messages]
    return digest([folded, reference])[:16]


JSON_COLUMNS = frozenset(
    {"reference", "extra", "sampling", "telemetry", "verdicts", "measures", "leak", "leak_weak"}
)
"""Columns stored as canonical JSON text, so that any source fits one schema."""


def to_row(item: Problem | Trace | Pair) -> dict[str, Any]:
    """A flat row: JSON columns as canonical text, the rest as it is."""
    return {
        name: canonical(value).decode("utf-8", "surrogatepass") if name in JSON_COLUMNS else value
        for name in item.__slots__
        for value in [getattr(item, name)]
    }


def problem_of(row: dict[str, Any]) -> Problem:
    """The problem in a row; columns that are not a problem's are ignored."""
    return Problem(**_known(Problem.__slots__, row))


def trace_of(row: dict[str, Any]) -> Trace:
    """The trace in a row; columns that are not a trace's (its labels) are ignored."""
    return Trace(**_known(Trace.__slots__, row))


def pair_of(row: dict[str, Any]) -> Pair:
    """The pair in a row."""
    return Pair(**_known(Pair.__slots__, row))


def _known(names: tuple[str, ...], row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.loads(row[name]) if name in JSON_COLUMNS and isinstance(row[name], str) else row[name]
        for name in names
        if name in row and not (row[name] is None and name in JSON_COLUMNS)
    }


def problem_schema() -> "pa.Schema":
    """Arrow schema of a problems artifact."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("id", text),
            ("messages", _messages()),
            ("reference", text),
            ("domain", text),
            ("source", text),
            ("split", text),
            ("language", text),
            ("extra", text),
        ]
    )


def trace_schema() -> "pa.Schema":
    """Arrow schema of a traces artifact."""
    import pyarrow as pa

    text, count = pa.string(), pa.int32()
    return pa.schema(
        [
            ("id", text),
            ("problem_id", text),
            ("messages", _messages()),
            ("completion", text),
            ("reasoning", text),
            ("response", text),
            ("reference", text),
            ("domain", text),
            ("source", text),
            ("language", text),
            ("finish_reason", text),
            ("prompt_tokens", count),
            ("completion_tokens", count),
            ("seed", pa.int64()),
            ("index", count),
            ("origin", text),
            ("model", text),
            ("template", text),
            ("sampling", text),
            ("parent_id", text),
            ("extra", text),
            ("telemetry", text),
        ]
    )


def pair_schema() -> "pa.Schema":
    """Arrow schema of a pairs artifact."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("id", text),
            ("problem_id", text),
            ("messages", _messages()),
            ("chosen", text),
            ("rejected", text),
            ("domain", text),
            ("source", text),
            ("margin", pa.float64()),
            ("extra", text),
        ]
    )


def _messages() -> "pa.DataType":
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
