"""Where the parts of a trace stand in a row of any trace set.

No stage itself, but what a traces stage maps a source's columns with. One row may hold several completions: a list of
them is marked with `[]`, and the lists of a row go together element by element.
"""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import model_validator

from distillkit.errors import RecipeError
from distillkit.spec import Strict

LIST = "[]"
RIVALS = {
    "prompt": ("messages",),
    "completion": ("messages", "response"),
    "response": ("messages", "completion"),
    "messages": ("prompt", "completion", "response"),
}
"""Field -> those that it stands in place of."""
Path = str | Literal[False] | None


class TraceColumns(Strict):
    """Where each part of a trace stands in a row.

    A dotted path leads into nested columns; `[]` marks a list with an element for each of the row's completions:
    `generations[]`, `samples[].text`. false: not read. A column that is declared has to be there. One that is left
    out is as the preset has it; without a preset, prompt, completion, reference, domain, language, finish_reason,
    prompt_tokens, completion_tokens, model and kept are read from columns of these names.
    """

    prompt: Path = None
    """Text of the question, or messages that are cut behind the last one of the user."""
    messages: Path = None
    """A whole conversation in place of prompt and completion: the last answer is the completion, what stands before
    it the prompt."""
    system: Path = None
    """Text of a system message to put in front."""
    completion: Path = None
    """The raw completion, `<think>` inside, or the messages of one."""
    reasoning: Path = None
    """What was thought, where it stands apart from the rest."""
    response: Path = None
    """The answer behind the reasoning, in place of `completion`."""
    reference: Path = None
    domain: Path = None
    source: Path = None
    """Where the problem came from; left out: the stage's `source`."""
    language: Path = None
    finish_reason: Path = None
    prompt_tokens: Path = None
    completion_tokens: Path = None
    model: Path = None
    index: Path = None
    """Number of a sample among those of its problem."""
    template: Path = None
    sampling: Path = None
    id: Path = None
    """The source's own name of a row, kept as `extra.row`; an id that distillkit gave is taken again."""
    tools: Path = None
    """Tools that the model was offered: rows that have any are left out, since a prompt without them is another."""
    kept: Path = None
    """false: leave the row out (`distillkit apply filter` writes it)."""
    verdicts: dict[str, str] | Literal[False] | None = None
    """Name -> path of what somebody said of a completion: a boolean, a score within 0 to 1, yes or no, {score,
    reason}, or an object of such by name. Rules read it as `extra.verdicts.<name>.score`."""
    extra: dict[str, str] | Path = None
    """Name -> path of further values to carry along, or the path of an object that has them."""
    json_text: bool | None = None
    """Whether reference, sampling, verdicts and extra are JSON text, as `publish` writes them."""

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if isinstance(self.prompt, str) and LIST in self.prompt:
            raise ValueError("prompt: is one for all completions of a row; a list of messages takes no []")
        return self

    def over(self, preset: "TraceColumns") -> "TraceColumns":
        """The preset's columns with those that are declared here in their place.

        Raises:
            RecipeError: completions are no list, and something else is.
        """
        own = {name: value for name, value in self if value is not None}
        gone = {
            rival for name in own if own[name] is not False for rival in RIVALS.get(name, ())
        } - own.keys()
        read = {name: None if value is False else value for name, value in own.items()}
        merged = preset.model_copy(update=dict.fromkeys(gone) | read)
        if any(LIST in path for path in merged.paths()) and not any(LIST in path for path in merged.texts):
            raise RecipeError("columns: a list ([]) goes with a list of completions; mark that one too")
        return merged

    @property
    def texts(self) -> list[str]:
        """The paths without which there is no trace."""
        if self.messages:
            return [self.messages]
        return [path for path in (self.prompt, self.reasoning, self.response or self.completion) if path]

    def paths(self) -> list[str]:
        """Every path that is read."""
        unread = RIVALS["messages"] if self.messages else ()
        return [path for name, value in self if name not in unread for path in _paths(value)]

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of the `names` that are read."""
        paths = self.paths()
        return [name for name in names if any(_leads(name, path) for path in paths)]

    def missing(self, names: Iterable[str], declared: "TraceColumns") -> list[str]:
        """Paths of the text, and paths that were `declared`, that start in none of the names."""
        there = list(names)
        own = [
            path for name, value in declared if name in declared.model_fields_set for path in _paths(value)
        ]
        wanted = dict.fromkeys([*self.texts, *own])
        return [path for path in wanted if not any(_leads(name, path) for name in there)]


def _paths(value: Any) -> list[str]:
    return list(value.values()) if isinstance(value, dict) else [value] if isinstance(value, str) else []


def _leads(name: str, path: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}{LIST}"))
