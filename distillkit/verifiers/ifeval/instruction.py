"""The 25 checkable instructions of IFEval: each a function of a response and its arguments.

Written anew to do what the published code does (google-research/instruction_following_eval, 2025), and measured
against it by scripts/compare_ifeval.py; every check takes time linear in the response, since a model in a loop writes
megabytes of `[`. Source: Zhou et al. 2023, arXiv:2311.07911, table 1.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from distillkit.verifiers.ifeval.english import capital_words, sentence_count

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]

CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+")
_FENCES = ("```json", "```Json", "```JSON", "```")
_POSTSCRIPT = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def related(count: int, relation: Any, wanted: Any) -> bool:
    """Whether a count is "less than" or "at least" what is wanted; raises ValueError for any other relation."""
    if relation not in ("less than", "at least"):
        raise ValueError(f"unknown relation {relation!r}")
    return count < int(wanted) if relation == "less than" else count >= int(wanted)


def _found(keyword: Any, response: str) -> int:
    return len(re.findall(re.escape(str(keyword)), response, re.IGNORECASE))


def existence(response: str, given: Arguments) -> bool:
    return all(_found(keyword, response) for keyword in given["keywords"])


def frequency(response: str, given: Arguments) -> bool:
    return related(_found(str(given["keyword"]).strip(), response), given["relation"], given["frequency"])


def forbidden_words(response: str, given: Arguments) -> bool:
    words = "|".join(re.escape(str(word)) for word in given["forbidden_words"])
    return not re.search(rf"\b(?:{words})\b", response, re.IGNORECASE)


def letter_frequency(response: str, given: Arguments) -> bool:
    count = response.lower().count(str(given["letter"]).lower())
    return related(count, given["let_relation"], given["let_frequency"])


def response_language(response: str, given: Arguments) -> bool:
    return language_of(response) in (given["language"], None)


def number_sentences(response: str, given: Arguments) -> bool:
    return related(sentence_count(response), given["relation"], given["num_sentences"])


def number_paragraphs(response: str, given: Arguments) -> bool:
    """Paragraphs parted by `***`; an empty one in between is a fault."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == int(given["num_paragraphs"])


def number_words(response: str, given: Arguments) -> bool:
    return related(len(_WORD.findall(response)), given["relation"], given["num_words"])


def nth_paragraph_first_word(response: str, given: Arguments) -> bool:
    """Paragraphs parted by a blank line; an empty one does not count, and yet it has a place."""
    parts, place = [part.strip() for part in response.split("\n\n")], int(given["nth_paragraph"])
    written = sum(map(bool, parts))
    if not 1 <= place <= written or not parts[place - 1]:
        return False
    first = re.split(r"[.,?!'\"]", parts[place - 1].split()[0].lstrip("'").lstrip('"'))[0]
    return written == int(given["num_paragraphs"]) and first.lower() == str(given["first_word"]).lower()


def number_placeholders(response: str, given: Arguments) -> bool:
    return sum(map(_placeholders, response.split("\n"))) >= int(given["num_placeholders"])


def _placeholders(line: str) -> int:
    """How many `[...]` a line holds: each from the next opening bracket to the next closing one."""
    count, opened = 0, line.find("[")
    while opened >= 0 and (closed := line.find("]", opened)) >= 0:
        count, opened = count + 1, line.find("[", closed)
    return count


def postscript(response: str, given: Arguments) -> bool:
    marker = str(given["postscript_marker"]).strip()
    return re.search(_POSTSCRIPT.get(marker, re.escape(marker.lower())), response.lower()) is not None


def number_bullet_lists(response: str, given: Arguments) -> bool:
    stars = re.findall(r"^[^\S\n]*\*[^*].*$", response, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", response, re.MULTILINE)
    return len(stars) + len(dashes) == int(given["num_bullets"])


def constrained_response(response: str, given: Arguments) -> bool:
    return any(answer in response for answer in CONSTRAINED)


def number_highlighted_sections(response: str, given: Arguments) -> bool:
    """`*so*` and `**so**`, with something in between."""
    single = re.findall(r"\*([^\n*]*)\*", response)
    double = re.findall(r"\*\*([^\n*]*)\*\*", response)
    return sum(bool(each.strip()) for each in [*single, *double]) >= int(given["num_highlights"])


def multiple_sections(response: str, given: Arguments) -> bool:
    splitter = re.escape(str(given["section_spliter"]).strip())  # so spelled in the data
    return len(re.findall(rf"{splitter}\s?\d+", response)) >= int(given["num_sections"])


def json_format(response: str, given: Arguments) -> bool:
    bare = response.strip()
    for fence in _FENCES:
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str, given: Arguments) -> bool:
    """A line with `<<`, something, and `>>`."""
    return any(map(_titled, response.split("\n")))


def _titled(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start < end - 2 and bool(line[start:end].lstrip("<").rstrip(">").strip())


def two_responses(response: str, given: Arguments) -> bool:
    parts = [part.strip() for part in response.split("******")]
    told = [part for part in parts if part]
    return all(parts[1:-1]) and len(told) == 2 and told[0] != told[1]


def repeat_prompt(response: str, given: Arguments) -> bool:
    return response.strip().lower().startswith(str(given["prompt_to_repeat"]).strip().lower())


def end_checker(response: str, given: Arguments) -> bool:
    return response.strip().strip('"').lower().endswith(str(given["end_phrase"]).strip().lower())


def quotation(response: str, given: Arguments) -> bool:
    bare = response.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def capital_word_frequency(response: str, given: Arguments) -> bool:
    return related(capital_words(response), given["capital_relation"], given["capital_frequency"])


def english_capital(response: str, given: Arguments) -> bool:
    return response.isupper() and language_of(response) in ("en", None)


def english_lowercase(response: str, given: Arguments) -> bool:
    return response.islower() and language_of(response) in ("en", None)


def no_comma(response: str, given: Arguments) -> bool:
    return "," not in response


def language_of(response: str) -> str | None:
    """ISO 639-1 by the detector that the paper takes, seeded; None for a text that no language can be told of."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    try:
        return str(detect(response))
    except LangDetectException:
        return None


CHECKS: dict[str, Check] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
"""By the names that the data set gives them."""


def follows(response: str, name: str, given: Arguments) -> bool:
    """Whether a response follows one instruction to the letter.

    Raises KeyError for an unknown instruction or an argument that is missing, ValueError or TypeError for one that is
    none.
    """
    return CHECKS[name](response, given)


def variants(response: str) -> list[str]:
    """A response as the loose metric reads it: whole, without its first line, its last, both; each without `*` too.

    The blank ones are left out: nothing follows no instruction.
    """
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    read = [each for text in (response, *cut) for each in (text, text.replace("*", "")) if each.strip()]
    return list(dict.fromkeys(read))
