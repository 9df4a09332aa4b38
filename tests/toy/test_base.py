"""The shipped base: read back as saved, fit for SFT, GRPO and vLLM, able but latent; its script makes it."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from distillkit.text import final_answer, is_formatted, split_think
from distillkit.toy import BASE
from distillkit.toy.corpus import TAGS, WORDS
from distillkit.toy.problems import generate

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_toy.py"
USER = [{"role": "user", "content": "8 + 2 - 2"}]
ASSISTANT = [{"role": "assistant", "content": "<think> 8 + 2 = 0 so 0 - 2 = 8 </think> <answer> 8 </answer>"}]


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return transformers.AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_toy", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fits_into_the_package() -> None:
    assert sum(file.stat().st_size for file in BASE.parent.rglob("*") if file.suffix != ".pyc") < 1_500_000


def test_every_word_survives_a_round_trip_without_special_tokens(tokenizer) -> None:  # type: ignore[no-untyped-def]
    text = " ".join(WORDS)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert not {*TAGS} & {*tokenizer.all_special_tokens}
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_template_keeps_the_reasoning_and_prefills_nothing(tokenizer) -> None:  # type: ignore[no-untyped-def]
    prompt = tokenizer.apply_chat_template(USER, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(USER + ASSISTANT, tokenize=False)
    assert prompt == "<|user|> 8 + 2 - 2 <|assistant|> "
    assert whole == prompt + ASSISTANT[0]["content"] + " <|end|>"
    twice = tokenizer.apply_chat_template((USER + ASSISTANT) * 2, tokenize=False)
    assert twice == f"{whole} {whole}"


def test_template_marks_what_the_assistant_said(tokenizer) -> None:  # type: ignore[no-untyped-def]
    whole = tokenizer.apply_chat_template(
        USER + ASSISTANT, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    said = [i for i, mask in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(said) == ASSISTANT[0]["content"] + " <|end|>"


def test_template_refuses_a_role_that_the_model_never_saw(tokenizer) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Exception, match="knows the roles user and assistant, not system"):
        tokenizer.apply_chat_template([{"role": "system", "content": "8"}], tokenize=False)


def test_config_is_what_vllm_and_trl_need() -> None:
    config = json.loads((BASE / "config.json").read_text())
    assert (config["model_type"], config["dtype"]) == ("qwen3", "float32")
    assert config["head_dim"] >= 32
    generation = json.loads((BASE / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"] != generation["pad_token_id"]
    assert (generation["temperature"], generation["top_k"]) == (1.0, 0)


def test_it_mostly_guesses_but_can_reason(tokenizer) -> None:  # type: ignore[no-untyped-def]
    problems = generate(60, seed=9, split="heldout")
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE)
    torch.manual_seed(0)
    chats = [p.messages for p in problems for _ in range(16)]
    prompts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    ids = model.generate(**inputs, max_new_tokens=64)[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    references = [p.reference for p in problems for _ in range(16)]
    right = [
        final_answer(split_think(text)[1]) == reference
        for text, reference in zip(texts, references, strict=True)
    ]
    worked = [was_right for was_right, text in zip(right, texts, strict=True) if is_formatted(text)]
    assert 0.1 < sum(right) / len(right) <= 0.35
    assert 0.05 < len(worked) / len(texts) < 0.2
    assert sum(worked) / len(worked) > 0.7, "what it does work out is mostly right"


def test_script_makes_the_shipped_files_and_equal_bytes_twice(script: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "two"):
        script.make(tmp_path / name, steps=2)
    made = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert made == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert {file.name for file in BASE.iterdir()} == set(made)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert made[name] == (BASE / name).read_bytes()
    ours, shipped = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "one", BASE))
    assert {**ours, "transformers_version": ""} == {**shipped, "transformers_version": ""}


def test_check_tells_a_base_that_behaves_differently(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "CHECK_PROBLEMS", 20)
    script.make(tmp_path / "untrained", steps=2)
    assert script.check(BASE, BASE)
    assert not script.check(tmp_path / "untrained", BASE)
