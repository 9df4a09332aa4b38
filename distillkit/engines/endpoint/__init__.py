"""Completions from OpenAI-compatible servers: `vllm serve`, SGLang, DeepSeek, OpenRouter, OpenAI and their like.

Requests go to whichever server has room (lane), and again where one failed. A request that fails for good
is a row with its reason; a setup that cannot work (a refused key, a model that is not there, reasoning that is kept
back) is one error at the first answers, before it is paid for ten thousand times.
"""

import asyncio
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from distillkit.artifact import Model
from distillkit.engines.base import (
    Completion,
    Engine,
    Feed,
    Parameters,
    Request,
    load_tokenizer,
    require_context,
    text_of,
)
from distillkit.engines.endpoint.answer import Answer, BadAnswer, read
from distillkit.engines.endpoint.batch import LARGEST, Desk
from distillkit.engines.endpoint.greeting import close, greet, key_refused, not_served
from distillkit.engines.endpoint.lane import Lane, Lanes, pause_s
from distillkit.engines.endpoint.opening import NO_REASONING, Opening
from distillkit.engines.endpoint.price import Priced
from distillkit.engines.endpoint.request import PATHS, Wording
from distillkit.engines.endpoint.server import Server, Trouble
from distillkit.engines.stream import Stream
from distillkit.errors import EngineError, MissingError, RecipeError
from distillkit.spec import EXECUTION, digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNDECIDED_S = 2.0
"""Longest that a refused request waits to see whether all are refused: that shows itself at once."""
LONG_PROMPT = 1000
"""Tokens."""
REFUSALS = 40
"""So often may a request meet a busy server; to be refused costs nothing, so it is no try."""


# The base has a plain None of this name, for every engine that costs nothing; pydantic warns of what is meant.
warnings.filterwarnings("ignore", 'Field name "max_cost" in "EndpointEngine"', UserWarning)


