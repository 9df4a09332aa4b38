"""Make a packaged model of the tiny world, distillkit/toy/<name>/, or check that this script still makes it.

    python scripts/make_toy.py base             # some five minutes on two idle cores; world takes ten
    python scripts/make_toy.py base --check     # make it anew elsewhere; does it behave as the shipped one does?

Plain torch and transformers, everything seeded: equal thread counts on equal machines give equal bytes.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distillkit.text import final_answer, split_think
from distillkit.toy import PACKAGED, chat, rewrite
from distillkit.toy.corpus import WORDS, Corpus
from distillkit.toy.problems import generate
from distillkit.trace import Problem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, UNKNOWN, USER, ASSISTANT, END = "<|pad|>", "<|unknown|>", "<|user|>", "<|assistant|>", "<|end|>"
TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<|user|> ' + message.content + ' ' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|assistant|> ' -}}
{%- generation -%}
{{- message.content + ' <|end|>' -}}
{%- endgeneration -%}
{{- ' ' if not loop.last -}}
{%- else -%}
{{- raise_exception('the toy model knows the roles user and assistant, not ' + message.role) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|> ' -}}
{%- endif -%}
"""
"""Nothing is stripped from the reasoning, and no `<think>` is prefilled: a base must find it by itself."""

SEED, BATCH, LEARNING_RATE = 20, 64, 2e-3
WORKED = 0.7
"""Share of the steps that show worked solutions only; the rest shows `GUESSES` bare guesses."""
GUESSES = 0.85

Pairs = Iterator[tuple[str, str]]
"""Endless (prompt, completion)."""


def chains(rng: random.Random) -> tuple[Pairs, Pairs]:
    """What a model that knows chains alone reads: first worked solutions, then mostly guesses."""
    return Corpus(guesses=0.0).pairs(rng), Corpus(guesses=GUESSES).pairs(rng)


def world(rng: random.Random) -> tuple[Pairs, Pairs]:
    """Chains, two in three of them with mixed languages, beside chat and solutions written again."""
    styles = {"english": 0.2, "switching": 0.6}
    both = Corpus(guesses=0.0, **styles).pairs(rng), Corpus(guesses=GUESSES, **styles).pairs(rng)
    first, second = (blend(each, rng) for each in both)
    return first, second


def blend(worked: Pairs, rng: random.Random) -> Pairs:
    while True:
        draw = rng.random()
        yield next(worked) if draw < 0.5 else chat.draw(rng) if draw < 0.75 else rewrite.draw(rng)


@dataclass(frozen=True)
class Plan:
    """Shape and schooling of one model; two layers, heads of size 32, which are the smallest that vLLM's CPU
    attention takes."""

    width: int
    heads: int
    vocabulary: int
    """Rounded up with words that nothing uses."""
    words: tuple[str, ...] = WORDS
    reads: Callable[[random.Random], tuple[Pairs, Pairs]] = chains
    steps: int = 3_000


PLANS = {
    "base": Plan(128, 4, 56),
    "small": Plan(64, 2, 56),
    "tiny": Plan(48, 2, 56),
    "world": Plan(128, 4, 96, (*WORDS, *chat.WORDS, *rewrite.WORDS), world, 4_000),
}

CHECK_PROBLEMS, CHECK_SAMPLES = 400, 16


def build_tokenizer(plan: Plan) -> "PreTrainedTokenizerFast":
    """One token per word. The tags of think and answer are ordinary words: decoding must never drop them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = (PAD, UNKNOWN, USER, ASSISTANT, END)
    used = (*special, *plan.words)
    words = (*used, *(f"<reserved_{i}>" for i in range(plan.vocabulary - len(used))))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        chat_template=TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_config(plan: Plan, tokenizer: "PreTrainedTokenizerFast") -> "Qwen3Config":
    """Qwen3, because for it AutoTokenizer reads our tokenizer back as saved; for qwen2 it rebuilds another."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=plan.vocabulary,
        hidden_size=plan.width,
        intermediate_size=2 * plan.width,
        num_hidden_layers=2,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        head_dim=32,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def make(name: str, out: Path, steps: int | None = None) -> None:
    """Pre-train a model and save it with its tokenizer, template and generation defaults."""
    import torch
    from transformers import GenerationConfig, Qwen3ForCausalLM

    torch.manual_seed(SEED)
    plan = PLANS[name]
    tokenizer = build_tokenizer(plan)
    model = Qwen3ForCausalLM(build_config(plan, tokenizer))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {torch.get_num_threads()} threads")
    train(model, tokenizer, plan, steps or plan.steps)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner only; a package is for everyone
    assert_reads_back(out, tokenizer, plan)


def train(model: "Qwen3ForCausalLM", tokenizer: "PreTrainedTokenizerFast", plan: Plan, steps: int) -> None:
    """AdamW under a one-cycle learning rate; the loss is on completions, since a prompt is plain noise."""
    import torch

    rng = random.Random(SEED)
    worked, guessing = plan.reads(rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    model.train()
    for step in range(steps):
        source = worked if step < WORKED * steps else guessing
        loss = 0.0
        for inputs in collate([next(source) for _ in range(BATCH)], tokenizer):
            part = model(**inputs, use_cache=False).loss
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss:.4f} {time.monotonic() - started:.0f} s", flush=True)


