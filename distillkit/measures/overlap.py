"""Word n-grams that a text shares with reference texts: whether a benchmark leaked.

One shared n-gram proves little: in GSM8K 94 training questions share eight words in a row with the test set, and
nearly all of them by chance ("how much money does she have left"). So n-grams that many references have, or that are
formulas, count for nothing, and the others must cover much of a reference or stand in one long run.

Source: the share of a test instance that is covered by 8-grams, Tulu 3, arXiv:2411.15124v3, 3.2; frequent n-grams
left out, GPT-3, arXiv:2005.14165v4, appendix C.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from distillkit.measures.grams import CJK_PER_WORD, Index, Lookup, grams_of, spread
from distillkit.measures.words import Words, runs, windows, words_of

if TYPE_CHECKING:
    from distillkit.measures.words import Hashes, Indices

SHORTEST_LINE = 4
"""Fewer words in a line are nobody's problem."""
SHORTEST_PART = 8
"""A reference of so many words is found anywhere in a text, word by word; a shorter one only as a line or a text."""


class Match(NamedTuple):
    """What a text shares with one reference."""

    reference: int
    """Its index."""
    share: float
    """How much of its words is covered, 0 to 1."""
    run: int
    """Words of the longest stretch in the text that is covered; a Chinese character is less than one."""
    gram: str
    """The first n-gram of that stretch, folded, single spaces between its words."""
    start: int
    end: int
    """Half-open offsets of the stretch in the text."""


class Found(NamedTuple):
    """The closest reference of a text: as a leak, or as something that proves nothing."""

    leak: Match | None
    weak: Match | None


class Overlap:
    """The n-grams of references, ready to be looked for.

    references: texts in the order that matches count them.
    size: words of an n-gram; more characters of Chinese or Japanese (`CJK_PER_WORD`).
    share, run: a text leaks a reference when it shares this much of its words, or so many words in a row; 0 lets
        one n-gram suffice.
    common: an n-gram that so many different references have is boilerplate and counts for nothing.
    """

    def __init__(
        self, references: Sequence[str], size: int, *, share: float = 0.7, run: int = 13, common: int = 5
    ) -> None:
        import numpy as np

        self.size, self.share, self.run = size, share, run
        parsed = [words_of(text) for text in references]
        self._counts: Indices = np.array([len(each) for each in parsed], np.int64)
        self._hashes: Hashes = np.array([_whole_hash(each) for each in parsed], np.uint64)
        there = np.flatnonzero(self._counts)
        wholes, firsts = np.unique(self._hashes[there], return_index=True)
        self._wholes, self._whole_of = Lookup(wholes), there[firsts]
        long = [number for number, each in enumerate(parsed) if _spaced(each) >= SHORTEST_PART]
        heads = [next(windows(parsed[number].hashes[:SHORTEST_PART], {SHORTEST_PART}))[1] for number in long]
        self._heads = Heads(np.concatenate([np.empty(0, np.uint64), *heads]), np.array(long, np.int64))
        _, problems = np.unique(self._hashes, return_inverse=True)
        self._index = Index(
            [(number, *part) for number, each in enumerate(parsed) for part in grams_of(each, size)],
            problems,
            common,
        )

    def find(self, text: str) -> Found:
        """The reference that a text shares most with. Time is linear in the text's length."""
        words = words_of(text)
        if not len(words):
            return Found(None, None)
        hashes = dict(windows(words.hashes, {SHORTEST_PART, *self._index.lengths}))
        whole = self._line(words) or self._part(words, hashes)
        if whole is not None:
            return Found(whole, None)
        at, grams = self._index.matches(hashes)
        if not len(at):
            return Found(None, None)
        telling = ~self._index.common[grams]
        found = list(self._matches(words, at[telling], grams[telling]))
        if not found:
            return Found(None, self._chance(words, at, grams))
        best = max(found, key=lambda match: (self._enough(match), match.share, match.run, -match.reference))
        return Found(best, None) if self._enough(best) else Found(None, best)

    def _enough(self, match: Match) -> bool:
        return match.share >= self.share or match.run >= self.run

    def _line(self, words: Words) -> Match | None:
        """The first line of the text that is a reference word by word, or the text if it is one."""
        import numpy as np

        edges = np.concatenate([[0], np.searchsorted(words.starts, words.breaks), [len(words)]])
        long = np.diff(edges) >= SHORTEST_LINE
        starts, ends = np.append(edges[:-1][long], 0), np.append(edges[1:][long], len(words))
        at, which = self._wholes.matches(runs(words.hashes, starts, ends))
        if not len(at):
            return None
        return self._entire(words, int(self._whole_of[which[0]]), int(starts[at[0]]))

    def _part(self, words: Words, hashes: "Mapping[int, Hashes]") -> Match | None:
        """The first part of the text that is a reference word by word."""
        if SHORTEST_PART not in hashes:
            return None
        at, references = self._heads.matches(hashes[SHORTEST_PART])
        fits = at + self._counts[references] <= len(words)
        at, references = at[fits], references[fits]
        equal = runs(words.hashes, at, at + self._counts[references]) == self._hashes[references]
        if not equal.any():
            return None
        return self._entire(words, int(references[equal][0]), int(at[equal][0]))

    def _entire(self, words: Words, reference: int, start: int) -> Match:
        count = int(self._counts[reference])
        return _match(words, reference, 1.0, start, start + count, min(self.size, count))

    def _chance(self, words: Words, at: "Indices", grams: "Indices") -> Match:
        """The first n-gram of a text that has only boilerplate and formulas."""
        start, gram = int(at.min()), int(grams[at.argmin()])
        size = int(self._index.sizes[gram])
        return _match(words, int(self._index.references_of(gram)[0]), 0.0, start, start + size, size)

    def _matches(self, words: Words, at: "Indices", grams: "Indices") -> Iterator[Match]:
        """What the text shares with each reference, by its n-grams and where they begin.

        Formulas add to what is shared, but only where a language's words are shared, too, and not to the stretch.
        """
        import numpy as np

        order = np.argsort(grams, kind="stable")
        distinct, firsts = np.unique(grams[order], return_index=True)
        at, firsts = at[order], np.append(firsts, len(grams))
        references, which, places = self._index.entries(distinct)
        order = np.argsort(references, kind="stable")
        references, which, places = references[order], which[order], places[order]
        sizes, plain = self._index.sizes[distinct], self._index.plain[distinct]
        edges = np.flatnonzero(np.diff(references, prepend=-1, append=-1))
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            reference, own = int(references[first]), which[first:last]
            if not plain[own].any():
                continue
            starts, ends = _union(places[first:last], places[first:last] + sizes[own])
            share = int((ends - starts).sum()) / int(self._counts[reference])
            own = np.unique(own[plain[own]])
            rows, owner = spread(firsts, own)
            starts, ends = _union(at[rows], at[rows] + sizes[own[owner]])
            longest = int(np.argmax(ends - starts))
            start, end = int(starts[longest]), int(ends[longest])
            size = int(sizes[own[owner]][at[rows] == start].max())
            yield _match(words, reference, share, start, end, size)


