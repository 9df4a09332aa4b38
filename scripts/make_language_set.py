"""Write the labelled traces of the language measure: tests/data/language_traces.jsonl, 1,800 rows, seeded.

Each row puts 3 to 10 hand-written sentences together. Half the rows are mixed: one to three sentences, clauses or
opening words of another language slip in. What counts as mixed: a clause or function word of another language, or
any word in another script. What does not: a name, a quotation, a formula, code, a gloss in brackets behind its word,
a borrowed term, a title in capitals, and Latin terms without a function word in a text of another script.

Of tests/data/language_sentences.txt two thirds of the sentences, by hash, make the 600 open rows, which the rules were
written with; the others make 300 rows ("first") that were locked until the rules had been measured on them. The rules
were changed after that, and after measuring 300 rows of new sentences ("second") and 300 more ("third"); so the 300
locked rows are made of sentences that were written after all that.
"""

import hashlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent.parent / "tests" / "data"
PARTS = {"open": 600, "first": 300, "second": 300, "third": 300, "locked": 300}
SEED = 20
SEEDS = {
    "open": "open",
    "first": "locked",
    "second": "fresh",
    "third": "third",
    "locked": "fourth",
}  # a part keeps its rows for good
FILES = {
    "third": "language_sentences_third.txt",
    "second": "language_sentences_second.txt",
    "locked": "language_sentences_locked.txt",
}
SHARE_OF_ENGLISH, SHARE_OF_CHINESE = 0.36, 0.16  # of the targets; the others are drawn evenly
NEAR = {
    "ru": "uk",
    "uk": "ru",
    "es": "pt",
    "pt": "es",
    "it": "es",
    "fr": "it",
    "de": "nl",
    "nl": "de",
    "ja": "zh",
}
NEAR |= {"zh": "ja", "ko": "ja", "ar": "fr", "hi": "ar", "vi": "fr", "tr": "de"}
UNSPACED = ("zh", "ja")
KINDS = {"=": "sentence", "~": "clause", "+": "opener", "!": "trap"}

Inventory = dict[str, dict[str, list[str]]]
"""Language -> kind -> sentences."""


@dataclass
class Row:
    """A trace that grows, with the spans of what is foreign in it."""

    language: str
    text: str = ""
    spans: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, part: str, language: str | None = None) -> None:
        if language:
            self.spans.append((len(self.text), len(self.text) + len(part), language))
        self.text += part


def read(part: str) -> Inventory:
    """The sentences of one part."""
    found: Inventory = {}
    for line in (DATA / FILES.get(part, "language_sentences.txt")).read_text("utf-8").splitlines():
        if line.startswith("["):
            kinds = found.setdefault(line[1:3], {kind: [] for kind in KINDS.values()})
        elif line[:1] in KINDS:
            kinds[KINDS[line[0]]].append(line[2:])
    if part in FILES:
        return found
    for kinds in found.values():
        for kind, sentences in kinds.items():
            ranked = sorted(sentences, key=lambda each: hashlib.sha256(each.encode()).hexdigest())
            third = len(ranked) // 3
            kinds[kind] = ranked[:third] if part == "first" else ranked[third:]
    return found


def fill(sentence: str, rng: random.Random) -> str:
    """A sentence with its numbers, variables, formulas and code."""
    values = {"@a": rng.randint(3, 40), "@b": rng.randint(2, 19), "@c": rng.randint(41, 900)}
    for slot, value in values.items():
        sentence = sentence.replace(slot, str(value))
    formulas = (
        rf"$\frac{{{values['@a']}}}{{{values['@b']}}} = x^2 + {values['@b']}x$",
        rf"\({values['@a']}x - y = {values['@c']}\)",
        f"x^2 - {values['@a']}x + {values['@b']} = 0",
        rf"$$\sum_{{k=1}}^{{{values['@a']}}} k^2 = {values['@c']}$$",
        f"{values['@a']} * {values['@b']} + n = {values['@c']}",
    )
    formula = rng.choice(formulas)
    if "@F$" in sentence:  # already in a formula
        formula = formulas[2]
    sentence = sentence.replace("@F", formula).replace("@x", rng.choice("xnkmpt"))
    return sentence.replace("@K", f"sum(la[i] for i in range({values['@a']}))").replace("\\n", "\n")


