"""A streaming engine whose answers and whose timing are a test's to choose; everything around it is real."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distillkit.artifact import Model
from distillkit.engines.base import Completion, Engine, Feed, Parameters, Request
from distillkit.sampling import Continuation, Drawn, Plan, Sampling, Until, drawn
from distillkit.store import Store
from distillkit.trace import Problem
from distillkit.verifiers.exact import Exact

TOY = Model("toy:base", "nowhere", "content")


@dataclass
class Script:
    """What the engine does, and what it was asked."""

    answer: Callable[[Request, Parameters], Completion]
    window: int = 4
    dice: random.Random = field(default_factory=random.Random)
    before: Callable[[int], None] = lambda finished: None
    """Called before each completion with how many there were: may raise as an engine does that dies."""
    asked: list[Request] = field(default_factory=list)
    opened: int = 0
    finished: int = 0


class ScriptedEngine(Engine):
    kind: Literal["scripted"] = "scripted"
    cap: float | None = None

    @property
    def max_cost(self) -> float | None:
        return self.cap

    def tokenizer(self, model: Model | None) -> None:
        return None

    @contextmanager
    def open(self, model: Model | None, tokenizer: Any) -> Iterator["Scripted"]:
        script = SCRIPTS[-1]
        script.opened += 1
        yield Scripted(script)


class Scripted:
    """Keeps a window of requests in flight and finishes them in an order that dice decide."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        script, flying = self.script, []
        while flying or not feed.over:
            while len(flying) < script.window and (request := feed.take()) is not None:
                flying.append(request)
                script.asked.append(request)
            if flying and (len(flying) == script.window or script.dice.random() < 0.7 or feed.over):
                script.before(script.finished)
                request = flying.pop(script.dice.randrange(len(flying)))
                script.finished += 1
                yield request, script.answer(request, parameters)


SCRIPTS: list[Script] = []


class ScriptedSampling(Sampling):
    engine: ScriptedEngine = ScriptedEngine()  # type: ignore[assignment]


@dataclass
class Drawing:
    """A finished draw as a test looks at it."""

    script: Script
    found: Drawn
    traces: dict[tuple[str, int], Any]
    told: list[tuple[int, int, dict[str, Any]]]
    warned: list[str]


def perform(
    script: Script,
    problems: list[Problem],
    n: int,
    store: Path,
    until: Until | None = None,
    continued: Continuation | None = None,
    notes: Path | None = None,
    **sampling: Any,
) -> Drawing:
    """Draw with a script into a store."""
    SCRIPTS.append(script)
    told: list[tuple[int, int, dict[str, Any]]] = []
    warned: list[str] = []

    def progress(done: int, total: int, **facts: Any) -> None:
        told.append((done, total, facts))

    try:
        declared = ScriptedSampling(**{"max_tokens": 10, "template": "none"} | sampling)
        plan = Plan.of(declared, TOY, problems, n, 5, until, continued)
        verifiers = {"math": Exact()}
        with drawn(
            plan, TOY, Store(store), progress, warned.append, verifiers=verifiers, notes=notes
        ) as found:
            traces = {(trace.problem_id, trace.index): trace for trace in found.traces()}
            return Drawing(script, found, traces, told, warned)
    finally:
        SCRIPTS.pop()


def problems(count: int) -> list[Problem]:
    """Problems whose reference is "1"."""
    return [Problem([{"role": "user", "content": f"q{number}"}], reference="1") for number in range(count)]
