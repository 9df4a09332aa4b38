"""Find what leaked from benchmarks into prompts and completions; labels it and drops nothing (`filter` does).

A model that was trained on a benchmark's problems has no score on it. Words are compared, not characters, so case,
punctuation, spacing, accents and invisible characters hide nothing.
"""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.artifact import Counts, Row
from distillkit.spec import canonical
from distillkit.stages.base import PROBLEMS, Job, Wire
from distillkit.stages.labeler import Given, Labeler
from distillkit.stages.leaks import (
    COMPLETION_SIZE,
    PROMPT_SIZE,
    BenchmarkFile,
    Named,
    Sought,
    Thresholds,
    question,
    seek,
)
from distillkit.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = ("benchmark", "row", "share", "words", "ngram", "part", "start", "end")


class Decontaminate(Labeler):
    """Labels `leak` and `leak_weak`: null, or the benchmark row that a trace shares most with, and how much.

    Both are JSON: {benchmark, row, share, words, ngram, part, start, end}. `share` is how much of the benchmark
    row's words is covered by shared n-grams, `words` the longest stretch of them in the trace, `ngram` its first
    n-gram, `start` and `end` where it stands in the prompt or the completion (`part`). What is shared but proves
    nothing (boilerplate, formulas, a chance n-gram) is `leak_weak`.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["decontaminate"] = "decontaminate"
    against: Annotated[
        list[Named],
        Wire((PROBLEMS,), default="none", external=True, heldout=True, named=True),
        Field(min_length=1),
    ]
    """Problems stages, built-in benchmarks by name, and files: {file: mine.jsonl, columns: {prompt: question}}."""
    on: Literal["prompt", "completion", "both"] = "prompt"
    """Where it is looked for."""
    n: Annotated[int, Field(ge=3, le=50)] | None = None
    """Words of an n-gram; left out: 8 on prompts and 13 on completions. Of Chinese and Japanese 1.7 characters make a
    word. Whatever n, a whole benchmark row is a leak anywhere if it has 8 words, else as a line or a text."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.7
    """A text that covers this much of a benchmark row's words leaks it; 0: one shared n-gram is enough."""
    words: Annotated[int, Field(ge=1)] = 13
    """So many shared words in a row are a leak whatever their share."""
    common: Annotated[int, Field(ge=2)] = 5
    """N-grams that so many different benchmark rows have are boilerplate, and count for nothing."""

    def fields(self) -> list[str]:
        return [f"{label}{key}" for label in ("leak", "leak_weak") for key in ("", *(f".{k}" for k in KEYS))]

    def check(self, recipe_folder: Path) -> None:
        for each in self.against:
            if isinstance(each, BenchmarkFile):
                each.check()

    def label_schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema([(name, pa.string()) for name in ("id", "leak", "leak_weak")])

    def given(self, job: Job) -> Given:
        sought = seek(job, "against", self.against, Thresholds(self.share, self.words, self.common))
        return Given(sought, sought.digest)

    def label(self, traces: list[Trace], given: Any) -> list[Row]:
        sought: Sought = given
        prompts: dict[str, tuple[Row | None, Row | None]] = {}
        rows = []
        for trace in traces:
            found = []
            if self.on != "completion":
                text = question(trace.messages)
                if text not in prompts:
                    prompts[text] = _find(sought, text, self.n or PROMPT_SIZE, "prompt")
                found.append(prompts[text])
            if self.on != "prompt":
                found.append(_find(sought, trace.completion, self.n or COMPLETION_SIZE, "completion"))
            leak, weak = (next(filter(None, each), None) for each in zip(*found, strict=True))
            rows.append({"leak": _json(leak), "leak_weak": _json(weak)})
        return rows

    def counts(self, labels: list[Row]) -> Counts:
        found = (json.loads(row["leak"])["benchmark"] for row in labels if row["leak"] is not None)
        return {"leaks": dict(Counter(found))}


def _find(sought: Sought, text: str, size: int, part: str) -> tuple[Row | None, Row | None]:
    leak, weak = (each and {**each, "part": part} for each in sought.find(text, size))
    return leak, weak


def _json(label: Row | None) -> str | None:
    return None if label is None else canonical(label).decode()
