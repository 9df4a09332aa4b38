"""A trained model as whoever serves it needs it: one folder with the right template, ends and sampling, and the
line that serves it.

Qwen bases name another end token than their chat template writes, and limit generation to 2,048 tokens: served as
they are, a student of one never stops, or is cut in the middle of a thought.
Source: the sampling that DeepSeek-R1's model card asks for (temperature 0.6, top_p 0.95).
"""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import MANIFEST, load_manifest
from distillkit.engines.base import end_tokens
from distillkit.text import END_THINK, THINK
from distillkit.training.adapter import ADAPTER_FILES, Lora, settle
from distillkit.training.examples import encode, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

PLACE = "MODEL"
"""Stands in a command for the folder or the Hub name of the model."""

SAMPLING = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
"""Written where a base asks for greedy decoding, which makes a reasoning model repeat itself."""

HINDRANCES = ("max_new_tokens", "max_length", "repetition_penalty")
"""Defaults of bases that cut or bend long reasoning; servers obey them."""

SPELLED = ("</", "think", ">")
"""Tokens that vLLM's parser for tags which are no tokens of their own looks for."""

ANSWER = "0"


def finisher(
    trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase", template: str | None, lora: Lora | None
) -> Callable[[Path], None]:
    """What to do with the folder that a trainer saved, before it is moved to its place.

    template: the inference template, where another one was trained with.
    """

    def finish(folder: Path) -> None:
        settle(folder, trainer, lora)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
        _write_generation(folder, trainer, tokenizer)

    return finish


def _write_generation(folder: Path, trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase") -> None:
    """generation_config.json: every token that ends an answer, and sampling that fits reasoning."""
    generation = trainer.model.generation_config
    for name in HINDRANCES:
        setattr(generation, name, None)
    if not generation.do_sample:
        for name, value in SAMPLING.items():
            setattr(generation, name, value)
    ends = end_tokens(generation.eos_token_id, tokenizer)
    ends = sorted({*ends, *chat_end(tokenizer)})
    generation.eos_token_id = ends[0] if len(ends) == 1 else ends
    generation.pad_token_id = tokenizer.pad_token_id
    generation.save_pretrained(folder)


def chat_end(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special token that the template writes behind an answer; empty where it writes none."""
    if not tokenizer.chat_template:
        return []
    question = {"role": "user", "content": ANSWER}
    whole = render(tokenizer, [question, {"role": "assistant", "content": ANSWER}])
    behind = encode(tokenizer, whole[whole.rindex(ANSWER) + len(ANSWER) :].lstrip())
    return behind[:1] if behind and behind[0] in tokenizer.all_special_ids else []


def serving(folder: Path, base: str) -> dict[str, Any]:
    """What to tell of a saved model: {command, parser, stops}; `MODEL` in the command is its folder or Hub name.

    base: what an adapter that was not merged stands on, as the recipe names it. Empty where there is no folder: of
    several processes one saves.
    """
    from transformers import AutoTokenizer, GenerationConfig

    if not folder.exists():
        return {}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parser = parser_of(tokenizer)
    declared = GenerationConfig.from_pretrained(folder).eos_token_id
    stops = tokenizer.convert_ids_to_tokens(end_tokens(declared, tokenizer))
    arguments = ["vllm", "serve", *_weights(folder, base)]
    if parser is not None:
        arguments += ["--reasoning-parser", parser]
    return {"command": shlex.join(arguments), "parser": parser, "stops": stops}


def _weights(folder: Path, base: str) -> list[str]:
    """The part of the command that names the weights: a whole model, or a base and its adapter."""
    config = folder / ADAPTER_FILES[0]
    if not config.exists():
        return [PLACE]
    rank = str(max(8, json.loads(config.read_text("utf-8"))["r"]))
    return [base, "--enable-lora", "--max-lora-rank", rank, "--lora-modules", f"student={PLACE}"]


def parser_of(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """vLLM's name for what tells the reasoning from the answer; None where no parser of it can.

    deepseek_r1 reads completions with and without the opening tag, but both tags must be tokens; qwen3 knows the
    switch `enable_thinking` of a template besides; olmo3 finds tags that are spelled in several tokens.
    """
    vocabulary = tokenizer.get_vocab()
    if THINK in vocabulary and END_THINK in vocabulary:
        return "qwen3" if "enable_thinking" in (tokenizer.chat_template or "") else "deepseek_r1"
    if all(token in vocabulary for token in (*SPELLED, f"\u0120{SPELLED[0]}")):
        return "olmo3"
    return None


def command_for(command: str, place: str) -> str:
    """The command with the folder or Hub name of the model in it."""
    words = shlex.split(command)
    return shlex.join(place if word == PLACE else word.replace(f"={PLACE}", f"={place}") for word in words)


def serve_commands(run: Path) -> list[tuple[str, str]]:
    """(stage, command) for every model that a run trained, its folder in the command."""
    found = []
    for link in sorted((run / "artifacts").glob("*")):
        manifest = load_manifest(link / MANIFEST)
        if serve := manifest.summary.get("serve"):
            found.append((link.name, command_for(serve["command"], str(link / "model"))))
    return found