def collate(
    pairs: list[tuple[str, str]], tokenizer: "PreTrainedTokenizerFast"
) -> Iterator[dict[str, "torch.Tensor | int"]]:
    """A batch in four right-padded parts by length: the same gradient as in one piece, with less padding.

    Labels are -100 on prompts and padding. Causal attention never looks right, so that no mask is needed.
    """
    import torch

    prompts = tokenizer([f"{USER} {prompt} {ASSISTANT}" for prompt, _ in pairs])["input_ids"]
    completions = tokenizer([f"{completion} {END}" for _, completion in pairs])["input_ids"]
    rows = sorted(zip(prompts, completions, strict=True), key=lambda row: len(row[0]) + len(row[1]))
    for start in range(0, len(rows), len(rows) // 4):
        part = rows[start : start + len(rows) // 4]
        ids = torch.full((len(part), max(len(p) + len(c) for p, c in part)), tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        for row, (prompt, completion) in enumerate(part):
            end = len(prompt) + len(completion)
            ids[row, :end] = torch.tensor(prompt + completion)
            labels[row, len(prompt) : end] = torch.tensor(completion)
        yield {"input_ids": ids, "labels": labels, "num_items_in_batch": sum(map(len, completions))}


def assert_reads_back(folder: Path, tokenizer: "PreTrainedTokenizerFast", plan: Plan) -> None:
    """Fail where AutoTokenizer would rebuild some other tokenizer and so drop words of ours."""
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(folder)
    words = " ".join(plan.words)
    text = f"{USER} 8 - 2 {ASSISTANT} {words} {END}"
    assert again.get_vocab() == tokenizer.get_vocab(), "AutoTokenizer reads back another vocabulary"
    assert again.decode(again(words)["input_ids"], skip_special_tokens=True) == words
    assert again.decode(again(text)["input_ids"]) == text
    assert (again.eos_token, again.pad_token) == (END, PAD)


def check(made: Path, shipped: Path) -> bool:
    """Whether two bases are right equally often: pass@1 and pass@16 differ by what sampling alone explains.

    That is at most 3 standard errors of the mean difference, paired by problem. Prints both and the verdict.
    """
    same = (made / "model.safetensors").read_bytes() == (shipped / "model.safetensors").read_bytes()
    print("weights: the same bytes" if same else "weights: other bytes (as with other threads or cores)")
    problems = generate(CHECK_PROBLEMS, SEED, "heldout")
    before, after = (count_right(folder, problems) for folder in (shipped, made))
    agreed = True
    for name, was, now in (
        ("pass@1", [c / CHECK_SAMPLES for c in before], [c / CHECK_SAMPLES for c in after]),
        (f"pass@{CHECK_SAMPLES}", [float(c > 0) for c in before], [float(c > 0) for c in after]),
    ):
        difference = [b - a for a, b in zip(was, now, strict=True)]
        error = statistics.stdev(difference) / len(difference) ** 0.5
        agreed &= abs(statistics.fmean(difference)) <= 3 * error
        print(f"{name}: shipped {statistics.fmean(was):.3f}, made {statistics.fmean(now):.3f} +- {error:.3f}")
    return agreed


def count_right(folder: Path, problems: list[Problem]) -> list[int]:
    """For each problem how many of `CHECK_SAMPLES` completions at temperature 1 end in its answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(SEED)
    right: list[int] = []
    for start in range(0, len(problems), 50):
        block = problems[start : start + 50]
        chats = [problem.messages for problem in block]
        prompts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        ids = model.generate(**inputs, num_return_sequences=CHECK_SAMPLES, max_new_tokens=64)
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers = [final_answer(split_think(text)[1]) for text in texts]
        for i, problem in enumerate(block):
            right.append(answers[i * CHECK_SAMPLES : (i + 1) * CHECK_SAMPLES].count(problem.reference))
    return right


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=PLANS, help="which of them")
    parser.add_argument("--out", type=Path, help="folder to write (default: the shipped one)")
    parser.add_argument("--check", action="store_true", help="make it in a temporary folder and compare")
    parser.add_argument("--threads", type=int, default=2, help="torch threads; the bytes depend on them")
    parser.add_argument("--steps", type=int, help="fewer only to try the script")
    arguments = parser.parse_args()

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin get nowhere on a busy machine
    import torch

    torch.set_num_threads(arguments.threads)
    shipped = arguments.out or PACKAGED[f"toy:{arguments.name}"]
    if not arguments.check:
        make(arguments.name, shipped, arguments.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        make(arguments.name, Path(folder), arguments.steps)
        if not check(Path(folder), shipped):
            sys.exit(f"{shipped} behaves differently: run this script without --check and ship what it makes")


if __name__ == "__main__":
    main()
