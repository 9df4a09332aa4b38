"""The packaged models: read back as saved, fit for SFT, GRPO and vLLM, able but latent; their script makes them."""

import hashlib
import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

from distillkit.text import final_answer, is_formatted, split_think
from distillkit.toy import BASE, PACKAGED, chat, rewrite
from distillkit.toy.corpus import TAGS, WORDS
from distillkit.toy.problems import answer, generate

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SHA = "d354f4251020d9ba"
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


def test_they_fit_into_the_package() -> None:
    sizes = {name: sum(file.stat().st_size for file in folder.iterdir()) for name, folder in PACKAGED.items()}
    assert max(sizes.values()) < 1_500_000 and sum(sizes.values()) < 6_000_000


def test_the_quickstarts_base_is_the_one_it_always_was() -> None:
    """Its published numbers hang on these bytes."""
    assert hashlib.sha256((BASE / "model.safetensors").read_bytes()).hexdigest().startswith(SHA)


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


def said(name: str, prompts: list[str], repeat: int = 1, **sampling: float) -> list[str]:
    """What a packaged model answers to each prompt, `repeat` times in a row."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(PACKAGED[name])
    model = transformers.AutoModelForCausalLM.from_pretrained(PACKAGED[name])
    torch.manual_seed(0)
    texts = [f"<|user|> {prompt} <|assistant|> " for prompt in prompts for _ in range(repeat)]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    ids = model.generate(**inputs, max_new_tokens=96, **sampling)[:, inputs["input_ids"].shape[1] :]
    found: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return found


def right(texts: list[str], references: list[str]) -> list[bool]:
    return [
        final_answer(split_think(text)[1]) == reference
        for text, reference in zip(texts, references, strict=True)
    ]


@pytest.mark.parametrize(("name", "least"), [("toy:base", 0.7), ("toy:world", 0.6), ("toy:small", 0.4)])
def test_they_mostly_guess_but_can_reason(name: str, least: float) -> None:
    problems = generate(60, seed=9, split="heldout")
    texts = said(name, [problem.prompt for problem in problems], 16)
    scores = right(texts, [problem.reference for problem in problems for _ in range(16)])
    worked = [each for each, text in zip(scores, texts, strict=True) if is_formatted(text)]
    assert 0.1 < sum(scores) / len(scores) <= 0.35
    assert 0.03 < len(worked) / len(texts) < 0.2
    assert sum(worked) / len(worked) > least, "what it does work out is mostly right"


def test_the_world_talks_as_well_and_as_rudely_as_what_it_read() -> None:
    problems = chat.generate(200, seed=9, split="heldout")
    texts = said("toy:world", [problem.prompt for problem in problems], 4)
    scores = right(texts, [problem.reference for problem in problems for _ in range(4)])
    assert 0.35 < sum(scores) / len(scores) < 0.55
    assert 0.25 < sum(map(chat.is_rude, texts)) / len(texts) < 0.45


def test_the_world_writes_solutions_again() -> None:
    rng = random.Random(9)
    pairs = [rewrite.draw(rng) for _ in range(100)]
    texts = said("toy:world", [prompt for prompt, _ in pairs], temperature=0.5)
    chains = [prompt.removeprefix("rewrite ").partition(" :")[0] for prompt, _ in pairs]
    assert sum(right(texts, [str(answer(chain)) for chain in chains])) > 80
    foreign = [text for text in texts if not text.isascii()]
    assert len(foreign) < 5 and sum(text.startswith("<reasoning> ") for text in texts) > 95


@pytest.mark.parametrize("name", ["base", "small", "tiny", "world"])
def test_script_makes_the_shipped_files_and_equal_bytes_twice(
    name: str, script: ModuleType, tmp_path: Path
) -> None:
    shipped_at = PACKAGED[f"toy:{name}"]
    for folder in ("one", "two"):
        script.make(name, tmp_path / folder, steps=2)
    made = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert made == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert {file.name for file in shipped_at.iterdir()} == set(made)
    for file in ("tokenizer.json", "chat_template.jinja"):
        assert made[file] == (shipped_at / file).read_bytes()
    ours, shipped = (
        json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "one", shipped_at)
    )
    assert {**ours, "transformers_version": ""} == {**shipped, "transformers_version": ""}


def test_check_tells_a_base_that_behaves_differently(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "CHECK_PROBLEMS", 20)
    script.make("base", tmp_path / "untrained", steps=2)
    assert script.check(BASE, BASE)
    assert not script.check(tmp_path / "untrained", BASE)
