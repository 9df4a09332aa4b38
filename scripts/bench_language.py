"""Measure the language measure: its speed against langdetect per sentence, and how well it finds mixed traces.

Speed: traces of 8,000 characters made of the labelled sets' texts and, where DISTILLKIT_DATA names a folder of real
data, of real solutions; CPU seconds of one core, scaled to 10,000 traces. langdetect gets every sentence of a smaller
sample, scaled by characters. Quality: precision, recall and F1 of `mixed`, and how often the set of foreign languages
is exactly right, on each part of tests/data/language_traces.jsonl, and by target language on the locked part.

Usage: python scripts/bench_language.py [--traces 1000] [--peer-traces 20]
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from distillkit.measures.language import Language
from distillkit.text import sentences
from distillkit.trace import Trace

TRACES = Path(__file__).parent.parent / "tests" / "data" / "language_traces.jsonl"
CHARS, SCALE = 8000, 10_000
Row = dict[str, Any]


def measure(text: str, language: str | None) -> dict[str, Any]:
    return Language().measure(Trace("p", [], text, "", text, language=language))


def real_solutions() -> list[str]:
    """Model solutions in English, with LaTeX; none where there is no data."""
    folder = os.environ.get("DISTILLKIT_DATA")
    path = Path(folder, "math", "qwen_samples.jsonl") if folder else None
    if path is None or not path.exists():
        return []
    return [text for line in path.read_text("utf-8").splitlines() for text in json.loads(line)["responses"]]


def long_texts(pool: Sequence[str], count: int) -> list[str]:
    """Texts of CHARS characters, drawn from a pool."""
    rng, texts = random.Random(1), []
    for _ in range(count):
        text = ""
        while len(text) < CHARS:
            text += rng.choice(pool) + "\n\n"
        texts.append(text[:CHARS])
    return texts


def cpu_seconds(work: Callable[[str], object], texts: Iterable[str]) -> float:
    started = time.process_time()
    for text in texts:
        work(text)
    return time.process_time() - started


def by_langdetect(text: str) -> list[str]:
    """The language of each sentence, as one would without this measure."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    found = []
    for start, end in sentences(text):
        try:
            found.append(detect(text[start:end]))
        except LangDetectException:  # nothing in it that it knows
            found.append("und")
    return found


def print_speed(rows: list[Row], traces: int, peer_traces: int) -> None:
    def texts(language: str, mixed: bool) -> list[str]:
        return [row["text"] for row in rows if row["language"] == language and row["mixed"] == mixed]

    corpora: list[tuple[str, list[str], str]] = [("en, real solutions", real_solutions(), "en")]
    corpora += [(f"{each}, unmixed", texts(each, False), each) for each in ("en", "zh", "ru", "fr", "vi")]
    corpora += [(f"{each}, mixed", texts(each, True), each) for each in ("en", "zh", "ru")]
    print(
        f"\n{traces} traces of {CHARS} characters each (langdetect: {peer_traces}); CPU seconds for {SCALE} traces"
    )
    print(f"{'corpus':<20} {'measure':>9} {'Mchar/s':>8} {'langdetect per sentence':>24} {'ratio':>7}")
    for name, pool, language in corpora:
        if not pool:
            continue
        sample = long_texts(pool, traces)
        measure(sample[0], language), by_langdetect(sample[0])  # models and tables are loaded
        own = cpu_seconds(lambda text, code=language: measure(text, code), sample) / len(sample)  # type: ignore[misc]
        peer = cpu_seconds(by_langdetect, sample[:peer_traces]) / peer_traces
        print(
            f"{name:<20} {own * SCALE:>7.1f} s {CHARS / own / 1e6:>8.1f} {peer * SCALE:>22.0f} s {peer / own:>6.0f}x"
        )


def rates(rows: Iterable[Row]) -> tuple[int, int, int, int]:
    """Found rightly, found wrongly, missed, and rows whose set of foreign languages is exactly right."""
    right = wrong = missed = exact = 0
    for row in rows:
        labels = measure(row["text"], row["language"])
        right += labels["mixed"] and row["mixed"]
        wrong += labels["mixed"] and not row["mixed"]
        missed += row["mixed"] and not labels["mixed"]
        found = sorted({segment["language"] for segment in labels["foreign"]})
        exact += row["mixed"] and found == row["foreign"]
    return right, wrong, missed, exact


def print_quality(rows: list[Row]) -> None:
    print(f"\n{'part':<12} {'rows':>5} {'mixed':>6} {'P':>6} {'R':>6} {'F1':>6} {'languages exact':>16}")
    parts = [
        (part, [row for row in rows if row["part"] == part])
        for part in ("open", "first", "second", "third", "locked")
    ]
    locked = parts[-1][1]
    parts += [
        (f"  {code}", [row for row in locked if row["language"] == code])
        for code in sorted({row["language"] for row in locked})
    ]
    for name, chosen in parts:
        right, wrong, missed, exact = rates(chosen)
        precision, recall = right / max(1, right + wrong), right / max(1, right + missed)
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        print(
            f"{name:<12} {len(chosen):>5} {right + missed:>6} {precision:>6.3f} {recall:>6.3f} {f1:>6.3f}"
            f" {exact:>9} of {right + missed}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, default=1000)
    parser.add_argument("--peer-traces", type=int, default=20)
    options = parser.parse_args()
    rows = [json.loads(line) for line in TRACES.read_text("utf-8").splitlines()]
    print_quality(rows)
    print_speed(rows, options.traces, options.peer_traces)


if __name__ == "__main__":
    main()
