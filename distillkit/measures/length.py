"""How long a trace is, in four units. R1-Zero's growing length is a curve over the first."""

from typing import ClassVar, Literal

from distillkit.measures.base import Labels, Measure
from distillkit.text import sentences, words
from distillkit.trace import Trace


class Length(Measure):
    """Tokens are those of the whole completion, as the engine counted them; the rest is of `trace.text`."""

    KEYS: ClassVar[dict[str, str]] = {
        "tokens": "tokens of the whole completion; null where its source did not count them",
        "characters": "characters",
        "words": "words; one character of Chinese or Japanese is one word",
        "sentences": "sentences; every non-blank line ends one",
    }

    kind: Literal["length"] = "length"

    def measure(self, trace: Trace) -> Labels:
        text = trace.text
        return {
            "tokens": trace.completion_tokens,
            "characters": len(text),
            "words": len(words(text)),
            "sentences": len(sentences(text)),
        }
