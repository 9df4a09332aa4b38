"""Evaluation on the way, in a real trainer of transformers on the toy base."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillkit.store import Writer
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.training.watch import Evaluation, Watch, watch, write_evaluation
from distillkit.verifiers import Exact

STEPS = 4
TEXT = "<|user|> 1 + 2 <|assistant|> <think> 1 + 2 = 3 </think> <answer> 3 </answer> <|end|>"


@pytest.fixture(scope="module", autouse=True)
def few_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(folder: Path, declared: Watch | None) -> tuple[Any, Any, Evaluation | None, list[dict[str, Any]]]:
    """A trainer after four steps, its tokenizer, who watched, and what a tracker was told."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

    told: list[dict[str, Any]] = []

    class Tracker(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            told.append({"step": state.global_step, **logs})

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    rows = Dataset.from_dict({"input_ids": [ids] * 8, "labels": [ids] * 8})
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        logging_steps=1,
        use_cpu=True,
        seed=3,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    model = AutoModelForCausalLM.from_pretrained(BASE)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Tracker()])
    problems = [
        generate(6, 1, "heldout"),
        [replace(each, domain="chat") for each in generate(3, 2, "heldout")],
    ]
    evaluation = watch(
        declared,
        trainer,
        tokenizer,
        problems,
        {"chain": Exact()},
        template=None,
        max_tokens=16,
        seed=5,
        folder=folder,
    )
    trainer.train()
    return trainer, tokenizer, evaluation, told


DECLARED = Watch(problems="heldout", forgetting="chats", every=2, n=2, limit=4)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("watched"), DECLARED)


def test_the_names_are_those_of_the_wire() -> None:
    assert DECLARED.names() == ["heldout", "chats"]
    assert Watch(problems="heldout").names() == ["heldout"]


def test_a_line_comes_at_the_start_every_few_steps_and_at_the_end(watched: Any, tmp_path: Path) -> None:
    out = Writer(tmp_path / "out")
    summary = write_evaluation(watched[2], out)
    text = (tmp_path / "out" / "eval.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4]
    assert summary == {"evaluation": {"first": lines[0], "last": lines[-1]}}
    assert all((line["problems"], line["samples"]) == (4, 8) for line in lines)
    assert {"pass@1", "cons@2", "truncated", "mean_tokens", "mixed_language", "reflection"} <= set(lines[0])
    assert {name for name in lines[0] if name.startswith("forgetting/")} >= {
        "forgetting/loss",
        "forgetting/mean_tokens",
    }
    assert "forgetting/pass@1" not in lines[0]  # nobody judges a chat here
    assert lines[2]["forgetting/loss"] > lines[0]["forgetting/loss"]


def test_a_tracker_hears_of_it_with_the_steps_own_row(watched: Any) -> None:
    trainer, _, _, told = watched
    losses = [row["step"] for row in told if "loss" in row]
    assert losses == [row["step"] for row in trainer.state.log_history if "loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in told if "eval_pass@1" in row] == [2, 4]
    assert all("loss" in row for row in told if "eval_pass@1" in row)


def test_the_weights_are_the_same_without_it(watched: Any, tmp_path: Path) -> None:
    alone, *_ = trained(tmp_path, None)
    pairs = zip(alone.model.state_dict().items(), watched[0].model.state_dict().items(), strict=True)
    assert all(name == other and one.equal(two) for (name, one), (other, two) in pairs)


def test_whoever_goes_on_forgets_what_lies_ahead_and_writes_nothing_twice(watched: Any) -> None:
    evaluation = watched[2]
    before = evaluation.lines.read_text("utf-8")
    evaluation.begin(3)
    assert [line["step"] for line in evaluation.read()] == [0, 2]
    evaluation.measure(4)
    evaluation.measure(4)
    assert evaluation.lines.read_text("utf-8") == before


def test_samples_do_not_hang_on_each_other_and_losses_are_those_of_the_texts(watched: Any) -> None:
    import torch

    trainer, tokenizer, evaluation, _ = watched
    prompts = [f"<|user|> {n} + 2 <|assistant|>" for n in range(5)]
    both = evaluation.sampler.sample(prompts, list(range(5)), evaluation.parameters)
    assert evaluation.sampler.sample(prompts[3:], [3, 4], evaluation.parameters) == both[3:]
    prompt, text = tokenizer(prompts[0])["input_ids"], both[0].ids
    [found] = evaluation.sampler.losses([(prompt, text)])
    ids = torch.tensor([prompt + text])
    with torch.inference_mode():
        odds = trainer.model.eval()(ids).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(text) - 1)
    expected = -sum(float(odds[at, ids[0, at + 1]]) for at in places) / len(text)
    assert found == pytest.approx(expected, abs=1e-5)


def test_nobody_watches_unasked(tmp_path: Path) -> None:
    assert watch(None, None, None, [], {}, template=None, max_tokens=1, seed=0, folder=tmp_path) is None  # type: ignore[arg-type]
    assert write_evaluation(None, Writer(tmp_path / "out")) == {}
