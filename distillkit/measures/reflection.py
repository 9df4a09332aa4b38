"""How often a trace turns back on itself, by two published word lists.

Counting words is not judging thought: a model can write "wait" and check nothing (Oat-Zero's authors found
that reflection does not by itself mean higher accuracy), and R1's list holds everyday words ("but").
"""

import re
from collections import Counter
from typing import ClassVar, Literal

from distillkit.measures.base import Labels, Measure
from distillkit.trace import Trace

WORDS: dict[str, tuple[str, ...]] = {
    # DeepSeek-R1, arXiv:2501.12948v2 and Nature 645 (2025), Extended Data Fig. 1: chosen by three experts.
    "r1": ("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"),
    # sail-sg/understand-r1-zero, analysis/keyword_count.py (Liu et al., arXiv:2503.20783).
    "oat": (
        "recheck",
        "rethink",
        "reassess",
        "reevaluate",
        "re-evaluate",
        "reevaluation",
        "re-examine",
        "reexamine",
        "reconsider",
        "reanalyze",
        "double-check",
        "check again",
        "think again",
        "verify again",
        "go over the steps",
    ),
}


def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Whole words in any case, longest phrase first; ASCII, so that a Chinese neighbour ends a word."""
    longest = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"\b(?<!-)(?:{'|'.join(map(re.escape, longest))})\b", re.IGNORECASE | re.ASCII)


_ANY = _pattern(tuple(phrase for phrases in WORDS.values() for phrase in phrases))
_WITHIN = {  # "check again" is a phrase of one list and holds a word of the other
    phrase: {name: len(_pattern(phrases).findall(phrase)) for name, phrases in WORDS.items()}
    for listed in WORDS.values()
    for phrase in listed
}


class Reflection(Measure):
    """Exact words of the lists, no inflections ("checked" is none): the counts are those of the papers.

    Both lists are English; a trace in another language counts 0.
    """

    KEYS: ClassVar[dict[str, str]] = {
        "count": "places where a phrase of either list stands, each counted once",
        "r1": "phrases of DeepSeek-R1's list",
        "oat": "phrases of Oat-Zero's list",
        "positions": "character offset of each counted place",
    }

    kind: Literal["reflection"] = "reflection"

    def measure(self, trace: Trace) -> Labels:
        found = list(_ANY.finditer(trace.text))
        tally = Counter(match[0].lower() for match in found)
        counts = {name: sum(n * _WITHIN[phrase][name] for phrase, n in tally.items()) for name in WORDS}
        return {"count": len(found), **counts, "positions": [match.start() for match in found]}
