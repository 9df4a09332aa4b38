"""`distillkit chat`: talk to trained weights, token by token, by the same engine that samples on any machine.

What a model thought in earlier turns is left out of what it reads next, as DeepSeek-R1 is meant to be used.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from distillkit.artifact import Model
from distillkit.engines.base import context_of, encode, load_tokenizer
from distillkit.engines.transformers import TransformersEngine, TransformersSession
from distillkit.errors import MissingError, RecipeError
from distillkit.lock import Lock
from distillkit.run_folder import find_artifact
from distillkit.runner import external_model
from distillkit.show.piece import visible
from distillkit.stages.base import WEIGHTS
from distillkit.store import Store
from distillkit.template import Template, is_prefilled
from distillkit.text import END_THINK, THINK, split_think
from distillkit.toy import PACKAGED
from distillkit.trace import Message
from distillkit.wiring import check_external

if TYPE_CHECKING:
    from transformers import TextStreamer

NEW = "/new"
"""A line that begins a new conversation."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to sample; None: as the model's own generation config says."""

    max_tokens: int = 4096
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0
    system: str | None = None

    def sampling(self) -> dict[str, Any]:
        """As `generate` takes it."""
        if self.temperature == 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        given = {"temperature": self.temperature, "top_p": self.top_p}
        named = {name: value for name, value in given.items() if value is not None}
        return {"do_sample": True, **named} if named else {}


@dataclass(frozen=True)
class Answer:
    """One turn of the model's."""

    completion: str
    reasoning: str
    response: str
    finish_reason: str
    """stop, or length where max_tokens or the context cut it."""
    prompt_tokens: int
    completion_tokens: int


def find_model(name: str, store: Path, run: str | None = None) -> Model:
    """The weights that a person means: a folder, packaged ones, STAGE or RUN/STAGE of a store, or a Hub name.

    Raises:
        MissingError: there are none.
        RecipeError: the stage makes no weights.
    """
    if "/" in name and (Path(name) / "config.json").exists():
        name = str(Path(name).absolute())  # as the line that serves a model writes it, without ./
    path_like = name.startswith((".", "/", "~"))
    known = run is not None or (store / "runs" / name.partition("/")[0]).exists()
    if name in PACKAGED or path_like or ("/" in name and not known):
        check_external(name, "chat")
        found = external_model(name, Lock(None))
        return Model(name, found.path, found.content, found.revision)
    artifact = find_artifact(Store(store), f"{run}/{name}" if run is not None else name)
    if artifact.type != WEIGHTS:
        raise RecipeError(f"{name}: makes {artifact.type}, no weights to talk to; name a stage that trains")
    return Model(name, str(artifact.path / "model"), artifact.content)


