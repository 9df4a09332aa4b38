"""The traces in a row of any trace set, and why a row holds none.

No stage itself. Nothing is guessed: what does not fit one trace's shape is a row with its reason, never half of one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

from distillkit.artifact import Row
from distillkit.reader import look_up
from distillkit.stages.columns import plain
from distillkit.stages.traces.columns import LIST, TraceColumns
from distillkit.stages.traces.turns import Turn, Unfit, joined, parted, prompt_of, turns_of
from distillkit.trace import IMPORTED, Message, Trace, problem_id

FINISHED = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "length": "length", "max_tokens": "length", "max_length": "length", "model_length": "length",
    "error": "error",
}  # fmt: skip
"""What servers say, and what it is here; anything else is `unknown`."""
YES = frozenset({"yes", "true", "correct", "pass", "passed", "1", "1.0"})
NO = frozenset({"no", "false", "incorrect", "wrong", "fail", "failed", "0", "0.0"})


@dataclass(frozen=True)
class TraceReader:
    """Reads rows by their columns; `given` is a trace that has what the rows do not say themselves."""

    columns: TraceColumns
    given: Trace
    max_characters: int

    def read(self, row: Row | None) -> Iterator[Trace | str]:
        """The traces in a row, and a reason for each that is none; one reason for a row that has none at all."""
        try:
            if row is None:
                raise Unfit("unreadable")
            if self._value(row, "kept") is False:
                raise Unfit("dropped_before")
            elements = self._elements(row)
        except Unfit as unfit:
            yield str(unfit)
            return
        for element in elements:
            try:
                yield self._trace(element)
            except Unfit as unfit:
                yield str(unfit)
            except (ValueError, TypeError, RecursionError):
                yield "unreadable"

    def _elements(self, row: Row) -> list[Row]:
        """The row by path, once for each of its completions."""
        values = {path: look_up(row, place) for path, place in self._places}
        if not self._lists:
            return [values]
        lists = {path: value for path, value in values.items() if LIST in path and value is not None}
        if not all(isinstance(value, list) for value in lists.values()):
            raise Unfit("not_a_list")
        if len({len(value) for value in lists.values()}) > 1:
            raise Unfit("ragged_lists")
        count = max(map(len, lists.values()), default=0)
        if not count or not all(path in lists for path in self._lists):
            raise Unfit("no_completion")
        return [
            values | {path: _inside(value[at], path) for path, value in lists.items()} for at in range(count)
        ]

    @cached_property
    def _paths(self) -> dict[str, Any]:
        """Field -> path: asking the model is slow, and this is asked for every row."""
        return dict(self.columns)

    @cached_property
    def _places(self) -> list[tuple[str, str]]:
        """Every path, and the column or list that it leads to first."""
        return [(path, path.partition(LIST)[0]) for path in self.columns.paths()]

    @cached_property
    def _lists(self) -> list[str]:
        """Paths of the text that are lists."""
        return [path for path in self.columns.texts if LIST in path]

    def _value(self, row: Row, name: str) -> Any:
        path = self._paths[name]
        return None if path is None else row[path] if path in row else look_up(row, path)

    def _trace(self, row: Row) -> Trace:
        if _some(self._value(row, "tools")):
            raise Unfit("tools")
        messages, completion = self._text(row)
        if sum(len(each["content"]) for each in messages) + len(completion) > self.max_characters:
            raise Unfit("too_long")
        if not any(each["role"] == "user" and each["content"].strip() for each in messages):
            raise Unfit("no_prompt")
        if not completion.strip():
            raise Unfit("no_completion")
        reference = self._reference(self._value(row, "reference"))
        trace = replace(
            self.given,
            problem_id=problem_id(messages, reference),
            messages=messages,
            completion=completion,
            reference=reference,
            extra=self._extra(row),
            sampling=self._json(self._value(row, "sampling")) or {},
            finish_reason=FINISHED.get(str(self._value(row, "finish_reason")).lower(), "unknown"),
            prompt_tokens=_count(self._value(row, "prompt_tokens")),
            completion_tokens=_count(self._value(row, "completion_tokens")),
            index=_count(self._value(row, "index")) or 0,
            **self._names(row),
            id="",
        )
        return self._named(trace, self._value(row, "id"))

    def _text(self, row: Row) -> tuple[list[Message], str]:
        """The prompt's messages and the completion."""
        before: list[Turn] = []
        if self.columns.messages:
            turns = turns_of(self._value(row, "messages"))
            said, completion = parted(turns)
            messages = [turn.message for turn in said]
        else:
            messages = prompt_of(turns_of(self._value(row, "prompt")))
            completion = self._completion(row)
        system = _plain_text(self._value(row, "system"))
        if system.strip() and not any(each["role"] == "system" for each in messages):
            before = [Turn("system", system)]
        return [*(turn.message for turn in before), *messages], completion

    def _completion(self, row: Row) -> str:
        answer = self._value(row, "response" if self.columns.response else "completion")
        text = parted(turns_of(answer))[1] if isinstance(answer, list) else _plain_text(answer)
        return joined(_plain_text(self._value(row, "reasoning")), text)

    def _names(self, row: Row) -> Row:
        """What the row says itself of where it came from."""
        found = {
            name: value for name in ("domain", "source", "language", "model", "template")
            if (value := self._value(row, name)) not in (None, "")
        }  # fmt: skip
        return {name: str(plain(value)) for name, value in found.items()}

    def _extra(self, row: Row) -> dict[str, Any]:
        paths = self.columns.extra
        if isinstance(paths, str):
            found = self._json(row[paths]) or {}
            if not isinstance(found, dict):
                raise Unfit("unreadable")
        else:
            found = {name: self._json(row[path]) for name, path in (paths or {}).items()}
        verdicts = {
            full: verdict
            for name, path in (self.columns.verdicts or {}).items()
            for full, verdict in verdicts_of(name, self._json(row[path])).items()
        }
        return found | ({"verdicts": {**found.get("verdicts", {}), **verdicts}} if verdicts else {})

    def _reference(self, value: Any) -> Any:
        """The gold answer as a problems stage would have it, so that the problem has the same id: numbers as text."""
        found = self._json(value)
        if self.columns.json_text:
            return found
        if isinstance(found, float) and found.is_integer() and abs(found) < 2**53:
            found = int(found)  # what pandas makes of a column of whole numbers with a gap
        if isinstance(found, int | float) and not isinstance(found, bool):
            found = str(found)
        return (found.strip() or None) if isinstance(found, str) else found

    def _json(self, value: Any) -> Any:
        """The value as JSON has it; blank is null."""
        found = json.loads(value) if self.columns.json_text and isinstance(value, str) else plain(value)
        return None if found in ("", {}, []) else found

    def _named(self, trace: Trace, name: Any) -> Trace:
        """The trace with the id that distillkit gave it before, else one of its problem, source and completion."""
        problem, _, rest = str(name).partition("/")
        origin, _, last = rest.partition("/")
        if problem == trace.problem_id and origin and last and "/" not in last:
            base, dot, _ = last.partition(".")  # repeats are numbered when they are written
            return replace(
                trace, origin=origin, index=0 if dot else trace.index, id=f"{problem}/{origin}/{base}"
            )
        completion = blake2b(trace.completion.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        beside = {} if name is None else {"row": plain(name)}
        made = f"{trace.problem_id}/{trace.origin[:12]}/{completion}"
        return replace(trace, extra=trace.extra | beside, id=made)


def verdicts_of(name: str, value: Any) -> dict[str, dict[str, Any]]:
    """What a source says of a completion as {name: {score, reason}}; of an object of verdicts each as `name/its`.

    Raises:
        Unfit: it says neither yes nor no, and is no score within 0 to 1.
    """
    if value is None:
        return {}
    if isinstance(value, dict) and "score" not in value:
        own = {key: each for key, each in value.items() if not key.startswith(IMPORTED)}
        return {
            full: v for key, each in own.items() for full, v in verdicts_of(f"{name}/{key}", each).items()
        }
    if isinstance(value, dict):
        told = {
            key: each for key, each in value.items() if key in ("reason", "answer") and isinstance(each, str)
        }
        return {name: {"score": _score(value["score"]), "reason": "unknown"} | told}
    score = _score(value)
    reason = {1.0: "correct", 0.0: "wrong"}.get(score, "partial") if score is not None else "unknown"
    return {name: {"score": score, "reason": reason}}


def _score(value: Any) -> float | None:
    if value is None:
        return None
    word = str(value).strip().lower()
    if word in YES or word in NO:
        return float(word in YES)
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    raise Unfit("bad_verdict")


def _inside(value: Any, path: str) -> Any:
    """What a path names behind its `[]`."""
    rest = path.partition(LIST)[2].removeprefix(".")
    return look_up(value, rest) if rest and isinstance(value, dict) else None if rest else value


def _plain_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise Unfit("not_text")


def _some(value: Any) -> bool:
    """Whether there is anything: of JSON text too."""
    return bool(value) and value not in ("[]", "{}", "null")


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # what pandas makes of a column of whole numbers with a gap
    return value if type(value) is int and 0 <= value < 2**31 else None