def capitalised(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def slip(row: Row, host: str, language: str, inventory: Inventory, rng: random.Random) -> None:
    """A host sentence, with a sentence, clause or opening word of another language before or in it."""
    stop = {"zh": "\u3002", "ja": "\u3002", "hi": "\u0964"}.get(language, ".")
    pause = "\uff0c" if row.language == "zh" else "\u3001" if row.language == "ja" else ", "
    way = rng.choices(("sentence", "clause", "joined", "opener"), (0.3, 0.2, 0.3, 0.2))[0]
    if way == "opener" and (language, row.language) != ("zh", "ja"):  # the same words may be Japanese
        row.add(rng.choice(inventory[language]["opener"]), language)
        row.add(pause + host)
    elif way == "joined" and host[-1] in ".\u3002\u0964":
        row.add(host[:-1] + pause)
        row.add(fill(rng.choice(inventory[language]["clause"]), rng), language)
        row.add(host[-1])
    elif way == "sentence":
        row.add(fill(rng.choice(inventory[language]["sentence"]), rng), language)
        row.add(" " + host)
    else:
        clause = fill(rng.choice(inventory[language]["clause"]), rng)
        row.add(clause[0].upper() + clause[1:] + stop, language)
        row.add(" " + host)


def foreign_language(target: str, rng: random.Random) -> str:
    """English mostly (in English: Chinese), else a near language, else any."""
    common = "zh" if target == "en" else "en"
    others = sorted({*NEAR, "en"} - {target})
    return rng.choices((common, NEAR.get(target, "fr"), rng.choice(others)), (0.35, 0.2, 0.45))[0]


def make(target: str, mixed: bool, inventory: Inventory, rng: random.Random) -> Row:
    """One trace."""
    own = inventory[target]
    hosts = rng.sample(own["sentence"], min(len(own["sentence"]), rng.randint(3, 7)))
    traps = rng.sample(
        own["trap"], min(len(own["trap"]), rng.choice((0, 1, 1, 2) if mixed else (0, 1, 2, 3)))
    )
    parts = hosts + traps
    rng.shuffle(parts)
    chosen = rng.sample(range(len(parts)), rng.choice((1, 1, 1, 2, 2, 3))) if mixed else []
    language = foreign_language(target, rng)
    row = Row(target)
    for index, part in enumerate(parts):
        host = fill(part, rng)
        if row.text:
            gap = "" if target in UNSPACED else " "
            row.add("\n" if "```" in host else rng.choice((gap, gap, gap, "\n", "\n\n")))
        if index in chosen and "```" not in host:
            slip(row, host, language, inventory, rng)
        else:
            row.add(host)
    return row


def draw_target(rng: random.Random) -> str:
    rest = sorted({*NEAR} - {"zh"})
    english = rng.random()
    if english < SHARE_OF_ENGLISH:
        return "en"
    return "zh" if english < SHARE_OF_ENGLISH + SHARE_OF_CHINESE else rng.choice(rest)


def main() -> None:
    lines = []
    for part, count in PARTS.items():
        rng = random.Random(f"{SEED} {SEEDS[part]}")
        inventory = read(part)
        seen: set[str] = set()
        while len(seen) < count:
            mixed = len(seen) % 2 == 0
            row = make(draw_target(rng), mixed, inventory, rng)
            if row.text in seen or bool(row.spans) != mixed:  # a drawn host was a code block
                continue
            labels = {
                "id": f"{part}-{len(seen):03}",
                "part": part,
                "language": row.language,
                "mixed": mixed,
                "foreign": sorted({language for *_, language in row.spans}),
                "spans": row.spans,
                "text": row.text,
            }
            seen.add(row.text)
            lines.append(json.dumps(labels, ensure_ascii=False) + "\n")
    (DATA / "language_traces.jsonl").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
