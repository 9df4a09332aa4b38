"""Responses that follow an instruction of IFEval, or nearly: made up for scripts/compare_ifeval.py, and seeded.

Prose with abbreviations, initials, quotes and ellipses; seven languages; Markdown, JSON and titles, right and broken;
white space of all kinds; and counts that are as asked or one beside it.
"""

import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

Arguments = dict[str, Any]
Asked = list[tuple[str, Arguments]]


class Case(NamedTuple):
    asked: Asked
    response: str


PROSE = (
    "The harbour was quiet that morning. Boats lay still, and nobody spoke! Was it a holiday?",
    "Mr. Smith met Dr. Jones at 5 p.m. in Washington, D.C. They talked about the U.S. economy, e.g. its growth.",
    "It cost $3.50... Then it cost nothing. \u201cWhy?\u201d she asked. \u201cI don\u2019t know.\u201d",
    "1. Wash your hands. 2. Take two eggs (fresh ones.) 3. cook them.",
    "I'm sure it's NASA's launch; DON'T MISS IT, says the CEO/CTO of ACME Inc. and A.I. CANNOT lose.",
    "Well... maybe not. She said 'no way.' and left... The end?! Point B. Plan A. J. R. Brown agreed.",
    "visit www.example.com or write to a.b@c.de by Jan. 5, i.e. soon etc. and so on",
)
TONGUES = {
    "en": "The children were playing in the garden while their mother read an old book about the sea.",
    "de": "Die Kinder spielten im Garten, während ihre Mutter ein altes Buch über das Meer las.",
    "fr": "Les enfants jouaient dans le jardin pendant que leur mère lisait un vieux livre sur la mer.",
    "hi": "बच्चे बगीचे में खेल रहे थे और उनकी माँ समुद्र के बारे में एक पुरानी किताब पढ़ रही थी।",
    "ru": "Дети играли в саду, пока их мать читала старую книгу о море.",
    "ko": "아이들이 정원에서 노는 동안 어머니는 바다에 관한 오래된 책을 읽고 있었다.",
    "ur": "بچے باغ میں کھیل رہے تھے جبکہ ان کی ماں سمندر کے بارے میں ایک پرانی کتاب پڑھ رہی تھی۔",
}
FORMS = (
    "* a point", "- another", "  * indented", "** bold ** line", "*\n", "-", "*one* and **two**", "* *", "****", "***",
    "******", "<<A title>>", "<< >>", "<<<x>>>", "<<two\nlines>>", "[name]", "[a [b] c]", "[\n]", "```json", "```JSON",
    "```jSON", "```", '{"a": [1, 2]}', "{a: 1}", "NaN", "P.S. bye", "p. s. bye", "P.P.S more", "P. P.S more",
    "Section 1", "SECTION 2:", "section3", "Sections 4", "PARAGRAPH 1", '"', "'quoted'", "My answer is yes.",
    "my answer is no.", "Sure, here it is:", "\t", "\u00a0", "\n", "\n\n", "\n\n\n", "...", "?!", "e.g.", "\u2014",
)  # fmt: skip
WORDS = ("harbour", "boats", "ha", "soon", "3", "the", "was it", "Smith")
RELATIONS = ("less than", "at least")


def soup(rng: random.Random) -> str:
    """A text of anything, now and then of nothing."""
    parts = [rng.choice((*PROSE, *TONGUES.values(), *FORMS, *FORMS)) for _ in range(rng.randrange(9))]
    text = rng.choice((" ", "\n", "\n\n", "\n***\n", "")).join(parts)
    return rng.choice((text, text, text, text.upper(), text.lower(), f'"{text}"', f"\n{text} "))


def near(rng: random.Random, count: int) -> int:
    """A count, or one beside it."""
    return max(0, count + rng.choice((-1, 0, 0, 1)))


def many(rng: random.Random, each: Callable[[int], str], count: int, between: str) -> str:
    return between.join(each(place + 1) for place in range(near(rng, count)))


def counted(rng: random.Random, name: str, keys: tuple[str, str]) -> Case:
    """A response of sentences, words, keywords, letters or capitals that is about as long as asked."""
    text = " ".join(rng.choice(PROSE) for _ in range(rng.randint(1, 4)))
    text = rng.choice((text, text.upper(), text.replace(". ", ".\n\n"), f"**{text}**", soup(rng)))
    extra: Arguments = {}
    if name == "keywords:frequency":
        extra["keyword"] = word = rng.choice(WORDS)
        size = text.lower().count(word.lower())
    elif name == "keywords:letter_frequency":
        extra["letter"] = letter = rng.choice("eEtzQ")
        size = text.lower().count(letter.lower())
    elif name == "length_constraints:number_sentences":
        size = len(re.findall(r"[.?!]\s", text)) + rng.randint(-2, 2)
    elif name == "change_case:capital_word_frequency":
        size = sum(word.isupper() for word in text.split()) + rng.randint(-2, 2)
    else:
        size = len(re.findall(r"\w+", text))
    given = {keys[0]: max(1, near(rng, size)), keys[1]: rng.choice(RELATIONS)}
    return Case([(name, {**extra, **given})], text)


