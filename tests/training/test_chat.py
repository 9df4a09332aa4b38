from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distillkit.errors import MissingError
from distillkit.stages.sft import Sft
from distillkit.template import Template, TemplateFile
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.trace import Trace
from distillkit.training.chat import jinja_of
from distillkit.training.examples import example, render

QUESTION = [{"role": "user", "content": 'What is "1 + 2"?\n  {{ not jinja }} \\n'}]
CONVERSATIONS = [QUESTION, [{"role": "system", "content": "Be brief."}, *QUESTION]]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


@pytest.mark.parametrize("name", ["r1", "qwen_math", "none"])
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["user", "system"])
def test_trainer_and_sampler_render_one_text(
    tokenizer: PreTrainedTokenizerBase, name: Any, messages: list[dict[str, str]]
) -> None:
    tokenizer.chat_template = jinja_of(name, tokenizer)
    assert render(tokenizer, messages, add_generation_prompt=True) == Template.of(name, tokenizer).render(
        messages
    )


@pytest.mark.parametrize(
    ("name", "end"), [("r1", "<|end|>\n"), ("qwen_math", "<|im_end|>\n"), ("none", "<|end|>")]
)
def test_an_answer_stands_behind_the_prompt_and_ends(
    tokenizer: PreTrainedTokenizerBase, name: Any, end: str
) -> None:
    tokenizer.chat_template = jinja_of(name, tokenizer)
    completion = "<think> 1 + 2 = 3 </think> 3"
    prompt = Template.of(name, tokenizer).render(QUESTION)
    whole = render(tokenizer, [*QUESTION, {"role": "assistant", "content": completion}])
    assert whole.startswith(prompt)
    assert whole.endswith(completion.removeprefix("<think>") + end)
    trace = Trace("p", QUESTION, completion, *split_think(completion))
    assert not isinstance(example(trace, tokenizer), str)


def test_chat_is_the_tokenizers_own(tokenizer: PreTrainedTokenizerBase) -> None:
    own = tokenizer.chat_template
    assert own
    assert jinja_of(None, tokenizer) == jinja_of("chat", tokenizer) == own


def test_a_file_is_taken_as_it_is_and_must_be_there(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    file = tmp_path / "own.jinja"
    stage = Sft(name="s", model="toy:base", learning_rate=1e-3, max_length=64, template=str(file))
    assert stage.template == TemplateFile(file=str(file))
    with pytest.raises(MissingError, match=r"own\.jinja: cannot be read"):
        stage.check(tmp_path)
    file.write_text("{{ messages[0].content }}", "utf-8")
    stage.check(tmp_path)
    assert jinja_of(stage.template, tokenizer) == "{{ messages[0].content }}"
