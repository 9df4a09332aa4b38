"""A language model as the judge, behind an endpoint: for answers that no rule can read. Learned, so it can be gamed.

It votes several times on its own seeds and answers in a fixed form; a vote that cannot be read is missing, not 0. Put
it last in `any_of`: then it is asked only about what the rules rejected, and every completion is judged once.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median_low
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.engines.base import Completion, Listed, Parameters, Request
from distillkit.engines.endpoint import EndpointEngine
from distillkit.errors import EngineError, MissingError, RecipeError, StageError
from distillkit.spec import SourceFile, canonical, digest, file_digest, identity, seed_of
from distillkit.trace import Message, Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier, reason_of
from distillkit.verifiers.judge import text as judge_text

log = logging.getLogger(__name__)

WHY_CHARS = 500
"""Most of a judge's own words that a verdict keeps."""


@dataclass
class _Account:
    """What one judge said and cost in this process."""

    said: dict[str, list[Completion]] = field(default_factory=dict)
    """Digest of a conversation -> its votes, kept where enough could be read; the same is not paid for twice."""
    spent: float = 0.0
    reached: bool = False
    """Whether it ever answered: from then on an outage is a reason on the rows, not an error."""


_accounts: dict[str, _Account] = {}
_lock = threading.Lock()
_KEPT = 1 << 17


