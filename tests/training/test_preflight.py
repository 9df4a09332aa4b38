import re
import shutil
from array import array
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.text import split_think
from distillkit.toy import BASE
from distillkit.trace import Problem, Trace
from distillkit.training.chat import jinja_of
from distillkit.training.examples import Example, Examples, example
from distillkit.training.preflight import (
    check_end,
    check_extraction,
    check_golds,
    check_positions,
    check_tags,
    fitting,
    keep_reasoning,
    require_disk,
    require_examples,
    require_prompts,
    require_template,
    require_token,
    settle_pad,
    warn_of_length,
)
from distillkit.training.room import states_of
from distillkit.verifiers.exact import Exact
from distillkit.verifiers.math import Math

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


def test_traces_over_the_length_that_take_many_tokens_are_told() -> None:
    long = Examples(examples(9).kept, Counter(too_long=1), over_length=2)
    [warning] = warn_of_length(long, 64)
    assert warning["name"] == "over_max_length"
    assert "traces over max_length 64 (1 of 10) hold 10% of the tokens" in warning["text"]
    assert warn_of_length(Examples(examples(9).kept), 64) == []


def with_template(tokenizer: PreTrainedTokenizerBase, old: str, new: str) -> PreTrainedTokenizerBase:
    assert old in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(old, new)
    return tokenizer


def worked() -> Trace:
    completion = "<think> 1 + 2 = 3 </think> <answer> 3 </answer>"
    return Trace("p", QUESTION, completion, *split_think(completion))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("message.content", None),
        ("'<think> ' + message.content", "think_doubled"),
        ("message.content.replace('<think>', '')", "think_lost"),
        ("message.content.split('</think>')[-1]", "reasoning_lost"),
    ],
)
def test_a_template_that_repeats_or_drops_the_tag(
    tokenizer: PreTrainedTokenizerBase, content: str, reason: str | None
) -> None:
    with_template(tokenizer, "message.content + ' <|end|>'", f"{content} + ' <|end|>'")
    made = example(worked(), tokenizer)
    assert (made if isinstance(made, str) else None) == reason


def test_a_trace_that_the_template_refuses_is_data(tokenizer: PreTrainedTokenizerBase) -> None:
    trace = Trace("p", [{"role": "system", "content": "Be brief."}, *QUESTION], "3", "", "3")
    assert example(trace, tokenizer) == "not_rendered"  # the toy's knows no system
    with pytest.raises(StageError, match="student: the model's chat template refuses 1 of 1 traces"):
        require_examples(Examples.of([trace], tokenizer, 64), "student", 64)


def test_a_prompt_that_speaks_of_the_tags_doubles_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = jinja_of("r1", tokenizer)  # its words name <think>, and it opens one
    assert not isinstance(example(worked(), tokenizer), str)


def test_an_end_that_the_template_does_not_write_is_refused_with_the_fix(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    check_end(tokenizer, "student")
    with_template(tokenizer, "' <|end|>'", "' <|user|>'")
    with pytest.raises(
        StageError, match=r"ends an answer with <\|user\|>; write trainer: {eos_token: '<\|user\|>'}"
    ):
        check_end(tokenizer, "student")
    tokenizer.chat_template += "{{ raise_exception('no') }}"
    with pytest.raises(
        RecipeError, match=r"stages\.student\.template: cannot render a question and its answer: no"
    ):
        check_end(tokenizer, "student")
    tokenizer.chat_template = tokenizer.chat_template.removesuffix("{{ raise_exception('no') }}")
    with_template(tokenizer, "' <|user|>'", "''")
    with pytest.raises(StageError, match=r"ends an answer with nothing; write a template: that ends"):
        check_end(tokenizer, "student")


def trl_template(name: str) -> str:
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("qwen2_5", "<|im_end|>"),
        ("qwen3", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
        ("deepseek_r1_distill", "<｜end▁of▁sentence｜>"),
        ("deepseek_r1_distill_training", "<｜end▁of▁sentence｜>"),
    ],
)
def test_a_base_whose_end_is_not_that_of_its_template_is_told_which(name: str, end: str) -> None:
    tokenizer = letters("<|endoftext|>", "<|begin|>", end)
    tokenizer.bos_token = "<|begin|>"
    tokenizer.chat_template, tokenizer.eos_token = trl_template(name), "<|endoftext|>"  # as of Qwen's bases
    if "eos_token" in tokenizer.chat_template:  # it asks the tokenizer, and so agrees with it
        check_end(tokenizer, "student")
        return
    with pytest.raises(StageError, match=rf"write trainer: {{eos_token: '{re.escape(end)}'}}"):
        check_end(tokenizer, "student")
    tokenizer.eos_token = end
    check_end(tokenizer, "student")


def test_what_pads_ends_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    settle_pad(tokenizer, "student")
    assert tokenizer.pad_token == "<|pad|>"
    tokenizer.pad_token = tokenizer.eos_token
    settle_pad(tokenizer, "student")
    assert tokenizer.pad_token == "<|pad|>"
    tokenizer.pad_token = None
    settle_pad(tokenizer, "student")
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = tokenizer.pad_token  # the only one whose name fits now ends answers
    with pytest.raises(StageError, match=r"pads with its end token <\|pad\|>.*trainer: {pad_token: ...}"):
        settle_pad(tokenizer, "student")


