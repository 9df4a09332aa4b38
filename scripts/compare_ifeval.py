"""Is our IFEval the published one? Ask both about the same responses, instruction by instruction, strict and loose.

The published code is no package of its own; any copy of it that can be imported serves:

git clone --depth 1 --filter=blob:none --sparse https://github.com/google-research/google-research
git -C google-research sparse-checkout set instruction_following_eval
pip install --target published --no-deps absl-py immutabledict nltk==3.9.1
PYTHONPATH=published python -m nltk.downloader punkt_tab
PYTHONPATH=google-research:published python scripts/compare_ifeval.py instruction_following_eval
(or, where lm-eval is installed: python scripts/compare_ifeval.py lm_eval.tasks.ifeval)

The responses are made up (seeded). With --prompts (input_data.jsonl of the published code, by default ifeval.jsonl in
the folder DISTILLKIT_DATA) so are some for its instructions; with --responses, files of {"prompt", "response"} a line,
its prompts' real answers are asked about, too. --texts are files (the texts in a .jsonl, any other as a whole) in which
sentences and capital words are counted.
"""

import argparse
import importlib
import json
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ifeval_cases import Asked, Case, aimed, invented, soup

from distillkit.grid import Grid, grid_markdown
from distillkit.trace import Trace
from distillkit.verifiers import Ifeval
from distillkit.verifiers.ifeval.english import capital_words, sentence_count
from distillkit.verifiers.ifeval.instruction import CHECKS

Both = list[tuple[bool, bool]]
"""Of each instruction: whether it is followed by the strict reading, and by the loose one."""

CRASHES = (ValueError, TypeError, IndexError, AssertionError, RecursionError, re.error)


class Published:
    """The published code behind one function, as google-research and lm-evaluation-harness lay it out."""

    def __init__(self, package: str) -> None:
        try:
            self._code = importlib.import_module(f"{package}.evaluation_lib")
            self._wrap: Callable[[str], Any] = lambda response: {"": response}
        except ModuleNotFoundError as error:
            if error.name != f"{package}.evaluation_lib":
                raise
            self._code, self._wrap = importlib.import_module(f"{package}.utils"), lambda response: response

    def followed(self, case: Case) -> Both | None:
        """What it says of a case; None where it crashes."""
        names, arguments = [name for name, _ in case.asked], [given for _, given in case.asked]
        example = self._code.InputExample(key=0, instruction_id_list=names, prompt="", kwargs=arguments)
        try:
            readings = [
                judge(example, self._wrap(case.response)).follow_instruction_list
                for judge in (
                    self._code.test_instruction_following_strict,
                    self._code.test_instruction_following_loose,
                )
            ]
        except CRASHES:
            return None
        return list(zip(*readings, strict=True))


def followed(case: Case) -> Both:
    """What the verifier says of a case."""
    names, arguments = [name for name, _ in case.asked], [given for _, given in case.asked]
    reference = {"instructions": names, "arguments": arguments}
    trace = Trace("", [], case.response, "", case.response, reference, finish_reason="stop")
    detail = Ifeval().grade(trace).detail
    return list(zip(detail["strict"], detail["loose"], strict=True))