class Judge(Verifier):
    """Asks a model behind an endpoint for a mark: {kind: judge, engine: {kind: endpoint, ...}, rubric: ...}."""

    votes: ClassVar[bool] = False
    learned: ClassVar[bool] = True

    kind: Literal["judge"] = "judge"
    engine: EndpointEngine
    """{kind: endpoint, base_urls: [...], served_model: ...}; its `max_cost` bounds what a stage's judging may cost."""
    rubric: str | None = None
    """What a good response is, in words; left out: whether the final answer is correct."""
    rubric_file: SourceFile | None = None
    """A text file with the rubric, in place of `rubric`."""
    reference: bool = True
    """Whether the judge is shown the problem's reference, where it has one."""
    show: Literal["response", "completion"] = "response"
    """What of a trace is judged: what follows `</think>`, or all of it."""
    scale: Annotated[int, Field(ge=1, le=100)] = 1
    """The highest mark; the score is the mark's share of it. 1: right or wrong."""
    n: Annotated[int, Field(ge=1, le=64)] = 3
    """Votes per response, each with its own seed."""
    combine: Literal["median", "mean"] = "median"
    """How votes become a mark; the median is the majority where the scale is 1. A tie counts as the lower mark."""
    min_votes: Annotated[int | None, Field(ge=1)] = None
    """Votes that must be readable, else it is not judged; left out: more than half of n."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """0 makes all votes alike."""
    max_tokens: Annotated[int, Field(ge=16)] = 4096
    """Of one vote, reasoning included."""
    structured: bool = True
    """Whether the server is asked for JSON of the form (`response_format`); turn off where it refuses that."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.engine.needs_model:
            raise ValueError("engine: a judge answers messages; write api: chat")
        if self.rubric is not None and self.rubric_file is not None:
            raise ValueError("rubric_file: there is a rubric already; give one of the two")
        if self.min_votes is not None and self.min_votes > self.n:
            raise ValueError(f"min_votes: {self.min_votes} is more than n, {self.n}")
        return self

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer, else all that is judged."""
        return super().answer(trace) or self._shown(trace).strip() or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        asked = [self._messages(trace) for trace, _ in answered]
        names = [digest(messages) for messages in asked]
        votes, fresh = self._ask(asked, judge_text.mark_schema(self.scale), self._readable_mark)
        found = []
        for name, (_, answer) in zip(names, answered, strict=True):
            bill = _bill(votes[name]) if name in fresh else {}
            fresh.discard(name)  # of equal rows the first one bears the cost
            found.append(self._verdict(votes[name], answer, bill))
        return found

    def compare(self, pairs: Sequence[tuple[Trace, Trace]]) -> list[float | None]:
        """Of each pair of traces of one problem: 1.0 the first is better, 0.0 the second, 0.5 neither, None unknown.

        Each pair is asked about in both orders. Judges favour a place, so only what holds in both counts.
        """
        orders = [[self._pair(a, b), self._pair(b, a)] for a, b in pairs]
        asked = [messages for both in orders for messages in both]
        votes, _ = self._ask(asked, judge_text.pair_schema(), self._readable_pair)
        found = []
        for both in orders:
            here, there = (self._preferred(votes[digest(messages)]) for messages in both)
            found.append(None if here is None or there is None else 0.5 if here != 1 - there else here)
        return found

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """It takes any reference, and none: what it is worth is the rubric's business."""
        return [None for _ in references]

    def check(self) -> list[str]:
        self.engine.check()
        if self.rubric_file is not None:
            file_digest(Path(self.rubric_file))
        return []

    def reach(self) -> None:
        with self.engine.open(None, None):
            pass

    def _rubric(self, shows_reference: bool) -> str:
        if self.rubric_file is not None:
            return Path(self.rubric_file).read_text("utf-8").strip()
        if self.rubric is not None:
            return self.rubric.strip()
        return judge_text.CORRECTNESS + (judge_text.BY_REFERENCE if shows_reference else "")

    def _shown(self, trace: Trace) -> str:
        return trace.response if self.show == "response" else trace.completion

    def _material(self, trace: Trace) -> dict[str, str]:
        material = {"PROBLEM": "\n\n".join(f"{m['role']}: {m['content']}" for m in trace.messages)}
        if self.reference and trace.reference is not None:
            given = trace.reference
            material["REFERENCE"] = (
                given if isinstance(given, str) else canonical(given).decode("utf-8", "replace")
            )
        return material

    def _messages(self, trace: Trace) -> list[Message]:
        material = self._material(trace)
        rubric = self._rubric("REFERENCE" in material)
        return judge_text.mark_messages(rubric, material | {"RESPONSE": self._shown(trace)}, self.scale)

    def _pair(self, first: Trace, second: Trace) -> list[Message]:
        material = self._material(first)
        responses = {"FIRST RESPONSE": self._shown(first), "SECOND RESPONSE": self._shown(second)}
        return judge_text.pair_messages(self._rubric("REFERENCE" in material), material | responses)

    def _verdict(self, votes: list[Completion], answer: str, telemetry: dict[str, Any]) -> Verdict:
        read = [found for vote in votes if (found := judge_text.read_mark(vote.text, self.scale)) is not None]
        marks = [mark for mark, _ in read]
        detail: dict[str, Any] = {"marks": marks, "of": self.n}
        if len(marks) < self._quorum:
            return Verdict(None, "judge_unavailable", answer, detail, telemetry=telemetry)
        mark = fmean(marks) if self.combine == "mean" else median_low(marks)
        nearest = min(read, key=lambda found: abs(found[0] - mark))
        score = round(mark / self.scale, 6)
        return Verdict(
            score, reason_of(score), answer, detail | {"why": nearest[1][:WHY_CHARS]}, telemetry=telemetry
        )

    def _preferred(self, votes: list[Completion]) -> float | None:
        """Of one order: 1.0 the first response, 0.0 the second, 0.5 a tie; None with too few votes."""
        values = {"first": 1.0, "second": 0.0, "tie": 0.5}
        read = [values[said] for vote in votes if (said := judge_text.read_pair(vote.text)) is not None]
        if len(read) < self._quorum:
            return None
        mean = fmean(read)
        return 1.0 if mean > 0.5 else 0.0 if mean < 0.5 else 0.5

    @property
    def _quorum(self) -> int:
        return self.min_votes or self.n // 2 + 1

    def _readable_mark(self, completion: Completion) -> bool:
        return judge_text.read_mark(completion.text, self.scale) is not None

    def _readable_pair(self, completion: Completion) -> bool:
        return judge_text.read_pair(completion.text) is not None

    def _ask(
        self,
        conversations: Iterable[list[Message]],
        response_format: dict[str, Any],
        readable: Callable[[Completion], bool],
    ) -> tuple[dict[str, list[Completion]], set[str]]:
        """The votes on each conversation, by its digest, and the digests of those that were asked for now."""
        account = _account_of(self)
        wanted = {digest(messages): messages for messages in conversations}
        found = {name: account.said[name] for name in wanted if name in account.said}
        fresh = {name: messages for name, messages in wanted.items() if name not in found}
        votes = self._collect(fresh, self._session_engine(response_format), account) if fresh else {}
        for name in fresh:
            found[name] = votes.get(name, [])
            if sum(map(readable, found[name])) >= self._quorum:
                account.said[name] = found[name]
        return found, set(fresh)

    def _session_engine(self, response_format: dict[str, Any]) -> EndpointEngine:
        """The engine as the judge uses it: its own form of answer, with or without visible reasoning."""
        body = self.engine.extra_body | ({"response_format": response_format} if self.structured else {})
        return self.engine.model_copy(update={"extra_body": body, "require_reasoning": False})

    def _collect(
        self, fresh: dict[str, list[Message]], engine: EndpointEngine, account: _Account
    ) -> dict[str, list[Completion]]:
        """n votes on each conversation; fewer, down to none, where the endpoint fails.

        Raises:
            MissingError: it cannot be reached, or refuses the key, before it ever answered.
            StageError: what may be spent is spent.
        """
        requests = [
            Request(digest([name, index])[:32], "", seed_of(name, index), name, index, messages)
            for name, messages in fresh.items()
            for index in range(self.n)
        ]
        feed = _Purse(requests, account, engine.max_cost)
        parameters = Parameters(max_tokens=self.max_tokens, temperature=self.temperature)
        votes: dict[str, list[Completion]] = {}
        try:
            with engine.open(None, None) as session:
                for request, completion in session.generate(feed, parameters):
                    account.spent += completion.telemetry.get("cost", 0.0)
                    account.reached |= completion.finish_reason != "error"
                    votes.setdefault(request.problem_id, []).append(completion)
        except (EngineError, MissingError) as error:
            if not account.reached:
                raise
            log.warning("judge: %s", error)
        except RecipeError as error:
            hint = "where the server knows no response_format, write structured: false"
            raise RecipeError(f"judge: {error}; {hint}") from None
        if feed.empty:
            raise StageError(
                f"judge: {account.spent:.2f} are spent, max_cost is {engine.max_cost:g}; what was labelled is safe, "
                "raise max_cost to go on"
            )
        return votes

    def close(self) -> None:
        """Forget what it said."""
        with _lock:
            _accounts.pop(digest(identity(self)), None)


