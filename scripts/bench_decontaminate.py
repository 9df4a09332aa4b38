"""Measure decontamination: recall of planted spans, false alarms and speed, beside open-r1's script in the same run.

4,000 benchmark prompts against traces of 20 kB. A span of a prompt is planted in half of the traces, its words in
random case, with commas, dashes and line breaks between them; the other half is clean. The peer is what open-r1's
scripts/decontaminate.py does: lower case, split at white space, any shared n-gram. One core; run it on an idle machine.

With DISTILLKIT_DATA: real questions as the prompts and real solutions as the traces, and what is found between
training and test sets that are published apart.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from distillkit.measures.overlap import Overlap

PROMPTS, PROMPT_WORDS, TRACE_CHARACTERS = 4000, 60, 20_000
SIZES, SPANS = (8, 13), (8, 13, 30)
NOISE = (", ", " - ", "\n", "  ", "; ", " **")
Finder = Callable[[str], bool]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--traces", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    rng = random.Random(given.seed)
    prompts, filler = synthetic(rng)
    compare("synthetic", prompts, filler, given.traces, rng)
    data = os.environ.get("DISTILLKIT_DATA")
    if data:
        compare("real", *real(Path(data), rng), given.traces, rng)
        pairs(Path(data))


def synthetic(rng: random.Random) -> tuple[list[str], Callable[[], str]]:
    """Prompts and a source of sentences over one Zipfian vocabulary of 20,000 words."""
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]

    def text(count: int) -> str:
        return " ".join(rng.choices(words, weights, k=count))

    return [text(PROMPT_WORDS) + "?" for _ in range(PROMPTS)], lambda: text(20) + ". "


def real(data: Path, rng: random.Random) -> tuple[list[str], Callable[[], str]]:
    """Benchmark questions, and a source of solutions that models wrote of other questions."""
    sets = [("benchmarks/aime24", "problem"), ("benchmarks/math500", "problem"), ("benchmarks/minerva", "problem"),
            ("gsm8k/test", "question"), ("code/HumanEval", "prompt")]  # fmt: skip
    prompts = [text for name, column in sets for text in column_of(data, name, column)][:PROMPTS]
    solutions = [json.loads(line)["generation"] for line in lines_of(data, "traces/rambling_samples")]
    solutions += [each for line in lines_of(data, "gsm8k/train") for each in [json.loads(line)["answer"]]]
    return prompts, lambda: rng.choice(solutions) + "\n\n"


def compare(name: str, prompts: list[str], filler: Callable[[], str], count: int, rng: random.Random) -> None:
    """Print recall, false alarms and speed of both sides for each n and length of a planted span."""
    print(
        f"\n{name}: {len(prompts):,} prompts, {count:,} traces of {TRACE_CHARACTERS:,} characters, half planted"
    )
    print("| n | span | side | recall | clean rows hit | Mchar/s |\n|---|---|---|---|---|---|")
    for size in SIZES:
        sides = [("distillkit", whole(prompts, size)), ("distillkit share 0", whole(prompts, size, share=0)),
                 ("open-r1", split_at_space(prompts, size))]  # fmt: skip
        clean = [trace(filler) for _ in range(count // 2)]
        for span in (each for each in SPANS if each >= size):
            planted = [plant(each, prompts, span, rng) for each in clean]
            for side, find in sides:
                started = time.process_time()
                hits = [sum(map(find, texts)) for texts in (planted, clean)]
                seconds = time.process_time() - started
                speed = sum(map(len, planted + clean)) / seconds / 1e6
                recall, alarms = hits[0] / len(planted), 100 * hits[1] / len(clean)
                print(
                    f"| {size} | {span} | {side} | {recall:.3f} | {alarms:.2f} % | {speed:.0f} |", flush=True
                )


def whole(prompts: Sequence[str], size: int, **fields: float) -> Finder:
    overlap = Overlap(prompts, size, **fields)
    overlap.find("")  # tables of characters are made once per process
    return lambda text: overlap.find(text).leak is not None


def split_at_space(prompts: Sequence[str], size: int) -> Finder:
    """open-r1, scripts/decontaminate.py."""
    known = {gram for prompt in prompts for gram in grams(prompt, size)}
    return lambda text: not known.isdisjoint(grams(text, size))


def grams(text: str, size: int) -> set[str]:
    words = text.lower().strip().split()
    return {" ".join(words[at : at + size]) for at in range(len(words) - size + 1)}


def trace(filler: Callable[[], str]) -> str:
    parts, length = [], 0
    while length < TRACE_CHARACTERS:
        parts.append(filler())
        length += len(parts[-1])
    return "".join(parts)[:TRACE_CHARACTERS]


def plant(text: str, prompts: Sequence[str], span: int, rng: random.Random) -> str:
    """The text with `span` words of a prompt in its midst, under noise."""
    words: list[str] = []
    while len(words) < span:
        words = rng.choice(prompts).split()
    start = rng.randint(0, len(words) - span)
    cased = [rng.choice((str.upper, str.title, str.lower, str))(word) for word in words[start : start + span]]
    noisy = "".join(word + (rng.choice(NOISE) if rng.random() < 0.3 else " ") for word in cased)
    at = rng.randrange(len(text))
    return f"{text[:at]} {noisy} {text[at:]}"


def pairs(data: Path) -> None:
    """Print what is found between sets that were published as train and test."""
    tests = {"gsm8k/test": "question", "benchmarks/math500": "problem", "code/HumanEval": "prompt",
             "benchmarks/aime24": "problem", "benchmarks/minerva": "problem"}  # fmt: skip
    train = {"gsm8k/train": "question", "math/train": "problem", "code/leetcode": "problem",
             "code/code_contests": "problem"}  # fmt: skip
    for test, prompt in tests.items():
        references = column_of(data, test, prompt)
        overlap, known = Overlap(references, 8), split_at_space(references, 8)
        for name, column in train.items():
            texts = column_of(data, name, column)
            found = [overlap.find(text) for text in texts]
            leaks = [each.leak for each in found if each.leak is not None]
            weak = sum(each.weak is not None for each in found)
            print(f"\n{name} ({len(texts):,}) against {test} ({len(references):,}): {len(leaks)} leaks, {weak} weak; "
                  f"open-r1's rule {sum(map(known, texts))}")  # fmt: skip
            for leak in sorted(leaks, reverse=True, key=lambda leak: leak.share)[:5]:
                print(
                    f"  {leak.share:.2f}, {leak.run} words: {leak.gram} | {references[leak.reference][:90]!r}"
                )


def column_of(data: Path, name: str, column: str) -> list[str]:
    return [json.loads(line)[column] for line in lines_of(data, name)]


def lines_of(data: Path, name: str) -> list[str]:
    return (data / f"{name}.jsonl").read_text("utf-8").rstrip("\n").split("\n")


if __name__ == "__main__":
    main()
