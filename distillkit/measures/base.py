"""The protocol of a measure: a trace in, a dict of labels out; it drops nothing and decides nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from distillkit.spec import Strict
from distillkit.trace import Trace

Labels = dict[str, Any]
"""Key -> JSON value; null where it cannot be measured."""


class Measure(Strict):
    """Describes `trace.text`: the reasoning, or the whole completion where `<think>` was never opened."""

    KEYS: ClassVar[dict[str, str]]
    """What `measure` returns, one line of meaning each; a recipe writes `measures.<label>.<key>`."""

    kind: str

    @property
    def label(self) -> str:
        """Where its labels lie: a recipe's rules name `measures.<label>.<key>`."""
        return self.kind

    @property
    def label_keys(self) -> Sequence[str]:
        """The keys of its labels."""
        return tuple(self.KEYS)

    def measure(self, trace: Trace) -> Labels:
        """The labels of one trace, every key of KEYS present."""
        raise NotImplementedError

    def measure_all(self, traces: Iterable[Trace]) -> list[Labels]:
        """The labels of each trace, in order; a measure that works in batches overrides this."""
        return [self.measure(trace) for trace in traces]
