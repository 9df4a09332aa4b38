"""The templates of a recipe as Jinja, for tokenizers: a trained model carries the one that it was trained with.

What a sampler renders and what a trainer renders must be one text, so the parts are cut from the sampler's own
rendering (distillkit.template); a test compares them.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from distillkit.template import AnyTemplate, Template, TemplateFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# name -> (what opens an answer, a turn that is no answer); `none` puts a blank line between turns.
PARTS = {
    "r1": ("Assistant: <think>", r"{{ message.role | capitalize + ': ' + message.content + '\n' }}"),
    "qwen_math": (
        "<|im_start|>assistant\n",
        r"{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}",
    ),
    "none": ("", r"{{ ('' if loop.first else '\n\n') + message.content }}"),
}
ANSWERS = {
    "r1": r"{{ 'Assistant: ' + message.content + eos_token + '\n' }}",
    "qwen_math": r"{{ '<|im_start|>assistant\n' + message.content + '<|im_end|>\n' }}",
    "none": "{{ message.content + eos_token }}",
}


def jinja_of(given: AnyTemplate | None, tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The chat template that makes a tokenizer render as this template does; None where it has none of its own.

    Raises MissingError for a file that is not there.
    """
    if isinstance(given, TemplateFile):
        return Path(given.file).read_text("utf-8")
    if given is None or given == "chat":
        own: str | None = tokenizer.chat_template
        return own
    opening, turn = PARTS[given]
    head = Template.of(given, tokenizer).render([]).removesuffix(opening)
    return (
        f"{{{{ {json.dumps(head)} }}}}"
        f"{{%- for message in messages -%}}{{%- if message.role == 'assistant' -%}}{ANSWERS[given]}"
        f"{{%- else -%}}{turn}{{%- endif -%}}{{%- endfor -%}}"
        f"{{%- if add_generation_prompt -%}}{{{{ {json.dumps(opening)} }}}}{{%- endif -%}}"
    )
