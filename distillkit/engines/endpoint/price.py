"""What an endpoint charges."""

from typing import Annotated

from pydantic import Field

from distillkit.spec import EXECUTION, Strict


class Prices(Strict):
    """Money per million tokens, in whatever currency all prices of the recipe are in."""

    input: float = Field(ge=0)
    """Of the prompt."""
    output: float = Field(ge=0)
    """Of the completion, its reasoning included."""
    cached_input: float | None = Field(None, ge=0)
    """Of prompt tokens that the provider found in its cache; left out: as any other."""


class Priced(Strict):
    """The fields of an engine that somebody is paid for."""

    prices: Annotated[Prices | None, EXECUTION] = None
    """Give them, and the live view, the plan and every trace tell what it costs."""
    batch: Annotated[bool, EXECUTION] = False
    """Hand everything in at once to the provider's batch API: cheaper, done within a day. A killed run finds what it
    handed in again."""
    batch_discount: Annotated[float, EXECUTION, Field(ge=0, le=1)] = 0.5
    """Share of the price that `batch` takes off."""

    @property
    def priced(self) -> bool:
        """Whether completions cost money that is known."""
        return self.prices is not None

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float | None:
        """Money for one completion; None without prices. Cached tokens are counted among those of the prompt."""
        if self.prices is None:
            return None
        cached = self.prices.input if self.prices.cached_input is None else self.prices.cached_input
        whole = (
            (prompt_tokens - cached_tokens) * self.prices.input
            + cached_tokens * cached
            + completion_tokens * self.prices.output
        )
        return whole * (1 - self.batch_discount if self.batch else 1) / 1e6