COUNTED = {
    "keywords:frequency": ("frequency", "relation"),
    "keywords:letter_frequency": ("let_frequency", "let_relation"),
    "length_constraints:number_sentences": ("num_sentences", "relation"),
    "length_constraints:number_words": ("num_words", "relation"),
    "change_case:capital_word_frequency": ("capital_frequency", "capital_relation"),
}


def aimed(rng: random.Random, name: str) -> Case:
    """A case of one instruction whose response follows it, or nearly."""
    if name in COUNTED:
        return counted(rng, name, COUNTED[name])
    count, prose = rng.randint(1, 4), rng.choice(PROSE)
    given, text = _aims(rng, name.partition(":")[2], count, prose)
    head, tail = rng.choice(("", "", "Sure:\n", "\n")), rng.choice(("", "", "\nBye.", "\n", " "))
    return Case([(name, given)], head + text + tail)


def _aims(rng: random.Random, name: str, count: int, prose: str) -> tuple[Arguments, str]:
    words, gap = rng.sample(WORDS, 2), rng.choice(("\n", "\n\n", " ", ""))
    first = rng.choice(("Boats", "'Boats", '"boats,', "\"'boats", "boat's", "Boats-", "\u201cBoats"))
    marker, splitter = rng.choice(("P.S.", "P.P.S")), rng.choice(("Section", "SECTION", "Day"))
    fence = rng.choice(("```json\n", "```JSON", "```jSON\n", "```\n", "", "json"))
    tongue = rng.choice(list(TONGUES))
    match name:
        case "existence":
            return {"keywords": words}, f"{prose} {rng.choice(words)} and {words[0].upper()}"
        case "forbidden_words":
            return {
                "forbidden_words": words
            }, f"{prose} {rng.choice(('', 'x'))}{words[0]}{rng.choice(('', 's', '!'))}"
        case "response_language":
            return {"language": tongue}, TONGUES[rng.choice((tongue, "en"))]
        case "number_paragraphs":
            return {"num_paragraphs": count}, many(
                rng, lambda n: rng.choice((prose, "")), count, f"{gap}***{gap}"
            )
        case "nth_paragraph_first_word":
            nth = rng.randint(1, count)
            text = many(
                rng, lambda n: f"{first} a" if n == nth else prose, count, rng.choice(("\n\n", "\n\n\n"))
            )
            return {"num_paragraphs": count, "nth_paragraph": nth, "first_word": "boats"}, text
        case "number_placeholders":
            return {"num_placeholders": count}, many(
                rng, lambda n: rng.choice(("[a]", "[]", "[b", "[\n]")), count, gap
            )
        case "postscript":
            return {
                "postscript_marker": marker
            }, f"{prose}{gap}{rng.choice(('P.S.', 'p.p. s', 'P. S. x', 'P.P.S.', 'PS'))}"
        case "number_bullet_lists":
            return {"num_bullets": count}, many(
                rng, lambda n: rng.choice(("* a", "- a", " *b", "** c", "*")), count, gap
            )
        case "number_highlighted_sections":
            return {"num_highlights": count}, many(
                rng, lambda n: rng.choice(("*a*", "**b**", "* *", "*c")), count, gap
            )
        case "multiple_sections":
            text = many(
                rng, lambda n: rng.choice((f"{splitter} {n}", f"{splitter}{n}", splitter)), count, gap
            )
            return {"section_spliter": splitter, "num_sections": count}, text
        case "json_format":
            text = rng.choice(('{"a": 1}', "[1, 2", '"x"', "{'a': 1}", "7", "NaN", '{"a": "```"}'))
            return {}, fence + text + rng.choice(("", "\n```", "```", "\n``` "))
        case "two_responses":
            return {}, many(rng, lambda n: rng.choice((prose, "one", "")), 2, f"{gap}******{gap}")
        case "repeat_prompt":
            return {"prompt_to_repeat": prose}, rng.choice((prose, prose.upper(), prose[:-1])) + gap + "So."
        case "end_checker":
            return {"end_phrase": "Any questions?"}, prose + gap + rng.choice(
                ('any questions?"', "Any questions", "Any questions?")
            )
        case "quotation":
            return {}, rng.choice((f'"{prose}"', f'"{prose}', '"', f"\u201c{prose}\u201d"))
        case "english_capital" | "english_lowercase":
            return {}, rng.choice((str.upper, str.lower, str))(
                rng.choice((TONGUES["en"], TONGUES[tongue], prose))
            )
        case _:
            return {}, rng.choice((prose, soup(rng))) + gap + rng.choice(FORMS)


def invented(rng: random.Random, name: str) -> Case:
    """A case of one instruction: mostly an aimed response, else the arguments of one and any text."""
    case = aimed(rng, name)
    return case if rng.random() < 0.7 else Case(case.asked, soup(rng))
