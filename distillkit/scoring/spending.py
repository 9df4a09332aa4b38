"""What the completions took that a stage scored: their tokens, and the money that a server asked for them."""

from collections.abc import Iterable

from distillkit.trace import Trace


class Spending:
    """Tokens and money of completions, each counted once, whenever it was sampled: the same after a resume."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}
        self._money: dict[str, float] = {}

    def add(self, traces: Iterable[Trace]) -> None:
        """Count these too; what was counted before stays one."""
        for trace in traces:
            self._tokens[trace.id] = trace.completion_tokens or 0
            if trace.telemetry.get("cost"):
                self._money[trace.id] = float(trace.telemetry["cost"])

    def as_telemetry(self) -> dict[str, float]:
        """{tokens, cost} for a manifest's telemetry; cost is absent where nobody asked for money."""
        money = {"cost": round(sum(self._money.values()), 6)} if self._money else {}
        return {"tokens": sum(self._tokens.values()), **money}
