import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from distillkit.toy import BASE
from distillkit.training.chat import jinja_of
from distillkit.training.serving import chat_end, command_for, finisher, parser_of, serve_commands, serving


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


def vocabulary(*tokens: str, template: str = "") -> Any:
    known = {token: at for at, token in enumerate(tokens)}
    return SimpleNamespace(get_vocab=lambda: known, chat_template=template)


@pytest.mark.parametrize(
    ("tokens", "template", "parser"),
    [
        (("<think>", "</think>"), "", "deepseek_r1"),
        (("<think>", "</think>"), "{%- if enable_thinking is false %}", "qwen3"),
        (("</", "\u0120</", "think", ">"), "", "olmo3"),
        (("</", "think", ">"), "", None),
        (("<think>",), "", None),
    ],
)
def test_the_parser_that_can_tell_reasoning_apart(tokens: Any, template: str, parser: str | None) -> None:
    assert parser_of(vocabulary(*tokens, template=template)) == parser


def test_the_parsers_are_names_of_vllm() -> None:
    reasoning = pytest.importorskip("vllm.reasoning")
    known = reasoning.ReasoningParserManager.list_registered()
    assert {"deepseek_r1", "qwen3", "olmo3"} <= set(known)


def test_the_token_behind_an_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    assert chat_end(tokenizer) == [tokenizer.eos_token_id]
    tokenizer.chat_template = tokenizer.chat_template.replace("' <|end|>'", "' <|user|>'")
    assert tokenizer.convert_ids_to_tokens(chat_end(tokenizer)) == ["<|user|>"]
    tokenizer.chat_template = "{{ messages[0].content }} {{ messages[-1].content }}"
    assert chat_end(tokenizer) == []
    tokenizer.chat_template = jinja_of("none", tokenizer)
    assert chat_end(tokenizer) == [tokenizer.eos_token_id]


def finished(
    folder: Path, tokenizer: PreTrainedTokenizerBase, template: str, **generation: Any
) -> dict[str, Any]:
    """generation_config.json of a folder that was finished for these defaults of a base."""
    trainer: Any = SimpleNamespace(model=SimpleNamespace(generation_config=GenerationConfig(**generation)))
    finisher(trainer, tokenizer, template, None)(folder)
    found: dict[str, Any] = json.loads((folder / "generation_config.json").read_text("utf-8"))
    return found


def test_a_greedy_base_that_cuts_becomes_a_model_that_reasons(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    # As Qwen2.5-Math's base has it.
    own = tokenizer.chat_template
    tokenizer.chat_template = own + "training only"
    found = finished(
        tmp_path,
        tokenizer,
        own,
        do_sample=False,
        max_new_tokens=2048,
        repetition_penalty=1.05,
        eos_token_id=9,
    )
    assert (found["do_sample"], found["temperature"], found["top_p"]) == (True, 0.6, 0.95)
    assert not {"max_new_tokens", "repetition_penalty"} & {k for k, v in found.items() if v is not None}
    assert found["eos_token_id"] == sorted([9, tokenizer.eos_token_id])
    assert (tmp_path / "chat_template.jinja").read_text("utf-8") == own


def test_a_base_that_samples_keeps_its_way(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    found = finished(
        tmp_path, tokenizer, tokenizer.chat_template, do_sample=True, temperature=0.8, eos_token_id=4
    )
    assert (found["temperature"], found["eos_token_id"]) == (0.8, 4)
    assert "top_p" not in found or found["top_p"] in (None, 1.0)


def test_a_saved_model_says_how_it_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    found = serving(folder, "toy:base")
    assert found == {
        "command": "vllm serve MODEL --reasoning-parser deepseek_r1",
        "parser": "deepseek_r1",
        "stops": ["<|end|>"],
    }
    (folder / "adapter_config.json").write_text('{"r": 64}', "utf-8")
    assert serving(folder, "org/base")["command"] == (
        "vllm serve org/base --enable-lora --max-lora-rank 64 --lora-modules student=MODEL "
        "--reasoning-parser deepseek_r1"
    )
    assert serving(tmp_path / "nowhere", "toy:base") == {}


def test_the_model_takes_its_place_in_the_command() -> None:
    assert command_for("vllm serve MODEL --x y", "./a b/model") == "vllm serve './a b/model' --x y"
    lora = "vllm serve org/MODEL-7B --lora-modules student=MODEL"
    assert command_for(lora, "me/out") == "vllm serve org/MODEL-7B --lora-modules student=me/out"


def test_a_run_lists_the_models_that_it_trained(tmp_path: Path) -> None:
    for name, summary in (("student", {"serve": {"command": "vllm serve MODEL"}}), ("kept", {})):
        folder = tmp_path / "artifacts" / name
        folder.mkdir(parents=True)
        body = {
            "stage": name,
            "kind": "sft",
            "type": "weights",
            "request": "",
            "content": "",
            "summary": summary,
        }
        (folder / "manifest.json").write_text(json.dumps({**body, "format": 1, "tables": {}}), "utf-8")
    assert serve_commands(tmp_path) == [("student", f"vllm serve {tmp_path}/artifacts/student/model")]
