r"""Mathematical equality by math-verify, inside killable workers.

What goes wrong elsewhere decides its shape: a bare gold is misread (`2\sqrt{2}` as 2), so gold and answer
both go in as \boxed{...} and a gold must equal itself; `10^{10^{10}}` hangs sympy, so it runs in a pool with
a CPU limit; and most pairs can be decided by exact arithmetic, so those never reach sympy. The rules stand in
decision, the ways of writing in text, what runs beside sympy in worker.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.pool import Failure, close_shared, shared
from distillkit.spec import EXECUTION
from distillkit.trace import Verdict
from distillkit.verifiers.base import NO_ANSWER_IN_IT, Answered, Verifier, gold_answer
from distillkit.verifiers.math.decision import decide, is_understood
from distillkit.verifiers.math.text import MAX_CHARS, is_prose, readable
from distillkit.verifiers.math.unit import measure
from distillkit.verifiers.math.worker import comparer

Question = tuple[str, str | None]
"""A readable gold and a readable answer; None asks whether the gold can be read and equals itself."""

_memo: dict[tuple[Question, float, float], str] = {}
_MEMO_ROWS = 1 << 18


class Math(Verifier):
    """Correct when answer and gold are the same number, expression, set, interval, matrix or equation."""

    VERSION: ClassVar[int] = 3

    kind: Literal["math"] = "math"
    cpu_s: Annotated[float, Field(gt=0)] = 3.0
    """CPU seconds that comparing one pair may take; beyond it the pair counts as not judged."""
    memory_gib: Annotated[float, Field(ge=1)] = 2.0
    """Address space of a worker in GiB."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Worker processes; left out: one per CPU."""

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        pairs = [(readable(gold_answer(trace.reference)), readable(answer)) for trace, answer in answered]
        golds = self._check_golds(gold for gold, _ in pairs if gold)
        judged = self._compare(
            [(gold, answer) for gold, answer in pairs if gold and answer and not golds[gold]]
        )

        def reason(gold: str | None, answer: str | None) -> str:
            if gold is None:
                return "unparseable_gold"
            if golds[gold]:
                return golds[gold]
            return judged[gold, answer] if answer else "wrong"  # what nobody can read is not the gold

        return [
            Verdict.of(reason(*pair), written[:MAX_CHARS])
            for pair, (_, written) in zip(pairs, answered, strict=True)
        ]

    def same(self, a: str, b: str) -> bool:
        first, second = readable(a), readable(b)
        if first is None or second is None:
            return a == b
        # Both ways: math-verify treats an equation on its two sides differently.
        return "correct" in self._compare([(first, second), (second, first)]).values()

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        written = [gold_answer(reference) for reference in references]
        golds = [readable(each) for each in written]
        reasons = self._check_golds(gold for gold in golds if gold)
        return [_complaint(*each, reasons) for each in zip(written, golds, strict=True)]

    def close(self) -> None:
        close_shared(comparer)

    def _check_golds(self, golds: Iterable[str]) -> dict[str, str]:
        """Why each gold cannot be judged against, "" if it can; what breaks the grader alone is none."""
        reasons = {gold: "unparseable_gold" if is_prose(gold) else "" for gold in golds}
        open_golds = {
            gold: (measure(gold)[0], None)
            for gold, reason in reasons.items()
            if not reason and not is_understood(gold)
        }
        fates = self._ask(list(open_golds.values()))
        for gold, question in open_golds.items():
            reasons[gold] = {"equal": "", "wall": "grader_timeout"}.get(fates[question], "unparseable_gold")
        return reasons

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Reason of each pair; sympy sees only what the rules leave open."""
        decisions = {pair: decide(*pair) for pair in dict.fromkeys(pairs)}
        questions = {pair: left for pair, left in decisions.items() if not isinstance(left, bool)}
        fates = self._ask(list(dict.fromkeys(questions.values())))
        return {
            pair: _REASONS[fates[questions[pair]]] if pair in questions else "correct" if found else "wrong"
            for pair, found in decisions.items()
        }

    def _ask(self, questions: Sequence[Question]) -> dict[Question, str]:
        """Fate of each question: "equal", "different" or the cause of a Failure; remembered, "wall" aside."""
        limits = (self.cpu_s, self.memory_gib)
        fates = {q: _memo[q, *limits] for q in questions if (q, *limits) in _memo}
        open_questions = [q for q in questions if q not in fates]
        if not open_questions:
            return fates
        pool = shared(
            comparer, workers=self.workers, cpu_s=self.cpu_s, memory_gib=self.memory_gib, forks=True
        )
        if len(_memo) > _MEMO_ROWS:
            _memo.clear()
        for question, result in zip(open_questions, pool.map(open_questions), strict=True):
            fate = result.cause if isinstance(result, Failure) else "equal" if result else "different"
            fates[question] = fate
            if fate != "wall":
                _memo[question, *limits] = fate
        return fates


_REASONS = {
    "equal": "correct",
    "different": "wrong",
    "cpu": "grader_timeout",
    "wall": "grader_timeout",
    "raised": "grader_crashed",
    "died": "grader_crashed",
}


def _complaint(written: str | None, gold: str | None, reasons: dict[str, str]) -> str | None:
    if written is None:
        return NO_ANSWER_IN_IT
    if gold and not reasons[gold]:
        return None
    if gold and is_prose(gold):
        return f"{written[:80]!r} is a sentence, not an answer that could be compared"
    return f"math-verify cannot read {(gold or written)[:80]!r}, or does not find it equal to itself"
