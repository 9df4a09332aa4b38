from array import array
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.trace import Trace
from distillkit.training.examples import Example, Examples, example
from distillkit.training.preflight import (
    check_positions,
    check_tags,
    fitting,
    keep_reasoning,
    require_examples,
    require_prompts,
    require_template,
)

QUESTION = [{"role": "user", "content": "1 + 2"}]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


def examples(kept: int, **dropped: int) -> Examples:
    return Examples([Example(str(n), array("i", [1, 2]), 1) for n in range(kept)], Counter(dropped))


def test_a_tokenizer_without_template_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    require_template(tokenizer, "m")
    tokenizer.chat_template = None
    with pytest.raises(MissingError, match="m: its tokenizer has no chat template"):
        require_template(tokenizer, "m")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (examples(0), "no traces to train on"),
        (examples(1, reasoning_lost=9), "deletes the reasoning of 9 of 10 traces"),
        (examples(1, prompt_differs=9), "the prompt of 9 of 10 traces otherwise"),
        (examples(0, too_long=4), r"none of 4 traces fits max_length 64 \(4 are longer\)"),
    ],
)
def test_what_leaves_nothing_to_learn_stops(found: Examples, message: str) -> None:
    with pytest.raises(StageError, match=f"student: .*{message}"):
        require_examples(found, "student", 64)


def test_a_few_spoiled_rows_do_not_stop() -> None:
    require_examples(examples(9, reasoning_lost=1, prompt_differs=3, too_long=50), "student", 64)


def test_a_known_template_that_strips_is_replaced_for_training(tokenizer: PreTrainedTokenizerBase) -> None:
    import trl

    stripping = Path(trl.__file__).parent / "chat_templates" / "deepseek_r1_distill.jinja"
    completion = "<think>\n1 + 2 = 3\n</think>\n3"
    trace = Trace("p", QUESTION, completion, *split_think(completion))
    own = tokenizer.chat_template
    keep_reasoning(tokenizer, [trace])
    assert tokenizer.chat_template == own
    tokenizer.chat_template = stripping.read_text("utf-8")
    keep_reasoning(tokenizer, [trace])
    assert not isinstance(example(trace, tokenizer), str)


def test_positions() -> None:
    check_positions(512, 512, "student")
    check_positions(9999, None, "student")
    with pytest.raises(RecipeError, match=r"stages\.student\.max_length: there are rows of 513 tokens"):
        check_positions(513, 512, "student")


def test_tags_that_a_reward_would_not_see_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    check_tags(tokenizer, "zero")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    with pytest.raises(StageError, match="zero: <think> and </think> do not survive"):
        check_tags(tokenizer, "zero")


def test_prompts_without_room_for_a_completion_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": [{"role": "user", "content": " ".join(["1"] * n)}]} for n in (1, 5, 9)]
    assert fitting(rows, tokenizer, None, 100) == rows
    assert fitting(rows, tokenizer, 20, 13) == rows[:2]


def test_a_step_that_cannot_be_filled_is_refused() -> None:
    require_prompts(4, 0, 4, "zero")
    with pytest.raises(StageError, match=r"zero: no problems left to train on \(3 are too long"):
        require_prompts(0, 3, 4, "zero")
    with pytest.raises(
        RecipeError, match=r"stages\.zero\.prompts_per_step: 4, but there are only 3 problems"
    ):
        require_prompts(3, 0, 4, "zero")
