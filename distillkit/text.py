r"""Reading a completion: its reasoning, its final answer, its words, scripts and sentences.

One place decides what counts as the answer, so that gate, reward and metric cannot drift apart: only what
follows the last `</think>` is graded, and there the last finished `\boxed{}` or `<answer>` wins. Everything
is linear in the text's length, since a model in a loop writes megabytes of `{`.
"""

import re
import unicodedata
from functools import cache

THINK, END_THINK = "<think>", "</think>"
ANSWER, END_ANSWER = "<answer>", "</answer>"

Span = tuple[int, int]
"""Half-open [start, end) offsets into a text, so that text[start:end] is the part."""


def split_think(completion: str, prefilled: bool = False) -> tuple[str, str]:
    """The reasoning and the response of a raw completion.

    | completion | reasoning | response |
    |---|---|---|
    | `<think>` never opened | "" | the completion, untouched |
    | opened (or `prefilled`), never closed | the rest | "" |
    | closed | from the first `<think>` to the last `</think>` | what follows the last `</think>` |
    | closed, not opened (the template did) | what precedes the last `</think>` | what follows it |

    `prefilled` says that the prompt ended with `<think>`; a completion that repeats the tag loses it. Text in
    front of an opening tag belongs to neither half. Both halves are stripped of surrounding white space where
    a tag was cut away.
    """
    opened, closed = completion.find(THINK), completion.rfind(END_THINK)
    if opened < 0 and closed < 0 and not prefilled:
        return "", completion
    before = completion[: max(opened, 0)]
    opens = opened >= 0 and (not before.strip() if prefilled else END_THINK not in before)
    start = opened + len(THINK) if opens else 0
    if closed < start:
        return completion[start:].strip(), ""
    return completion[start:closed].strip(), completion[closed + len(END_THINK) :].strip()


