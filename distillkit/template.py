"""Templates: how the messages of a problem become the text that a model reads.

First-class, because a template can make or break a model before any training does, and because whether it opens
`<think>` itself decides how a completion is split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from distillkit.errors import RecipeError
from distillkit.spec import SourceFile, Strict, canonical, file_digest
from distillkit.text import ANSWER, END_ANSWER, END_THINK, THINK
from distillkit.trace import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TemplateFile(Strict):
    """A Jinja file in place of the tokenizer's own chat template; it runs in that library's sandbox."""

    file: SourceFile


def _as_file(given: Any) -> Any:
    return {"file": given} if isinstance(given, str) and given.endswith((".jinja", ".j2")) else given


AnyTemplate = Annotated[Literal["chat", "r1", "qwen_math", "none"] | TemplateFile, BeforeValidator(_as_file)]
"""chat: the tokenizer's own. r1: the words of R1-Zero, `<think>` already opened. qwen_math: ChatML and the request
for a box. none: the bare question. Or the path of a .jinja file."""

R1 = (
    "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The Assistant "
    "first thinks about the reasoning process in the mind and then provides the User with the answer. The reasoning "
    f"process is enclosed within {THINK} {END_THINK} and answer is enclosed within {ANSWER} {END_ANSWER} tags, "
    f"respectively, i.e., {THINK} reasoning process here {END_THINK} {ANSWER} answer here {END_ANSWER}.\n"
)
"""Source: DeepSeek-R1, arXiv:2501.12948v1 table 1, in the wording of understand-r1-zero (arXiv:2503.20783v1)."""

QWEN_MATH = r"Please reason step by step, and put your final answer within \boxed{}."


def stop_of(given: "str | TemplateFile | None") -> tuple[str, ...]:
    """Texts that end a completion under a template, and stay in it."""
    return (END_ANSWER,) if given == "r1" else ()


def name_of(given: "str | TemplateFile | None") -> str:
    """As traces and score tables carry it; a file goes by its digest. Raises MissingError for one not there."""
    return (
        f"file:{file_digest(Path(given.file))[:16]}" if isinstance(given, TemplateFile) else given or "chat"
    )


@dataclass(frozen=True)
class Template:
    """A template and the tokenizer that it renders for.

    A trace carries its `name`, its messages and the digest of its prompt: with the tokenizer of its model, and for
    a file the Jinja text (beside the traces in their artifact), the very prompt can be rendered again.
    Without a tokenizer (an engine whose server renders by itself) chat and files give the messages as JSON.
    """

    name: str
    tokenizer: "PreTrainedTokenizerBase | None" = None
    jinja: str | None = None

    @classmethod
    def of(
        cls, given: "str | TemplateFile | None", tokenizer: "PreTrainedTokenizerBase | None"
    ) -> "Template":
        """The template that a recipe names; None is chat.

        Raises:
            RecipeError: chat, and the tokenizer has no template.
            MissingError: no such file.
        """
        name = name_of(given)
        if name == "chat" and tokenizer is not None and not tokenizer.chat_template:
            raise RecipeError(
                "template chat: the model's tokenizer has none; give r1, qwen_math, none or a .jinja file"
            )
        jinja = Path(given.file).read_text("utf-8") if isinstance(given, TemplateFile) else None
        return cls(name, tokenizer, jinja)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt. Every special token is in the text: tokenize it without adding any.

        Raises RecipeError where the template refuses the messages.
        """
        if self.name == "r1":
            turns = "".join(f"{m['role'].capitalize()}: {m['content']}\n" for m in messages)
            return f"{self._begin}{R1}{turns}Assistant: {THINK}"
        if self.name == "qwen_math":
            turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
            return f"{self._begin}<|im_start|>system\n{QWEN_MATH}<|im_end|>\n{turns}<|im_start|>assistant\n"
        if self.name == "none":
            return self._begin + "\n\n".join(m["content"] for m in messages)
        return self._render_chat(messages)

    @cached_property
    def _begin(self) -> str:
        """The begin token, for a tokenizer that puts one in front of plain text."""
        if self.tokenizer is None or self.tokenizer.bos_token is None:
            return ""
        first = self.tokenizer("")["input_ids"][:1]
        return str(self.tokenizer.bos_token) if first == [self.tokenizer.bos_token_id] else ""

    def _render_chat(self, messages: Sequence[Message]) -> str:
        if self.tokenizer is None:
            return canonical(list(messages)).decode()
        from jinja2 import TemplateError

        try:
            rendered = self.tokenizer.apply_chat_template(
                list(messages), chat_template=self.jinja, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise RecipeError(f"template {self.name}: cannot be rendered: {error}") from None
        return str(rendered)


def is_prefilled(prompt: str) -> bool:
    """Whether a rendered prompt ends with an open `<think>`, which its completions then do not repeat."""
    return prompt.rstrip().endswith(THINK)
