r"""Multiple choice: the answer is matched in the option set of its own problem, by letter or by text.

math-verify cannot do it (a bare `B` does not parse, `AC` equals `CA`), and a search for the first capital letter
rewards "A or B". Here two options that are both named are `ambiguous`, and an answer outside of the set is wrong.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from string import ascii_uppercase
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from distillkit import text
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import NO_ANSWER_IN_IT, Answered, Verifier, gold_answer

MAX_CHARS = 2000
"""A longer answer names no option."""

_WRAPPING = re.compile(r"\\(?:text|math)(?:bf|it|rm|normal|sf)?\s*(?=\{)|\\[()\[\],;!]|[{}$*`\"]|\\(?=\W|$)")
_STATED = re.compile(r"(?i)\banswer\b(?:\s+(?:is|would\s+be))?\s*[:=]?\s*(?=(\S[^\n]*))")
_LEAD = re.compile(
    r"(?i)^(?:(?:the\s+)?(?:correct\s+|right\s+|final\s+|best\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)+"
)
_LETTERED = re.compile(r"[(\[]?\s*([A-Za-z])\s*(?:[)\].:]|\s[-–—]\s|$)\s*(.*)", re.DOTALL)
_NAMED = re.compile(r"(?<![A-Za-z'’])([A-Z])(?![A-Za-z'’])")
_ARTICLE = re.compile(r"\bA\s+(?=[a-z]{2})(?!or\b|and\b|is\b|because\b|since\b)|\bI\s+(?=[a-z]{2})")


class Options(NamedTuple):
    """Letters of a problem's options and their texts, folded; a text is "" where only the letter is known."""

    letters: tuple[str, ...]
    texts: tuple[str, ...]

    def with_text(self, folded: str) -> list[str]:
        """Letters of the options that say just that."""
        return [letter for letter, own in zip(self.letters, self.texts, strict=True) if own and own == folded]


class Choice(Verifier):
    """Correct when the answer names the gold's option, by its letter, its text, or both.

    A reference is {"answer": "B", "options": {"A": "12", "B": "13"}}, or with a list of options (lettered from A),
    or a bare letter. The answer in it is a letter or the text of one option.
    """

    kind: Literal["choice"] = "choice"
    letters: Annotated[int, Field(ge=2, le=26)] = 10
    """How many letters, from A on, stand for options where the reference lists none."""

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer, else what follows the last "answer is", else a response of one line."""
        declared = super().answer(trace)
        if declared is not None or self.marker is not None:
            return declared
        response = trace.response.strip()[-MAX_CHARS:]
        stated = _STATED.findall(response)
        if stated:
            return str(stated[-1]).strip()
        return response if response and "\n" not in response and len(response) <= 200 else None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        return [self._verdict(trace.reference, answer) for trace, answer in answered]

    def _verdict(self, reference: Any, answer: str) -> Verdict:
        options = self._options(reference)
        gold = None if options is None else gold_letter(reference, options)
        if options is None or gold is None:
            return Verdict.of("unparseable_gold", answer[:MAX_CHARS])
        named = chosen(answer, options)
        if len(named) > 1:
            return Verdict.of("ambiguous", answer[:MAX_CHARS], named=sorted(named))
        return Verdict.of("correct" if named == {gold} else "wrong", answer[:MAX_CHARS], named=sorted(named))

    def same(self, a: str, b: str) -> bool:
        """Without the problem's options at hand: equal letters, or equal text."""
        bare = Options(tuple(ascii_uppercase), ("",) * 26)
        first, second = chosen(a, bare), chosen(b, bare)
        return folded(a) == folded(b) or (len(first) == 1 and first == second)

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        return [self._complaint(reference) for reference in references]

    def _complaint(self, reference: Any) -> str | None:
        if gold_answer(reference) is None:
            return NO_ANSWER_IN_IT
        options = self._options(reference)
        if options is None:
            return "its options must be a list or an object of 2 to 26 texts, under letters from A to Z"
        if gold_letter(reference, options) is None:
            return f"the answer {gold_answer(reference)!r} is not one of the options {', '.join(options.letters)}"
        return None

    def _options(self, reference: Any) -> Options | None:
        listed = reference.get("options") if isinstance(reference, Mapping) else None
        if listed is None:
            return Options(tuple(ascii_uppercase[: self.letters]), ("",) * self.letters)
        if isinstance(listed, Mapping):
            rows = [(str(letter).strip("() .").upper(), str(option)) for letter, option in listed.items()]
        elif isinstance(listed, Sequence) and not isinstance(listed, str) and len(listed) <= 26:
            rows = list(zip(ascii_uppercase, map(str, listed), strict=False))
        else:
            return None
        letters = tuple(letter for letter, _ in rows)
        if not 2 <= len(set(letters)) == len(rows) or not all(
            re.fullmatch("[A-Z]", each) for each in letters
        ):
            return None
        return Options(letters, tuple(_option_text(letter, option) for letter, option in rows))


def _option_text(letter: str, option: str) -> str:
    """The text of an option, folded, without the letter that a data set may have put in front of it."""
    found = folded(option)
    return re.sub(rf"^[(\[]?{letter.lower()}[)\].:]\s*(?=\S)", "", found)


def gold_letter(reference: Any, options: Options) -> str | None:
    """The letter of the right option; None where the answer is none of them, or the text of two."""
    gold = gold_answer(reference) or ""
    letter = folded(gold).upper().strip("()[].: ")
    if letter in options.letters:
        return letter
    named = options.with_text(folded(gold)) or sorted(chosen(gold, options))
    return named[0] if len(named) == 1 else None


def chosen(answer: str, options: Options) -> set[str]:
    """Letters of the options that an answer names; empty where it names none, several where it hedges."""
    if len(answer) > MAX_CHARS:
        return set()
    plain = _plain(answer)
    plain = _LEAD.sub("", plain).strip()
    by_text = set(options.with_text(folded(plain)))
    lettered = _LETTERED.fullmatch(plain)
    letter, rest = (lettered[1].upper(), lettered[2]) if lettered else ("", "")
    if letter in options.letters and not (by_text and lettered and lettered[1].islower()):
        others = set(options.with_text(folded(rest))) or (_letters_in(rest, options) - {letter})
        return {letter} | others | (by_text if not rest else set())
    return by_text or _letters_in(plain, options)


def _letters_in(plain: str, options: Options) -> set[str]:
    """Options' letters that stand alone in a text; the article A and the pronoun I are none."""
    return set(_NAMED.findall(_ARTICLE.sub("", plain))) & set(options.letters)


@lru_cache(maxsize=1 << 14)
def folded(written: str) -> str:
    """For comparison as text: no LaTeX wrapping, no case, no full stop, white space folded."""
    return _plain(written).casefold().strip(" .;:,")


def _plain(written: str) -> str:
    return text.normalise(_WRAPPING.sub(" ", text.last_boxed(written) or written)).strip()