# Two backslashes: over-escaped text is common, and nobody means a line break in front of the word "boxed".
_BOX = r"\\{1,2}(?:boxed|fbox)"
_BOX_START = re.compile(_BOX)
_BARE = r"[-+]?\d++(?:[.,/]\d++)*+"
_BRACE = re.compile(rf"(?P<box>{_BOX}\s*+\{{)|{_BOX}\s++(?P<bare>{_BARE})|\\.|[{{}}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""Content, stripped, of the last balanced `\boxed{...}` or `\fbox{...}`; None where there is none.

    "Last" is the one that starts last, so `\boxed{\boxed{7}}` gives 7. `\{`, `\}` and `\\` are not braces. A
    box that is never closed is no answer (the last closed one counts), nor is an empty one: prompts that say
    "in \boxed{}" get echoed. `\boxed 7` counts where a number follows: in prose ("use \boxed as asked") it is
    not an answer.
    """
    span = _last_box(text)
    return None if span is None else text[slice(*span)].strip()


def _last_box(text: str) -> Span | None:
    """Span of the last box's content."""
    first = _BOX_START.search(text)
    if first is None:
        return None
    found: Span | None = None
    open_braces: list[int] = []  # where a box's content starts; -1 for a plain brace
    for token in _BRACE.finditer(text, first.start()):
        if token["box"]:
            open_braces.append(token.end())
        elif token["bare"]:
            found = token.span("bare")
        elif token[0] == "{":
            open_braces.append(-1)
        elif token[0] == "}" and open_braces:
            start = open_braces.pop()
            if start > (found[0] if found else -1) and text[start : token.start()].strip():
                found = (start, token.start())
    return found


def last_answer_tag(text: str) -> str | None:
    """Content, stripped, of the last closed, non-empty `<answer>...</answer>`; None where there is none."""
    span = _last_answer(text)
    return None if span is None else text[slice(*span)].strip()


def _last_answer(text: str) -> Span | None:
    """Span of the last answer tag's content."""
    end = len(text)
    while (closed := text.rfind(END_ANSWER, 0, end)) >= 0 and (opened := text.rfind(ANSWER, 0, closed)) >= 0:
        start, closed = opened + len(ANSWER), text.find(END_ANSWER, opened)
        if text[start:closed].strip():
            return start, closed
        end = opened
    return None


def final_answer(response: str, marker: str | None = None) -> str | None:
    r"""The final answer that a response states, stripped; None where it states none.

    It is the last box or the last `<answer>`, whichever ends later; a box inside the tag is read. A declared
    `marker` ("A:", "Answer:") replaces both: the rest of the last line that starts with it (case counts,
    leading white space does not) and has a rest; a box in that rest is read.
    """
    if marker is not None:
        rests = re.findall(rf"^[^\S\n]*+{re.escape(marker)}[^\S\n]*+(\S.*)", response, re.MULTILINE)
        return _unbox(rests[-1]) if rests else None
    box, tag = _last_box(response), _last_answer(response)
    if tag is not None and (box is None or tag[1] > box[1]):
        return _unbox(response[slice(*tag)])
    return None if box is None else response[slice(*box)].strip()


def _unbox(text: str) -> str:
    return last_boxed(text) or text.strip()


_MATH_DELIMITER = re.compile(r"[\s$.]|\\[\[\]()]")
_BOX_OPENING = re.compile(rf"{_BOX}\s*\{{?\s*\Z")


def is_formatted(completion: str, prefilled: bool = False) -> bool:
    r"""Whether a completion is `<think>..</think>`, then `<answer>..</answer>` or one box, and nothing else.

    For format rewards, so it leaves no room for games: no tag a second time (in the reasoning either), no
    empty part, only white space between and around (math delimiters and full stops around a box).
    With `prefilled` the completion must not open `<think>` itself.
    """
    text = (THINK + completion if prefilled else completion).strip()
    if text.count(THINK) != 1 or text.count(END_THINK) != 1 or not text.startswith(THINK):
        return False
    reasoning, response = (part.strip() for part in text[len(THINK) :].split(END_THINK))
    if not reasoning:
        return False
    if ANSWER in text or END_ANSWER in text:
        once = text.count(ANSWER) == text.count(END_ANSWER) == 1
        whole = response.startswith(ANSWER) and response.endswith(END_ANSWER)
        return once and whole and _last_answer(response) is not None
    box = _last_box(response)
    if box is None or len(_BOX_START.findall(response)) != 1:
        return False
    around = _BOX_OPENING.sub("", response[: box[0]]) + response[box[1] :].removeprefix("}")
    return not _MATH_DELIMITER.sub("", around)


# Code points of each script that carry its letters and marks; digits and punctuation are common to all.
_SCRIPTS = {
    "latin": r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1d00-\u1d25\u1d2c-\u1d5c"
    r"\u1d6b-\u1dbe\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua787\ua78b-\ua7ff\uab30-\uab64\ufb00-\ufb06"
    r"\uff21-\uff3a\uff41-\uff5a",
    "han": r"\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff",
    "kana": r"\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    r"\U0001b000-\U0001b16f",
    "hangul": r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb\uffa0-\uffdc",
    "cyrillic": r"\u0400-\u052f\u1c80-\u1c8a\u1d2b\u2de0-\u2dff\ua640-\ua69f",
    "arabic": r"\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06ff"
    r"\u0750-\u077f\u0870-\u08e1\u08e3-\u08ff\ufb50-\ufbb1\ufbd3-\ufd3d\ufd50-\ufdc7\ufdf0-\ufdfb\ufe70-\ufefc",
    "devanagari": r"\u0900-\u0963\u0971-\u097f\ua8e0-\ua8ff",
    "greek": r"\u0370-\u0373\u0376\u0377\u037a-\u037d\u037f\u0386\u0388-\u03ff\u1d26-\u1d2a\u1f00-\u1ffe",
    "thai": r"\u0e01-\u0e3a\u0e40-\u0e4e",
    "hebrew": r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u05d0-\u05f2\ufb1d-\ufb28\ufb2a-\ufb4f",
}
# What \w takes for a letter but no script owns: numbers (superscripts, fractions, Roman, circled), modifiers,
# and the mathematical alphabets: a bold x in a formula is no sign of a language.
_COMMON = (
    r"\u00b2\u00b3\u00b5\u00b9\u00bc-\u00be\u02b0-\u02ff\u2070-\u2099\u2100-\u218b\u2460-\u24ff\u2776-\u2793"
    r"\u3031-\u3035\u3192-\u3195\u3220-\u33ff\U0001d400-\U0001d7ff\U0001f100-\U0001f1ff"
)
_CJK = _SCRIPTS["han"] + _SCRIPTS["kana"]


@cache
def _script_pattern() -> re.Pattern[str]:
    """One alternative per script: its letters, going on over common characters up to its own last letter."""
    # Han planes hold letters that this Python's Unicode does not know yet and takes for signs.
    common = rf"(?:(?![\U00020000-\U0003ffff])[\W\d_{_COMMON}])++"
    classes = {name: f"[{chars}]++" for name, chars in _SCRIPTS.items()}
    classes["other"] = rf"[^\W\d_{_COMMON}{''.join(_SCRIPTS.values())}]++"
    return re.compile("|".join(f"(?P<{name}>{run}(?:{common}{run})*+)" for name, run in classes.items()))


def scripts(text: str) -> list[tuple[str, int, int]]:
    """Runs of one script: (name, start, end), in order and disjoint; neighbours differ in script.

    A run starts and ends with a letter of its script and goes on over common characters (digits, punctuation,
    white space, mathematical alphabets): "so then" is one run, "so 2 所以" is latin [0, 2) and han [5, 7).
    Names: latin, han, kana, hangul, cyrillic, arabic, devanagari, greek, thai, hebrew, other.
    """
    return [(str(run.lastgroup), run.start(), run.end()) for run in _script_pattern().finditer(text)]


@cache
def _word_pattern() -> re.Pattern[str]:
    """A character of Chinese or Japanese, or a run of other letters with the marks that belong to them."""
    marks = "".join(
        char for char in map(chr, range(0x300, 0xFE30)) if unicodedata.category(char) in ("Mn", "Mc")
    )
    letters = rf"[^\W\d_{_COMMON}{_CJK}]++"
    return re.compile(rf"[{_CJK}]|{letters}(?:(?:[{marks}\u200c\u200d]++|['\u2019]){letters})*+[{marks}]*+")


def words(text: str) -> list[str]:
    """The words of a text, in order and case kept; numbers and formulas' signs are none.

    Chinese and Japanese write no spaces, so there one character is one word; Thai's runs stay whole;
    elsewhere a word is a run of letters, apostrophes inside included ("don't").
    """
    return _word_pattern().findall(text)


# The look-behind keeps a megabyte of "!!!" linear: only the first of a run is a place to start.
_SENTENCE_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"')\]}*\u2019\u201d]*+(?=\s|\Z)"
    r"|[\u3002\uff01\uff1f\u0964\u061f]++[\"')\]\u2019\u201d\u300d\u300f\uff09]*+|\n"
)
_PARAGRAPH_END = re.compile(r"\n\s*\n")


