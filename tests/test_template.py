import pytest
from pydantic import TypeAdapter, ValidationError

from distillkit.artifact import Model
from distillkit.engines.base import encode, load_tokenizer
from distillkit.errors import MissingError, RecipeError
from distillkit.spec import identity
from distillkit.template import AnyTemplate, Template, TemplateFile, is_prefilled, name_of, stop_of
from distillkit.toy import BASE

ASK = [{"role": "user", "content": "What is 1 + 1?"}]
parse = TypeAdapter(AnyTemplate).validate_python


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(Model("toy", str(BASE), "c"))


def test_the_words_of_r1_zero():
    prompt = Template.of("r1", None).render(ASK)
    assert prompt.startswith("A conversation between User and Assistant. The User asks a question, and the ")
    assert (
        "i.e., <think> reasoning process here </think> <answer> answer here </answer>.\nUser: What" in prompt
    )
    assert prompt.endswith("\nUser: What is 1 + 1?\nAssistant: <think>")
    assert is_prefilled(prompt)
    assert stop_of("r1") == ("</answer>",)


def test_qwen_math_and_none():
    assert Template.of("qwen_math", None).render(ASK) == (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\nWhat is 1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert Template.of("none", None).render(ASK) == "What is 1 + 1?"
    assert stop_of("qwen_math") == stop_of("none") == stop_of(None) == ()


def test_chat_is_the_tokenizers_own_and_the_default(tokenizer):
    expected = "<|user|> What is 1 + 1? <|assistant|> "
    assert Template.of(None, tokenizer).render(ASK) == Template.of("chat", tokenizer).render(ASK) == expected
    assert not is_prefilled(expected)


def test_a_tokenizer_without_template_needs_another(tokenizer):
    bare = load_tokenizer(Model("toy", str(BASE), "c"))
    bare.chat_template = None
    with pytest.raises(RecipeError, match="template chat: the model's tokenizer has none; give r1"):
        Template.of(None, bare)
    assert Template.of("none", bare).render(ASK) == "What is 1 + 1?"


def test_a_file_goes_by_its_bytes(tmp_path, tokenizer):
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}Q: {{ m.content }}\n{% endfor %}A:<think>{{ '\\n' }}")
    given = parse(str(file))
    assert given == TemplateFile(file=str(file))
    template = Template.of(given, tokenizer)
    assert template.render(ASK) == "Q: What is 1 + 1?\nA:<think>\n"
    assert is_prefilled(template.render(ASK))
    other = tmp_path / "other.jinja"
    other.write_bytes(file.read_bytes())
    assert name_of(given) == name_of(TemplateFile(file=str(other))) == template.name
    assert identity(given) == identity(TemplateFile(file=str(other)))
    other.write_text("changed")
    assert identity(given) != identity(TemplateFile(file=str(other)))


@pytest.mark.parametrize(
    "text", ["{{ raise_exception('roles must alternate') }}", "{{ messages", "{{ [].__class__.__mro__ }}"]
)
def test_a_template_that_refuses_or_is_broken_or_reaches_out_is_one_clear_line(tmp_path, tokenizer, text):
    (tmp_path / "t.jinja").write_text(text)
    template = Template.of(parse(str(tmp_path / "t.jinja")), tokenizer)
    with pytest.raises(RecipeError, match=r"template file:[0-9a-f]{16}: cannot be rendered"):
        template.render(ASK)


def test_a_file_that_is_not_there(tokenizer):
    with pytest.raises(MissingError, match=r"absent.jinja"):
        Template.of(parse("absent.jinja"), tokenizer)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValidationError):
        parse("r2")


def test_plain_text_begins_as_the_tokenizer_would_begin_it():
    from tokenizers.processors import TemplateProcessing

    beginning = load_tokenizer(Model("toy", str(BASE), "c"))
    beginning.bos_token = "<|user|>"
    begin = beginning.convert_tokens_to_ids("<|user|>")
    assert Template.of("none", beginning).render(ASK) == "What is 1 + 1?"
    beginning.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", begin)]
    )
    prompt = Template.of("none", beginning).render([{"role": "user", "content": " 1 + 1"}])
    assert prompt == "<|user|> 1 + 1"
    assert encode(beginning, prompt) == beginning(" 1 + 1")["input_ids"]
    assert encode(beginning, prompt).count(begin) == 1


def test_without_a_tokenizer_the_messages_stand_for_the_prompt():
    assert Template.of("chat", None).render(ASK) == '[{"content":"What is 1 + 1?","role":"user"}]'