class _Purse(Listed):
    """A feed that ends when the money does."""

    def __init__(self, requests: Iterable[Request], account: _Account, max_cost: float | None) -> None:
        super().__init__(requests)
        self._account, self._max_cost = account, max_cost

    @property
    def empty(self) -> bool:
        """Whether the money ended before the requests."""
        spent = self._max_cost is not None and self._account.spent >= self._max_cost
        return spent and not super().over

    def take(self) -> Request | None:
        return None if self.empty else super().take()

    @property
    def over(self) -> bool:
        return self.empty or super().over


def _account_of(judge: Judge) -> _Account:
    with _lock:
        account = _accounts.setdefault(digest(identity(judge)), _Account())
        if len(account.said) > _KEPT:
            account.said.clear()
        return account


def _bill(votes: list[Completion]) -> dict[str, Any]:
    """What votes cost: tokens, and money where the engine has prices."""
    bill: dict[str, Any] = {
        "votes": len(votes),
        "prompt_tokens": sum(vote.prompt_tokens or 0 for vote in votes),
        "completion_tokens": sum(vote.completion_tokens or 0 for vote in votes),
    }
    costs = [vote.telemetry["cost"] for vote in votes if "cost" in vote.telemetry]
    return bill | ({"cost": round(sum(costs), 8)} if costs else {})
