"""English sentences and words, counted as IFEval's code counts them: by Punkt and the Treebank words of NLTK 3.9.

Everyone's numbers carry their oddities, so these are followed: a line is no sentence, the number of a list item is
one. Where NLTK asks a trained model about an abbreviation, a short list answers; docs/evaluation.md has the difference.
Source: Kiss & Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection"; Marcus et al. 1993, Penn Treebank.
"""

import re
from itertools import pairwise

_CHUNK = re.compile(r"\S+")
_STOP = re.compile(r"[.?!](?=[()\[\]{}\"';:@*?!])")
_BETWEEN_WORDS = re.compile(r"[()\[\]{}\";:@*?!]|(?=')|-{2,}|\.{2,}+(?!\Z)")
"""A quote begins the word after it, so that 's. is no initial."""
_NO_START = "&#@-,`"
_CLOSING = re.compile(r"\A[\"')\]}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*")

_INITIALS = frozenset("cdefghjklmnprstvw")
"""The letters that are taken for a name's, whatever follows."""
_ABBREVIATIONS = _INITIALS | frozenset(
    # Of people, firms, places and streets; of days, months and states; of countries, times and names.
    "mr mrs ms messrs dr prof rep reps sen gen col maj lt adm jr sr st ph.d "
    "bros cie co corp cos inc ltd ave ft ga pa va wash "
    "tues wed fri jan feb aug sep sept oct nov dec "
    "ala ariz calif colo conn fla ill kan ky mich minn nev okla ore tenn vt wis chg ct mg ok sw vs yr "
    "u.s u.s.a u.s.s.r u.k u.n d.c l.a n.c n.d n.h n.j n.m n.y s.c s.a w.va m.b.a m.d.c a.m p.m a.d a.c "
    "b.f b.v c.v e.f e.h f.j g.d h.g j.b j.c j.j j.k j.p j.r m.b m.j r.h r.j r.k t.j w.c w.r w.w".split()
)
_OPENERS = frozenset(
    "the i he it they this these but so if when while in there here which both many most some such even still yet "
    "since although though however therefore thus nevertheless nonetheless indeed instead meanwhile moreover "
    "separately similarly according under despite among nor".split()
)
"""Capitalised, they begin a sentence even after an abbreviation."""
_UNSURE = frozenset(
    "a an she we you that those and or as at on of for to from with by is are was be been do did have has had will "
    "would can could should may might must not no then what who why how where his its our my their me all any each "
    "every few other another one two three first last next new old good let just now well also only again after "
    "before because until oh ah hey maybe perhaps sure ok never today during once know see look come go get make "
    "take give say said tell ask use".split()
)
"""Capitalised, they begin no sentence after an ellipsis: titles have taught Punkt to doubt them."""
_NUMBERED = frozenset("review business letters credit leisure financing who notable international".split())
"""After a number's stop they go on with it: headings of the newspaper that Punkt was trained on."""


def sentence_count(text: str) -> int:
    """How many sentences Punkt would make of a text; 0 for white space. Linear in its length."""
    chunks = [(chunk.start(), chunk[0]) for chunk in _CHUNK.finditer(text)]
    end, count = 0, 0
    for (start, chunk), (_, after) in pairwise([*chunks, (0, "")]):
        stop = _stop_of(chunk, last=not after)
        if stop and _is_break(chunk[:stop], _first_word(chunk[stop:] or after)):
            # Punkt sees a run that begins with a stop (" ?!") twice.
            end, count = start + stop, count + (2 if stop > 1 and _STOP.match(chunk) else 1)
    rest = text[end:].strip()
    return count + bool(_CLOSING.sub("", rest) if count else rest)


def _stop_of(chunk: str, last: bool) -> int:
    """The offset after the stop that may end a sentence in a run without white space, 0 where none may."""
    if not last and chunk[-1] in ".?!":
        return len(chunk)
    return max((stop.end() for stop in _STOP.finditer(chunk)), default=0)


def _first_word(chunk: str) -> str:
    """The word that a run begins with; empty where it begins with a mark."""
    return "" if chunk[0] in _NO_START else _BETWEEN_WORDS.split(chunk, maxsplit=1)[0].rstrip(".,")


def _is_break(before: str, after: str) -> bool:
    """Whether a sentence ends within a run that is cut off after its stop."""
    if "?" in before or "!" in before:
        return True
    *words, last = (word.lstrip(_NO_START) for word in _BETWEEN_WORDS.split(before))
    return any(word.endswith(".") and _ends(word, "") for word in words) or _ends(last, after)


def _ends(word: str, after: str) -> bool:
    """Whether a word with its stop ends a sentence, by the word that follows (empty for a mark)."""
    stem, known = word[:-1].lower(), after.lower()
    capital, small = after[:1].isupper(), after[:1].islower()
    if stem.endswith("."):
        return capital and known not in _UNSURE and (len(after) > 1 or after == "I")
    if _NUMBER.fullmatch(stem):
        return not small and known not in _NUMBERED
    if len(stem) == 1 and stem.isalpha():
        return not small and stem not in _INITIALS and len(after) != 1
    if stem in _ABBREVIATIONS or stem.rpartition("-")[2] in _ABBREVIATIONS:
        return capital and known in _OPENERS
    return True


_BETWEEN_TOKENS = re.compile(
    r"[\s\"`;@#$%&?!*()\[\]{}<>\xab\xbb\u2018\u2019\u201c\u201d\u201e]|\.{2,}|--|''|[:,](?!\d)"
    r"|'(?![mtsdn])(?=\w\b)",
    re.IGNORECASE,
)
_CLITIC = re.compile(r"(.*[^'])('[sSmMdD]|'ll|'LL|'re|'RE|'ve|'VE|n't|N'T)", re.DOTALL)
_FUSED = re.compile(r"(can)(not)|(gim|lem)(me)|(gon|wan)(na)|(got)(ta)|(d)('ye)", re.IGNORECASE)


def capital_words(text: str) -> int:
    """How many of a text's Treebank words are in capitals: DON'T is two (DO, N'T), I'm one (I), AND/OR one."""
    words = (word.removesuffix(".") for word in _BETWEEN_TOKENS.split(text))
    return sum(part.isupper() for word in words for part in _parts(word))


def _parts(word: str) -> list[str]:
    cut = _CLITIC.fullmatch(word) or _FUSED.fullmatch(word)
    return [part for part in cut.groups() if part] if cut else [word]
