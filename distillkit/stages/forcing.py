r"""Cutting a trace's thinking and making it answer there: what budget curves and early answering are made of.

Thinking is what stands between the think tags, or, where they were never opened, what stands in front of the
answer. Source: s1, arXiv:2501.19393 (budget forcing); arXiv:2307.13702 (early answering).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from pydantic import Field

from distillkit.artifact import Model
from distillkit.errors import RecipeError
from distillkit.sampling import Sampling
from distillkit.sampling.resume import Start, require_continuing, resume
from distillkit.spec import Strict
from distillkit.stages.base import Job
from distillkit.text import ANSWER, END_ANSWER, THINK, last_boxed, split_think
from distillkit.trace import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Forcing(Strict):
    """How an answer is forced where the thinking was cut."""

    close: str = "\n</think>\n\n"
    """Ends the thinking, where it was opened."""
    answer: str | None = None
    r"""Opens the answer, which `}`, `</answer>` or the line's end closes. Left out: `<answer>` under the template
    r1, else `**Final answer:** \boxed{`."""
    max_tokens: int = Field(32, ge=1)
    """Most tokens of a forced answer."""

    def opening(self, sampling: Sampling) -> str:
        """The text that opens the answer."""
        if self.answer is not None:
            return self.answer
        return ANSWER if sampling.template == "r1" else r"**Final answer:** \boxed{"

    def sampling(self, sampling: Sampling) -> Sampling:
        """How the answer is sampled: as the rest, but short."""
        stop = [END_ANSWER] if self._tagged(sampling) else []
        return sampling.model_copy(
            update={"max_tokens": self.max_tokens, "stop": list(dict.fromkeys([*sampling.stop, *stop]))}
        )

    def force(self, thinking: "Thinking", tokens: int, sampling: Sampling) -> Start:
        """Where a trace goes on whose thinking ends after so many tokens."""
        kept = thinking.prefix(tokens).rstrip()
        between = self.close if thinking.opened else "\n\n" if kept else ""
        text = kept + between + self.opening(sampling)
        return Start(f"{thinking.trace.id}@{tokens}", thinking.trace, text)

    def settled(self, trace: Trace, sampling: Sampling) -> Trace:
        """A forced trace up to the end of its answer, which then ended it; as it is where the answer has none."""
        at: int = trace.sampling["resumed"]["at"]
        end = self._end(trace.completion[at:], sampling)
        if end is None:
            return trace
        text = trace.completion[: at + end]
        reasoning, response = split_think(text)
        return replace(trace, completion=text, reasoning=reasoning, response=response, finish_reason="stop")

    def _end(self, added: str, sampling: Sampling) -> int | None:
        """Where the answer ends in what the model added to its opening."""
        if self._tagged(sampling):
            at = added.find(END_ANSWER)
            return at + len(END_ANSWER) if at >= 0 else None
        opening = self.opening(sampling)
        if not opening.endswith("{"):
            line = re.search(r"\S[^\n]*\n", added)
            return line.end() if line else None
        ends = (brace.end() for brace in re.finditer(r"\}", added))
        return next((end for end in ends if last_boxed(opening + added[:end]) is not None), None)

    def _tagged(self, sampling: Sampling) -> bool:
        return self.opening(sampling).rstrip().endswith(ANSWER)

    def answers(
        self, sampling: Sampling, model: Model, starts: Sequence[Start], job: Job
    ) -> dict[str, Trace]:
        """The traces whose answers were forced, by the ids of their starts."""
        if not starts:
            return {}
        short = self.sampling(sampling)
        found = resume(short, model, starts, job.seed, job.store, job.progress, job.warn, job.replicas)
        return {id: self.settled(trace, sampling) for id, trace in found.items()}


@dataclass(frozen=True)
class Thinking:
    """The thinking of a trace, token by token."""

    trace: Trace
    start: int
    """Offset in the completion at which it begins."""
    ends: list[int]
    """Offset behind each of its tokens."""
    opened: bool
    """Whether it stands behind `<think>`."""

    @classmethod
    def of(cls, trace: Trace, tokenizer: "PreTrainedTokenizerBase") -> Self:
        start, end = span(trace)
        text = trace.completion[start:end]
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return cls(trace, start, [start + last for _, last in offsets], is_opened(trace))

    @property
    def tokens(self) -> int:
        return len(self.ends)

    def prefix(self, tokens: int) -> str:
        """The completion up to so many tokens of its thinking."""
        return self.trace.completion[
            : self.ends[min(tokens, self.tokens) - 1] if tokens and self.ends else self.start
        ]

    def goes_beyond(self, tokens: int) -> bool:
        """Whether a budget of so many tokens cuts it; thinking that max_tokens cut has never ended."""
        return self.tokens > tokens or self.trace.finish_reason == "length"


def is_opened(trace: Trace) -> bool:
    """Whether a trace opened its thinking (or its template did)."""
    return bool(trace.reasoning) or trace.response != trace.completion


def span(trace: Trace) -> tuple[int, int]:
    """Offsets of the thinking in the completion."""
    text = trace.completion
    if is_opened(trace):
        start = text.find(trace.reasoning, text.find(THINK) + len(THINK) if THINK in text else 0)
        return max(start, 0), max(start, 0) + len(trace.reasoning)
    answer = max(text.rfind(ANSWER), text.rfind(r"\boxed"))
    return 0, len(text[:answer].rstrip()) if answer >= 0 else len(text)


def offsets_tokenizer(sampling: Sampling, model: Model) -> "PreTrainedTokenizerBase":
    """The model's tokenizer; raises RecipeError for one that cannot tell where in a text its tokens end."""
    require_continuing(sampling)
    assert sampling.engine is not None  # drawing has refused it
    tokenizer = sampling.engine.tokenizer(model)
    if tokenizer is None or not tokenizer.is_fast:
        raise RecipeError(
            f"{model.name}: its tokenizer cannot tell where a token ends, so nothing can be cut"
        )
    return tokenizer


def thoughts(traces: Sequence[Trace], tokenizer: "PreTrainedTokenizerBase") -> Mapping[str, Thinking]:
    """The thinking of every trace that the engine could give, by trace id."""
    return {trace.id: Thinking.of(trace, tokenizer) for trace in traces if trace.finish_reason != "error"}
