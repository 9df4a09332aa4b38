"""Makes the small trace set that `recipes/curate_local.yaml` curates, with every flaw that curation looks for.

    python scripts/make_curation_rows.py        # writes recipes/data/curation.jsonl and curation_heldout.jsonl

Problems are arithmetic that the script solves itself. Every row has two or three completions of a problem; which one
carries which flaw stands in FLAWS, so that a reader can compare the funnel with what was planted.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import comb, gcd
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "recipes/data"
RNG = random.Random(20260101)


@dataclass(frozen=True)
class Task:
    """A question, its answer, and two ways to find it: each a list of sentences."""

    prompt: str
    answer: str
    ways: tuple[list[str], list[str]]
    language: str = "en"


def series(n: int, step: int) -> Task:
    first, last = 3, 3 + step * (n - 1)
    total = n * (first + last) // 2
    return Task(
        f"The first term of an arithmetic sequence is 3 and neighbours differ by {step}. "
        f"What is the sum of its first {n} terms?",
        str(total),
        (
            [
                f"Term number k is 3 plus {step} times one less than k.",
                f"So term {n} is {last}.",
                f"The mean of the first and the last term is ({first} + {last}) / 2.",
                f"Times {n} terms that gives {total}.",
            ],
            [
                "Pair the smallest term with the largest one, the second with the last but one, and so on.",
                f"Each pair adds up to {first + last}, as one side grows by {step} where the other shrinks.",
                f"There are {n} terms, so {n}/2 pairs.",
                f"The total is {n} * {first + last} / 2 = {total}.",
            ],
        ),
    )


def discount(price: int, percent: int) -> Task:
    left = price * (100 - percent) // 100
    return Task(
        f"A coat costs {price} dollars and is sold at {percent} percent off. How many dollars does a buyer pay?",
        str(left),
        (
            [
                f"One percent of {price} is {price / 100:g}.",
                f"{percent} percent are {price * percent / 100:g} dollars.",
                f"Taken off the price, {price} - {price * percent // 100} = {left}.",
            ],
            [
                f"Whoever gets {percent} percent off still pays {100 - percent} percent.",
                f"{100 - percent} percent of {price} is {price} * {100 - percent} / 100, and that is {left}.",
            ],
        ),
    )


def fence(length: int, width: int) -> Task:
    around = 2 * (length + width)
    return Task(
        f"A rectangular garden is {length} metres long and {width} metres wide. How many metres of fence go around it?",
        str(around),
        (
            [
                f"Two sides measure {length} metres and two measure {width} metres.",
                f"Two long sides: {2 * length}.",
                f"Two short sides: {2 * width}.",
                f"All of the fence: {around} metres.",
            ],
            [
                f"From one corner to the opposite one along the sides: {length} + {width} = {length + width} metres.",
                f"The way back is as long, which makes {around} metres.",
            ],
        ),
    )


def train(speed: int, hours: int, rest: int) -> Task:
    far = speed * hours + rest
    return Task(
        f"A train rides {hours} hours at {speed} kilometres an hour and then another {rest} kilometres. "
        "How far does it get?",
        str(far),
        (
            [
                f"In every hour it covers {speed} kilometres.",
                f"{hours} hours make {speed * hours} kilometres.",
                f"With the other {rest} it comes to {far}.",
            ],
            [
                f"I start with the last leg, {rest} kilometres.",
                f"Before that there are {hours} legs of {speed} each.",
                f"{rest} + {hours} * {speed} = {rest} + {hours * speed} = {far}.",
            ],
        ),
    )


def divisor(a: int, b: int) -> Task:
    found = gcd(a, b)
    return Task(
        f"What is the largest whole number that divides both {a} and {b}?",
        str(found),
        (
            [
                f"Euclid: replace {a} and {b} by the smaller one and the remainder until nothing remains.",
                f"{max(a, b)} modulo {min(a, b)} is {max(a, b) % min(a, b)}.",
                f"Going on like this the last one above zero is {found}.",
            ],
            [
                f"List what divides {min(a, b)}, from the largest down.",
                f"The first of them that divides {max(a, b)} too is {found}.",
                f"Indeed {a} = {found} * {a // found} and {b} = {found} * {b // found}.",
            ],
        ),
    )


def committee(n: int, k: int) -> Task:
    ways = comb(n, k)
    return Task(
        f"In how many ways can a club of {n} members choose {k} of them for a committee?",
        str(ways),
        (
            [
                f"The order of the {k} people does not matter.",
                f"That is {n} choose {k}.",
                f"Worked out it is {ways}.",
            ],
            [
                f"Line the members up: {k} seats are filled one after the other from {n} people.",
                f"Every committee is counted once for each order of its {k} people, so divide by that.",
                f"What is left is {ways}.",
            ],
        ),
    )


def equation(a: int, x: int, b: int) -> Task:
    return Task(
        f"Solve for x: {a}x + {b} = {a * x + b}.",
        str(x),
        (
            [f"Subtract {b} on both sides: {a}x = {a * x}.", f"Divide by {a}: x = {x}."],
            [
                f"Try a value near the end: for x = {x + 1} the left side is {a * (x + 1) + b}, too much by {a}.",
                f"One less, x = {x}, takes away {a} and fits exactly.",
            ],
        ),
    )


def remainder(a: int, b: int) -> Task:
    rest = a % b
    return Task(
        f"What remains when {a} is divided by {b}?",
        str(rest),
        (
            [
                f"{b} goes into {a} exactly {a // b} times.",
                f"{b} * {a // b} = {a - rest}.",
                f"{a} - {a - rest} = {rest}.",
            ],
            [
                f"Take away easy multiples of {b}: first {b * (a // b // 2)}, which leaves {a - b * (a // b // 2)}.",
                f"Going on with the rest I end below {b}, at {rest}.",
            ],
        ),
    )


def apples(boxes: int, each: int, eaten: int) -> Task:
    left = boxes * each - eaten
    return Task(
        f"In {boxes} Kisten liegen je {each} Äpfel, und {eaten} werden gegessen. Wie viele Äpfel bleiben übrig?",
        str(left),
        (
            [
                f"Zuerst rechne ich aus, wie viele es am Anfang sind: {boxes} mal {each} sind {boxes * each}.",
                f"Davon werden {eaten} gegessen.",
                f"Es bleiben also {boxes * each} minus {eaten}, und das sind {left}.",
            ],
            [
                f"Die gegessenen zuerst: {eaten} sind {eaten // each} volle Kisten und {eaten % each} einzelne Äpfel.",
                f"Von den übrigen Kisten zähle ich die Äpfel zusammen und komme auf {left}.",
            ],
        ),
        "de",
    )


def pages(days: int, each: int, more: int) -> Task:
    total = days * each + more
    return Task(
        f"小明每天读 {each} 页书，读了 {days} 天，后来又读了 {more} 页。他一共读了多少页？",
        str(total),
        (
            [
                f"先算前面 {days} 天读的页数：{days} 乘以 {each} 等于 {days * each}。",
                f"再加上后来读的 {more} 页。",
                f"所以一共读了 {total} 页。",
            ],
            [
                f"把后来读的 {more} 页先放在一边。",
                f"每天 {each} 页，{days} 天就是 {days * each} 页。",
                f"两部分合起来正好是 {total} 页。",
            ],
        ),
        "zh",
    )


TASKS: list[Callable[[], Task]] = [
    lambda: series(RNG.randrange(10, 40, 2), RNG.randrange(2, 9)),
    lambda: discount(RNG.randrange(100, 900, 100), RNG.randrange(5, 60, 5)),
    lambda: fence(RNG.randrange(20, 90), RNG.randrange(5, 20)),
    lambda: train(RNG.randrange(40, 160, 5), RNG.randrange(2, 9), RNG.randrange(5, 60)),
    lambda: divisor(12 * RNG.randrange(5, 30), 18 * RNG.randrange(4, 20)),
    lambda: committee(RNG.randrange(7, 14), RNG.randrange(3, 6)),
    lambda: equation(RNG.randrange(3, 12), RNG.randrange(4, 30), RNG.randrange(5, 50)),
    lambda: remainder(RNG.randrange(300, 999), RNG.randrange(11, 40)),
    lambda: apples(RNG.randrange(4, 12), RNG.randrange(15, 30), RNG.randrange(20, 50)),
    lambda: pages(RNG.randrange(4, 15), RNG.randrange(12, 35), RNG.randrange(5, 30)),
]
OPENINGS = {
    "en": [
        "Let me read the question again.",
        "First I note what is given.",
        "What is asked for is one number.",
        "This looks short, but I go step by step.",
        "I write down what I know.",
        "Nothing here needs a trick.",
    ],
    "de": [
        "Ich lese die Aufgabe noch einmal.",
        "Zuerst halte ich fest, was gegeben ist.",
        "Gesucht ist eine einzige Zahl.",
    ],
    "zh": ["我们先把题目再读一遍。", "先看看题目给了什么条件。", "题目要求的是一个数。"],
}
CHECKS = {
    "en": [
        "Wait, let me check that with the other way of counting.",
        "Hmm, did I use every number of the question? Yes.",
        "Let me verify the last step once more; it holds.",
        "Doubling back, the units fit as well.",
        "A rough estimate gives about the same size.",
        "Nothing was left out, so I am done.",
    ],
    "de": [
        "Moment, ich prüfe das noch einmal nach; es stimmt.",
        "Eine grobe Schätzung ergibt dieselbe Größe.",
    ],
    "zh": ["等一下，我再检查一遍，结果没有问题。", "大致估算一下，大小也差不多。"],
}
FOREIGN = [
    "所以我们再把这两个数加起来就可以得到结果。",
    "这里需要注意单位的换算，否则答案会出错。",
    "首先我们计算第一部分，然后再看剩下的部分。",
    "Теперь нужно сложить оба числа и проверить результат.",
    "そして、この二つの数を足すと答えが出ます。",
    "Ensuite il faut ajouter les deux nombres et vérifier que le résultat est juste.",
    "Dann muss man die beiden Zahlen noch addieren und das Ergebnis prüfen.",
    "بعد ذلك نجمع العددين ونتحقق من النتيجة.",
]
CODE = """I let a few lines of Python do it:

