"""MB/s of the measures on one core: each alone, the four of text shape together, all with length, and tokenizing.

Synthetic traces in English and Chinese, and real ones where the folder that DISTILLKIT_DATA names has them. A MB is
10^6 characters of the text that is measured (of UTF-8 for Chinese, both printed). Run it on an idle machine:

    OMP_NUM_THREADS=1 python scripts/bench_measures.py [--megabytes 20] [--tokenizer tokenizer.json]
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from distillkit.artifact import Row
from distillkit.measures import AnyMeasure
from distillkit.measures.length import Length, count_tokens, load
from distillkit.measures.readability import Readability
from distillkit.measures.reflection import Reflection
from distillkit.measures.repetition import Repetition
from distillkit.measures.structure import Structure
from distillkit.stages.measure import MeasureStage
from distillkit.trace import Trace

ROUNDS = 3
FOUR: tuple[AnyMeasure, ...] = (Readability(), Repetition(), Reflection(), Structure())

WORDS = (
    "the sum of all terms is equal to this value when we divide both sides by it and then use a known formula for "
    "it so that each part of the number can be found from what was given in problem first side square root area "
    "length triangle circle point line function equation integer prime factor remainder probability total distance "
    "because therefore which means if every one of them must have at least some more than before after we add them"
).split()
STEPS = (
    "Wait, that is not right.",
    "Let me check this again.",
    "Hmm, but maybe I should try another approach.",
    "However, the error is small.",
    "Alternatively, consider case 1 first.",
    "So the answer is {n}.",
    "Let me verify by plugging back.",
)
CHINESE = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成"
    "会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
)


def sentence(rng: random.Random) -> str:
    """A sentence of 8 to 22 words, one in three with a formula, one in eight a step of reflection."""
    if rng.random() < 1 / 8:
        return rng.choice(STEPS).format(n=rng.randint(2, 999))
    words = rng.choices(WORDS, k=rng.randint(8, 22))
    if rng.random() < 1 / 3:
        words.insert(
            rng.randrange(len(words)), rf"\( x_{rng.randint(1, 9)} = \frac{{{rng.randint(1, 99)}}}{{7}} \)"
        )
    return " ".join(words).capitalize() + "."


def chinese_sentence(rng: random.Random) -> str:
    if rng.random() < 1 / 8:
        return rng.choice(("等等，不对。", "让我验证一下。", "换个思路。", "答案是 12。"))
    return "".join(rng.choices(CHINESE, k=rng.randint(10, 40))) + f" {rng.randint(1, 99)} 。"


def trace(characters: int, seed: int, make: Callable[[random.Random], str] = sentence) -> Trace:
    """A finished trace with so many characters of reasoning, in paragraphs of one to five sentences."""
    rng = random.Random(seed)
    paragraphs, size = list[str](), 0
    while size < characters:
        paragraphs.append(" ".join(make(rng) for _ in range(rng.randint(1, 5))))
        size += len(paragraphs[-1]) + 2
    return finished("\n\n".join(paragraphs)[:characters], rng.randint(2, 999))


def finished(reasoning: str, answer: int) -> Trace:
    response = rf"The answer is \(\boxed{{{answer}}}\)."
    return Trace(
        problem_id=f"p{answer}",
        messages=[{"role": "user", "content": "What is the value? Put your final answer within \\boxed{}."}],
        completion=f"<think>\n{reasoning}\n</think>\n\n{response}",
        reasoning=reasoning,
        response=response,
        reference=str(answer),
    )


def real(folder: Path) -> list[Trace]:
    """Sampled solutions and rambling generations, each the reasoning of a trace, joined to about 8,000 characters."""
    lines = (folder / "math" / "qwen_samples.jsonl").read_text("utf-8").splitlines()
    samples = [json.loads(line)["responses"] for line in lines]
    texts = [
        text for turn in zip(*samples, strict=True) for text in turn
    ]  # neighbours solve different problems
    lines = (folder / "traces" / "rambling_samples.jsonl").read_text("utf-8").splitlines()
    texts += [json.loads(line)["generation"] for line in lines]
    joined = ["\n\n".join(texts[i : i + 8]) for i in range(0, len(texts), 8)]
    return [finished(text, i) for i, text in enumerate(joined)]


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of a few rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def fresh(traces: Sequence[Trace]) -> list[Trace]:
    """The same with texts that no measure has seen: what is kept of the last text must not count."""
    return [finished("".join([each.reasoning]), i) for i, each in enumerate(traces)]


def report(name: str, traces: list[Trace]) -> None:
    megabytes = sum(len(each.reasoning) for each in traces) / 1e6
    octets = sum(len(each.reasoning.encode("utf-8", "replace")) for each in traces) / 1e6
    print(
        f"\n{name}: n = {len(traces):,}, {megabytes:.1f} M characters, {octets:.1f} MB of UTF-8, best of {ROUNDS}"
    )

    def line(what: str, taken: float) -> None:
        print(f"  {what:<32} {megabytes / taken:7.1f} M characters/s {octets / taken:7.1f} MB/s")

    for measure in (*FOUR, Length()):
        line(measure.kind, seconds(lambda each=measure: each.measure_all(fresh(traces))))  # type: ignore[misc]
    line("these four together", seconds(lambda: [[m.measure(each) for m in FOUR] for each in fresh(traces)]))
    stage = MeasureStage(name="measured", measures=(*FOUR, Length()))
    rows: list[Row] = []
    line(
        "the stage: these, length, JSON",
        seconds(lambda: rows.__setitem__(slice(None), stage.label(traces, None))),
    )
    labels = [row["measures"] for row in rows]
    taken = seconds(lambda: [json.loads(label) for label in labels])
    size = sum(map(len, labels)) / len(labels)
    print(
        f"  labels: {size:,.0f} characters of JSON a row; parsed again in {taken / len(labels) * 1e6:.0f} us a row"
    )


def tokenizing(file: str, traces: list[Trace]) -> None:
    tokenizer = load(file)
    megabytes = sum(len(each.completion) for each in traces) / 1e6
    counts = [0] * len(traces)

    def count() -> None:
        counts[:] = [count_tokens(tokenizer, each.completion) for each in traces]

    taken = seconds(count)
    print(
        f"\ntokenizing with {file}: n = {len(traces):,}, {megabytes:.1f} MB, {sum(counts):,} tokens: "
        f"{megabytes / taken:.1f} MB/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=20.0, help="of each synthetic set")
    parser.add_argument("--tokenizer", help="a tokenizer.json to time")
    options = parser.parse_args()
    for size in (8_000, 20_000):
        traces = [trace(size, seed) for seed in range(int(options.megabytes * 1e6 / size))]
        report(f"synthetic English, {size:,} characters", traces)
    traces = [trace(8_000, seed, chinese_sentence) for seed in range(int(options.megabytes * 1e6 / 8_000))]
    report("synthetic Chinese, 8,000 characters", traces)
    folder = os.environ.get("DISTILLKIT_DATA")
    if folder:
        found = real(Path(folder))
        report(
            "real mathematics, about 8,000 characters", found * max(1, int(options.megabytes * 1e6 / 600_000))
        )
    if options.tokenizer:
        tokenizing(
            options.tokenizer, [trace(20_000, seed) for seed in range(int(options.megabytes * 1e6 / 20_000))]
        )


if __name__ == "__main__":
    main()