def sentences(text: str) -> list[Span]:
    """Offsets of the sentences, white space trimmed.

    A rough cut: they end at a stop before white space ("e.g. " too), at a CJK stop, or with the line.
    """
    return _parts(text, _SENTENCE_END)


def paragraphs(text: str) -> list[Span]:
    """Offsets of the paragraphs, white space trimmed: they are parted by blank lines."""
    return _parts(text, _PARAGRAPH_END)


def _parts(text: str, end: re.Pattern[str]) -> list[Span]:
    """Spans between the matches of `end`, each match belonging to the part before it; no blank parts."""
    spans, start = [], 0
    for stop in [*(match.end() for match in end.finditer(text)), len(text)]:
        part = text[start:stop]
        if inner := part.strip():
            left = start + len(part) - len(part.lstrip())
            spans.append((left, left + len(inner)))
        start = stop
    return spans


# Full-width ASCII to ASCII; zero-width space, byte order mark, word joiner and soft hyphen to nothing.
_FOLDED: dict[int, int | None] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FOLDED |= dict.fromkeys((0x200B, 0xFEFF, 0x2060, 0x00AD))
_FOLDABLE = re.compile("[\uff01-\uff5e\u200b\ufeff\u2060\u00ad]")


def normalise(text: str) -> str:
    """The text for exact comparison: composed (NFC), full-width ASCII narrowed, white space folded.

    Not NFKC, which turns x² into x2. Case is kept; invisible characters are dropped. Idempotent.
    """
    if _FOLDABLE.search(text):  # twenty times as fast as translating what has none
        text = text.translate(_FOLDED)
    return " ".join(unicodedata.normalize("NFC", text).split())
