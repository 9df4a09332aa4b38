from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distillkit.errors import StageError
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.trace import Trace
from distillkit.training.examples import Examples
from distillkit.training.labels import check_labels, check_reasoning, trained_tokens

QUESTION = [{"role": "user", "content": "1 + 2"}]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


def worked() -> Trace:
    completion = "<think> 1 + 2 = 3 </think> <answer> 3 </answer>"
    return Trace("p", QUESTION, completion, *split_think(completion))


def test_reasoning_that_the_tokens_do_not_hold_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    trace = worked()
    found = Examples.of([trace], tokenizer, 64)
    check_reasoning(found, [trace], tokenizer, "student")
    foreign = Trace("p", QUESTION, "<think> integrate </think> 3", "integrate", "3")
    lost = Examples.of([foreign], tokenizer, 64)  # no word of this tokenizer's
    with pytest.raises(StageError, match="student: the reasoning of 1 of 1 traces cannot be read back"):
        check_reasoning(lost, [foreign], tokenizer, "student")


def test_labels_that_the_trainer_cut_are_noticed(tokenizer: PreTrainedTokenizerBase) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    found = Examples.of([worked()], tokenizer, 64)
    fed = found.dataset()
    trainer: Any = SimpleNamespace(train_dataset=fed, data_collator=DataCollatorForLanguageModeling(0))
    assert trained_tokens(fed) == found.trained
    check_labels(trainer, tokenizer, found, "student")
    cut = fed.map(lambda row: {"labels": [-100, *row["labels"][1:-2], -100, row["labels"][-1]]})
    trainer.train_dataset = cut
    with pytest.raises(
        StageError, match=f"bear a loss, but the traces have {found.trained}: the trainer cut some"
    ):
        check_labels(trainer, tokenizer, found, "student")
