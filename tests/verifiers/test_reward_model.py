"""A classifier as the judge: a tiny one of random weights, made here and scored by hand."""

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.errors import MissingError, RecipeError
from distillkit.spec import identity
from distillkit.toy import BASE
from distillkit.trace import Message, Trace, Verdict
from distillkit.verifiers import RewardModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save(folder: Path, labels: int = 1, seed: int = 0, context: int = 64) -> Path:
    """A Llama classifier with the toy's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=context, num_labels=labels, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(folder: Path, messages: list[Message]) -> list[float]:
    """The outputs for one conversation, alone, without padding."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        values: list[float] = model(input_ids=ids).logits[0].tolist()
    return values


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("rm") / "one")


@pytest.fixture(scope="module")
def reward() -> Iterator[Callable[..., RewardModel]]:
    made: list[RewardModel] = []

    def make(model: Path, **fields: Any) -> RewardModel:
        declared = RewardModel.model_validate({"model": str(model)} | fields)
        made.append(declared.pinned(lambda *_: COMMIT))
        return made[-1]

    yield make
    for each in made:
        each.close()


def trace(response: str, question: str = "3 + 4", **fields: Any) -> Trace:
    fields = {"finish_reason": "stop"} | fields
    messages = [{"role": "user", "content": question}]
    return Trace("p", messages, f"<think> 3 </think> {response}", "3", response, **fields)


RESPONSES = ["7", "<answer> 7 </answer>", "3 + 4 = 7", "8 8 8 8 8 8 8 8", "4"]


def test_scores_are_the_models_whatever_is_beside_them(
    classifier: Path, reward: Callable[..., RewardModel]
) -> None:
    rows = [trace(each) for each in RESPONSES]
    expected = []
    for row in rows:
        [value] = by_hand(classifier, [*row.messages, {"role": "assistant", "content": row.response}])
        expected.append(1 / (1 + math.exp(-value)))
    assert len({round(each, 3) for each in expected}) == len(RESPONSES)
    together, alone = reward(classifier, batch=16), reward(classifier, batch=1)
    for found in (together.grade_all(rows), alone.grade_all(rows), together.grade_all(rows[::-1])[::-1]):
        assert [each.score for each in found] == pytest.approx(expected, abs=2e-4)
        assert {each.reason for each in found} == {"partial"}
        assert [each.detail["reward"] for each in found] == [each.score for each in found]
    assert identity(together) == identity(alone)


@pytest.mark.slow
def test_a_threshold_makes_it_right_or_wrong(classifier: Path, reward: Callable[..., RewardModel]) -> None:
    rows = [trace(each) for each in RESPONSES]
    rewards = [each.score or 0.0 for each in reward(classifier).grade_all(rows)]
    middle = sorted(rewards)[2]
    found = reward(classifier, threshold=middle).grade_all([*rows, trace("7", finish_reason="length")])
    assert [each.score for each in found] == [*(float(each >= middle) for each in rewards), 0.0]
    assert {each.reason for each in found} == {"correct", "wrong", "truncated"}


@pytest.mark.slow
def test_several_outputs_are_a_softmax(tmp_path: Path, reward: Callable[..., RewardModel]) -> None:
    folder = save(tmp_path / "three", labels=3)
    row = trace("7")
    values = by_hand(folder, [*row.messages, {"role": "assistant", "content": row.completion}])
    share = math.exp(values[2]) / sum(math.exp(each) for each in values)
    assert reward(folder, label=2, show="completion").grade(row).score == pytest.approx(share, abs=2e-4)
    with pytest.raises(MissingError, match="has 3 outputs, there is no label 3"):
        reward(folder, label=3).grade(row)


def test_what_is_too_long_for_it_is_not_judged(classifier: Path, reward: Callable[..., RewardModel]) -> None:
    found = reward(classifier).grade_all([trace("7"), trace("8 " * 100), trace("8")])
    assert [each.reason for each in found] == ["partial", "judge_unavailable", "partial"]
    assert found[1] == Verdict(None, "judge_unavailable", ("8 " * 100).strip(), {"too_long": True})


def test_the_weights_are_the_identity_not_their_name(
    classifier: Path, tmp_path: Path, reward: Callable[..., RewardModel]
) -> None:
    copied = shutil.copytree(classifier, tmp_path / "copy")
    assert identity(reward(copied)) == identity(reward(classifier))
    assert identity(reward(save(tmp_path / "other", seed=1))) != identity(reward(classifier))
    hub = RewardModel(model="org/name@main").pinned(lambda kind, name: COMMIT)
    assert hub.model == f"org/name@{COMMIT}" and hub.content is not None
    with pytest.raises(RecipeError, match="before its weights were pinned"):
        RewardModel(model=str(classifier)).grade(trace("7"))


@pytest.mark.slow
def test_what_is_no_classifier_is_refused(tmp_path: Path, reward: Callable[..., RewardModel]) -> None:
    with pytest.raises(MissingError, match="no sequence classifier: it has no weights for score"):
        reward(BASE).grade(trace("7"))
    with pytest.raises(MissingError, match="no model there"):
        RewardModel(model=str(tmp_path / "nowhere")).check()
    with pytest.raises(ValidationError, match="neither org/name on the Hub"):
        RewardModel(model="bare")


@pytest.mark.slow
def test_pickled_weights_are_refused(
    classifier: Path, tmp_path: Path, reward: Callable[..., RewardModel]
) -> None:
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(classifier, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingError, match="no classifier that can be loaded"):
        reward(folder).grade(trace("7"))