class Heads:
    """The first words of references, by which they are found as a whole."""

    def __init__(self, hashes: "Hashes", references: "Indices") -> None:
        import numpy as np

        order = np.argsort(hashes, kind="stable")
        self._references = references[order]
        distinct, firsts = np.unique(hashes[order], return_index=True)
        self._lookup, self._firsts = Lookup(distinct), np.append(firsts, len(hashes))

    def matches(self, hashes: "Hashes") -> "tuple[Indices, Indices]":
        """Words of a text where a reference may begin, and the reference."""
        at, heads = self._lookup.matches(hashes)
        rows, which = spread(self._firsts, heads)
        return at[which], self._references[rows]


def _spaced(words: Words) -> float:
    """How many words it has, a Chinese or Japanese character being less than one."""
    cjk = int(words.cjk.sum())
    return len(words) - cjk + cjk / CJK_PER_WORD


def _whole_hash(words: Words) -> int:
    """Hash of all words."""
    import numpy as np

    return int(runs(words.hashes, np.array([0]), np.array([len(words)]))[0])


def _union(starts: "Indices", ends: "Indices") -> "tuple[Indices, Indices]":
    """The union of intervals as ascending ones that do not touch."""
    import numpy as np

    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    first = np.flatnonzero(np.append(True, starts[1:] > reach[:-1]))
    return starts[first], reach[np.append(first[1:], len(starts)) - 1]


def _match(words: Words, reference: int, share: float, start: int, end: int, size: int) -> Match:
    """The match of the words [start, end), whose first n-gram has a size."""
    cjk = int(words.cjk[start:end].sum())
    run = round(end - start - cjk + cjk / CJK_PER_WORD)
    return Match(
        reference, share, run, words.gram(start, size), int(words.starts[start]), int(words.ends[end - 1])
    )
