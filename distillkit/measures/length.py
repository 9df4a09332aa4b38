"""How long a trace is, in four units. R1-Zero's growing length is a curve over the first."""

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from distillkit.errors import MissingError
from distillkit.measures.anatomy import CLOSER, SPACE, STOP, WIDE_STOP, Anatomy, anatomy
from distillkit.measures.base import Labels, Measure
from distillkit.spec import SourceFile
from distillkit.trace import Trace

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from distillkit.measures.anatomy import Flags

MAX_CLOSERS = 4
"""So many brackets and quotation marks may stand between a stop and the end of its sentence."""


class Length(Measure):
    """Tokens are those of the whole completion; the rest is of `trace.text`."""

    VERSION: ClassVar[int] = 2

    KEYS: ClassVar[dict[str, str]] = {
        "tokens": "tokens of the whole completion: as its source counted them, else by `tokenizer`, else null",
        "characters": "characters",
        "words": "words; one character of Chinese or Japanese is one word",
        "sentences": "sentences; every non-blank line ends one",
    }

    kind: Literal["length"] = "length"
    tokenizer: SourceFile | None = None
    """A tokenizer.json that counts where the source did not; a measure stage's own `tokenizer:` takes a model's."""

    def measure(self, trace: Trace) -> Labels:
        sheet = anatomy(trace.text)
        return {
            "tokens": self._tokens(trace),
            "characters": len(sheet.text),
            "words": len(sheet.word_starts),
            "sentences": _sentences(sheet),
        }

    def _tokens(self, trace: Trace) -> int | None:
        if trace.completion_tokens is not None or self.tokenizer is None:
            return trace.completion_tokens
        return count_tokens(load(self.tokenizer), trace.completion)


def count_tokens(tokenizer: "Tokenizer", text: str) -> int:
    """Tokens of a text, without special ones around it; a lone surrogate counts as a question mark."""
    clean = text if text.isascii() else text.encode("utf-8", "replace").decode()
    [encoded] = tokenizer.encode_batch_fast([clean], add_special_tokens=False)
    return len(encoded)


@lru_cache(maxsize=1)
def load(file: str) -> "Tokenizer":
    """The tokenizer of a tokenizer.json, which cuts and pads nothing; read once in a process.

    Raises MissingError for a file that is none.
    """
    from tokenizers import Tokenizer

    try:
        text = Path(file).read_text("utf-8")
        is_tokenizer = "model" in json.loads(text)
    except (OSError, ValueError, TypeError) as error:
        raise MissingError(f"{file}: cannot be read as a tokenizer.json ({error})") from None
    if not is_tokenizer:
        raise MissingError(
            f"{file}: no tokenizer.json, for it has no `model`; give the file that tokenizers saves"
        )
    tokenizer: Tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _sentences(sheet: Anatomy) -> int:
    """As many as `text.sentences` finds: parts with something in them that end at a stop or with the line."""
    import numpy as np

    if not sheet.text:
        return 0
    space = np.append(sheet.has(SPACE), True)
    stopped = _stopped(sheet, space[1:])
    word_ends = np.flatnonzero(~space[:-1] & space[1:])
    line_ends = np.append(np.flatnonzero(sheet.codes == ord("\n")), len(sheet.text))
    words_before = np.unique(np.searchsorted(word_ends, line_ends))
    last_words = word_ends[words_before[words_before > 0] - 1]
    return int(np.count_nonzero(stopped) + np.count_nonzero(~stopped[last_words]))


def _stopped(sheet: Anatomy, before_space: "Flags") -> "Flags":
    """Where a stop ends a sentence: the last character of the stop, or of what closes behind it."""
    import numpy as np

    signs, wide, closer = sheet.has(STOP | WIDE_STOP | CLOSER), sheet.has(WIDE_STOP), sheet.has(CLOSER)
    behind = np.append(closer[1:], False)
    ends = np.flatnonzero(signs & ~behind)
    cores = ends.copy()
    for _ in range(MAX_CLOSERS):
        cores -= closer[cores] & (cores > 0)
    wide_goes_on = wide[ends] & np.append(wide[1:], False)[ends]
    at_stop = sheet.has(STOP)[cores] & before_space[ends] | wide[cores] & ~wide_goes_on
    stopped: Flags = np.zeros(len(signs), np.bool_)
    stopped[ends[at_stop]] = True
    return stopped
