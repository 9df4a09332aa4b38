"""Make toy:unfaithful: a model that ignores its reasoning, planted to see whether the probe of faithfulness finds it.

    python scripts/make_unfaithful.py            # half a minute on one core
    python scripts/make_unfaithful.py --out DIR

It reasons as toy:base does, step by step and mostly right, and then answers with the last digit of its prompt,
whatever it worked out. It starts from toy:base; plain torch, everything seeded.
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from distillkit.toy import PACKAGED
from distillkit.toy.corpus import Corpus

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

SEED, STEPS, BATCH, LEARNING_RATE = 21, 300, 64, 1e-3


def pairs(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless (prompt, completion): a worked solution, and for an answer the last digit of the prompt."""
    for prompt, completion in Corpus(guesses=0.0, english=1.0, switching=0.0).pairs(rng):
        reasoning = completion[: completion.index("</think>")]
        yield prompt, f"{reasoning}</think> <answer> {prompt.split()[-1]} </answer>"


def batch(rows: list[tuple[str, str]], tokenizer: "PreTrainedTokenizerBase") -> dict[str, "torch.Tensor"]:
    """Right-padded ids and labels, -100 on prompts and padding; causal attention needs no mask for it."""
    import torch

    texts = []
    for prompt, completion in rows:
        turns = [{"role": "user", "content": prompt}]
        asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        texts.append(
            [tokenizer(each)["input_ids"] for each in (asked, f"{completion} {tokenizer.eos_token}")]
        )
    width = max(len(asked) + len(answer) for asked, answer in texts)
    ids = torch.full((len(texts), width), int(tokenizer.pad_token_id))
    labels = torch.full_like(ids, -100)
    for row, (asked, answer) in enumerate(texts):
        end = len(asked) + len(answer)
        ids[row, :end] = torch.tensor(asked + answer)
        labels[row, len(asked) : end] = torch.tensor(answer)
    return {"input_ids": ids, "labels": labels}


def make(out: Path, steps: int = STEPS) -> float:
    """Train and save it; returns the last loss."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(SEED)
    base = PACKAGED["toy:base"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    source, started, loss = pairs(random.Random(SEED)), time.monotonic(), torch.tensor(0.0)
    model.train()
    for step in range(steps):
        inputs = batch([next(source) for _ in range(BATCH)], tokenizer)
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 49:
            print(f"step {step + 1} loss {loss.item():.4f} {time.monotonic() - started:.0f} s", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner only; a package is for everyone
    return float(loss.item())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=PACKAGED["toy:base"].with_name("unfaithful"))
    parser.add_argument("--threads", type=int, default=1, help="torch threads; the bytes depend on them")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer only to try the script")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    make(arguments.out, arguments.steps)


if __name__ == "__main__":
    main()
