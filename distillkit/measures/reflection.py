"""How often a trace turns back on itself, by two published word lists.

Counting words is not judging thought: a model can write "wait" and check nothing (Oat-Zero's authors found
that reflection does not by itself mean higher accuracy), and R1's list holds everyday words ("but").
"""

import re
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
    """Whole words, any case, the longest phrase first."""
    longest = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)


_LISTS = {name: _pattern(phrases) for name, phrases in WORDS.items()}
_ANY = _pattern(tuple(phrase for phrases in WORDS.values() for phrase in phrases))


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
        positions = [match.start() for match in _ANY.finditer(trace.text)]
        counts = {name: len(pattern.findall(trace.text)) for name, pattern in _LISTS.items()}
        return {"count": len(positions), **counts, "positions": positions}
