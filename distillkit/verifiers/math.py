r"""Mathematical equality by math-verify, inside killable workers.

What goes wrong elsewhere decides its shape: a bare gold is misread (`2\sqrt{2}` as 2), so gold and answer
both go in as \boxed{...} and a gold must equal itself; `10^{10^{10}}` hangs sympy, so it runs in a pool with
a CPU limit; and most pairs are two integers or the same text, so those never reach sympy.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from distillkit import text
from distillkit.pool import Failure, close_shared, shared
from distillkit.spec import EXECUTION
from distillkit.trace import Verdict
from distillkit.verifiers.base import NO_ANSWER_IN_IT, Answered, Verifier, gold_answer

MAX_CHARS = 2000
"""A longer answer is wrong, a longer gold cannot be parsed: no real one is, and sympy chokes on them."""

Question = tuple[str, str | None]
"""A readable gold and a readable answer; None asks whether the gold can be read and equals itself."""

_REWRITES = [
    (re.compile(r"(?<!\\)(?:\$+|\\[\[\]()])"), ""),  # $...$, \(...\), \[...\]
    (re.compile(r",\\!|\{,\}|\\!"), ""),  # 1,\!000 and 1{,}000
    (re.compile(r"(?<=\d)(?:\\[,;: ]|~| )(?=\d{3}(?!\d))"), ""),  # 1\,000 and 1 000
    (re.compile(r"\\\$\s*(?=\d)"), ""),  # \$18
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?![\w.])"), r"\1 \\times 10^{\2}"),  # 1.2e5
]
_INTEGER = re.compile(r"[-+]?(?:\d{1,400}|\d{1,3}(?:,\d{3}){1,100})", re.ASCII)

_memo: dict[tuple[Question, float, float], str] = {}
_MEMO_ROWS = 1 << 18


class Math(Verifier):
    """Correct when answer and gold are the same number, expression, set, interval, matrix or equation."""

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
        reasons = dict.fromkeys(golds, "")
        questions: list[Question] = [(gold, None) for gold in reasons if not _INTEGER.fullmatch(gold)]
        for (gold, _), fate in self._ask(questions).items():
            reasons[gold] = {"equal": "", "wall": "grader_timeout"}.get(fate, "unparseable_gold")
        return reasons

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> dict[Question, str]:
        """Reason of each pair; sympy sees only what text and integers leave open."""
        reasons: dict[Question, str] = {}
        for pair in pairs:
            gold, answer = pair
            if gold == answer:
                reasons[pair] = "correct"
            elif _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
                reasons[pair] = "correct" if _integer(gold) == _integer(answer) else "wrong"
        fates = self._ask([pair for pair in dict.fromkeys(pairs) if pair not in reasons])
        return reasons | {pair: _REASONS[fate] for pair, fate in fates.items()}

    def _ask(self, questions: Sequence[Question]) -> dict[Question, str]:
        """Fate of each question: "equal", "different" or the cause of a Failure; remembered, "wall" aside."""
        limits = (self.cpu_s, self.memory_gib)
        fates = {q: _memo[q, *limits] for q in questions if (q, *limits) in _memo}
        open_questions = [q for q in questions if q not in fates]
        if not open_questions:
            return fates
        pool = shared(comparer, workers=self.workers, cpu_s=self.cpu_s, memory_gib=self.memory_gib)
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


def readable(written: str | None) -> str | None:
    r"""An answer as math-verify reads it best: without delimiters, thin spaces, a full stop or e-notation.

    None for what no answer looks like: blank, over MAX_CHARS, or with unbalanced braces (`7} \boxed{8` would
    end our box and open another).
    """
    if written is None or len(written) > MAX_CHARS:
        return None
    found = text.normalise(text.last_boxed(written) or written)
    for pattern, replacement in _REWRITES:
        found = pattern.sub(replacement, found)
    found = re.sub(r"(?<=[^.\s])\.$", "", found.strip())
    return found if found and _balanced(found) else None


def _balanced(expression: str) -> bool:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", expression):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def _integer(written: str) -> int:
    return int(written.replace(",", ""))


def _complaint(written: str | None, gold: str | None, reasons: dict[str, str]) -> str | None:
    if written is None:
        return NO_ANSWER_IN_IT
    if gold and not reasons[gold]:
        return None
    return f"math-verify cannot read {(gold or written)[:80]!r}, or does not find it equal to itself"


def comparer() -> Callable[[Sequence[str | None]], bool]:
    """What a worker serves: are gold and answer equal; without an answer, does the gold equal itself."""
    import logging
    from functools import lru_cache

    from math_verify import parse, verify

    # It warns that its own time limits are off; the pool's replace them.
    logging.getLogger("math_verify").setLevel(logging.ERROR)

    @lru_cache(maxsize=1024)
    def read(expression: str) -> tuple[Any, ...]:
        return tuple(parse(rf"\boxed{{{expression}}}", fallback_mode="no_fallback", parsing_timeout=None))

    def compare(question: Sequence[str | None]) -> bool:
        gold, answer = question
        expected = list(read(gold or ""))
        given = expected if answer is None else list(read(answer))
        return bool(verify(expected, given, timeout_seconds=None))

    compare(["\\frac{1}{2}", "0.5"])  # sympy imports parts of itself late; not on an item's time
    return compare