class EndpointEngine(Priced, Wording, Engine):
    """One model behind one or several URLs."""

    kind: Literal["endpoint"] = "endpoint"
    base_urls: Annotated[list[str], EXECUTION, Field(min_length=1)]
    """Servers of one and the same model, up to and with /v1 (https://api.deepseek.com/v1)."""
    require_reasoning: Annotated[bool, EXECUTION] = True
    """Refuse a provider that keeps the reasoning back: a student learns from nothing else. (api: chat)"""
    api_key_env: Annotated[str | None, EXECUTION] = None
    """Name of the environment variable with the key; left out: no key is sent."""
    concurrency: Annotated[int, EXECUTION, Field(ge=1, le=1000)] = 128
    """Most requests in flight at each URL; fewer where the server has too much."""
    timeout_s: Annotated[float, EXECUTION, Field(gt=0)] = 1800.0
    """Longest that one answer may take: long reasoning takes minutes, and a hung connection never ends."""
    tries: Annotated[int, EXECUTION, Field(ge=1)] = 6
    """So often is a request sent when servers break; then it is a row with the last reason."""
    patience_s: Annotated[float, EXECUTION, Field(gt=0)] = 600.0
    """Give up when no server has answered anything for so long (and for timeout_s)."""
    max_cost: Annotated[float | None, EXECUTION, Field(gt=0)] = None  # type: ignore[misc]
    """Nothing more is asked once a draw has cost so much; what is in flight then is still paid and kept."""
    poll_s: Annotated[float, EXECUTION, Field(gt=0)] = 30.0
    """How often to look after a batch."""

    @field_validator("base_urls")
    @classmethod
    def _whole_urls(cls, urls: list[str]) -> list[str]:
        for url in urls:
            if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", url):
                raise ValueError("a base URL reads https://host/v1 or http://host:port/v1, and holds no key")
        return [url.rstrip("/") for url in urls]

    @field_validator("api_key_env")
    @classmethod
    def _only_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ValueError("write the name of an environment variable, never the key itself")
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost needs prices: {input: ..., output: ...} per million tokens")
        if self.batch and len(self.base_urls) > 1:
            raise ValueError("batch: true takes one base URL, the provider's")
        return self

    @property
    def needs_model(self) -> bool:  # type: ignore[override]
        """Only to render prompts."""
        return self.api == "completions"

    @property
    def continues(self) -> bool:  # type: ignore[override]
        """Only a prompt that is rendered here can end in the middle of an answer."""
        return self.api == "completions"

    @property
    def model_name(self) -> str:
        return self.served_model

    def tokenizer(self, model: Model | None) -> "PreTrainedTokenizerBase | None":
        return load_tokenizer(model) if self.api == "completions" and model is not None else None

    def check(self) -> None:
        self._key()

    def _key(self) -> str:
        """The key, never to be shown. Raises MissingError."""
        if self.api_key_env is None:
            return "EMPTY"
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise MissingError(
                f"engine endpoint: the environment has no {self.api_key_env}; export {self.api_key_env}=..."
            )
        return key

    @contextmanager
    def open(
        self, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> Iterator["EndpointSession"]:
        import openai

        key = self._key()
        with Stream() as stream:
            servers = [Server.at(url, key, self.timeout_s) for url in self.base_urls]
            try:
                reached = stream.run(greet(servers, self.served_model, self.api_key_env))
                lanes = [Lane(server, self.concurrency) for server in servers]
                for lane, there in zip(lanes, reached, strict=True):
                    if not there:
                        lane.rest(stream.loop.time())
                yield EndpointSession(
                    self, stream, Lanes(lanes), tokenizer, f"endpoint, openai {openai.__version__}"
                )
            finally:
                stream.run(close(servers))


@dataclass
class EndpointSession:
    """Servers that were greeted."""

    engine: EndpointEngine
    stream: Stream
    lanes: Lanes
    tokenizer: "PreTrainedTokenizerBase | None"
    build: str
    opening: Opening = field(default_factory=Opening)
    silent_since: float | None = None
    """Of the first failure that no answer has followed."""

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        self._require_context(parameters)
        if self.engine.batch:
            yield from self._handed_in(feed, parameters)
        else:
            whole = sum(lane.ceiling for lane in self.lanes.lanes)
            # A few more than fly, so that the next one stands at the door while the last one is recorded; not where
            # money is limited: what stands there would still be paid for.
            window = whole + (max(8, whole // 8) if self.engine.max_cost is None else 0)
            yield from self.stream.map(lambda request: self._complete(request, parameters), feed, window)
        if self.opening.unreasoned:
            raise self._hidden(NO_REASONING)

    def _handed_in(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        """By the batch API of the one server."""
        engine, [lane] = self.engine, self.lanes.lanes
        mark = digest([engine.key(), asdict(parameters)])
        desk = Desk(lane.server, PATHS[engine.api], mark, engine.poll_s)

        async def complete(request: Request) -> Completion:
            self.opening.begin(request.problem_id)
            body = engine.body(request, parameters, lane.server, self.tokenizer)
            if isinstance(body, Completion):
                return body
            told = {"host": lane.server.host, "tries": 1}
            try:
                outcome = await desk.answer(request.key, body)
            except Trouble as trouble:
                raise self._no_batch(lane.server, trouble) from None
            if isinstance(outcome, Answer):
                return self.row(request, self._decoded(outcome, parameters), told)
            return await self.failed(request, outcome, told)

        # What is handed in cannot be stopped: with a limit, no more at once than will surely stay below it.
        dearest = engine.cost(LONG_PROMPT, parameters.max_tokens)
        window = max(1, int(engine.max_cost / dearest)) if engine.max_cost and dearest else LARGEST
        yield from self.stream.map(complete, feed, min(window, LARGEST))

    def _no_batch(self, server: Server, trouble: Trouble) -> RecipeError | MissingError | EngineError:
        if trouble.status in (401, 403):
            return key_refused(server, trouble.status, self.engine.api_key_env)
        if trouble.unpaid or trouble.busy or trouble.broken:
            return EngineError(
                f"{server.host}: batches cannot be handed in or fetched ({trouble}); run again"
            )
        return RecipeError(f"engine endpoint: {server.host} takes no batches ({trouble}); write batch: false")

    def _require_context(self, parameters: Parameters) -> None:
        for lane in self.lanes.lanes:
            if lane.server.context is not None:
                require_context(lane.server.context, parameters.max_tokens, self.engine.served_model)

    async def _complete(self, request: Request, parameters: Parameters) -> Completion:
        """Ask until there is an answer, or a reason why there is none."""
        began = time.monotonic()
        self.opening.begin(request.problem_id)
        faults = refusals = 0
        avoid: Lane | None = None
        while True:
            lane = await self.lanes.enter(avoid)
            try:
                body = self.engine.body(request, parameters, lane.server, self.tokenizer)
                if isinstance(body, Completion):
                    return body
                outcome = await self._ask(lane, body)
            finally:
                self.lanes.leave(lane)
            told = {"host": lane.server.host, "tries": faults + refusals + 1}
            if isinstance(outcome, Answer):
                told["latency_s"] = round(time.monotonic() - began, 3)
                return self.row(request, self._decoded(outcome, parameters), told)
            faults, refusals = faults + (not outcome.busy), refusals + outcome.busy
            if not (outcome.busy or outcome.broken) or faults == self.engine.tries or refusals == REFUSALS:
                return await self.failed(request, outcome, told)
            avoid = lane
            await asyncio.sleep(pause_s(faults + refusals))

    async def _ask(self, lane: Lane, body: dict[str, Any]) -> Answer | Trouble:
        """One try, and what it says of the server."""
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            answer = read(await lane.server.ask(PATHS[self.engine.api], body, self.engine.timeout_s))
        except BadAnswer as bad:
            trouble = Trouble(str(bad), bad.status, garbled=True)
        except Trouble as found:
            trouble = found
            if (
                trouble.status == 404 and lane.answered
            ):  # a router that has nobody for its model at this moment
                trouble = Trouble(str(found))
        else:
            self.silent_since = None
            lane.answer()
            return answer
        now = loop.time()
        if trouble.busy:
            lane.refuse(now, sent, trouble.wait_s)
        elif trouble.broken:
            lane.fail(now, sent)
        await self._require_hope(lane, trouble, now)
        return trouble

    async def _require_hope(self, lane: Lane, trouble: Trouble, now: float) -> None:
        """Raise where no further request would fare better."""
        server = lane.server
        if trouble.status == 401 or (trouble.status == 403 and not lane.answered):
            raise key_refused(server, trouble.status, self.engine.api_key_env)
        if trouble.unpaid:
            raise EngineError(
                f"{server.host}: the account has no credit left ({trouble}); top it up and run again"
            )
        if trouble.status == 404 and not lane.answered:
            raise await not_served(server, self.engine.served_model, trouble)
        if not (trouble.busy or trouble.broken):
            return
        if trouble.garbled and lane.never_well:
            raise EngineError(
                f"{server.host}: answers, and never with a completion ({trouble}); correct base_urls, or run again "
                "when it is well"
            )
        patience_s = max(self.engine.patience_s, self.engine.timeout_s)
        if trouble.wait_s is not None and trouble.wait_s > patience_s:
            raise EngineError(
                f"{server.host}: asks to wait {trouble.wait_s:,.0f} s ({trouble}); run again then"
            )
        self.silent_since = now if self.silent_since is None else self.silent_since
        if now - self.silent_since > patience_s:
            raise EngineError(
                f"no server has answered for {now - self.silent_since:,.0f} s; the last said: {trouble} "
                f"({server.host}); run again when it is well"
            )

    def _decoded(self, answer: Answer, parameters: Parameters) -> Answer:
        """The answer with its text made of its tokens, as every engine makes it, where the server told them."""
        if answer.token_ids is None or self.tokenizer is None:
            return answer
        text = text_of(self.tokenizer, answer.token_ids, parameters.stop)
        return replace(answer, completion=replace(answer.completion, text=text))

    def row(self, request: Request, answer: Answer, told: dict[str, Any]) -> Completion:
        """The completion of an answer, with what it cost. Raises RecipeError where the reasoning is kept back."""
        engine, completion = self.engine, answer.completion
        found = completion.telemetry
        cost = engine.cost(
            completion.prompt_tokens or 0, completion.completion_tokens or 0, found.get("cached_tokens", 0)
        )
        cost = found.get("billed") if cost is None else cost
        told = {"engine": self.build, "seed_sent": engine.seed == "send"} | told | found
        told |= {"cost": cost} if cost is not None else {}
        told.pop("billed", None)
        missing = answer.reasoned is False and completion.finish_reason != "error"
        if engine.require_reasoning and missing and answer.reasoning_tokens and not self.opening.over:
            raise self._hidden(f"it counts {answer.reasoning_tokens} reasoning tokens and sends none of them")
        fault = NO_REASONING if engine.require_reasoning and missing else None
        if self.opening.end(request.problem_id, fault):
            raise self._hidden(NO_REASONING)
        return replace(completion, telemetry=told)

    def _hidden(self, how: str) -> RecipeError:
        return RecipeError(
            f"engine endpoint: {self.engine.served_model} keeps its reasoning back: {how}; take a model or provider "
            "that shows it (extra_body may ask for it), or write require_reasoning: false"
        )

    async def failed(self, request: Request, trouble: Trouble, told: dict[str, Any]) -> Completion:
        """The row of a request that has no answer. Raises RecipeError where no request gets any."""
        refused = not (trouble.busy or trouble.broken)
        # The same but for numbers: each prompt is another number of tokens too long.
        fault = re.sub(r"\d+", "0", str(trouble))
        if refused and self.opening.end(request.problem_id, fault):
            raise RecipeError(
                f"engine endpoint: {told['host']} refuses every request ({trouble}); correct the stage or extra_body"
            )
        told = {"engine": self.build, **told}
        if refused:
            await self.opening.wait(UNDECIDED_S)
            error = str(trouble)
        else:
            told["retry"] = True
            error = f"{trouble} ({told['tries']} tries)"
        return Completion("", "error", error=error, telemetry=told)
