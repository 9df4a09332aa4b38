"""An index of word n-grams: which references have them where, and which of them prove nothing.

N-grams are found by their hashes alone: with 64 bits one of 4 GB of text is mistaken once in 10,000 times.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from distillkit.measures.boilerplate import PHRASES
from distillkit.measures.words import Words, windows, words_of

if TYPE_CHECKING:
    from distillkit.measures.words import Flags, Hashes, Indices

CJK_PER_WORD = 1.7
"""Chinese or Japanese characters for one word: an n-gram of mostly such characters is longer by this."""
PLAIN_WORDS = 2
"""An n-gram with fewer words of a language is a formula or a drawing, which anybody may write."""
OWN_WORDS = 3
"""An n-gram with no more words than these beside a stock phrase is boilerplate."""
_STOCK = 6
_MARKUP = (
    "frac dfrac tfrac sqrt cdot times left right begin end array align aligned cases text mathrm mathbf mathbb "
    "label draw dot pair path size unitsize fontsize defaultpen linewidth lsf arrow arrows endarrow asy fill dir "
    "circle cycle for int sin cos tan log"
)
"""Words of LaTeX and Asymptote, and of formulas."""


class Lookup:
    """Where hashes stand in a sorted array: a bit filter in front of it, so that clean text costs one look-up."""

    def __init__(self, hashes: "Hashes") -> None:
        import numpy as np

        self.hashes = hashes
        self._bits = min(max(18, len(hashes).bit_length() + 4), 25)
        self._filter: Flags = np.zeros(1 << self._bits, bool)
        self._filter[self._slot(hashes)] = True

    def matches(self, hashes: "Hashes") -> "tuple[Indices, Indices]":
        """Indices of those that are there, and where."""
        import numpy as np

        maybe = np.flatnonzero(self._filter.take(self._slot(hashes)))
        if not len(maybe):
            return maybe, maybe
        where = np.searchsorted(self.hashes, hashes[maybe]).clip(max=len(self.hashes) - 1)
        there = self.hashes[where] == hashes[maybe]
        return maybe[there], where[there]

    def _slot(self, hashes: "Hashes") -> "Indices":
        import numpy as np

        return (hashes >> np.uint64(64 - self._bits)).view(np.int64)


Grams: TypeAlias = "tuple[int, int, Hashes, Indices, Flags, Flags]"
"""Reference, size, and of each n-gram: hash, word of the reference where it begins, whether it is of a language, and
whether it is a stock phrase."""


class Index:
    """All n-grams, numbered size by size: which references have them where, and which prove nothing.

    problems: number of the problem that each reference is; two benchmarks that share a problem do not make its
        n-grams common.
    """

    def __init__(self, grams: Sequence[Grams], problems: "Indices", common: int) -> None:
        import numpy as np

        self._lookups: list[tuple[int, int, Lookup]] = []
        sizes, commons, plains, references, places, counts = [], [], [], [], [], []
        offset = 0
        for size in sorted({each[1] for each in grams}):
            own = [each for each in grams if each[1] == size]
            hashes, at, plain, stock = (np.concatenate([each[part] for each in own]) for part in (2, 3, 4, 5))
            reference: Indices = np.repeat([each[0] for each in own], [len(each[2]) for each in own])
            order = np.argsort(hashes, kind="stable")
            distinct, firsts, inverse, count = np.unique(
                hashes[order], return_index=True, return_inverse=True, return_counts=True
            )
            pairs = np.unique(np.stack([inverse, problems[reference[order]]]), axis=1)
            many = np.bincount(pairs[0], minlength=len(distinct)) >= common
            self._lookups.append((size, offset, Lookup(distinct)))
            sizes.append(np.full(len(distinct), size))
            commons.append(many | stock[order][firsts])
            plains.append(plain[order][firsts])
            references.append(reference[order])
            places.append(at[order])
            counts.append(count)
            offset += len(distinct)
        none: Indices = np.empty(0, np.int64)
        self.sizes: Indices = np.concatenate([none, *sizes])
        """Words of each n-gram."""
        self.common: Flags = np.concatenate([none.astype(bool), *commons])
        """Which n-grams are in many references: boilerplate."""
        self.plain: Flags = np.concatenate([none.astype(bool), *plains])
        """Which n-grams are of a language; the others are formulas."""
        self._references: Indices = np.concatenate([none, *references])
        self._places: Indices = np.concatenate([none, *places])
        self._firsts: Indices = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)

    @property
    def lengths(self) -> set[int]:
        """Words that n-grams have."""
        return {size for size, _, _ in self._lookups}

    def matches(self, hashes: "Mapping[int, Hashes]") -> "tuple[Indices, Indices]":
        """Words of a text where n-grams begin, and the n-grams; `hashes` are its windows by size."""
        import numpy as np

        found = [
            (lookup.matches(hashes[size]), offset) for size, offset, lookup in self._lookups if size in hashes
        ]
        none: Indices = np.empty(0, np.int64)
        return (
            np.concatenate([none, *(at for (at, _), _ in found)]),
            np.concatenate([none, *(where + offset for (_, where), offset in found)]),
        )

    def entries(self, grams: "Indices") -> "tuple[Indices, Indices, Indices]":
        """For each place of these n-grams: its reference, which of them it is, and the word where it begins."""
        rows, which = spread(self._firsts, grams)
        return self._references[rows], which, self._places[rows]

    def references_of(self, gram: int) -> "Indices":
        """The references that have an n-gram."""
        return self._references[self._firsts[gram] : self._firsts[gram + 1]]


def grams_of(words: Words, size: int) -> "Iterator[tuple[int, Hashes, Indices, Flags, Flags]]":
    """The n-grams of a reference by size: longer where most of one is Chinese or Japanese, else never mixed up."""
    import numpy as np

    dense = round(size * CJK_PER_WORD)
    cjk, plain, stock = (
        np.append(0, np.cumsum(flags)) for flags in (words.cjk, _plain(words), _stock(words))
    )
    for length, hashes in windows(words.hashes, {size, dense}):
        mostly = 2 * (cjk[length:] - cjk[:-length]) > length
        at = np.flatnonzero(mostly == (length == dense))
        if len(at):
            plain_words, stock_words = plain[at + length] - plain[at], stock[at + length] - stock[at]
            yield length, hashes[at], at, plain_words >= PLAIN_WORDS, stock_words >= length - OWN_WORDS


def _stock(words: Words) -> "Flags":
    """Which words stand in six words of a stock phrase."""
    import numpy as np

    found: Flags = np.zeros(len(words), bool)
    for _, hashes in windows(words.hashes, {_STOCK}):
        for at in np.flatnonzero(np.isin(hashes, _stock_hashes())):
            found[at : at + _STOCK] = True
    return found


@cache
def _stock_hashes() -> "Hashes":
    import numpy as np

    return np.unique(
        np.concatenate([found for each in PHRASES for _, found in windows(words_of(each).hashes, {_STOCK})])
    )


def _plain(words: Words) -> "Flags":
    """Which words are of a language, not of a formula."""
    import numpy as np

    parts = (words.text[start:end] for start, end in zip(words.starts, words.ends, strict=True))
    long = np.array([(len(part) > 2 and part[0].isalpha()) or not part.isascii() for part in parts], bool)
    found: Flags = long & ~np.isin(words.hashes, words_of(_MARKUP).hashes)
    return found


def spread(firsts: "Indices", chosen: "Indices") -> "tuple[Indices, Indices]":
    """Rows firsts[c] to firsts[c + 1] of each chosen c, and the number of the choice that each row is of."""
    import numpy as np

    counts = firsts[chosen + 1] - firsts[chosen]
    which: Indices = np.repeat(np.arange(len(chosen)), counts)
    within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return firsts[chosen][which] + within, which
