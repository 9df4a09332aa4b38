from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.trace import Trace
from distillkit.training.examples import IGNORED, Examples, answer_of, example

R1 = "deepseek_r1_distill.jinja"
WORKED = "<think> 1 + 2 = 3 </think> <answer> 3 </answer>"


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


def trl_template(name: str) -> str:
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / name).read_text("utf-8")


def trace(completion: str = WORKED, prompt: str = "1 + 2", prefilled: bool = False) -> Trace:
    reasoning, response = split_think(completion, prefilled)
    return Trace("p", [{"role": "user", "content": prompt}], completion, reasoning, response)


def test_labels_are_the_completion_and_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    made = example(trace(), tokenizer)
    assert not isinstance(made, str)
    assert tokenizer.decode(made.ids[: made.prompt]) == "<|user|> 1 + 2 <|assistant|>"
    assert tokenizer.decode(made.ids[made.prompt :]) == f"{WORKED} <|end|>"
    [row] = Examples([made]).dataset()
    assert row["input_ids"] == list(made.ids)
    assert row["labels"] == [IGNORED] * made.prompt + list(made.ids[made.prompt :])


def test_the_prompt_is_what_the_student_will_see(tokenizer: PreTrainedTokenizerBase) -> None:
    made = example(trace(), tokenizer)
    assert not isinstance(made, str)
    messages = [{"role": "user", "content": "1 + 2"}]
    seen = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(made.ids[: made.prompt]) == seen


def test_r1s_own_template_loses_the_reasoning_and_its_training_variant_does_not(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = trl_template(R1)
    assert example(trace(), tokenizer) == "reasoning_lost"
    # Without a newline behind <think> the prompt, which ends with one, is no beginning of the whole.
    tokenizer.chat_template = trl_template("deepseek_r1_distill_training.jinja")
    assert example(trace(), tokenizer) == "prompt_differs"
    assert not isinstance(example(trace("<think>\n1 + 2 = 3\n</think>\n3"), tokenizer), str)
    assert not isinstance(example(trace("1 + 2 = 3\n</think>\n3", prefilled=True), tokenizer), str)


@pytest.mark.parametrize("name", ["qwen3.jinja", "qwen2_5.jinja", "qwen3_5_think.jinja"])
def test_templates_that_keep_the_reasoning(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    tokenizer.chat_template = trl_template(name)
    made = example(trace("<think>\n1 + 2 = 3\n</think>\n\n3"), tokenizer)
    assert not isinstance(made, str)
    assert "1 + 2 = 3" in tokenizer.decode(made.ids[made.prompt :])


@pytest.mark.parametrize(
    ("completion", "prefilled", "answer"),
    [
        (WORKED, False, WORKED),
        ("<answer> 3 </answer>", False, "<answer> 3 </answer>"),
        ("1 + 2 = 3 </think> 3", True, "<think>\n1 + 2 = 3 </think> 3"),
        ("<think> 1 + 2 = 3 </think> 3", True, "<think> 1 + 2 = 3 </think> 3"),
    ],
)
def test_the_opening_tag_of_a_prefilling_sampler_comes_back(
    completion: str, prefilled: bool, answer: str
) -> None:
    assert answer_of(trace(completion, prefilled=prefilled)) == answer


def test_rows_that_do_not_fit_are_counted_never_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    traces = [Trace(str(n), trace().messages, " ".join(["1"] * n), "", "") for n in (30, 10, 20)]
    found = Examples.of(traces, tokenizer, max_length=26)
    assert [each.id for each in found.kept] == ["10//0", "20//0"]
    assert found.dropped == {"too_long": 1}
    assert found.longest == 20 + 6