def lines_of(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def asked_by(row: Mapping[str, Any]) -> Asked:
    """The instructions of a prompt of the data set, without the arguments that are null."""
    given = [{key: value for key, value in each.items() if value is not None} for each in row["kwargs"]]
    return list(zip(row["instruction_id_list"], given, strict=True))


def real_arguments(rng: random.Random, prompts: Path) -> Iterator[Case]:
    """Each instruction of the data set with two responses that are aimed at another like it."""
    for row in lines_of(prompts):
        for name, given in asked_by(row):
            for _ in range(2):
                yield Case([(name, given)], rng.choice((aimed(rng, name).response, soup(rng), row["prompt"])))


def real(prompts: Path, answers: Path) -> Iterator[Case]:
    told = {line["prompt"]: line["response"] for line in lines_of(answers)}
    for row in lines_of(prompts):
        if row["prompt"] in told:
            yield Case(asked_by(row), told[row["prompt"]])


def texts_in(value: Any) -> Iterator[str]:
    """The texts of at least 80 characters anywhere in a JSON value."""
    if isinstance(value, str) and len(value) >= 80:
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def counted_alike(package: str, files: Sequence[Path], rows: int) -> str:
    """How often both count as many sentences, and as many capital words, in the first rows of files."""
    util = importlib.import_module(f"{package}.instructions_util")
    table = []
    for path in files:
        values = lines_of(path)[:rows] if path.suffix == ".jsonl" else [path.read_text("utf-8")]
        texts = [text[:20_000] for value in values for text in texts_in(value)]
        sentences = sum(util.count_sentences(text) == sentence_count(text) for text in texts)
        capitals = sum(
            sum(map(str.isupper, util.nltk.word_tokenize(text))) == capital_words(text) for text in texts
        )
        table.append([path.name, *map(str, (len(texts), sentences, capitals))])
    return grid_markdown(
        Grid("counted alike", ["file", "texts", "same number of sentences", "of capital words"], table)
    )


class Tally:
    """Who passes what, by kind of instruction; and the four accuracies."""

    def __init__(self, published: Published, show: int) -> None:
        self.published, self.show = published, show
        self.kinds: dict[str, Counter[str]] = {name: Counter() for name in CHECKS}
        self.accuracy: Counter[tuple[str, str]] = Counter()

    def add(self, case: Case) -> None:
        theirs, ours = self.published.followed(case), followed(case)
        if theirs is None:
            self.kinds[case.asked[0][0]]["crashed"] += 1
            return
        for (name, given), us, them in zip(case.asked, ours, theirs, strict=True):
            self.kinds[name]["n"] += 1
            for how, we, they in zip(("strict", "loose"), us, them, strict=True):
                self.kinds[name][f"{how} both"] += we and they
                self.kinds[name][f"{how} ours"] += we and not they
                self.kinds[name][f"{how} theirs"] += they and not we
            if us != them and self.show:
                self.show -= 1
                print(f"{name} {given}: ours {us}, theirs {them}: {case.response[:300]!r}")
        self.accuracy["n", "prompts"] += 1
        for who, found in (("ours", ours), ("published", theirs)):
            for place, how in enumerate(("strict", "loose")):
                self.accuracy[who, f"prompt_{how}"] += all(each[place] for each in found)
                self.accuracy[who, f"instruction_{how}"] += sum(each[place] for each in found)

    def table(self, title: str) -> str:
        heads = ["instruction", "n", "agree", "strict: both, ours only, theirs only", "loose", "they crash"]
        rows = []
        for name, each in sorted(self.kinds.items()):
            apart = [each[f"{how} {who}"] for how in ("strict", "loose") for who in ("ours", "theirs")]
            agree = f"{1 - sum(apart) / (2 * each['n']):.2%}" if each["n"] else ""
            cells = [
                ", ".join(str(each[f"{how} {who}"]) for who in ("both", "ours", "theirs"))
                for how in ("strict", "loose")
            ]
            rows.append([name, str(each["n"]), agree, *cells, str(each["crashed"])])
        return grid_markdown(Grid(title, heads, rows))

    def accuracies(self) -> str:
        prompts, asked = self.accuracy["n", "prompts"], sum(each["n"] for each in self.kinds.values())
        rows = [
            [
                f"{level}_{how}",
                *(
                    f"{self.accuracy[who, f'{level}_{how}'] / max(1, of):.4f}"
                    for who in ("ours", "published")
                ),
            ]
            for level, of in (("prompt", prompts), ("instruction", asked))
            for how in ("strict", "loose")
        ]
        return grid_markdown(
            Grid(f"{prompts} prompts, {asked} instructions", ["accuracy", "ours", "published"], rows)
        )


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    data = Path(os.environ["DISTILLKIT_DATA"]) / "ifeval.jsonl" if "DISTILLKIT_DATA" in os.environ else None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", help="the published code, as Python imports it")
    parser.add_argument(
        "--n", type=int, default=400, help="cases of each instruction (a quarter for languages)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=Path, default=data if data and data.is_file() else None)
    parser.add_argument("--responses", type=Path, nargs="+", default=[])
    parser.add_argument("--texts", type=Path, nargs="+", default=[])
    parser.add_argument("--rows", type=int, default=200, help="of each of the texts")
    parser.add_argument("--show", type=int, default=0, help="print so many disagreements of each table")
    options = parser.parse_args(arguments)
    if options.responses and not options.prompts:
        parser.error("--responses need the prompts that they answer: give --prompts")
    return options


def main() -> None:
    options = options_of()
    logging.disable(
        logging.CRITICAL
    )  # the published code logs each text that it cannot detect the language of
    published, rng = Published(options.package), random.Random(options.seed)
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    random.seed(options.seed)  # the published code draws what an argument lacks
    made = [
        invented(rng, name)
        for name in CHECKS
        for _ in range(options.n // 4 if name.startswith(("language", "change_case:english")) else options.n)
    ]
    sets = {f"made up, seed {options.seed}": made}
    if options.prompts:
        sets["real arguments, made-up responses"] = list(real_arguments(rng, options.prompts))
    sets |= {path.name: list(real(options.prompts, path)) for path in options.responses}
    for title, cases in sets.items():
        tally = Tally(published, options.show)
        for case in cases:
            tally.add(case)
        print(tally.table(title), tally.accuracies(), sep="\n")
    if options.texts:
        print(counted_alike(options.package, options.texts, options.rows))


if __name__ == "__main__":
    main()