@contextmanager
def opened(model: Model, settings: Settings) -> Iterator["Conversation"]:
    """A conversation with a model in memory.

    Raises:
        MissingError: the weights are not there, or no language model's.
        RecipeError: its tokenizer has no chat template.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    _require_language_model(model)
    tokenizer = load_tokenizer(model)
    template = Template.of(None, tokenizer)
    with TransformersEngine().open(model, tokenizer) as session:
        yield Conversation(session, template, settings)


def _require_language_model(model: Model) -> None:
    config = Path(model.path) / "config.json"
    names = json.loads(config.read_text("utf-8")).get("architectures") if config.exists() else None
    if names and "ForSequenceClassification" in names[0]:
        raise MissingError(f"{model.name}: a {names[0]} scores texts and writes none; name a language model")


@dataclass
class Conversation:
    """Messages so far, and the model that answers them."""

    session: TransformersSession
    template: Template
    settings: Settings
    messages: list[Message] = field(default_factory=list)
    turns: int = 0

    def begin(self) -> None:
        """Forget what was said."""
        self.messages = []

    def ask(self, question: str, tell: Tell) -> Answer:
        """The answer, told piece by piece while it comes.

        Raises RecipeError where the conversation leaves no room for one.
        """
        import torch

        system: list[Message] = (
            [{"role": "system", "content": self.settings.system}] if self.settings.system else []
        )
        asked: Message = {"role": "user", "content": question}
        prompt = self.template.render([*system, *self.messages, asked])
        ids = encode(self.session.tokenizer, prompt)
        room = context_of(self.session.model.config) - len(ids)
        if room <= 0:
            raise RecipeError(
                f"the conversation of {len(ids)} tokens fills the model's context; {NEW} begins anew"
            )
        if is_prefilled(prompt):
            tell(THINK)
        torch.manual_seed(self.settings.seed + self.turns)
        tokens = self._generate(ids, min(room, self.settings.max_tokens), tell)
        answer = self._read(tokens, len(ids), is_prefilled(prompt))
        self.turns += 1
        self.messages += [asked, {"role": "assistant", "content": answer.response}]
        return answer

    def _generate(self, ids: list[int], limit: int, tell: Tell) -> list[int]:
        """Ids of the completion, its end token included."""
        import torch

        model = self.session.model
        prompt = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            made = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=limit,
                eos_token_id=self.session.ends,
                pad_token_id=self.session.tokenizer.pad_token_id,
                streamer=_streamer(self.session, tell),
                **self.settings.sampling(),
            )
        return [int(token) for token in made[0, len(ids) :]]

    def _read(self, tokens: list[int], prompt_tokens: int, prefilled: bool) -> Answer:
        ended = bool(tokens) and tokens[-1] in self.session.ends
        text = self.session.tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=False)
        reasoning, response = split_think(text, prefilled)
        reason = "stop" if ended else "length"
        return Answer(text, reasoning, response, reason, prompt_tokens, len(tokens))


def _streamer(session: TransformersSession, tell: Tell) -> "TextStreamer":
    """Tells the text of a completion as its words are complete; its end token is no text."""
    from transformers import TextStreamer

    class Streamer(TextStreamer):  # type: ignore[misc]
        def put(self, value: Any) -> None:
            if self.next_tokens_are_prompt or int(value.flatten()[-1]) not in session.ends:
                super().put(value)

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            tell(text)

    return Streamer(session.tokenizer, skip_prompt=True, skip_special_tokens=False)


class Voice:
    """Prints an answer while it comes, what the model thinks dimmed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.thinking = False

    def __call__(self, piece: str) -> None:
        self.thinking = self.thinking or THINK in piece
        thought, tag, rest = piece.partition(END_THINK)
        if self.thinking and tag:
            self._print(thought + tag)
            self.thinking = False
            self._print(rest)
        else:
            self._print(piece)

    def _print(self, text: str) -> None:
        style = "dim" if self.thinking else None
        self.console.print(visible(text), end="", style=style, markup=False, highlight=False, soft_wrap=True)


def converse(conversation: Conversation, console: Console) -> None:
    """Answer line by line until the input ends; Ctrl-C ends an answer, and at the prompt the conversation."""
    terminal = sys.stdin.isatty()
    if terminal:
        console.print(f"{conversation.session.name}: a line asks, {NEW} begins anew, Ctrl-D ends")
    while (line := _line("> " if terminal else "")) is not None:
        if not line.strip():
            continue
        if line.strip() == NEW:
            conversation.begin()
            continue
        try:
            answer = conversation.ask(line, Voice(console))
        except RecipeError as error:
            if not terminal:
                raise
            console.print(str(error), markup=False)
            continue
        except KeyboardInterrupt:
            console.print()
            continue
        console.print()
        if answer.finish_reason == "length":
            console.print(f"(cut at {answer.completion_tokens:,} tokens)", style="yellow")


def _line(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None


def answer_once(conversation: Conversation, question: str, tell: Tell | None) -> dict[str, Any]:
    """One answer as JSON, told while it comes if `tell` is given."""
    return asdict(conversation.ask(question, tell or (lambda piece: None)))
