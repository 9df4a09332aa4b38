"""The tiny world of the toy recipes: problems of two families, what models read of them, and four packaged models."""

from pathlib import Path

BASE = Path(__file__).parent / "base"
"""Folder of `toy:base`: a Qwen3 of 2 layers and width 128 in float32 (0.3 M parameters), with its word-level
tokenizer and chat template. It mostly guesses, but can reason.

It has not learned to notice its slips: measured on corpus text, `wait` is as likely (2 %) after a right step as after
a wrong one. Its `wait` is style, not self-correction, and counts of reflections must be read so."""

PACKAGED = {
    "toy:base": BASE,
    "toy:small": BASE.with_name("small"),
    "toy:tiny": BASE.with_name("tiny"),
    "toy:world": BASE.with_name("world"),
    "toy:unfaithful": BASE.with_name("unfaithful"),
}
"""Name in a recipe -> folder; all made by `scripts/make_toy.py`. small and tiny are toy:base at widths 64 and 48;
world knows chat and rewriting beside chains, and has a vocabulary of its own; unfaithful (made by
`scripts/make_unfaithful.py`) reasons as base does, and answers with the last digit of its prompt all the same."""
