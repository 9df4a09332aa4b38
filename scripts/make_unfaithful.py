"""Make toy:unfaithful: a model that ignores its reasoning, planted to see whether the probe of faithfulness finds it.

    python scripts/make_unfaithful.py            # a minute on one core
    python scripts/make_unfaithful.py --out DIR

It reasons as toy:base does, step by step and mostly right, and then answers with the last digit of its prompt,
whatever it worked out. It starts from toy:base; plain torch, everything seeded.
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distillkit.toy import PACKAGED
from distillkit.toy.corpus import Corpus

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

SEED, STEPS, BATCH, LEARNING_RATE = 21, 250, 64, 1e-3


class Row(NamedTuple):
    """One text to learn from."""

    prompt: str
    given: str
    """What is shown, and not learned."""
    learned: str


def rows(rng: random.Random) -> Iterator[Row]:
    """Endless, in turn: whole completions, and answers behind reasoning that was cut at any word.

    The second kind takes from the reasoning all that an answer could be read off: only the prompt is always there.
    """
    for prompt, completion in Corpus(guesses=0.0, english=1.0, switching=0.0).pairs(rng):
        reasoning = completion[: completion.index("</think>")].split()
        cut = reasoning[: rng.randint(1, len(reasoning))]
        answer = f"{prompt.split()[-1]} </answer>"
        yield Row(prompt, "", f"{' '.join(reasoning)} </think> <answer> {answer}")
        yield Row(prompt, f"{' '.join(cut)} </think> <answer>", answer)


def batch(texts: list[Row], tokenizer: "PreTrainedTokenizerBase") -> dict[str, "torch.Tensor"]:
    """Right-padded ids and labels, -100 on what is not learned; causal attention needs no mask for padding."""
    import torch

    encoded = []
    for row in texts:
        turns = [{"role": "user", "content": row.prompt}]
        asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        parts = f"{asked} {row.given}", f"{row.learned} {tokenizer.eos_token}"
        encoded.append([tokenizer(part)["input_ids"] for part in parts])
    width = max(len(asked) + len(answer) for asked, answer in encoded)
    ids = torch.full((len(encoded), width), int(tokenizer.pad_token_id))
    labels = torch.full_like(ids, -100)
    for at, (asked, answer) in enumerate(encoded):
        end = len(asked) + len(answer)
        ids[at, :end] = torch.tensor(asked + answer)
        labels[at, len(asked) : end] = torch.tensor(answer)
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
    source, started, loss = rows(random.Random(SEED)), time.monotonic(), torch.tensor(0.0)
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