@pytest.fixture(scope="module")
def tiny() -> Any:
    return AutoModelForCausalLM.from_pretrained(BASE, dtype="float32")


def training(tiny: Any, folder: Path, optim: str, *, deepspeed: bool = False) -> Any:
    args = SimpleNamespace(optim=SimpleNamespace(value=optim), output_dir=str(folder))
    return SimpleNamespace(model=tiny, args=args, is_deepspeed_enabled=deepspeed)


@pytest.mark.parametrize(
    ("optim", "deepspeed", "states"),
    [
        ("adamw_torch_fused", False, 2.0),  # as many times the weights
        ("adafactor", False, 0.0),
        ("paged_lion_32bit", False, 1.0),
        ("adamw_torch_8bit", False, 0.5),
        ("adamw_torch", True, 3.0),  # and a float32 copy of the weights
    ],
)
def test_a_disk_that_cannot_hold_the_checkpoints_is_refused(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optim: str, deepspeed: bool, states: float
) -> None:
    trainer = training(tiny, tmp_path, optim, deepspeed=deepspeed)
    weights = sum(each.numel() for each in tiny.parameters()) * 4
    needed = int(3 * weights * (1 + states) + weights)  # three checkpoints, and the weights at the end
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    require_disk(trainer, "student")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(MissingError, match=r"student: its checkpoints and weights take about 0\.0 GB"):
        require_disk(trainer, "student")


@pytest.mark.parametrize(
    ("steps", "epochs", "kept"), [(100, 3.0, 9), (101, 3.0, 10), (-1, 2.5, 2), (-1, 4.0, 3)]
)
def test_weights_that_are_kept_on_the_way_need_room_too(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, epochs: float, kept: int
) -> None:
    trainer = training(tiny, tmp_path, "adafactor")
    vars(trainer.args).update(
        max_steps=steps, num_train_epochs=epochs, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        world_size=2,
    )  # fmt: skip
    trainer.train_dataset = range(65)  # nine steps of eight rows and a part of one
    weights = sum(each.numel() for each in tiny.parameters()) * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=(4 + kept) * weights))
    require_disk(trainer, "student", 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=(4 + kept) * weights - 1))
    with pytest.raises(MissingError, match="make room"):
        require_disk(trainer, "student", 10)


def test_eight_bits_of_an_optimizer_spare_the_embedding(tiny: Any, tmp_path: Path) -> None:
    embedding, whole = (sum(p.numel() for p in m.parameters()) for m in (tiny.get_input_embeddings(), tiny))
    found = states_of(training(tiny, tmp_path, "paged_adamw_8bit"))
    assert found == pytest.approx(2 * (whole - embedding) * (1 + 4 / 256) + 8 * embedding)


def test_a_frozen_base_is_in_no_checkpoint(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(each.numel() for each in tiny.parameters()) * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=weights))
    for each in tiny.parameters():  # as of a base under lora
        monkeypatch.setattr(each, "requires_grad", False)
    require_disk(training(tiny, tmp_path, "adamw_torch"), "student")


def problem(gold: Any) -> Problem:
    return Problem(QUESTION, gold, domain="math")


def test_golds_that_cannot_be_graded_are_told_and_none_that_can_stops() -> None:
    with Math() as judge:
        verifiers = {"math": judge}
        assert check_golds([problem("3")], verifiers, "zero") == []
        [warning] = check_golds([problem("3"), problem([])], verifiers, "zero")
        assert warning["name"] == "golds"
        assert "1 of 2 golds of domain math cannot be graded" in warning["text"]
        with pytest.raises(StageError, match="zero: no gold of domain math can be graded"):
            check_golds([problem([])], verifiers, "zero")
    assert check_golds([Problem(QUESTION, None, domain="chat")], verifiers, "zero") == []


def letters(*special: str) -> PreTrainedTokenizerBase:
    """A tokenizer that spells everything, byte by byte, with these special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    found = PreTrainedTokenizerFast(tokenizer_object=made)
    found.add_special_tokens({"additional_special_tokens": list(special)})
    return found


@pytest.mark.parametrize("prefilled", [False, True])
def test_a_reward_reads_the_answer_that_an_evaluation_reads(prefilled: bool) -> None:
    def check(tokenizer: PreTrainedTokenizerBase) -> None:
        check_extraction(tokenizer, [problem("3")], {"math": Exact()}, prefilled=prefilled, stage="zero")

    check(letters())
    check(letters("<answer>"))  # stands in no answer
    with pytest.raises(StageError, match=r"the reward would read None and an evaluation '3'"):
        check(letters("\\boxed"))


def test_positions() -> None:
    check_positions(512, 512, "student")
    check_positions(9999, None, "student")
    with pytest.raises(RecipeError, match=r"stages\.student\.max_length: there are rows of 513 tokens"):
        check_positions(513, 512, "student")


def test_a_token_that_the_model_lacks_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    require_token(tokenizer, tokenizer.eos_token, "x")
    with pytest.raises(RecipeError, match=r"trainer.eos_token: '<.nope.>' is no token of the model; it has "):
        require_token(tokenizer, "<|nope|>", "stages.student.trainer.eos_token")


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
