"""The contract of an engine: rendered prompts in, raw completions out.

An engine is a frozen declaration; opened on weights it is a session that generates. It never renders a template
and never splits a completion (sampling.py does, for all of them), so that every engine gives the same row.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from distillkit.artifact import Model
from distillkit.errors import EngineError, MissingError, RecipeError
from distillkit.spec import Strict, identity
from distillkit.trace import Message

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Request:
    """One completion that is wanted. Requests of an equal `key` are one and the same completion."""

    key: str
    prompt: str
    """As the model reads it, special tokens included: a session adds none."""
    seed: int
    """In [0, 2^31); with the prompt it decides the noise, whatever else is sampled beside it."""
    problem_id: str
    index: int
    """Which of the n samples of its problem, from 0."""
    messages: list[Message]
    """What the prompt was rendered from, for engines whose server renders by itself."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to sample. Order: temperature, min_p, top_k, top_p (as vLLM has it; other libraries differ)."""

    max_tokens: int
    temperature: float = 1.0
    """0 takes the likeliest token; then the other three do nothing."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all tokens."""
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    """A completion ends behind the first of these texts, which stays in it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for a request.

    `text` is raw: special tokens are in it, but not the one that ended it. `finish_reason` is "length" where
    max_tokens or the context cut it, and "error" where there is none for the reason in `error`.
    """

    text: str
    finish_reason: Literal["stop", "length", "error", "unknown"]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Tokens generated, the end token included."""
    error: str = ""
    telemetry: dict[str, Any] = field(default_factory=dict)


class Feed(Protocol):
    """Where a session gets its requests from: it takes the next one whenever it has room for one."""

    def take(self) -> Request | None:
        """The next request, None where there is none at this moment; never waits."""
        ...

    @property
    def over(self) -> bool:
        """Whether no request will ever come again."""
        ...


class Listed:
    """A feed of given requests, in their order."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._waiting = deque(requests)

    def take(self) -> Request | None:
        return self._waiting.popleft() if self._waiting else None

    @property
    def over(self) -> bool:
        return not self._waiting


class Session(Protocol):
    """An engine with weights loaded."""

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in any order, as soon as it is finished; ends when the feed is over.

        A feed that has nothing now, but is not over, waits for what was yielded to be judged: a session goes on
        with what it has in flight and asks again.

        Raises EngineError when the engine cannot go on; what was yielded stays good.
        """
        ...


def taken(feed: Feed) -> list[Request]:
    """Everything that a feed has now, for a session that works on a fixed set."""
    return list(iter(feed.take, None))


class EngineDied(EngineError):
    """The engine ended in a way that starting it again may mend; what it had finished is good."""


class Engine(Strict):
    """What turns prompts into completions. Subclasses declare fields and write `open`."""

    needs_model: ClassVar[bool] = True
    """Whether it loads the stage's model, or needs its tokenizer; else `open` gets no model."""
    continues: ClassVar[bool] = True
    """Whether it takes a prompt as it is, so that a truncated completion can be continued from its own text."""
    max_cost: ClassVar[float | None] = None
    """Most money to spend on one draw, None for no limit; a plain name, so that an engine may have a field of it."""
    streams: ClassVar[bool] = True
    """Whether it takes requests one by one, at any time; else it samples sets, as `batches` cuts them."""

    kind: str

    @property
    def priced(self) -> bool:
        """Whether completions cost money: then a resumed draw adds up what the recorded ones cost."""
        return self.max_cost is not None

    def open(
        self, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> AbstractContextManager[Session]:
        """Load the weights; leaving the context frees them.

        Raises:
            MissingError: no weights, package or device; says the command that gets it.
            RecipeError: an argument that the model or the engine does not take.
        """
        raise NotImplementedError

    def tokenizer(self, model: Model | None) -> "PreTrainedTokenizerBase | None":
        """The tokenizer whose template renders the prompts; None where the engine needs no rendered prompt."""
        return None if model is None else load_tokenizer(model)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Money for one completion, in the currency of the declared prices; None where none are declared."""
        return None

    def check(self) -> None:
        """Refuse what would fail once the run has begun; no network, no heavy import.

        Raises MissingError or RecipeError.
        """

    @property
    def model_name(self) -> str | None:
        """The model as traces name it, where the engine names it and not the stage."""
        return None

    def key(self) -> dict[str, Any]:
        """What of the engine decides a completion: part of a trace's origin and of its key in the store."""
        found: dict[str, Any] = identity(self)
        return found

    def batches(self, planned: Sequence[Request], missing: set[str]) -> list[list[Request]]:
        """The sets of requests to generate, one after the other, for an engine that does not stream.

        planned: what was missing when this draw was first begun, in its order; missing: keys that still are.
        """
        return [[request for request in planned if request.key in missing]]

    def foreign(self) -> list[str]:
        """What in it would run code of the recipe's author, one phrase each."""
        return []


def load_tokenizer(model: Model) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model, padding on the left; raises MissingError where it is not there."""
    from transformers import AutoTokenizer

    require_model(model)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model.path, revision=model.revision
        )
    except (OSError, ValueError) as error:
        raise unreadable(model, error) from None
    tokenizer.padding_side = "left"
    return tokenizer


def require_model(model: Model) -> None:
    """Raises MissingError for a model folder that is not there; a Hub model is looked for when it is loaded."""
    if model.revision is None and (Path(model.path) / "adapter_config.json").exists():
        raise MissingError(f"{model.name}: an adapter without its base; train it with lora: {{merge: true}}")
    if model.revision is None and not (Path(model.path) / "config.json").exists():
        raise MissingError(
            f"{model.name}: no model in {model.path} (no config.json); give the folder of a saved model"
        )


def unreadable(model: Model, error: Exception) -> MissingError:
    """The error for weights or a tokenizer that would not load."""
    first = str(error).strip().split("\n")[0]
    get = f"; get it with: hf download {model.path} --revision {model.revision}" if model.revision else ""
    return MissingError(f"{model.name}: cannot be loaded from {model.path} ({first}){get}")


def encode(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> list[int]:
    """Token ids of a rendered prompt; its special tokens are in the text already."""
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids


def end_tokens(declared: int | list[int] | None, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that end a completion: those that the checkpoint's generation config declares, and the tokenizer's."""
    several = declared if isinstance(declared, list) else [declared]
    return sorted({token for token in [*several, tokenizer.eos_token_id] if token is not None})


def text_of(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], stop: Sequence[str]) -> str:
    """The raw text of generated ids (end token cut off), up to and including the first stop text.

    Special tokens stay: in some vocabularies `<think>` is one.
    """
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    ends = [at + len(each) for each in stop if (at := text.find(each)) >= 0]
    return text[: min(ends)] if ends else text


def context_of(config: "PretrainedConfig") -> int:
    """Most tokens of prompt and completion together that the model was made for."""
    return config.get_text_config().to_dict().get("max_position_embeddings") or sys.maxsize


def require_context(context: int, max_tokens: int, name: str) -> None:
    """Raises RecipeError where no prompt at all would leave room for max_tokens."""
    if max_tokens > context:
        raise RecipeError(
            f"{name}: max_tokens {max_tokens} is more than its context of {context} tokens; lower it"
        )


def too_long(tokens: int, context: int) -> Completion:
    """The row of a prompt that leaves no room for a completion."""
    error = f"prompt of {tokens} tokens fills the context of {context}"
    return Completion("", "error", prompt_tokens=tokens, completion_tokens=0, error=error)
