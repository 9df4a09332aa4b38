"""Completions that go on from a text of ours: reasoning that was cut or changed, an answer that is forced.

Every engine that takes a prompt as it is can do it: to a model its own text and ours look alike. The rest is as
in any draw: what the store has is not sampled again, and a killed run loses nothing.

Source: forcing the answer behind cut reasoning, s1, arXiv:2501.19393 ("budget forcing").
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from distillkit.artifact import Model
from distillkit.cluster import Replicas
from distillkit.engines.base import Completion, encode
from distillkit.errors import RecipeError
from distillkit.events import Progress, silent
from distillkit.sampling.declaration import Sampling
from distillkit.sampling.draw import drawn
from distillkit.sampling.plan import Ask, Plan, Want
from distillkit.spec import digest
from distillkit.store import Store
from distillkit.template import is_prefilled
from distillkit.text import split_think
from distillkit.trace import Problem, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Start:
    """A text that the model is taken to have written in answer to a trace's prompt, and goes on from."""

    id: str
    """Of the trace that comes out; unique."""
    trace: Trace
    """Its problem, its index (samples of equal text differ by it), and the parent of what comes out."""
    text: str
    """Without the seam's space at its end: see `seam`."""


@dataclass(frozen=True)
class Resumption(Plan):
    """A plan that asks once for each start."""

    starts: dict[str, Start] = field(default_factory=dict)

    @classmethod
    def from_plan(cls, plan: Plan, starts: Iterable[Start]) -> "Resumption":
        """The plan of an engine and its parameters, for these starts."""
        by_id = {start.id: start for start in sorted(starts, key=lambda each: each.id)}
        found = cls(**vars(plan) | {"n": 1}, starts=by_id)
        return replace(found, asks=[found._ask(start) for start in by_id.values()])

    def want(self, ask: Ask, index: int) -> Want:
        return super().want(ask, self.starts[ask.problem.id].trace.index)

    def _ask(self, start: Start) -> Ask:
        messages = start.trace.messages
        prompt = self.template.render(messages)
        # Under the start's id: the draw tells problems apart by theirs.
        return Ask(Problem(messages, id=start.id), digest(prompt + start.text), is_prefilled(prompt))

    def _prompt(self, ask: Ask) -> str:
        return self.template.render(ask.problem.messages) + self.starts[ask.problem.id].text

    def trace(self, want: Want, completion: Completion) -> Trace:
        start = self.starts[want.ask.problem.id]
        parent, found = start.trace, super().trace(want, completion)
        text = start.text + _seam(start.text, completion.text, self.template.tokenizer) + completion.text
        reasoning, response = split_think(text, want.ask.prefilled)
        return replace(
            found,
            id=start.id,
            parent_id=parent.id,
            problem_id=parent.problem_id,
            completion=text,
            reasoning=reasoning,
            response=response,
            reference=parent.reference,
            domain=parent.domain,
            source=parent.source,
            language=parent.language,
            extra=parent.extra | found.extra,
            sampling=found.sampling | {"resumed": {"at": len(start.text)}},
        )


def resume(
    sampling: Sampling,
    model: Model,
    starts: Sequence[Start],
    seed: int,
    store: Store,
    progress: Progress = silent,
    warn: Callable[[str], None] = print,
    replicas: Replicas | None = None,
) -> dict[str, Trace]:
    """One trace per start, by its id: the start's text and what the model added, `completion_tokens` of that alone.

    Raises what `draw` raises, and RecipeError for an engine that cannot go on in the middle of an answer.
    """
    require_continuing(sampling)
    plan = Resumption.from_plan(Plan.of(sampling, model, [], 1, seed), starts)
    with drawn(plan, model, store, progress, warn, replicas=replicas) as found:
        return {trace.id: trace for trace in found.traces()}


def require_continuing(sampling: Sampling) -> None:
    """Raises RecipeError for an engine that cannot go on in the middle of an answer."""
    engine = sampling.engine
    if engine is not None and not engine.continues:
        raise RecipeError(
            f"engine {engine.kind}: its server takes messages, so no answer can go on from a text of ours; write "
            "api: completions and the model whose tokenizer renders, or take vllm"
        )
    if engine is not None and engine.kind == "replay":
        raise RecipeError("engine replay: recorded completions cannot go on from another text; take vllm")


def _seam(before: str, after: str, tokenizer: "PreTrainedTokenizerBase | None") -> str:
    """What stands between a text and what a model added to it.

    A tokenizer whose decoder makes the spaces (words, SentencePiece) leaves out the one in front of the first token.
    """
    if tokenizer is None or not before or not after or before[-1].isspace() or after[0].isspace():
        return ""
    pieces = [tokenizer.decode([token]) for token in encode(tokenizer, "1 1")]
    return "" if "".join(pieces) == "1 1" else " "
