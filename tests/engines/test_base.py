import pytest

from distillkit.artifact import Model
from distillkit.engines.base import context_of, encode, end_tokens, load_tokenizer, require_context, text_of
from distillkit.errors import MissingError, RecipeError


def test_a_rendered_prompt_gets_no_special_tokens_a_second_time(tokenizer):
    from tokenizers.processors import TemplateProcessing

    adding = load_tokenizer_with_begin(tokenizer)
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", adding.convert_tokens_to_ids("<|user|>"))]
    )
    assert len(adding("<|user|> 1")["input_ids"]) == 3
    assert encode(adding, "<|user|> 1") == tokenizer.convert_tokens_to_ids(["<|user|>", "1"])


def load_tokenizer_with_begin(tokenizer):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer.name_or_path)


def test_text_keeps_special_tokens_and_the_stop_text(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(
        ["<think>", "1", "<|user|>", "</think>", "<answer>", "1", "</answer>", "2"]
    )
    assert text_of(tokenizer, ids, ()) == "<think> 1 <|user|> </think> <answer> 1 </answer> 2"
    assert text_of(tokenizer, ids, ("</answer>", "2")) == "<think> 1 <|user|> </think> <answer> 1 </answer>"
    assert text_of(tokenizer, ids, ("never",)).endswith("2")
    assert text_of(tokenizer, [], ("never",)) == ""


@pytest.mark.parametrize(("declared", "extra"), [(None, []), (3, [3]), ([3, 5], [3, 5])])
def test_end_tokens_are_those_of_checkpoint_and_tokenizer(tokenizer, declared, extra):
    assert end_tokens(declared, tokenizer) == sorted({*extra, tokenizer.eos_token_id})


def test_a_model_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(MissingError, match=r"mine: no model in .*absent \(no config.json\)"):
        load_tokenizer(Model("mine", str(tmp_path / "absent"), "c"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingError, match="mine: cannot be loaded") as caught:
        load_tokenizer(Model("mine", str(tmp_path), "c"))
    assert "\n" not in str(caught.value)


def test_a_hub_model_that_is_not_there_names_the_command(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match="hf download nobody/nothing --revision 0000"):
        load_tokenizer(Model("nobody/nothing", "nobody/nothing", "c", "0000"))


def test_a_model_that_names_no_context_has_no_bound():
    from transformers import PretrainedConfig, Qwen3Config

    assert context_of(Qwen3Config(max_position_embeddings=512)) == 512
    assert context_of(PretrainedConfig()) > 10**9


def test_more_tokens_than_the_context_are_refused():
    require_context(512, 512, "m")
    with pytest.raises(RecipeError, match="max_tokens 513 is more than its context of 512"):
        require_context(512, 513, "m")
