"""The tiny world of the quickstart: problems, a pre-training corpus, and a base model of 0.3 M parameters."""

from pathlib import Path

BASE = Path(__file__).parent / "base"
"""Folder of the shipped base, `toy:base` in a recipe: a Qwen3 of 2 layers and width 128 in float32, with its
word-level tokenizer and chat template. Made by `scripts/make_toy.py`. It mostly guesses, but can reason.

It has not learned to notice its slips: measured on corpus text, `wait` is as likely (2 %) after a right step as after
a wrong one. Its `wait` is style, not self-correction, and counts of reflections must be read so."""
