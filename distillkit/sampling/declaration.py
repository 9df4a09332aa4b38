"""What a recipe says of sampling: the keys that every stage with a model to sample from shares."""

from typing import Annotated

from pydantic import Field

from distillkit.engines import AnyEngine
from distillkit.engines.base import Parameters
from distillkit.spec import Strict
from distillkit.template import AnyTemplate, stop_of


class Sampling(Strict):
    """How a stage draws from its model; stages that sample inherit it."""

    engine: AnyEngine | None = None
    """Left out: the recipe's."""
    template: AnyTemplate | None = None
    """Left out: chat."""
    temperature: float = Field(1.0, ge=0)
    """0 takes the likeliest token every time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the likeliest tokens that make up this share; 1 keeps all."""
    top_k: int = Field(0, ge=0)
    """Keep this many tokens; 0 keeps all."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Keep tokens at least this likely, relative to the likeliest."""
    max_tokens: int = Field(ge=1)
    """Most tokens of a completion; one that is cut there has finish_reason length."""
    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Texts that end a completion; the text stays in it. The template r1 adds its own."""

    @property
    def parameters(self) -> Parameters:
        """What the engine is told."""
        return Parameters(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop=tuple(dict.fromkeys([*stop_of(self.template), *self.stop])),
        )


class Until(Strict):
    """When to stop asking for a problem: the recipe's verifiers judge while sampling goes on."""

    correct: int = Field(1, ge=1)
    """Enough right ones: right in full, as the verifier of the problem's domain says."""
    give_up_after: int | None = Field(None, ge=1)
    """So many samples without a right one show a problem to be hopeless; left out: only `n` ends it."""


class Continuation(Strict):
    """What a completion that max_tokens cut gets: one more go, from its own text on."""

    max_tokens: int = Field(ge=1)
    """Most tokens that are added."""