```python
total = 0
for step in range(10):
    total += step
print(total)
```"""


def reasoning(task: Task, way: int) -> str:
    """The sentences of a way with an opening and checks, in short paragraphs."""
    steps = [RNG.choice(OPENINGS[task.language]), *task.ways[way]]
    steps += RNG.sample(CHECKS[task.language], 2)
    glue = "" if task.language == "zh" else " "
    parts = [steps[at : at + 2] for at in range(0, len(steps), 2)]
    return "\n\n".join(glue.join(part) for part in parts)


def completion(thought: str, answer: str) -> str:
    return f"<think>\n{thought}\n</think>\n\nThe answer is \\boxed{{{answer}}}."


@dataclass(frozen=True)
class Made:
    """One completion, why it ended, and what its maker said of it."""

    text: str
    finish_reason: str = "stop"
    right: bool = True


def good(task: Task, way: int) -> Made:
    return Made(completion(reasoning(task, way), task.answer))


def wrong(task: Task, way: int) -> Made:
    slip = "Adding up in my head I must be off somewhere, but I take it as it is."
    return Made(completion(f"{reasoning(task, way)} {slip}", str(int(task.answer) + 7)), right=False)


def misjudged(task: Task, way: int) -> Made:
    """Wrong, though its maker took it for right: looking again pays."""
    return Made(wrong(task, way).text)


def mixed(task: Task, way: int) -> Made:
    parts = reasoning(task, way).split("\n\n")
    parts.insert(1, FOREIGN[RNG.randrange(len(FOREIGN))])
    return Made(completion("\n\n".join(parts), task.answer))


def coded(task: Task, way: int) -> Made:
    return Made(completion(f"{reasoning(task, way)}\n\n{CODE}", task.answer))


def wall(task: Task, way: int) -> Made:
    """One paragraph of several hundred words."""
    rounds = [
        f"Round {n}: I look at {n * 3 + 1} and {n * 5 + 2} and compare both with what was asked, "
        f"which moves the estimate by {n} and changes nothing about the sum of {n * 8 + 3}, so I keep going for now."
        for n in range(1, 28)
    ]
    return Made(completion(" ".join([reasoning(task, way).replace("\n\n", " "), *rounds]), task.answer))


def cut(task: Task, way: int) -> Made:
    text = reasoning(task, way)
    return Made(f"<think>\n{text[: len(text) * 2 // 3]}", "length", right=False)


def looping(task: Task, way: int) -> Made:
    again = "But wait, maybe I should count them again to be really sure. " * 40
    return Made(completion(f"{reasoning(task, way)}\n\n{again}", task.answer))


def mute(task: Task, way: int) -> Made:
    return Made(f"<think>\n{reasoning(task, way)}\n</think>\n\nThat is all I can say about it.", right=False)


def nearly(made: Made) -> Made:
    """The same but for a word: a near duplicate."""
    return replace(made, text=made.text.replace(" the ", " this ", 1))


FLAWS: list[list[Callable[[Task, int], Made]]] = [
    [good, good], [good, wrong], [good, mixed], [wrong, good, coded], [good, good], [mixed, good], [good, misjudged],
    [good, wall], [cut, good], [good, wrong, mixed], [good, good], [looping, good], [good, coded], [mute, good],
]  # fmt: skip


def row(number: int, task: Task, made: list[Made], source: str = "arithmetic") -> dict[str, object]:
    return {
        "uuid": f"row-{number:04d}",
        "problem": task.prompt,
        "answer": task.answer,
        "language": task.language,
        "source": source,
        "generations": [each.text for each in made],
        "finish_reasons": [each.finish_reason for each in made],
        "correct": [each.right for each in made],
    }


def rows() -> Iterator[dict[str, object]]:
    """The rows of the trace set, every flaw in it."""
    seen: set[str] = set()
    for number in range(48):
        task = TASKS[number % len(TASKS)]()
        while task.prompt in seen:
            task = TASKS[number % len(TASKS)]()
        seen.add(task.prompt)
        flaws = FLAWS[number % len(FLAWS)]
        if task.language != "en":  # a flaw of the language is one of its own there
            flaws = [good, good]
        made = [flaw(task, way % 2) for way, flaw in enumerate(flaws)]
        if number % 12 == 4:
            made.append(made[0])  # word by word the same
        if number % 12 == 10:
            made.append(nearly(made[0]))
        yield row(number, task, made)
    for number, task in enumerate(heldout()[:3], 100):  # a benchmark's problems, dressed up
        dressed = task.prompt.upper().replace(",", "") if number == 101 else task.prompt.replace(" ", "  ")
        yield row(number, Task(dressed, task.answer, task.ways), [good(task, 0), good(task, 1)], "leaky")
    yield row(200, Task("How many legs do three spiders have?", "24", ([], [])), [])
    yield row(201, Task(" ", "7", ([], [])), [Made("<think>\nSeven.\n</think>\n\n\\boxed{7}")])
    yield row(202, Task("How many legs has one ant?", "6", ([], [])), [Made("")])
    ragged = row(
        203, Task("How many legs do two cows have?", "8", ([], [])), [Made("\\boxed{8}"), Made("\\boxed{8}")]
    )
    yield ragged | {"correct": [True]}


def heldout() -> list[Task]:
    """Problems of the little benchmark that nothing may be trained on."""
    return [
        Task(
            "Maria cuts a ribbon of 84 centimetres into pieces, each twice as long as the one before, and "
            "gets three of them. How long, in centimetres, is the shortest piece?",
            "12",
            (
                ["Call the shortest piece s.", "The others are 2s and 4s, so 7s = 84.", "s = 12."],
                ["One part, two parts and four parts are seven parts.", "84 over seven is 12 for one part."],
            ),
        ),
        Task(
            "A bus starts with 31 passengers, loses 9 at the first stop, picks up 14 at the second, and half "
            "of all get off at the third. How many are still on board?",
            "18",
            (
                ["31 - 9 = 22.", "22 + 14 = 36.", "Half of 36 is 18."],
                ["Before the third stop there are 31 + 14 - 9 people, 36.", "18 leave and 18 stay."],
            ),
        ),
        Task(
            "Two clocks strike together at noon; one strikes every 18 minutes and the other every 24 minutes. "
            "After how many minutes do they strike together again?",
            "72",
            (
                ["18 = 2 * 9 and 24 = 8 * 3.", "The least number that both divide is 8 * 9 = 72."],
                ["Multiples of 24: 24, 48, 72.", "Only the last of them can be divided by 18, so 72."],
            ),
        ),
        *(
            Task(prompt, answer, ([], []))
            for prompt, answer in (
                ("How many diagonals does a convex polygon with eleven corners have in all?", "44"),
                (
                    "A square has the same area as a triangle of base 32 and height 25. How long is its side?",
                    "20",
                ),
                (
                    "The digits of a two-digit number add up to 13 and their product is 36. Which is the larger one?",
                    "94",
                ),
                (
                    "A tank is filled by one tap in 6 hours and by another in 3. How many hours do both take?",
                    "2",
                ),
                ("What is the smallest prime number that is larger than one hundred and ten?", "113"),
            )
        ),
    ]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    lines = [json.dumps(each, ensure_ascii=False) for each in rows()]
    lines.insert(20, '{"uuid": "row-torn", "problem": "How many')  # a torn line, as a crash leaves it
    (FOLDER / "curation.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    tests = [
        json.dumps({"problem": task.prompt, "answer": task.answer}, ensure_ascii=False) for task in heldout()
    ]
    (FOLDER / "curation_heldout.jsonl").write_text("\n".join(tests) + "\n", "utf-8")


if __name__ == "__main__":
    main()
